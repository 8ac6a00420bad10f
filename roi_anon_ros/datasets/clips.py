"""Clips with an action each: videos, or folders of frames, in a folder named like the action."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.datasets.reading import read_content
from roi_anon_ros.files import read_pixels
from roi_anon_ros.storage import IMAGE_SUFFIXES

#: Clips that are videos, by suffix.
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
#: Which clips were cut from one video, in the folder of a set: a JSON object, clip to origin.
ORIGINS = "origins.json"
#: Frames of a clip, at most: all of them are in memory for a moment.
MOST_FRAMES = 2000
#: UCF101 and its like: clips of one group were cut from one video.
GROUPED = re.compile(r"(?P<group>v_.+_g\d+)_c\d+")


@dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
        path: a video, or a folder of frames whose names sort in order of time.
        label: what is done in it.
        source: the video that it was cut from; clips of one source belong on one side of a split.
    """

    path: Path
    label: str
    source: str


def read_clips(folder: Path) -> list[Clip]:
    """Find the clips of a set.

    A clip is ``LABEL/NAME.mp4`` (or another video), or a folder ``LABEL/NAME`` of images. Its
    source is what ``origins.json`` says of NAME, else what its name says in the manner of UCF101
    (``v_Archery_g08_c01`` is of ``v_Archery_g08``), else the clip itself.

    Args:
        folder: of the set.

    Returns:
        In order of their paths.

    Raises:
        ValueError: there are fewer than two labels, or ``origins.json`` is none.
    """
    origins = _read_origins(folder / ORIGINS)
    clips = []
    for path in sorted(folder.glob("*/*")):
        if path.is_dir():
            is_clip = any(_is_image(file) for file in path.iterdir())
        else:
            is_clip = path.suffix.lower() in VIDEO_SUFFIXES
        if is_clip:
            name = path.name if path.is_dir() else path.stem
            label = path.parent.name
            clips.append(Clip(path, label, _source_of(name, label, origins)))
    labels = {clip.label for clip in clips}
    if len(labels) < 2:
        raise ValueError(
            f"{folder}: got clips of {len(labels)} actions, must be 2 or more: videos or folders "
            "of frames as ACTION/CLIP"
        )
    return clips


def _read_origins(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_content(path))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: got {type(content).__name__}, must be an object: clip to origin")
    return {name: f"origin {origin}" for name, origin in content.items()}


def _source_of(name: str, label: str, origins: dict[str, str]) -> str:
    if name in origins:
        return origins[name]
    grouped = GROUPED.fullmatch(name)
    return grouped["group"] if grouped else f"{label}/{name}"


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def read_frames(clip: Clip, count: int) -> list[np.ndarray]:
    """Frames of a clip at equal distances, the first and the last half a distance from its ends.

    Args:
        clip: to read.
        count: frames, at least 1; a shorter clip gives some twice.

    Returns:
        Each uint8 ``[H, W, 3]`` RGB.

    Raises:
        ValueError, OSError: it cannot be read, or is too long; the message names the clip.
    """
    frames: list[np.ndarray] = []
    try:
        for image in _frames_of(clip.path):
            frames.append(image)
            if len(frames) > MOST_FRAMES:
                raise ValueError(f"frames: got more than {MOST_FRAMES}; cut the clip")
    except ValueError as error:
        raise ValueError(f"{clip.path}: {error}") from error
    if not frames:
        raise ValueError(f"{clip.path}: frames: got none, must be at least 1")
    places = np.floor((np.arange(count) + 0.5) * len(frames) / count).astype(int)
    return [frames[place] for place in places]


def _frames_of(path: Path) -> Iterator[np.ndarray]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if _is_image(file):
                yield read_pixels(file)
        return
    from roi_anon_ros.files import Video

    for frame in Video(path).frames():
        yield frame.image


def squash(frames: list[np.ndarray], side: int) -> np.ndarray:
    """Frames as squares, whatever their shape was: uint8 ``[n, side, side, 3]``."""
    size = (side, side)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in frames])
