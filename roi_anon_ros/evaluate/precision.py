"""Average precision, and how sure it is."""

from __future__ import annotations

import math
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
    """The detections on one image, judged by its annotated boxes.

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


def judge(
    detections: Detections,
    truth: Boxes,
    least_overlap: float,
    heights: tuple[float, float] = (0, math.inf),
) -> Judged:
    """Judge the detections on one image.

    A box is found by the surest detection that overlaps it enough, and once. A detection that found
    no box, but overlaps an ignored one enough, does not count.

    Args:
        detections: on the image.
        truth: annotated boxes.
        least_overlap: intersection over union, 0 to 1.
        heights: pixels, from and below: other boxes are ignored, and a detection of another height
            counts only where it found a box (as COCO counts by area).
    """
    ignored = truth.ignore | ~_within(truth.xyxy, heights)
    counted = truth.xyxy[~ignored]
    box = match(detections, counted, least_overlap)
    on_ignored = (overlaps(detections.boxes, truth.xyxy[ignored]) >= least_overlap).any(axis=1)
    kept = (box >= 0) | (~on_ignored & _within(detections.boxes, heights))
    return to_judged(detections.scores, counted, box, kept)


def to_judged(scores: np.ndarray, boxes: np.ndarray, taken: np.ndarray, kept: np.ndarray) -> Judged:
    """What was matched, as it is summed up.

    Args:
        scores: ``[n]``, of what was found.
        boxes: ``[m, 4]``, of what is annotated and counts.
        taken: int ``[n]``, which of these each found, or -1.
        kept: bool ``[n]``, what of the found counts.
    """
    found = np.full(len(boxes), -1, np.float32)
    found[taken[taken >= 0]] = scores[taken >= 0]
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0).astype(float)
    return Judged(scores[kept], taken[kept] >= 0, sizes, found)


def _within(boxes: np.ndarray, heights: tuple[float, float]) -> np.ndarray:
    """Which boxes ``[n, 4]`` are of a height from the first and below the second."""
    tall = boxes[:, 3] - boxes[:, 1]
    return (tall >= heights[0]) & (tall < heights[1])


def average_precision(images: Sequence[Judged], points: int = 0) -> float:
    """Area under the curve of precision over recall, precision made monotonous.

    Args:
        images: judged.
        points: 0: under all points of the curve (Pascal VOC from 2010 on); 101: mean over as many
            recalls (COCO).

    Returns:
        0 to 1; nan where nothing is annotated.
    """
    truths = sum(len(p.sizes) for p in images)
    if not truths:
        return float("nan")
    scores = np.concatenate([p.scores for p in images])
    correct = np.concatenate([p.correct for p in images])
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


def recall(images: Sequence[Judged], score: float) -> float:
    """Share of the annotated boxes found by a detection of this score or more; nan without any."""
    found = [image.found >= score for image in images]
    return float(np.concatenate(found).mean()) if sum(map(len, found)) else float("nan")


def draw_images(count: int, seed: int = 0) -> list[np.ndarray]:
    """The resamples of a bootstrap: as many images as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return [rng.integers(count, size=count) for _ in range(RESAMPLES)]


def count_draws(count: int, seed: int = 0) -> np.ndarray:
    """How often each resample of :func:`draw_images` has each image: ``[RESAMPLES, count]``."""
    draws = draw_images(count, seed)
    return np.array([np.bincount(draw, minlength=count) for draw in draws])


def resamples(count: int) -> np.ndarray:
    """How often each image counts: once each, then as in :func:`count_draws`:
    ``[1 + RESAMPLES, count]``.
    """
    return np.concatenate([np.ones((1, count), int), count_draws(count)])


def bootstrap(
    images: Sequence[T], figure: Callable[[list[T]], float], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a figure over a set, from sets of as many images drawn from it with
    replacement.

    Args:
        images: the set.
        figure: of a set.
        seed: of the draws.
    """
    draws = draw_images(len(images), seed)
    figures: list[float] = []
    for draw in draws:
        drawn = [images[i] for i in draw]
        figures.append(figure(drawn))
    return to_interval(np.array(figures))


def to_interval(figures: np.ndarray) -> tuple[float, float]:
    """What holds 95 % of a figure's values over resamples; nan where all of them are."""
    if np.isnan(figures).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(figures, [2.5, 97.5])
    return float(low), float(high)


def average_precisions(images: Sequence[Judged], times: np.ndarray) -> np.ndarray:
    """:func:`average_precision` under all points, of many resamples at once.

    Args:
        images: judged.
        times: how often each resample has each image, ``[R, images]``.

    Returns:
        ``[R]``; nan where nothing is annotated.
    """
    boxes = times @ np.array([len(image.sizes) for image in images])
    scores = np.concatenate([image.scores for image in images])
    correct = np.concatenate([image.correct for image in images])
    owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    order = np.argsort(-scores, kind="stable")
    ranked = times[:, owner[order]].astype(float)
    right = ranked * correct[order]
    seen = np.cumsum(ranked, axis=1)
    precision = np.cumsum(right, axis=1) / np.maximum(seen, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return _divide((right * precision).sum(axis=1), boxes)


def recalls(images: Sequence[Judged], score: float, times: np.ndarray) -> np.ndarray:
    """:func:`recall` of many resamples at once, ``[R]``; see :func:`average_precisions`."""
    boxes = times @ np.array([len(image.sizes) for image in images])
    found = times @ np.array([(image.found >= score).sum() for image in images])
    return _divide(found, boxes)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, nan where b is 0."""
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b != 0)
