"""One evaluation: every row over every picture of a set, cached picture by picture, summed up with intervals."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detect import Detections, PersonDetector
from ..files import read_picture
from ..train.data import Boxes, Record
from ..train.validation import FACE_OVERLAP
from .precision import Judged, average_precision, bootstrap, judge
from .rows import ORIGINAL, Row

#: Least overlap, intersection over union, of a detection with the box that it finds.
OVERLAP = {"persons": 0.5, "faces": FACE_OVERLAP}
#: Score above which a face counts as found.
FACE_SCORE = 0.5
#: A face larger than this many pixels is a large one.
LARGE = 96


@dataclass(frozen=True)
class Seen:
    """What was measured on one picture of one row.

    Attributes:
        bytes: of its file or packet.
        pixels: of the picture.
        error: squared errors summed, and values summed over, outside the heads and inside them; values in [0, 1].
        detections: by the name of a detector.
    """

    bytes: int
    pixels: int
    error: dict[str, tuple[float, int]]
    detections: dict[str, Detections]

    def to_json(self) -> dict[str, Any]:
        """As a line of the cache."""
        found = {
            name: np.column_stack([d.boxes, d.scores]).astype(float).round(4).tolist()
            for name, d in self.detections.items()
        }
        return {"bytes": self.bytes, "pixels": self.pixels, "error": self.error, "detections": found}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Seen:
        """From a line of the cache."""
        found = {}
        for name, rows in line["detections"].items():
            table = np.array(rows, np.float32).reshape(-1, 5)
            found[name] = Detections(
                table[:, :4], table[:, 4], ["person" if name == "persons" else "face"] * len(table)
            )
        return cls(line["bytes"], line["pixels"], {k: tuple(v) for k, v in line["error"].items()}, found)


class Cache:
    """What one row measured so far, in a file that grows by a line with each picture; a torn last line is dropped.

    Args:
        folder: of all caches.
        name: of the row.
        key: all that the measurements depend on; another key begins another file.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        plain = "".join(c if c.isalnum() else "-" for c in Path(name).stem if c != " ")
        self.path = folder / f"{plain}-{digest}.jsonl"
        self.seen: dict[str, Seen] = {}
        end = 0
        for line in self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self.seen[entry["file"]] = Seen.from_json(entry)
            end += len(line)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        self._file.truncate(end)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, file: str, seen: Seen) -> None:
        """Add a picture; it is in the file when this returns."""
        self._file.write(json.dumps({"file": file} | seen.to_json()).encode() + b"\n")
        self._file.flush()
        self.seen[file] = seen


def look(record: Record, row: Row, detectors: Mapping[str, PersonDetector]) -> Seen:
    """Measure one picture.

    Args:
        record: the picture and its boxes.
        row: how it is sent.
        detectors: by name; what they raise is passed on: an error is not "nobody there".
    """
    image = read_picture(record.path)
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
    return Seen(len(sent), inside.size, error, found)


def measure(
    records: Iterable[Record], row: Row, detectors: Mapping[str, PersonDetector], cache: Cache
) -> Iterator[tuple[Record, Seen]]:
    """Yield what a row makes of each picture, measured now or in a former run."""
    for record in records:
        file = str(record.path)
        if file not in cache.seen:
            cache.add(file, look(record, row, detectors))
        yield record, cache.seen[file]


def summary(pairs: list[tuple[Record, Seen]]) -> dict[str, Any]:
    """The figures of one row over a set.

    Returns:
        ``bits_per_pixel`` and ``bits_per_pixel_sd`` over the pictures; ``psnr_outside`` and ``psnr_heads``, dB of the
        mean squared error over all pixels outside and inside the head boxes (None: no error); ``persons_ap`` at
        overlap 0.5, all points, with ``persons_ap_interval``, and ``persons_ap_101``; and for each face detector
        ``<name>_true``, ``<name>_true_large`` (over 96 pixels), ``<name>_false`` at a score of 0.5, ``<name>_ap``.
        Persons are counted on the pictures where they are annotated, faces where faces or heads are.
    """
    rates = np.array([8 * seen.bytes / seen.pixels for _, seen in pairs])
    figures: dict[str, Any] = {
        "pictures": len(pairs),
        "bits_per_pixel": float(rates.mean()),
        "bits_per_pixel_sd": float(rates.std()),
    }
    for where in ("outside", "heads"):
        total, count = np.sum([seen.error[where] for _, seen in pairs], axis=0)
        figures[f"psnr_{where}"] = -10 * math.log10(total / count) if total else None
    for name in pairs[0][1].detections:
        kind = "persons" if name == "persons" else "faces"
        judged = [
            judge(seen.detections[name], truth, OVERLAP[kind])
            for record, seen in pairs
            if (truth := truth_of(record, kind)) is not None
        ]
        figures[f"{name}_annotated"] = sum(len(j.sizes) for j in judged)
        if not judged:
            continue
        figures[f"{name}_ap"] = average_precision(judged)
        if kind == "persons":
            figures["persons_ap_101"] = average_precision(judged, 101)
            figures["persons_ap_interval"] = bootstrap(judged, average_precision)
        else:
            figures[f"{name}_true"] = _true(judged)
            figures[f"{name}_true_interval"] = bootstrap(judged, _true)
            figures[f"{name}_true_large"] = sum(int((j.found[j.sizes > LARGE] >= FACE_SCORE).sum()) for j in judged)
            figures[f"{name}_false"] = sum(int((j.scores[~j.correct] >= FACE_SCORE).sum()) for j in judged)
    return figures


def truth_of(record: Record, kind: str) -> Boxes | None:
    """The boxes by which persons or faces on a picture are judged; None where nobody annotated them."""
    if kind == "faces":
        return record.face_truth
    return record.persons if "person" in record.annotated else None


def _true(judged: list[Judged]) -> int:
    return sum(int((j.found >= FACE_SCORE).sum()) for j in judged)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, with what is left of the original's figures.

    Args:
        results: :func:`summary` by the name of the row, the original among them.
    """
    base = results[ORIGINAL]
    faces = [name.removesuffix("_true") for name in base if name.endswith("_true")]
    head = ["", "bits per pixel", "PSNR outside heads", "in heads", "persons, AP (95 %)", "of the original's"]
    for name in faces:
        head += [f"faces, {name}", f"over {LARGE} pixels"]
    lines = [head, ["---"] * len(head)]
    for name, figures in results.items():
        decibels = ["–" if figures[key] is None else f"{figures[key]:.1f} dB" for key in ("psnr_outside", "psnr_heads")]
        rate = f"{figures['bits_per_pixel']:.3f} ± {figures['bits_per_pixel_sd']:.3f}"
        line = [name, rate, *decibels]
        if figures["persons_annotated"]:
            low, high = figures["persons_ap_interval"]
            line += [f"{figures['persons_ap']:.3f} ({low:.3f} to {high:.3f})"]
            line += [f"{figures['persons_ap'] / base['persons_ap']:.3f}"]
        else:
            line += ["not annotated", ""]
        for face in faces:
            for key in (f"{face}_true", f"{face}_true_large"):
                share = f" ({figures[key] / base[key]:.3f})" if base[key] else ""
                line.append(f"{figures[key]}{share}")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
