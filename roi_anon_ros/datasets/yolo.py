"""YOLO: a YAML file for a set, a text file of boxes or polygons for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from roi_anon_ros.datasets.reading import (
    KIND_OF,
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
    file = find_yolo_file(Path(annotations)) or Path(annotations)
    reading = Reading()
    try:
        told = yaml.safe_load(read_content(file))
        names = told["names"]
        names = {
            int(k): plain_name(str(v))
            for k, v in (names.items() if isinstance(names, dict) else enumerate(names))
        }
        keypoints = _keypoint_numbers(told)
        paths = list(_yolo_images(file, told, images, reading))
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: no YOLO set: {error!r}") from error
    kinds = find_kinds(names.values(), f"{file}: names")
    for path in dict.fromkeys(paths):
        with reports(reading, path):
            size = read_size(path)
            labels = _labels_of(path)
            boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
            found = set()
            for number, line in enumerate(
                labels.read_text().splitlines() if labels.is_file() else (), 1
            ):
                if line.strip():
                    with located(f"{labels}: line {number}"):
                        name, box, scored = _yolo_box(line, names, size, keypoints)
                        if name in KIND_OF:
                            boxes[KIND_OF[name]].append((*box, False))
                            if scored:
                                found.add(KIND_OF[name])
            annotated = kinds if labels.is_file() else frozenset()
            add_record(reading, path, size, boxes, annotated, frozenset(found))
    return check_readable(file, reading)


def find_yolo_file(path: Path) -> Path | None:
    """The YAML file of the set that lies in this folder; None where it is of another format."""
    return next(
        (file for name in ("data.yaml", "dataset.yaml") if (file := path / name).is_file()), None
    )


def _yolo_images(
    file: Path, told: dict[str, Any], images: Path | None, reading: Reading
) -> Iterator[Path]:
    """The images that a YAML file, or the caller, names."""
    # The root that its maker wrote may be a place on another machine.
    root = file.parent / str(told.get("path") or "")
    root = root if root.is_dir() else file.parent
    entries = [told.get(part) or () for part in ("train", "val", "test")]
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


def _labels_of(image: Path) -> Path:
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


def _yolo_box(
    line: str, names: dict[int, str], size: tuple[int, int], keypoints: int
) -> tuple[str, list[float], bool]:
    """Plain class name, x1 y1 x2 y2 in pixels, and whether a score says that a detector found it.

    After the class are: a box, and its score as a detector writes it; a box and keypoints, in a
    pose set; or a polygon.
    """
    number, *values = (float(value) for value in line.split())
    scored = len(values) == 5 and not keypoints
    if scored or (keypoints and len(values) == 4 + keypoints):
        values = values[:4]
    if not all(-0.01 <= value <= 1.01 for value in values):
        raise ValueError(f"{line.strip()!r}: must be within 0 to 1")
    if len(values) == 4:
        x, y, w, h = values
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0 and not keypoints:
        box = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    else:
        more = ", or a polygon of 3 points or more"
        if keypoints:
            more = f" and {keypoints} of keypoints"
        raise ValueError(f"{line.strip()!r}: must be a class and 4 numbers{more}")
    if number not in names:
        raise ValueError(f"{line.strip()!r}: no class has this number")
    check_order(*box)
    pixels = [value * side for value, side in zip(box, size * 2, strict=True)]
    return names[int(number)], pixels, scored
