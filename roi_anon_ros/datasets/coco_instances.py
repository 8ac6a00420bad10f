"""COCO with outlines and keypoints: ``instances_*.json`` and ``person_keypoints_*.json``."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.datasets.coco import image_folder
from roi_anon_ros.datasets.instances import (
    KEYPOINTS,
    Instance,
    Scene,
    Scenes,
    make_instance,
    read_polygon,
)
from roi_anon_ros.datasets.reading import (
    KIND_OF,
    plain_name,
    read_content,
    read_flag,
    read_size,
    reports,
    to_corners,
)


def read_coco_instances(annotations: Path, images: Path | None = None) -> Scenes:
    """Read the persons of a COCO JSON with their outlines and keypoints.

    An image that lists what is ``annotated`` counts only where that has persons. An image with a
    damaged person is left out, and said.

    Args:
        annotations: the JSON file.
        images: folder that ``file_name`` is relative to, as of ``read_coco``.

    Raises:
        ValueError: the file is no COCO JSON with persons.
    """
    found = Scenes()
    try:
        coco = json.loads(read_content(annotations))
        named = {one["id"]: plain_name(one["name"]) for one in coco["categories"]}
        persons = {number for number, name in named.items() if KIND_OF.get(name) == "person"}
        listed = list(coco["images"])
        of_image: dict[Any, list[dict]] = defaultdict(list)
        for one in coco["annotations"]:
            if one["category_id"] in persons:
                of_image[one["image_id"]].append(one)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations}: no COCO JSON: {error!r}") from error
    if not persons:
        raise ValueError(f"{annotations}: categories: none is a person")
    folder = image_folder(annotations, images)
    for number, image in enumerate(listed):
        with reports(found, f"{annotations}: images[{number}]"):
            if "person" not in image.get("annotated", ["person"]):
                continue
            path = folder / image["file_name"]
            size = read_size(path, image.get("width"), image.get("height"))
            people = [_read_person(one, size) for one in of_image[image["id"]]]
            inside = tuple(person for person in people if person is not None)
            found.scenes.append(Scene(path, size, inside))
    return found


def _read_person(one: dict[str, Any], size: tuple[int, int]) -> Instance | None:
    """One annotation of a person."""
    drawn = one.get("segmentation")
    # A crowd has a run-length code of many people.
    outlines = [read_polygon(part) for part in drawn] if isinstance(drawn, list) else []
    points = None
    if one.get("keypoints"):
        points = np.asarray(one["keypoints"], float).reshape(-1, 3)
        if len(points) != len(KEYPOINTS):
            raise ValueError(f"keypoints: got {len(points)}, must be {len(KEYPOINTS)}")
    ignored = read_flag(one.get("ignore")) or read_flag(one.get("iscrowd"))
    return make_instance(
        to_corners(one["bbox"]), size, ignored, outlines, points, one.get("area") or None
    )
