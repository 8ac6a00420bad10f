"""Person and face boxes for images that lack them, found by detectors, as a COCO JSON to train
on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros.datasets import KINDS, Record, heads_of
from roi_anon_ros.detect import Detector
from roi_anon_ros.files import JsonLines

#: Least score of a person that goes into the JSON.
CONFIDENCE = 0.35


class Journal(JsonLines):
    """What detectors found so far, image by image; a killed run leaves it to the next one.

    Args:
        path: the file; it begins anew where other detectors wrote it.
        detectors: their names by the kind of box that they find.

    Attributes:
        found: by the image's name, ``file`` (that name), ``modified`` (its time, ns), ``width``
            and ``height`` in pixels, and ``found``, what :func:`find` gave.
    """

    def __init__(self, path: Path, detectors: Mapping[str, str]) -> None:
        super().__init__(path, {"detectors": dict(detectors)})
        self.found = {entry["file"]: entry for entry in self.entries}

    def has(self, name: str, modified_ns: int, kinds: Iterable[str]) -> bool:
        """Whether these kinds were looked for on this very image."""
        entry = self.found.get(name)
        return (
            entry is not None
            and entry["modified"] == modified_ns
            and entry["found"].keys() >= set(kinds)
        )

    def add(
        self, name: str, modified_ns: int, image: np.ndarray, found: dict[str, list[list[float]]]
    ) -> None:
        """Add an image (``[H, W, 3]``) and what was found on it; it is in the file when this
        returns.
        """
        height, width = image.shape[:2]
        entry = {
            "file": name,
            "modified": modified_ns,
            "width": width,
            "height": height,
            "found": found,
        }
        self.write(entry)
        self.found[name] = entry


def find(image: np.ndarray, detectors: Mapping[str, Detector]) -> dict[str, list[list[float]]]:
    """What each detector finds: left, top, width, height in pixels, and score.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        detectors: by the kind of box that they find.

    Raises:
        ValueError: a detector cannot take this image.
    """
    found = {}
    for kind, detector in detectors.items():
        try:
            (seen,) = detector([image])
        except cv2.error as error:
            raise ValueError(f"{kind}: {error.err}") from error
        boxes = np.hstack(
            [seen.boxes[:, :2], seen.boxes[:, 2:] - seen.boxes[:, :2], seen.scores[:, None]]
        )
        found[kind] = boxes.astype(float).round(3).tolist()
    return found


def by_hand(record: Record | None) -> frozenset[str]:
    """The kinds that are annotated on an image, without heads that were grown from its faces."""
    if record is None:
        return frozenset()
    grown = heads_of(record.faces, record.width, record.height)
    if "face" in record.annotated and np.array_equal(record.heads.xyxy, grown.xyxy):
        return record.annotated - {"head"}
    return record.annotated


def to_coco(entries: Iterable[Mapping[str, Any]], records: Mapping[str, Record]) -> dict[str, Any]:
    """The COCO JSON that :func:`~roi_anon_ros.datasets.read_coco` reads.

    What a record has stays, with ``origin: "human"``; of the other kinds comes what was found, with
    ``origin: "pseudo"`` and ``score``. An image's ``annotated`` names the former only: where no
    face was found, heads may still be there, and such an image is not for training.

    Args:
        entries: of a :class:`Journal`.
        records: existing annotations, by the image's name.
    """
    number = {kind: i for i, kind in enumerate(KINDS, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def add(kind: str, box: list[float], **more: Any) -> None:
        ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": number[kind]}
        annotations.append(
            ids | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "ignore": 0} | more
        )

    for entry in entries:
        record = records.get(entry["file"])
        kinds = by_hand(record)
        size = {"width": entry["width"], "height": entry["height"]}
        images.append(
            {"id": len(images) + 1, "file_name": entry["file"], **size, "annotated": sorted(kinds)}
        )
        for kind in KINDS:
            if kind in kinds:
                boxes = getattr(record, f"{kind}s")
                for (x1, y1, x2, y2), ignored in zip(
                    boxes.xyxy.tolist(), boxes.ignore.tolist(), strict=True
                ):
                    add(kind, [x1, y1, x2 - x1, y2 - y1], origin="human", ignore=int(ignored))
            else:
                for *box, score in entry["found"].get(kind, ()):
                    add(kind, box, origin="pseudo", score=score)
    categories = [{"id": i, "name": kind} for kind, i in number.items()]
    return {"categories": categories, "images": images, "annotations": annotations}
