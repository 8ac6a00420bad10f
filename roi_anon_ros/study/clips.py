"""What a utility budget gives back of the actions in clips, and what it costs privacy, for an
anonymizer of pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from roi_anon_ros.datasets import Clip, read_clips, read_frames, squash, without_overlap
from roi_anon_ros.detect import Detector
from roi_anon_ros.detect.actions import ActionNetwork
from roi_anon_ros.detect.bodies import BodyRecogniser
from roi_anon_ros.evaluate.attack.linking import People
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.evaluate.precision import resamples
from roi_anon_ros.files.progress import Track
from roi_anon_ros.storage import digest
from roi_anon_ros.study.budgets import link_others, measure_each
from roi_anon_ros.study.judges import identify_bodies
from roi_anon_ros.train.clips import divide_clips, to_frames, to_tensor
from roi_anon_ros.train.pixels import PixelsConfig

#: Frames are enlarged this much for the detector: people are small in them.
ENLARGED = 3
#: Persons narrower or lower than this in a squashed frame are left out, pixels.
SMALLEST = 5


@dataclass(frozen=True, eq=False)
class HeldClip:
    """A clip to judge on.

    Attributes:
        clip: where it is.
        frames: uint8 ``[T, side, side, 3]`` RGB.
        persons: boxes in its middle frame, float ``[n, 4]``, pixels.
    """

    clip: Clip
    frames: np.ndarray
    persons: np.ndarray


def read_held_clips(
    folder: Path, config: PixelsConfig, judge: ActionNetwork, detector: Detector, track: Track
) -> list[HeldClip]:
    """The clips of a set whose origins no training saw, with the persons in their middle frames.

    Args:
        folder: of the set.
        config: of the trainings.
        judge: says how many frames, and of which side, a clip has.
        detector: finds persons in the originals.
        track: shows how far it is.

    Raises:
        ValueError: a clip cannot be read, has another action than the judge knows, or fewer than
            two origins are left.
    """
    trained, _ = divide_clips(config)
    clips, _ = without_overlap(read_clips(folder), trained)
    origins = {clip.source for clip in clips}
    if len(origins) < 2:
        raise ValueError(
            f"{folder}: got clips of {len(origins)} origins that no training saw, must be 2 or more"
        )
    found = []
    for clip in track(clips, len(clips), "clips"):
        if clip.label not in judge.labels:
            raise ValueError(f"{clip.path}: got {clip.label}, the judge knows no such action")
        images = read_frames(clip, judge.frames)
        middle = images[len(images) // 2]
        large = cv2.resize(middle, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        height, width = large.shape[:2]
        scale = judge.side / np.array([width, height, width, height])
        persons = np.clip(detector([large])[0].boxes * scale, 0, judge.side)
        found.append(HeldClip(clip, squash(images, judge.side), persons))
    return found


def judge_clips(
    methods: Mapping[str, str],
    clips: Sequence[HeldClip],
    judge: ActionNetwork,
    mark: str,
    recogniser: BodyRecogniser | None,
    steps: int,
    out: Path,
    track: Track,
) -> dict[str, dict[str, Any]]:
    """Judge each training; what a former run judged is kept.

    Every other origin with its persons is the attacker's own.

    Args:
        methods: of :func:`~roi_anon_ros.study.budgets.train_budgets`.
        clips: of :func:`read_held_clips`.
        judge: tells actions; one that took no part in the trainings.
        mark: tells the judge from others.
        recogniser: of persons, for ``identified``; None: that is left out.
        steps: of the attacker.
        out: gets a file for each method.
        track: shows how far it is.

    Returns:
        By name ``bpp``, bits per pixel; ``top1``, ``linked`` and perhaps ``identified``, each the
        figure and then those of 200 resamples of origins; ``people``, among how many the attacker
        guesses.

    Raises:
        ValueError: too few persons are on them.
    """
    seen = [[str(one.clip), digest(one.frames.tobytes(), one.persons.tobytes())] for one in clips]
    told = {"judge": mark, "steps": steps, "clips": digest(json.dumps(seen).encode())}
    if recogniser is not None:
        told["recogniser"] = recogniser.fingerprint

    def measure(name: str, method: Method) -> dict[str, Any]:
        right: list[bool] = []
        people: list[People] = []
        size = 0
        for one in track(clips, len(clips), f"{name}: clips"):
            sent = [method.encode(frame) for frame in one.frames]
            received = np.stack([method.decode(frame) for frame in sent])
            right.append(tell_action(judge, received) == one.clip.label)
            middle = len(received) // 2
            cut = People.cut(received[middle], one.frames[middle], one.persons, SMALLEST)
            people.append(cut)
            size += sum(len(frame) for frame in sent)
        pixels = sum(one.frames[..., 0].size for one in clips)
        origins = [one.clip.source for one in clips]
        return {"bpp": 8 * size / pixels} | sum_up_clips(right, people, origins, steps, recogniser)

    return measure_each(methods, told, measure, out)


@torch.no_grad()
def tell_action(judge: ActionNetwork, frames: np.ndarray) -> str:
    """What is done in a clip, uint8 ``[T, H, W, 3]`` RGB."""
    logits = judge(to_frames(to_tensor(frames)[None]))
    return judge.labels[int(logits.argmax())]


def sum_up_clips(
    right: Sequence[bool],
    people: Sequence[People],
    origins: Sequence[str],
    steps: int,
    recogniser: BodyRecogniser | None = None,
) -> dict[str, Any]:
    """The figures of one method, each followed by those of the resamples.

    Args:
        right: of each clip, whether its action was told.
        people: of each clip.
        origins: of each clip.
        steps: of the attacker.
        recogniser: see :func:`judge_clips`.

    Raises:
        ValueError: there are fewer than 2 persons for the attacker, or to be linked.
    """
    known = sorted(set(origins))
    place = np.array([known.index(origin) for origin in origins])
    own = [one for one, number in zip(people, place, strict=True) if number % 2 == 0]
    others = [one for one, number in zip(people, place, strict=True) if number % 2]
    hits = link_others(own, others, steps, "clips")
    owner = np.repeat(place[place % 2 == 1], [len(one) for one in others])
    figures = {
        "top1": resample(np.array(right, float), place, len(known)),
        "linked": resample(hits, owner, len(known)),
        "people": len(hits),
    }
    if recogniser is not None:
        found = identify_bodies(others, recogniser)
        figures["identified"] = resample(found, owner, len(known))
    return figures


def resample(values: np.ndarray, origin: np.ndarray, count: int) -> list[float]:
    """The mean of values, then those of 200 resamples of the origins that they are of.

    Args:
        values: float ``[n]``.
        origin: int ``[n]``, the number of each value's origin.
        count: origins in all.

    Returns:
        201 means; nan where a resample has no value.
    """
    times = resamples(count)
    sums = times @ np.bincount(origin, values, count)
    numbers = times @ np.bincount(origin, minlength=count)
    means = np.divide(sums, numbers, out=np.full(len(times), np.nan), where=numbers > 0)
    return means.tolist()


def describe_clips(clips: Sequence[HeldClip], judge: str) -> dict[str, Any]:
    """By whom and on what was judged, see :func:`~roi_anon_ros.study.budgets.describe`.

    Args:
        clips: of :func:`read_held_clips`.
        judge: its name.
    """
    labels = [one.clip.label for one in clips]
    return {
        "detector": judge,
        "clips": len(clips),
        "origins": len({one.clip.source for one in clips}),
        "commonest": max(labels.count(label) for label in set(labels)) / len(labels),
    }
