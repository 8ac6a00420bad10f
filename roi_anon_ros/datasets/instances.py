"""Persons one by one, with outlines and keypoints where a set has them: for tasks beyond boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from roi_anon_ros.boxes import at_least, clip_boxes

#: The keypoints of COCO, in its order.
KEYPOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated person.

    Attributes:
        box: left, top, right, bottom in pixels, inside the image.
        ignore: whether the source calls it a crowd, or not to be counted.
        outlines: polygons, float ``[n, 2]`` each, x and y in pixels; none where there is a box
            alone.
        keypoints: float ``[17, 3]``, x and y in pixels, and 0 (not annotated), 1 (hidden) or 2
            (visible), in the order of :data:`KEYPOINTS`; None where they were not annotated.
        area: of the person in the image, pixels.
    """

    box: tuple[float, float, float, float]
    ignore: bool = False
    outlines: tuple[np.ndarray, ...] = ()
    keypoints: np.ndarray | None = None
    area: float = 0.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and all persons on it.

    Attributes:
        path: of the image.
        size: upright width and height, pixels.
        persons: in no order.
    """

    path: Path
    size: tuple[int, int]
    persons: tuple[Instance, ...]


@dataclass
class Scenes:
    """What was read of a set.

    Attributes:
        scenes: in the order of the set.
        problems: a line for each image that was left out, naming it.
    """

    scenes: list[Scene] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def make_instance(
    corners: Sequence[float],
    size: tuple[int, int],
    ignore: bool = False,
    outlines: Sequence[np.ndarray] = (),
    keypoints: np.ndarray | None = None,
    area: float | None = None,
) -> Instance | None:
    """A person clipped to the image; None where less than a pixel of it is inside.

    Args:
        corners: left, top, right, bottom, pixels.
        size: width and height of the image, pixels.
        ignore: see :class:`Instance`, as the rest.
        outlines: polygons.
        keypoints: float ``[17, 3]``.
        area: pixels; None: the box's.
    """
    clipped = clip_boxes(np.asarray(corners), *size)
    if not at_least(clipped, 1)[0]:
        return None
    left, top, right, bottom = clipped[0].astype(float).tolist()
    covered = (right - left) * (bottom - top) if area is None else area
    inside = tuple(np.clip(polygon, 0, size) for polygon in outlines)
    return Instance((left, top, right, bottom), ignore, inside, keypoints, covered)


def bounds_of(outlines: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """The box around polygons: left, top, right, bottom."""
    points = np.concatenate(outlines)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return left, top, right, bottom


def area_of(polygon: np.ndarray) -> float:
    """The area that a polygon, float ``[n, 2]``, encloses (shoelace formula)."""
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def read_polygon(values: object) -> np.ndarray:
    """A polygon of its corners, flat or in pairs.

    Raises:
        ValueError: it has less than three corners, or one that is not finite.
    """
    polygon = np.asarray(values, float).reshape(-1, 2)
    if len(polygon) < 3 or not np.isfinite(polygon).all():
        raise ValueError(f"polygon: got {len(polygon)} corners, must be 3 or more, finite")
    return polygon
