"""What a method made of the images of one kind, summed up with intervals."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from roi_anon_ros.codec.regions import PAINTED_FACE
from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.measure import Seen
from roi_anon_ros.evaluate.precision import (
    Judged,
    average_precision,
    average_precisions,
    bootstrap,
    count_draws,
    judge,
    recall,
    recalls,
    to_interval,
)
from roi_anon_ros.train.validation import FACE_OVERLAP, to_decibels

#: The detectors of persons: the server's, and one that judges besides.
PERSON_DETECTORS = ("persons", "judge")
#: Least overlap, intersection over union, of a detection with the box that it finds.
OVERLAP = {"persons": 0.5, "faces": FACE_OVERLAP}
#: Score from which a face counts as found: MTCNN's own, and one at which YuNet finds more than at
#: its own 0.9.
FACE_SCORE = {"mtcnn": 0.7, "yunet": 0.5}
#: Score from which the server counts a person as found.
PERSON_SCORE = 0.25
#: Scores from which persons found and mistaken are counted.
PERSON_SCORES = (PERSON_SCORE, 0.5)
#: Scores at which faces found and mistaken are counted.
SCORES = (0.3, 0.5, 0.7, 0.9)
#: Sizes of faces by their longest side: pixels from, and up to and with.
SIZES = {"small": (0, 32), "medium": (32, 96), "large": (96, math.inf)}
#: Heights of persons: pixels from, and below.
HEIGHTS = {
    "under 64 px": (0, 64),
    "64 to 128 px": (64, 128),
    "128 to 256 px": (128, 256),
    "over 256 px": (256, math.inf),
}

Pairs = list[tuple[Record, Seen]]


def summary(pairs: Pairs, base: Pairs) -> dict[str, Any]:
    """The figures of one method over the images of one kind.

    Args:
        pairs: what the method made of each image.
        base: what was seen on the originals, image by image. Where no image is annotated with
            persons, or with faces or heads, a detector is judged by what it finds on them:
            agreement.

    Returns:
        ``images``; ``faces_judged_by``, numbers of images by what their faces are judged by;
        ``bits_per_pixel``, its ``_sd`` over the images and its ``_interval``; ``psnr_outside``
        and ``psnr_heads``, dB of the mean squared error over all pixels outside and inside the head
        boxes (None: no error); ``ms_ssim``, mean outside the heads; and for each detector
        ``<name>_against`` (``"annotations"`` or ``"original"``), ``<name>_boxes`` (how many there
        are to find) and ``<name>_ap``, all points, with its ``_interval``; then what
        :func:`sum_up_persons` or :func:`sum_up_faces` adds.

        All intervals hold 95 %, by bootstrap over the images.
    """
    rates = np.array([8 * seen.bytes / seen.pixels for _, seen in pairs])
    figures: dict[str, Any] = {
        "images": len(pairs),
        "faces_judged_by": dict(Counter(_face_truth(record) for record, _ in pairs)),
        "bits_per_pixel": float(rates.mean()),
        "bits_per_pixel_sd": float(rates.std()),
        "bits_per_pixel_interval": bootstrap(rates.tolist(), np.mean),
    }
    for where in ("outside", "heads"):
        total, count = np.sum([seen.error[where] for _, seen in pairs], axis=0)
        figures[f"psnr_{where}"] = to_decibels(total / count) if total else None
    similar = [seen.similarity for _, seen in pairs if seen.similarity is not None]
    figures["ms_ssim"] = float(np.mean(similar)) if similar else None
    for name in pairs[0][1].detections:
        sum_up = sum_up_persons if name in PERSON_DETECTORS else sum_up_faces
        figures |= sum_up(name, pairs, base)
    return figures


def sum_up_persons(name: str, pairs: Pairs, base: Pairs) -> dict[str, Any]:
    """The figures of a detector of persons, at overlap 0.5.

    Returns:
        Besides what :func:`summary` says: ``<name>_ap_101``; ``<name>_by_score``, by
        ``PERSON_SCORES`` as texts, each with ``recall``, ``precision`` and ``false``, false boxes
        an image; ``<name>_recall`` at the server's score; ``<name>_ratio`` and
        ``<name>_recall_ratio``, of the original's, with their ``_interval``;
        ``<name>_by_height``, by ``HEIGHTS``, each with ``boxes``, ``ap``, ``recall``, ``ratio`` and
        ``recall_ratio`` with their ``_interval``; where detectors drew the boxes of some images,
        ``<name>_by_hand_boxes``, ``<name>_by_hand_ap`` and ``<name>_by_hand_ratio`` with their
        ``_interval``, on the others alone.
    """
    truths, against = _truths(name, "persons", pairs, base)
    mine, original = _judge_all(name, "persons", pairs, base, truths)
    figures = {f"{name}_against": against, f"{name}_ap_101": average_precision(mine, 101)}
    by_score = {str(score): at_score(mine, score) for score in PERSON_SCORES}
    figures[f"{name}_by_score"] = by_score
    whole = _compare(mine, original)
    figures |= {f"{name}_{key}": value for key, value in whole.items()}
    by_height = {}
    for label, heights in HEIGHTS.items():
        part = _judge_all(name, "persons", pairs, base, truths, heights)
        by_height[label] = _compare(*part)
    figures[f"{name}_by_height"] = by_height
    judged_on = [record for (record, _), t in zip(pairs, truths, strict=True) if t is not None]
    drawn = ["person" not in record.by_detector for record in judged_on]
    if against == "annotations" and 0 < sum(drawn) < len(drawn):
        hand = _compare(
            [one for one, by_hand in zip(mine, drawn, strict=True) if by_hand],
            [one for one, by_hand in zip(original, drawn, strict=True) if by_hand],
        )
        for key in ("boxes", "ap", "ap_interval", "ratio", "ratio_interval"):
            figures[f"{name}_by_hand_{key}"] = hand[key]
    return figures


def sum_up_faces(name: str, pairs: Pairs, base: Pairs) -> dict[str, Any]:
    """The figures of a detector of faces.

    Returns:
        Besides what :func:`summary` says: ``<name>_true`` and ``<name>_false`` at the detector's
        ``FACE_SCORE``, faces on the paint left out; ``<name>_images``, images on which there is
        any, annotated or not; ``<name>_stamps``, faces on the paint: stamps that look like faces,
        nobody's; ``<name>_share``, of those found on the originals,
        with its ``_interval``, where any are; ``<name>_by_size``, true by ``SIZES``;
        ``<name>_by_score``, ``[true, false]`` by ``SCORES``.
    """
    truths, against = _truths(name, "faces", pairs, base)
    mine, original = _judge_all(name, "faces", pairs, base, truths)
    at = FACE_SCORE[name]
    true, false = counts(mine, at)
    stamps = 0
    showing = 0
    for _, seen in pairs:
        on_paint = seen.detections[name].scores[_on_paint(seen, name)]
        stamps += int((on_paint >= at).sum())
        showing += int((without_stamps(seen, name).scores >= at).any())
    by_size = {size: counts(mine, at, *bounds)[0] for size, bounds in SIZES.items()}
    figures: dict[str, Any] = {
        f"{name}_against": against,
        f"{name}_boxes": sum(len(j.sizes) for j in mine),
        f"{name}_ap": average_precision(mine),
        f"{name}_ap_interval": bootstrap(mine, average_precision) if mine else (math.nan,) * 2,
        f"{name}_true": true,
        f"{name}_false": false,
        f"{name}_images": showing,
        f"{name}_stamps": stamps,
        f"{name}_by_size": by_size,
        f"{name}_by_score": {str(score): counts(mine, score) for score in SCORES},
    }
    if counts(original, at)[0]:
        share = partial(_share, score=at)
        judged = list(zip(mine, original, strict=True))
        figures[f"{name}_share"] = share(judged)
        figures[f"{name}_share_interval"] = bootstrap(judged, share)
    return figures


def truth_of(record: Record, what: str) -> Boxes | None:
    """The boxes by which persons or faces on an image are judged; None where nobody annotated
    them.
    """
    if what == "faces":
        return record.face_truth
    return record.persons if "person" in record.annotated else None


def found_on(original: Seen, name: str) -> Boxes:
    """What a detector is sure of on the original, as boxes to judge by."""
    found = original.detections[name]
    boxes = found.boxes[found.scores >= FACE_SCORE.get(name, PERSON_SCORE)]
    return Boxes(boxes, np.zeros(len(boxes), bool))


def counts(
    judged: list[Judged], score: float, above: float = 0, up_to: float = math.inf
) -> tuple[int, int]:
    """True positives, of boxes whose longest side is more than ``above`` and up to ``up_to``
    pixels, and false ones.
    """
    found = 0
    for one in judged:
        counted = (one.sizes > above) & (one.sizes <= up_to)
        found += int((one.found[counted] >= score).sum())
    return found, sum(int((j.scores[~j.correct] >= score).sum()) for j in judged)


def at_score(judged: list[Judged], score: float) -> dict[str, float]:
    """Recall, precision and false boxes an image of the detections from a score on; nan where there
    is nothing to find, or nothing found.
    """
    right, false = counts(judged, score)
    precision = right / (right + false) if right + false else math.nan
    each = false / len(judged) if judged else math.nan
    return {"recall": recall(judged, score), "precision": precision, "false": each}


def without_stamps(seen: Seen, name: str) -> Detections:
    """What a detector found, without the faces that are painted ones."""
    found = seen.detections[name]
    kept = ~_on_paint(seen, name)
    labels = [label for label, keep in zip(found.labels, kept, strict=True) if keep]
    return Detections(found.boxes[kept], found.scores[kept], labels)


def _on_paint(seen: Seen, name: str) -> np.ndarray:
    """Which detections are of paint, bool ``[n]``: none where the method does not paint."""
    shares = seen.painted.get(name, [0.0] * len(seen.detections[name].boxes))
    return np.array(shares, float) >= PAINTED_FACE


def _truths(name: str, what: str, pairs: Pairs, base: Pairs) -> tuple[list[Boxes | None], str]:
    """The boxes to judge a detector by on each image, and what they are."""
    truths = [truth_of(record, what) for record, _ in pairs]
    if any(truth is not None for truth in truths):
        return truths, "annotations"
    return [found_on(seen, name) for _, seen in base], "original"


def _judge_all(
    name: str,
    what: str,
    pairs: Pairs,
    base: Pairs,
    truths: list[Boxes | None],
    heights: tuple[float, float] = (0, math.inf),
) -> tuple[list[Judged], list[Judged]]:
    """A detector judged on what the method left of each image, and on the original."""
    mine = []
    original = []
    for (_, seen), (_, before), truth in zip(pairs, base, truths, strict=True):
        if truth is not None:
            overlap = OVERLAP[what]
            mine.append(judge(without_stamps(seen, name), truth, overlap, heights))
            original.append(judge(before.detections[name], truth, overlap, heights))
    return mine, original


def _compare(mine: list[Judged], original: list[Judged]) -> dict[str, Any]:
    """Average precision and recall, of the original's too, with intervals."""
    times = count_draws(len(mine))
    ap = average_precision(mine)
    found = recall(mine, PERSON_SCORE)
    drawn_ap = average_precisions(mine, times)
    drawn_found = recalls(mine, PERSON_SCORE, times)
    ratio = drawn_ap / _nothing_to_nan(average_precisions(original, times))
    found_ratio = drawn_found / _nothing_to_nan(recalls(original, PERSON_SCORE, times))
    return {
        "boxes": sum(len(one.sizes) for one in mine),
        "ap": ap,
        "ap_interval": to_interval(drawn_ap),
        "recall": found,
        "recall_interval": to_interval(drawn_found),
        "ratio": float(ap / _nothing_to_nan(average_precision(original))),
        "ratio_interval": to_interval(ratio),
        "recall_ratio": float(found / _nothing_to_nan(recall(original, PERSON_SCORE))),
        "recall_ratio_interval": to_interval(found_ratio),
    }


def _nothing_to_nan(values: np.ndarray | float) -> np.ndarray:
    """The values, nan for 0: nothing is a share of nothing."""
    return np.where(np.equal(values, 0), np.nan, values)


def _face_truth(record: Record) -> str:
    return next((kind for kind in ("face", "head") if kind in record.annotated), "nothing")


def _share(judged: list[tuple[Judged, Judged]], score: float) -> float:
    """True positives in the first of each over those in the second."""
    mine, original = (counts(list(column), score)[0] for column in zip(*judged, strict=True))
    return mine / original if original else float("nan")
