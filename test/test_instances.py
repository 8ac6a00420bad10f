"""Persons with outlines and keypoints, of small hand-made copies of published layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roi_anon_ros.datasets import KEYPOINTS, read_scenes
from roi_anon_ros.datasets.instances import area_of

SIZE = (60, 40)
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def write_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """``annotations/person_keypoints_val2017.json`` beside ``val2017/``."""
    write_image(tmp_path / "val2017" / "000000000139.jpg")
    write_image(tmp_path / "val2017" / "000000000285.jpg")
    points = [0, 0, 0] * len(KEYPOINTS)
    points[0:3] = [20, 8, 2]
    flat = [value for corner in SQUARE for value in corner]
    person = {
        "segmentation": [flat], "num_keypoints": 1, "area": 400.0, "iscrowd": 0,
        "keypoints": points, "image_id": 139, "bbox": [10, 5, 20, 20], "category_id": 1, "id": 1,
    }  # fmt: skip
    crowd = {
        "segmentation": {"counts": [1200, 1200], "size": [40, 60]}, "num_keypoints": 0,
        "area": 1200, "iscrowd": 1, "keypoints": [0, 0, 0] * 17, "image_id": 139,
        "bbox": [30, 0, 30, 40], "category_id": 1, "id": 2,
    }  # fmt: skip
    chair = {"segmentation": [flat], "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    chair |= {"image_id": 139, "category_id": 62, "id": 3}
    names = [{"id": 1, "name": "person", "keypoints": KEYPOINTS}, {"id": 62, "name": "chair"}]
    images = [
        {"id": 139, "file_name": "000000000139.jpg", "width": 60, "height": 40},
        {"id": 285, "file_name": "000000000285.jpg", "width": 60, "height": 40},
    ]
    content = {"images": images, "annotations": [person, crowd, chair], "categories": names}
    return write_json(tmp_path / "annotations" / "person_keypoints_val2017.json", content)


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_coco_as_published(coco: Path, task: str) -> None:
    found = read_scenes(coco, coco.parents[1] / "val2017", task)
    assert found.problems == []
    first, second = found.scenes
    assert first.size == SIZE and second.persons == ()
    person, crowd = first.persons
    assert person.box == (10, 5, 30, 25) and not person.ignore
    assert crowd.ignore and crowd.outlines == ()
    if task == "segment":
        assert [outline.tolist() for outline in person.outlines] == [SQUARE]
    if task == "pose":
        assert person.keypoints is not None and person.keypoints[0].tolist() == [20, 8, 2]
        assert person.area == 400


def test_who_lacks_what_a_task_needs_is_ignored(coco: Path) -> None:
    content = json.loads(coco.read_text())
    content["annotations"][0]["keypoints"] = [0] * 51
    content["annotations"][0]["segmentation"] = []
    coco.write_text(json.dumps(content))
    images = coco.parents[1] / "val2017"
    for task in ("segment", "pose"):
        with pytest.raises(ValueError, match=f"nobody on it has what {task} needs"):
            read_scenes(coco, images, task)
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    coco.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"images\[0\]: keypoints: got 1, must be 17"):
        read_scenes(coco, images, "pose")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_cityscapes_as_published(tmp_path: Path, task: str) -> None:
    name = "aachen_000000_000019"
    write_image(tmp_path / f"leftImg8bit/train/aachen/{name}_leftImg8bit.png")
    objects = [
        {"label": "road", "polygon": [[0, 0], [60, 0], [60, 40]]},
        {"label": "person", "polygon": SQUARE},
        {"label": "rider", "polygon": [[40, 10], [70, 10], [70, 30]]},
        {"label": "persongroup", "polygon": [[0, 30], [20, 30], [20, 40]]},
        {"label": "person", "deleted": 1, "polygon": SQUARE},
    ]
    content = {"imgHeight": 40, "imgWidth": 60, "objects": objects}
    write_json(tmp_path / f"gtFine/train/aachen/{name}_gtFine_polygons.json", content)
    found = read_scenes(tmp_path / "gtFine" / "train", None, task)
    (scene,) = found.scenes
    assert scene.path.name == f"{name}_leftImg8bit.png" and found.problems == []
    person, rider, group = scene.persons
    assert person.box == (10, 5, 30, 25) and person.area == 400
    assert person.outlines[0].tolist() == SQUARE
    assert rider.box == (40, 10, 60, 30), "cut to the image"
    assert group.ignore and not rider.ignore
    with pytest.raises(ValueError, match="nobody on it has what pose needs"):
        read_scenes(tmp_path / "gtFine" / "train", None, "pose")


def test_bdd100k_as_published(tmp_path: Path) -> None:
    images = tmp_path / "images" / "10k" / "train"
    write_image(images / "0000f77c-6257be58.jpg")
    write_image(images / "empty.jpg")
    drawn = {"vertices": SQUARE, "types": "LLLL", "closed": True}
    labels = [
        {"id": "1", "category": "pedestrian", "attributes": {"crowd": False}, "poly2d": [drawn]},
        {"id": "2", "category": "car", "attributes": {}, "poly2d": [drawn]},
        {"id": "3", "category": "rider", "attributes": {"crowd": True}, "poly2d": [drawn]},
    ]
    frames = [{"name": "0000f77c-6257be58.jpg", "labels": labels}, {"name": "empty.jpg"}]
    file = write_json(tmp_path / "labels/ins_seg/polygons/ins_seg_train.json", frames)
    first, empty = read_scenes(file, images, "segment").scenes
    assert [person.ignore for person in first.persons] == [False, True] and empty.persons == ()
    assert first.persons[0].box == (10, 5, 30, 25) and first.persons[0].area == 400
    box = {"x1": 40.5, "y1": 10.0, "x2": 50.5, "y2": 30.0}
    frames[0]["labels"] = [{"id": "1", "category": "other person", "box2d": box}]
    file = write_json(tmp_path / "labels/det_20/det_train.json", {"frames": frames})
    (person,) = read_scenes(file, images, "detect").scenes[0].persons
    assert person.box == (40.5, 10, 50.5, 30)
    frames[0]["labels"][0].pop("box2d")
    frames.append({"name": "missing.jpg", "labels": []})
    write_json(file, frames)
    with pytest.raises(ValueError, match="label 1: has neither box2d nor poly2d"):
        read_scenes(file, images, "detect")


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A set of one image, whose labels a test writes."""
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "images" / "not looked at.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [person, car]\n")
    return tmp_path


def test_yolo_has_boxes_polygons_or_keypoints(yolo: Path) -> None:
    labels = yolo / "labels" / "a.txt"
    labels.write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.1 0.1\n")
    ((person,),) = (scene.persons for scene in read_scenes(yolo).scenes)
    assert person.box == (15, 10, 45, 30)
    labels.write_text("0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n")
    (scene,) = read_scenes(yolo, None, "segment").scenes
    (person,) = scene.persons
    assert person.box == (15, 10, 30, 30) and person.area == 300
    assert person.outlines[0].tolist() == [[15, 10], [30, 10], [30, 30], [15, 30]]
    for each, first in ((2, [0.5, 0.25]), (3, [0.5, 0.25, 1])):
        (yolo / "data.yaml").write_text(f"names: [person]\nkpt_shape: [17, {each}]\n")
        numbers = [*first, *[0] * (each * 16)]
        labels.write_text(f"0 0.5 0.5 0.5 0.5 {' '.join(map(str, numbers))}\n")
        (scene,) = read_scenes(yolo, None, "pose").scenes
        points = scene.persons[0].keypoints
        assert points is not None and points[0].tolist() == [30, 10, 2 if each == 2 else 1]
        assert not points[1:].any()


def test_a_wrong_yolo_set_is_refused(yolo: Path) -> None:
    labels = yolo / "labels" / "a.txt"
    (yolo / "data.yaml").write_text("names: [person]\nkpt_shape: [5, 2]\n")
    labels.write_text(f"0 0.5 0.5 0.5 0.5 {'0.5 ' * 10}\n")
    with pytest.raises(ValueError, match="line 1: keypoints: got 10 numbers, must be 2 or 3"):
        read_scenes(yolo, None, "pose")
    with pytest.raises(ValueError, match="task: got 'count', must be one of detect"):
        read_scenes(yolo, None, "count")
    with pytest.raises(ValueError, match="must be of COCO, YOLO, Cityscapes or BDD100K for pose"):
        read_scenes(yolo / "images", None, "pose")


def test_images_whose_persons_nobody_drew_are_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    boxes = [{"image_id": n, "category_id": 1, "bbox": [1, 2, 9, 9], "id": n} for n in (1, 2)]
    images = [
        {"id": 1, "file_name": "a.png", "annotated": ["person"]},
        {"id": 2, "file_name": "b.png", "annotated": ["head"]},
    ]
    content = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "head"}],
    }
    file = write_json(tmp_path / "set.json", content)
    assert [scene.path.name for scene in read_scenes(file).scenes] == ["a.png"]


def test_the_area_of_a_polygon() -> None:
    assert area_of(np.array(SQUARE, float)) == 400
    assert area_of(np.array([[0, 0], [4, 0], [0, 3]], float)) == 6
