"""COCO: one JSON for a set."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from roi_anon_ros.datasets.reading import (
    KIND_OF,
    Reading,
    add_record,
    check_readable,
    find_kinds,
    plain_name,
    read_content,
    read_flag,
    read_size,
    reports,
    tell_helmet,
    to_corners,
)
from roi_anon_ros.datasets.records import KINDS


def read_coco(annotations: Path, images: Path | None = None) -> Reading:
    """Read a COCO JSON; categories are told by their names, see :data:`KIND_OF`.

    Every image counts as annotated with the kinds of all categories, unless it has a list
    ``annotated``: then with those, and with the kinds of which it has boxes, be they found by a
    detector or derived from another kind. Kinds in its list ``partial`` were drawn on some of the
    people only: their boxes are read, and they do not count as annotated. Boxes with ``ignore`` or
    ``iscrowd`` are ignored. Where a file joins several sets, ``source`` of an image names its own.

    Args:
        annotations: the JSON file.
        images: folder that ``file_name`` is relative to; by default the one beside the file with
            its name (``train/`` for ``train.json``), else the file's own.

    Raises:
        ValueError: nothing can be read, or no category is known.
    """
    file = Path(annotations)
    reading = Reading()
    try:
        coco = json.loads(read_content(file))
        names = {_key(c["id"]): plain_name(c["name"]) for c in coco["categories"]}
        entries = list(coco["images"])
        listed = list(coco["annotations"])
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: no COCO JSON: {error!r}") from error
    kinds = find_kinds(names.values(), f"{file}: categories")
    folder = image_folder(file, images)
    of_image: dict[str, list[dict]] = defaultdict(list)
    for number, one in enumerate(listed):
        with reports(reading, f"{file}: annotations[{number}]"):
            of_image[_key(one["image_id"])].append(one)
    for number, image in enumerate(entries):
        with reports(reading, f"{file}: images[{number}]"):
            path = folder / image["file_name"]
            of_this = of_image.pop(_key(image["id"]), [])
            with reports(reading, path):
                _read_image(reading, path, image, of_this, names, kinds)
    reading.problems += [
        f"{file}: annotations of image_id {number}, which is not in it" for number in of_image
    ]
    return check_readable(file, reading)


def image_folder(annotations: Path, images: Path | None) -> Path:
    """The folder that the names of a COCO JSON's images are relative to.

    Args:
        annotations: the JSON file.
        images: the folder, where somebody said it; else the one beside the file with its name, or
            the file's own.
    """
    beside = annotations.with_suffix("")
    return images or (beside if beside.is_dir() else annotations.parent)


def _read_image(
    reading: Reading,
    path: Path,
    image: dict[str, Any],
    of_this: list[dict],
    names: dict[str, str],
    kinds: frozenset[str],
) -> None:
    """Add one image and its annotations to what is read.

    Args:
        reading: what is added to.
        path: of the image.
        image: its entry.
        of_this: its annotations.
        names: of the categories by their ids.
        kinds: of all categories.
    """
    boxes = defaultdict(list)
    found = set()
    for one in of_this:
        name = names[_key(one["category_id"])]
        kind = KIND_OF.get(name)
        if kind:
            if one.get("origin") == "pseudo":
                found.add(kind)
            ignored = read_flag(one.get("ignore")) or read_flag(one.get("iscrowd"))
            helmet = tell_helmet(name, names.values())
            boxes[kind].append((*to_corners(one["bbox"]), ignored, helmet))
    partial = set(image.get("partial", ()))
    complete = kinds - partial - found
    annotated = kinds - partial
    if "annotated" in image:
        complete = frozenset(KINDS).intersection(image["annotated"]) - found
        annotated = annotated & boxes.keys() | set(KINDS).intersection(image["annotated"])
    size = read_size(path, *(int(float(image.get(side) or 0)) for side in ("width", "height")))
    add_record(
        reading,
        path,
        size,
        boxes,
        frozenset(annotated),
        frozenset(found),
        frozenset(complete),
        str(image.get("source", "")),
    )


def _key(number: Any) -> str:
    """An id: some tools write 7, others "7" or 7.0, and mix them within a file."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
