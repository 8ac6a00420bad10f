"""How good a trained detector is, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from roi_anon_ros.datasets import KEYPOINTS, Instance, Scene
from roi_anon_ros.detect.learning import Found
from roi_anon_ros.detect.matching import assign, overlaps
from roi_anon_ros.evaluate.precision import (
    RESAMPLES,
    Judged,
    average_precisions,
    resamples,
    to_interval,
)

#: Overlaps from which a detection is right: COCO's average precision is the mean over them.
LEAST_OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
#: COCO's spread of each keypoint around where people put it, over the square root of the area.
SPREADS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
#: The same, ``[17]``, in the order of the keypoints.
POINT_SPREADS = np.array([SPREADS[name.rpartition("_")[2]] for name in KEYPOINTS])
#: Figures, and the overlaps that each is a mean over, by their places in :data:`LEAST_OVERLAPS`.
FIGURES = {"ap50": [0], "ap": list(range(len(LEAST_OVERLAPS)))}


@dataclass(frozen=True)
class Judgement:
    """What was found in one image, judged.

    Attributes:
        scores: float ``[n]`` of the detections.
        verdicts: int ``[10, n]``, for each of :data:`LEAST_OVERLAPS`: 1 right, 0 wrong, -1 does
            not count, since it fell on somebody to be ignored.
        persons: annotated that count.
    """

    scores: np.ndarray
    verdicts: np.ndarray
    persons: int

    def to_json(self) -> dict[str, Any]:
        """As a line of a journal."""
        scores = self.scores.astype(float).round(5).tolist()
        return {"scores": scores, "verdicts": self.verdicts.tolist(), "persons": self.persons}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Judgement:
        """From a line of a journal."""
        scores = np.array(line["scores"], float)
        verdicts = np.array(line["verdicts"], np.int64).reshape(len(LEAST_OVERLAPS), len(scores))
        return cls(scores, verdicts, line["persons"])

    def at(self, place: int) -> Judged:
        """As average precision takes it, for one of :data:`LEAST_OVERLAPS`."""
        counted = self.verdicts[place] >= 0
        right = self.verdicts[place][counted] == 1
        nobody = np.zeros(self.persons)
        return Judged(self.scores[counted], right, nobody, nobody)


def judge_scene(found: Found, scene: Scene, task: str) -> Judgement:
    """Judge what was found in the image of a scene.

    As in COCO: the surest detection first, each person once; a detection that found nobody and
    lies mostly within somebody to be ignored does not count.

    Args:
        found: in the image.
        scene: what is annotated.
        task: of :data:`~roi_anon_ros.datasets.TASKS`: boxes are compared, masks, or keypoints.
    """
    counted = [person for person in scene.persons if not person.ignore]
    ignored = [person.box for person in scene.persons if person.ignore]
    overlap = _OVERLAPS[task](found, counted, scene.size)
    inside = shares_inside(found.boxes, np.reshape(ignored, (-1, 4)))
    verdicts = []
    for least in LEAST_OVERLAPS:
        right = assign(found.scores, overlap, least) >= 0
        skipped = ~right & (inside >= least).any(axis=1)
        verdicts.append(np.where(skipped, -1, right.astype(np.int64)))
    return Judgement(found.scores, np.stack(verdicts), len(counted))


def shares_inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of each box ``[n, 4]`` that lies in each of others ``[m, 4]``: ``[n, m]``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = (high - low).clip(min=0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return both / np.maximum(areas, 1e-9)[:, None]


def _box_overlaps(found: Found, persons: Sequence[Instance], size: tuple[int, int]) -> np.ndarray:
    return overlaps(found.boxes, np.reshape([person.box for person in persons], (-1, 4)))


def mask_overlaps(found: Found, persons: Sequence[Instance], size: tuple[int, int]) -> np.ndarray:
    """Intersection over union of found and annotated outlines, ``[n, m]``."""
    annotated = [_fill(person.outlines, size) for person in persons]
    overlap = np.zeros((len(found.scores), len(persons)))
    boxes = _box_overlaps(found, persons, size)
    for row, outline in enumerate(found.outlines):
        if not boxes[row].any():
            continue
        mask = _fill([outline], size)
        for column, other in enumerate(annotated):
            either = (mask | other).sum()
            overlap[row, column] = (mask & other).sum() / max(either, 1)
    return overlap


def _fill(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels within any of these polygons: bool ``[H, W]``."""
    inside = np.zeros(size[::-1], np.uint8)
    for outline in outlines:
        if len(outline) >= 3:
            corners = np.round(np.asarray(outline) * 16).astype(np.int32)
            cv2.fillPoly(inside, [corners], 1, shift=4)
    return inside > 0


def keypoint_overlaps(
    found: Found, persons: Sequence[Instance], size: tuple[int, int]
) -> np.ndarray:
    """:func:`compare_points` with the annotated keypoints of each person, ``[n, m]``."""
    overlap = np.zeros((len(found.scores), len(persons)))
    for column, person in enumerate(persons):
        if person.keypoints is None:
            continue
        known = person.keypoints[:, 2] > 0
        points = person.keypoints[known, :2]
        spreads = POINT_SPREADS[known]
        overlap[:, column] = compare_points(found.keypoints[:, known], points, spreads, person.area)
    return overlap


def compare_points(
    found: np.ndarray, points: np.ndarray, spreads: np.ndarray, area: float
) -> np.ndarray:
    """COCO's similarity of keypoints.

    The mean over the keypoints of exp(-d² / (2 a (2 s)²)): d is the distance in pixels, a the
    person's area, s the keypoint's spread.

    Args:
        found: ``[n, k, 2]``, of n detections, pixels.
        points: ``[k, 2]``, of the person, k at least 1.
        spreads: ``[k]``, of :data:`POINT_SPREADS`.
        area: of the person, pixels.

    Returns:
        ``[n]``, 0 to 1.
    """
    squares = ((found - points) ** 2).sum(axis=2)
    widths = 2 * max(area, 1.0) * (2 * spreads) ** 2
    return np.exp(-squares / widths).mean(axis=1)


_OVERLAPS = {"detect": _box_overlaps, "segment": mask_overlaps, "pose": keypoint_overlaps}


def precisions(judged: Sequence[Judgement]) -> dict[str, np.ndarray]:
    """Each of :data:`FIGURES` of a test: of the images, then of each resample of them.

    Returns:
        float ``[1 + RESAMPLES]`` by the figure's name. The resamples are the same for all tests on
        as many images.
    """
    times = resamples(len(judged))
    at = []
    for place in range(len(LEAST_OVERLAPS)):
        at.append(average_precisions([image.at(place) for image in judged], times))
    figures = np.array(at)
    return {name: figures[places].mean(axis=0) for name, places in FIGURES.items()}


def sum_up(seeds: Sequence[np.ndarray], base: Sequence[np.ndarray]) -> dict[str, Any]:
    """One figure of an arm over its trainings, and its difference to the original's.

    Images and trainings are resampled together, the same ones for both: the difference is between
    trainings of one seed on the same images.

    Args:
        seeds: :func:`precisions` of each training.
        base: of each training on originals, tested on originals.

    Returns:
        ``value``, ``interval`` (95 %), ``by_seed``, ``difference``, ``difference_interval``,
        ``significant``: whether the interval of the difference leaves 0 out.
    """
    figures = np.array(seeds)
    differences = figures - np.array(base)
    drawn = np.random.default_rng(0).integers(len(seeds), size=(RESAMPLES, len(seeds)))
    low, high = to_interval(_resample(differences, drawn))
    return {
        "value": float(figures[:, 0].mean()),
        "interval": to_interval(_resample(figures, drawn)),
        "by_seed": figures[:, 0].tolist(),
        "difference": float(differences[:, 0].mean()),
        "difference_interval": (low, high),
        "significant": bool(low > 0 or high < 0),
    }


def _resample(figures: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean over drawn trainings, each on the images of its resample: ``[RESAMPLES]``."""
    return np.array([figures[seeds, 1 + place].mean() for place, seeds in enumerate(drawn)])
