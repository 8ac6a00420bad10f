"""The persons of a set in whichever of the formats it is, for one task."""

from __future__ import annotations

import json
from pathlib import Path

from roi_anon_ros.datasets.bdd100k import read_bdd100k
from roi_anon_ros.datasets.cityscapes import ENDING, read_cityscapes
from roi_anon_ros.datasets.coco_instances import read_coco_instances
from roi_anon_ros.datasets.instances import Instance, Scene, Scenes, make_instance
from roi_anon_ros.datasets.reading import read_content
from roi_anon_ros.datasets.records import Record
from roi_anon_ros.datasets.sets import read_set
from roi_anon_ros.datasets.yolo import find_yolo_file
from roi_anon_ros.datasets.yolo_instances import read_yolo_instances

#: What is found of a person: a box, its outline, its keypoints.
TASKS = ("detect", "segment", "pose")


def read_scenes(annotations: Path, images: Path | None = None, task: str = "detect") -> Scenes:
    """Read a set for a task; only images whose persons people drew completely are taken.

    Args:
        annotations: a folder of Cityscapes (``gtFine/train``), a JSON of BDD100K or COCO, a YOLO
            set; for boxes alone also what else ``read_set`` takes (CrowdHuman, Pascal VOC).
        images: the images' folder, where the set's own layout does not say it.
        task: of :data:`TASKS`. For outlines and keypoints, persons without them are ignored.

    Raises:
        ValueError: names the set, of which nothing can be read, and says why.
    """
    if task not in TASKS:
        raise ValueError(f"task: got {task!r}, must be one of {', '.join(TASKS)}")
    if annotations.is_dir() and next(annotations.rglob(f"*{ENDING}"), None):
        found = read_cityscapes(annotations, images)
    elif annotations.suffix.lower() == ".json" and _is_scalabel(annotations):
        found = read_bdd100k(annotations, images)
    elif annotations.suffix.lower() == ".json" and task != "detect":
        found = read_coco_instances(annotations, images)
    elif task == "detect":
        found = _read_boxes(annotations, images)
    elif annotations.suffix.lower() in (".yaml", ".yml") or find_yolo_file(annotations):
        found = read_yolo_instances(annotations, images)
    else:
        raise ValueError(f"{annotations}: must be of COCO, YOLO, Cityscapes or BDD100K for {task}")
    found.scenes = [_for_task(scene, task) for scene in found.scenes]
    if not any(not person.ignore for scene in found.scenes for person in scene.persons):
        why = (found.problems or [f"nobody on it has what {task} needs"])[0]
        raise ValueError(f"{annotations}: no image with persons can be read; {why}")
    return found


def _read_boxes(annotations: Path, images: Path | None) -> Scenes:
    reading = read_set(annotations, images)
    scenes = []
    for record in reading.records:
        if "person" in record.complete:
            scenes.append(Scene(record.path, (record.width, record.height), _persons_of(record)))
    return Scenes(scenes, reading.problems)


def _persons_of(record: Record) -> tuple[Instance, ...]:
    size = (record.width, record.height)
    pairs = zip(record.persons.xyxy.tolist(), record.persons.ignore.tolist(), strict=True)
    made = [make_instance(corners, size, ignored) for corners, ignored in pairs]
    return tuple(person for person in made if person is not None)


def _for_task(scene: Scene, task: str) -> Scene:
    """The scene with those ignored who lack what the task needs."""
    persons = []
    for person in scene.persons:
        lacks = (task == "segment" and not person.outlines) or (
            task == "pose" and (person.keypoints is None or not person.keypoints[:, 2].any())
        )
        ignore = person.ignore or lacks
        persons.append(Instance(person.box, ignore, person.outlines, person.keypoints, person.area))
    return Scene(scene.path, scene.size, tuple(persons))


def _is_scalabel(file: Path) -> bool:
    """Whether a JSON is a list of images, or has ``frames``; one that is damaged is not."""
    try:
        content = json.loads(read_content(file))
    except ValueError:
        return False
    return isinstance(content, list) or "frames" in content
