"""YOLO: a YAML file for a set, a text file of boxes or polygons for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roi_anon_ros.datasets.reading import (
    KIND_OF,
    Problems,
    Reading,
    add_record,
    check_order,
    check_readable,
    find_kinds,
    first_file,
    located,
    plain_name,
    read_content,
    read_size,
    reports,
    tell_helmet,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES


def read_yolo(annotations: Path, images: Path | None = None) -> Reading:
    """Read a YOLO set; classes are told by their names, see :data:`KIND_OF`.

    The labels of ``…/images/…/a.jpg`` are ``…/labels/…/a.txt``, or ``a.txt`` beside it where no
    folder is called ``images``: boxes, or polygons, of which the surrounding box is taken. Of a box
    with keypoints (``kpt_shape`` in the YAML file) the box is taken, and a sixth column is a
    detector's score. An image without that file counts as not annotated, one with an empty file as
    annotated and empty.

    Args:
        annotations: the YAML file with ``names``, or the folder in which it lies as ``data.yaml``
            or ``dataset.yaml``.
        images: read only the images in this folder; by default all that ``train``, ``val`` and
            ``test`` name (folders, or lists of files), else those in ``images`` beside the YAML
            file.

    Raises:
        ValueError: nothing can be read, or no class is known.
    """
    reading = Reading()
    told = open_yolo(annotations, images, reading)
    kinds = find_kinds(told.names.values(), f"{told.file}: names")
    for path in told.images:
        with reports(reading, path):
            size = read_size(path)
            labels = labels_of(path)
            boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
            found = set()
            for number, line in enumerate(
                labels.read_text().splitlines() if labels.is_file() else (), 1
            ):
                if line.strip():
                    with located(f"{labels}: line {number}"):
                        label = read_label(line, told, size)
                        if label.name in KIND_OF:
                            helmet = tell_helmet(label.name, told.names.values())
                            boxes[KIND_OF[label.name]].append((*label.box, False, helmet))
                            if label.scored:
                                found.add(KIND_OF[label.name])
            annotated = kinds if labels.is_file() else frozenset()
            add_record(reading, path, size, boxes, annotated, frozenset(found))
    return check_readable(told.file, reading)


@dataclass(frozen=True)
class YoloSet:
    """What the YAML file of a set says.

    Attributes:
        file: itself.
        names: plain names of the classes, by their numbers.
        keypoints: numbers of keypoints that come after each box; 0 in all but pose sets.
        images: all that it names, once each.
    """

    file: Path
    names: dict[int, str]
    keypoints: int
    images: list[Path]


@dataclass(frozen=True, eq=False)
class Label:
    """One line of an image's labels.

    Attributes:
        name: plain name of its class.
        box: left, top, right, bottom, pixels.
        scored: whether a score says that a detector found it.
        outline: of a polygon, its corners, float ``[n, 2]``, pixels; None of a box.
        points: of a pose set, the numbers of the keypoints as they stand there; empty of others.
    """

    name: str
    box: tuple[float, float, float, float]
    scored: bool
    outline: np.ndarray | None
    points: list[float]


def open_yolo(annotations: Path, images: Path | None, reading: Problems) -> YoloSet:
    """Read the YAML file of a set.

    Args:
        annotations: see :func:`read_yolo`, as ``images``.
        images: a folder.
        reading: notes folders that are not there.

    Raises:
        ValueError: it is no such file.
    """
    file = find_yolo_file(Path(annotations)) or Path(annotations)
    try:
        told = yaml.safe_load(read_content(file))
        listed = told["names"]
        pairs = listed.items() if isinstance(listed, dict) else enumerate(listed)
        names = {int(number): plain_name(str(name)) for number, name in pairs}
        keypoints = _keypoint_numbers(told)
        paths = list(_yolo_images(file, told, images, reading))
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: no YOLO set: {error!r}") from error
    return YoloSet(file, names, keypoints, list(dict.fromkeys(paths)))


def find_yolo_file(path: Path) -> Path | None:
    """The YAML file of the set that lies in this folder; None where it is of another format."""
    return next(
        (file for name in ("data.yaml", "dataset.yaml") if (file := path / name).is_file()), None
    )


def _yolo_images(
    file: Path, told: dict[str, Any], images: Path | None, reading: Problems
) -> Iterator[Path]:
    """The images that a YAML file, or the caller, names."""
    # The root that its maker wrote may be a place on another machine.
    root = file.parent / str(told.get("path") or "")
    root = root if root.is_dir() else file.parent
    entries = [told.get(split) or () for split in ("train", "val", "test")]
    places = [
        place for entry in entries for place in ([entry] if isinstance(entry, str) else entry)
    ]
    if images is not None:
        places = [Path(images).absolute()]
    for place in places or ["images"]:
        # Roboflow writes ../train/images for what lies in train/images.
        named = [root / place, root / str(place).removeprefix("../")]
        found = next((path for path in named if path.exists()), None)
        if found is None:
            reading.problems.append(f"{file}: {place}: no such file or folder")
        elif found.is_dir():
            yield from sorted(
                path for path in found.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
            )
        else:
            lines = filter(None, map(str.strip, read_content(found).decode().splitlines()))
            yield from (first_file((found.parent / line, root / line)) for line in lines)


def labels_of(image: Path) -> Path:
    """The file of an image's labels."""
    parts = list(image.parts)
    above = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    if above:
        parts[above[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _keypoint_numbers(told: dict[str, Any]) -> int:
    """How many numbers of keypoints come after each box of a pose set; 0 in all other sets."""
    shape = told.get("kpt_shape")
    if shape is None:
        return 0
    points, each = shape
    if not isinstance(points, int) or points < 1 or each not in (2, 3):
        raise ValueError(f"kpt_shape: got {shape}, must be points, and 2 or 3 numbers for each")
    return points * each


def read_label(line: str, told: YoloSet, size: tuple[int, int]) -> Label:
    """A line of labels.

    After the class are: a box, and its score as a detector writes it; a box and keypoints, in a
    pose set; or a polygon.

    Args:
        line: numbers with spaces between them.
        told: of its set.
        size: width and height of the image, pixels.

    Raises:
        ValueError: quotes the line, and says what it must be.
    """
    number, *values = (float(value) for value in line.split())
    scored = len(values) == 5 and not told.keypoints
    points = values[4:] if told.keypoints and len(values) == 4 + told.keypoints else []
    if scored or points:
        values = values[:4]
    if not all(-0.01 <= value <= 1.01 for value in values):
        raise ValueError(f"{line.strip()!r}: must be within 0 to 1")
    corners = np.reshape(values, (-1, 2)) * size if len(values) % 2 == 0 else np.zeros((0, 2))
    outline = None
    if len(values) == 4:
        low = corners[0] - corners[1] / 2
        high = corners[0] + corners[1] / 2
    elif len(corners) >= 3 and not told.keypoints:
        outline = corners
        low = corners.min(axis=0)
        high = corners.max(axis=0)
    else:
        more = ", or a polygon of 3 points or more"
        if told.keypoints:
            more = f" and {told.keypoints} of keypoints"
        raise ValueError(f"{line.strip()!r}: must be a class and 4 numbers{more}")
    if number not in told.names:
        raise ValueError(f"{line.strip()!r}: no class has this number")
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    check_order(*box)
    return Label(told.names[int(number)], box, scored, outline, points)
