"""Person and face boxes for images that lack them, found by detectors, as a COCO JSON to train
on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros import storage
from roi_anon_ros.datasets import KINDS, Record, heads_of
from roi_anon_ros.detect import Detector
from roi_anon_ros.files import JsonLines, read_pixels
from roi_anon_ros.files.progress import Track

#: Least score of a person that goes into the JSON.
CONFIDENCE = 0.35


@dataclass
class Labelled:
    """What :func:`label_images` did.

    Attributes:
        images: in the JSON.
        boxes: in the JSON.
        kept: images that a former run had looked at.
        failed: what was wrong with an image that is left out, by its file.
    """

    images: int = 0
    boxes: int = 0
    kept: int = 0
    failed: dict[Path, Exception] = field(default_factory=dict)


def label_images(
    images: Mapping[str, Path],
    target: Path,
    detectors: Mapping[str, Detector],
    made_by: Mapping[str, str],
    records: Mapping[str, Record],
    track: Track = lambda items, *_: items,
    report: Callable[[Path, Exception], None] = lambda *_: None,
) -> Labelled:
    """Find boxes on images, and write them as a COCO JSON; goes on with an interrupted run.

    Args:
        images: files by the names that the JSON has for them.
        target: the JSON, which is not there yet; the journal of the run is next to it.
        detectors: by the kind of box, of all kinds that :func:`list_lacking` names.
        made_by: names of detectors by the kind of box, "person" and "face": what others found in an
            interrupted run is not used again.
        records: what is annotated already, by the image's name.
        track: shows how far it is.
        report: is told at once of an image that cannot be used; the others are labelled.

    Raises:
        OSError: the JSON or the journal cannot be written.
    """
    done = Labelled()
    lacking = list_lacking(images, records)
    with Journal(target.with_suffix(".part.jsonl"), made_by) as journal:
        for name, file in track(images.items(), len(images), "labelled"):
            try:
                modified = file.stat().st_mtime_ns
                if journal.has(name, modified, lacking[name]):
                    done.kept += 1
                    continue
                image = read_pixels(file)
                wanted = {kind: detectors[kind] for kind in lacking[name]}
                journal.add(name, modified, image, find(image, wanted))
            except (OSError, ValueError) as error:
                done.failed[file] = error
                report(file, error)
    entries = [journal.found[name] for name, file in images.items() if file not in done.failed]
    coco = to_coco(entries, records)
    storage.write_bytes(target, json.dumps(coco).encode())
    journal.path.unlink()
    done.images = len(coco["images"])
    done.boxes = len(coco["annotations"])
    return done


def list_lacking(images: Iterable[str], records: Mapping[str, Record]) -> dict[str, set[str]]:
    """The kinds of boxes, "person" and "face", that nobody annotated, by the image's name."""
    return {name: {"person", "face"} - by_hand(records.get(name)) for name in images}


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
