"""Average precision, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from roi_anon_ros.datasets import Boxes
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.matching import match, overlaps

T = TypeVar("T")

#: Resamples of a bootstrap.
RESAMPLES = 200


@dataclass(frozen=True)
class Judged:
    """The detections on one picture, judged by its annotated boxes.

    Attributes:
        scores: float32 ``[n]``, without the detections that fell on ignored boxes.
        correct: bool ``[n]``, which of them are true positives.
        sizes: float64 ``[m]``, longest side of each annotated box that counts, pixels.
        found: float32 ``[m]``, score of the detection that found each of them; -1 where none did.
    """

    scores: np.ndarray
    correct: np.ndarray
    sizes: np.ndarray
    found: np.ndarray


def judge(detections: Detections, truth: Boxes, least_overlap: float) -> Judged:
    """Judge the detections on one picture.

    A box is found by the surest detection that overlaps it enough, and once. A detection that found
    no box, but overlaps an ignored one enough, does not count.

    Args:
        detections: on the picture.
        truth: annotated boxes.
        least_overlap: intersection over union, 0 to 1.
    """
    counted = truth.xyxy[~truth.ignore]
    box = match(detections, counted, least_overlap)
    on_ignored = (overlaps(detections.boxes, truth.xyxy[truth.ignore]) >= least_overlap).any(axis=1)
    kept = (box >= 0) | ~on_ignored
    found = np.full(len(counted), -1, np.float32)
    found[box[box >= 0]] = detections.scores[box >= 0]
    sizes = (counted[:, 2:] - counted[:, :2]).max(axis=1, initial=0).astype(float)
    return Judged(detections.scores[kept], box[kept] >= 0, sizes, found)


def average_precision(pictures: Sequence[Judged], points: int = 0) -> float:
    """Area under the curve of precision over recall, precision made monotonous.

    Args:
        pictures: judged.
        points: 0: under all points of the curve (Pascal VOC from 2010 on); 101: mean over as many
            recalls (COCO).

    Returns:
        0 to 1; nan where nothing is annotated.
    """
    truths = sum(len(p.sizes) for p in pictures)
    if not truths:
        return float("nan")
    scores, correct = (
        np.concatenate([getattr(p, name) for p in pictures]) for name in ("scores", "correct")
    )
    hits = np.cumsum(correct[np.argsort(-scores, kind="stable")])
    recall = hits / truths
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(
            recall, np.linspace(0, 1, points) - 1e-12, "left"
        )  # 0.35 is not quite 7 / 20
        return float(np.append(precision, 0)[at].mean())
    return float((np.diff(recall, prepend=0) * precision).sum())


def bootstrap(
    pictures: Sequence[T], figure: Callable[[list[T]], float], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a figure over a set, from sets of as many pictures drawn from it with
    replacement.

    Args:
        pictures: the set.
        figure: of a set.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(pictures), size=len(pictures)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(
        [figure([pictures[i] for i in draw]) for draw in draws], [2.5, 97.5]
    )
    return float(low), float(high)
