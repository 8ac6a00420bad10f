"""BDD100K: one JSON of Scalabel for a set."""

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
from roi_anon_ros.datasets.reading import read_content, read_flag, read_size, reports

#: Categories of persons: of the labels of 2020, and of 2018.
PERSONS = ("pedestrian", "rider", "other person", "person")


def read_bdd100k(annotations: Path, images: Path | None = None) -> Scenes:
    """Read the persons of a set of BDD100K: boxes (``det_20``) or polygons (``ins_seg``).

    Crowds are ignored. Polygons are taken by their corners: BDD100K has Bézier curves in areas to
    drive on, not on persons.

    Args:
        annotations: the JSON file, a list of images or an object with ``frames``.
        images: folder that ``name`` is relative to; by default the file's own.

    Raises:
        ValueError: the file is none of Scalabel's.
    """
    found = Scenes()
    try:
        content = json.loads(read_content(annotations))
        frames = content["frames"] if isinstance(content, dict) else content
        listed = [(frame["name"], frame.get("labels") or []) for frame in frames]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations}: no JSON of Scalabel: {error!r}") from error
    folder = images or annotations.parent
    for name, labels in listed:
        path = folder / name
        with reports(found, path):
            size = read_size(path)
            persons = [_read_person(one, size) for one in labels if one["category"] in PERSONS]
            inside = tuple(person for person in persons if person is not None)
            found.scenes.append(Scene(path, size, inside))
    return found


def _read_person(one: dict[str, Any], size: tuple[int, int]) -> Instance | None:
    attributes = one.get("attributes") or {}
    crowd = read_flag(attributes.get("crowd"))
    outlines = [read_polygon(part["vertices"]) for part in one.get("poly2d") or []]
    if one.get("box2d"):
        corners = tuple(float(one["box2d"][side]) for side in ("x1", "y1", "x2", "y2"))
    elif outlines:
        corners = bounds_of(outlines)
    else:
        raise ValueError(f"label {one.get('id')}: has neither box2d nor poly2d")
    area = sum(area_of(outline) for outline in outlines) or None
    return make_instance(corners, size, crowd, outlines, area=area)
