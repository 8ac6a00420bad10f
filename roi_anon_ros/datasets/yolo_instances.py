"""YOLO sets with polygons or keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roi_anon_ros.datasets.instances import (
    KEYPOINTS,
    Instance,
    Scene,
    Scenes,
    area_of,
    make_instance,
)
from roi_anon_ros.datasets.reading import KIND_OF, located, read_size, reports
from roi_anon_ros.datasets.yolo import Label, YoloSet, labels_of, open_yolo, read_label

#: A person fills about this share of its box; of poses, nothing else tells the area.
SHARE_OF_BOX = 0.53


def read_yolo_instances(annotations: Path, images: Path | None = None) -> Scenes:
    """Read the persons of a YOLO set with their polygons or keypoints.

    Images without a file of labels are left out, as are persons that a detector found.

    Args:
        annotations: as of ``read_yolo``, like ``images``.
        images: read only the images in this folder.

    Raises:
        ValueError: it is no YOLO set.
    """
    found = Scenes()
    told = open_yolo(annotations, images, found)
    for path in told.images:
        labels = labels_of(path)
        if not labels.is_file():
            continue
        with reports(found, path):
            size = read_size(path)
            people = []
            for number, line in enumerate(labels.read_text().splitlines(), 1):
                if line.strip():
                    with located(f"{labels}: line {number}"):
                        people.append(_read_person(read_label(line, told, size), told, size))
            inside = tuple(person for person in people if person is not None)
            found.scenes.append(Scene(path, size, inside))
    return found


def _read_person(label: Label, told: YoloSet, size: tuple[int, int]) -> Instance | None:
    """The person of a label; None where it is something else."""
    if KIND_OF.get(label.name) != "person":
        return None
    if label.outline is not None:
        area = area_of(label.outline)
        return make_instance(label.box, size, outlines=[label.outline], area=area)
    points = None
    if label.points:
        points = _read_points(label.points, told.keypoints, size)
    left, top, right, bottom = label.box
    area = SHARE_OF_BOX * (right - left) * (bottom - top)
    return make_instance(label.box, size, label.scored, keypoints=points, area=area)


def _read_points(numbers: list[float], count: int, size: tuple[int, int]) -> np.ndarray:
    """Keypoints, float ``[17, 3]``, of x, y and perhaps whether they are visible."""
    each = count // len(KEYPOINTS)
    if each not in (2, 3) or each * len(KEYPOINTS) != count:
        raise ValueError(f"keypoints: got {count} numbers, must be 2 or 3 for each of 17")
    table = np.reshape(numbers, (len(KEYPOINTS), each))
    places = table[:, :2] * size
    if each == 3:
        seen = table[:, 2]
    else:
        seen = np.where(places.any(axis=1), 2.0, 0.0)
    return np.column_stack([places, seen])
