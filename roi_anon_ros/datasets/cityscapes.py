"""Cityscapes: a JSON of polygons for each image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from roi_anon_ros.datasets.instances import (
    Instance,
    Scene,
    Scenes,
    area_of,
    bounds_of,
    make_instance,
    read_polygon,
)
from roi_anon_ros.datasets.reading import read_content, read_size, reports

#: Labels of a person, and of people that nobody told apart.
PERSONS = ("person", "rider")
GROUPS = ("persongroup", "ridergroup")
ENDING = "_gtFine_polygons.json"


def read_cityscapes(part: Path, images: Path | None = None) -> Scenes:
    """Read the persons of one part of Cityscapes, as published.

    ``gtFine/train/CITY/NAME_gtFine_polygons.json`` belongs to
    ``leftImg8bit/train/CITY/NAME_leftImg8bit.png``. Groups of persons are ignored.

    Args:
        part: folder of the annotations, such as ``gtFine/train``.
        images: folder of the images; by default ``leftImg8bit/`` beside ``gtFine/``, with the name
            of the part.

    Raises:
        ValueError: there are no such files in the folder.
    """
    files = sorted(part.rglob(f"*{ENDING}"))
    if not files:
        raise ValueError(f"{part}: no file in it ends in {ENDING}")
    folder = images or part.parent.parent / "leftImg8bit" / part.name
    found = Scenes()
    for file in files:
        with reports(found, file):
            name = file.name.removesuffix(ENDING) + "_leftImg8bit.png"
            path = folder / file.parent.relative_to(part) / name
            content = json.loads(read_content(file))
            size = read_size(path, content["imgWidth"], content["imgHeight"])
            found.scenes.append(Scene(path, size, _read_persons(content, size)))
    return found


def _read_persons(content: dict[str, Any], size: tuple[int, int]) -> tuple[Instance, ...]:
    persons = []
    for one in content["objects"]:
        if one["label"] not in PERSONS + GROUPS or one.get("deleted"):
            continue
        outline = read_polygon(one["polygon"])
        person = make_instance(
            bounds_of([outline]),
            size,
            one["label"] in GROUPS,
            [outline],
            area=area_of(outline),
        )
        if person is not None:
            persons.append(person)
    return tuple(persons)
