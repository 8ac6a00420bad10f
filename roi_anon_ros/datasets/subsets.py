"""A part of a COCO JSON, named by rules that anybody can repeat."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roi_anon_ros.datasets.coco import image_folder
from roi_anon_ros.datasets.reading import read_content


def first_byte(file_name: str) -> int:
    """First byte of the SHA-256 of an image's name without its folders, 0 to 255."""
    name = Path(file_name).name
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0]


def select_images(
    annotations: Path,
    target: Path,
    images: Path | None = None,
    only: Sequence[str] = (),
    below: int = 256,
    kind: str = "",
) -> dict[str, Any]:
    """The part of a COCO JSON that rules name, as a COCO JSON for another place.

    Args:
        annotations: the JSON file.
        target: where the result will lie: names of images are written relative to its folder.
        images: folder that ``file_name`` is relative to, as of ``read_coco``.
        only: values of ``source`` of which images are taken; empty: all.
        below: images are taken whose :func:`first_byte` is below this, 1 to 256.
        kind: what the result calls the ``source`` of all its images; empty: what they have.

    Returns:
        The JSON's content.

    Raises:
        ValueError: the file is no COCO JSON, a source is not in it, or no image is left.
    """
    if not 1 <= below <= 256:
        raise ValueError(f"below: got {below}, must be from 1 to 256")
    try:
        coco = json.loads(read_content(annotations))
        listed = list(coco["images"])
        sources = {str(image.get("source", "")) for image in listed}
        names = {image["id"]: image["file_name"] for image in listed}
        boxes = [(one["image_id"], one) for one in coco["annotations"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations}: no COCO JSON: {error!r}") from error
    unknown = [source for source in only if source not in sources]
    if unknown:
        known = ", ".join(sorted(sources))
        raise ValueError(f"{annotations}: source: got {unknown[0]!r}, must be one of {known}")
    folder = image_folder(annotations, images)
    kept = []
    for image in listed:
        wanted = not only or str(image.get("source", "")) in only
        if wanted and first_byte(names[image["id"]]) < below:
            path = os.path.relpath(folder / image["file_name"], target.parent)
            renamed = {"source": kind} if kind else {}
            kept.append({**image, "file_name": Path(path).as_posix(), **renamed})
    if not kept:
        raise ValueError(f"{annotations}: no image is left")
    numbers = {image["id"] for image in kept}
    left = [one for number, one in boxes if number in numbers]
    return {**coco, "images": kept, "annotations": left}
