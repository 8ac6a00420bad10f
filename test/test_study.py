"""The study: its plan, its arms, its labels, its figures, and a whole small one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.datasets import Instance, Scene
from roi_anon_ros.detect import learning
from roi_anon_ros.detect.learning import Found
from roi_anon_ros.evaluate.report.page import markdown, read_results
from roi_anon_ros.study import running
from roi_anon_ros.study.arms import make_arm, region_of
from roi_anon_ros.study.config import ArmPlan, Part, read_config
from roi_anon_ros.study.scores import (
    LEAST_OVERLAPS,
    Judgement,
    judge_scene,
    keypoint_overlaps,
    mask_overlaps,
    precisions,
    sum_up,
)
from roi_anon_ros.study.sets import label_of, mirrored_keypoints

SIZE = (100, 80)
SQUARE = np.array([[10, 20], [30, 20], [30, 60], [10, 60]], float)
BESIDE = SQUARE + (40, 0)
PLAN = {
    "weights": "yolov8n.yaml",
    "train": [{"annotations": "train.json", "limit": 4}],
    "test": [{"annotations": "test.json", "images": "pictures"}],
    "arms": {"body": {"region": "annotated", "treatment": "mask"}, "codec": {"method": "roi:4"}},
    "seeds": 2,
}


def found_in(boxes: list[list[float]], scores: list[float], **more: object) -> Found:
    fields = {"outlines": [], "keypoints": np.zeros((len(boxes), 0, 2))} | more
    return Found(np.array(boxes, float).reshape(-1, 4), np.array(scores), **fields)


def test_a_plan_is_read_and_its_paths_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(PLAN))
    config = read_config(tmp_path / "study.yaml")
    assert config.train == (Part(tmp_path / "train.json", limit=4),)
    assert config.test == (Part(tmp_path / "test.json", tmp_path / "pictures"),)
    assert config.arms["body"] == ArmPlan("annotated", "mask")
    assert (config.task, config.seeds, config.schedule.image_size) == ("detect", 2, 640)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": 3}, "the file: got field 'epoch', must be one of weights"),
        ({"weights": None}, "weights: got none, must be there"),
        ({"task": "guess"}, "task: got 'guess', must be one of detect, segment, pose"),
        ({"seeds": 0}, "seeds: got 0, must be a whole number from 1 to 100"),
        ({"batch": True}, "batch: got True, must be a whole number from 2 to 1024"),
        ({"image_size": 100}, "image_size: got 100, must be a multiple of 32"),
        ({"train": "train.json"}, "train: got str, must be a list of sets"),
        ({"test": [{"limit": 3}]}, r"test\[0\]: annotations: got none, must be there"),
        ({"test": [{"annotations": "a", "limit": -1}]}, "limit: got -1, must be"),
        ({"arms": {"original": {"method": "roi"}}}, "arms: original: is always there"),
        ({"arms": {"a": {"region": "face"}}}, "arms: a: got region 'face', treatment ''"),
        ({"arms": {"a": {"method": "roi", "region": "face"}}}, "must be region and treatment"),
    ],
)
def test_a_wrong_plan_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(PLAN | change))
    with pytest.raises(ValueError, match=said):
        read_config(tmp_path / "study.yaml")


def test_annotated_persons_are_treated_by_their_outlines() -> None:
    person = Instance((10, 20, 70, 60), outlines=(SQUARE, BESIDE), area=1600)
    crowd = Instance((80, 0, 100, 10), ignore=True)
    image = np.random.default_rng(0).integers(0, 100, (80, 100, 3), np.uint8)
    arm = make_arm("body", ArmPlan("annotated", "mask:200"))
    treated = arm.treat(image, Scene(Path("x"), SIZE, (person, crowd)))
    assert (treated[20:60, 10:30] == 200).all() and (treated[20:60, 50:70] == 200).all()
    assert (treated[0:10, 80:] == 200).all(), "who is not counted is hidden, too"
    np.testing.assert_array_equal(treated[20:60, 38:42], image[20:60, 38:42])
    box = region_of(replace(person, outlines=()), SIZE)
    assert box is not None and box.shape == "box" and box.box[0] < 10
    with pytest.raises(ValueError, match="arms: body: treatment: got 'nothing'"):
        make_arm("body", ArmPlan("annotated", "nothing"))


def test_an_arm_may_be_a_method() -> None:
    image = np.full((80, 100, 3), 90, np.uint8)
    arm = make_arm("coarse", ArmPlan(method="jpeg:1"))
    treated = arm.treat(image, Scene(Path("x"), SIZE, ()))
    assert treated.shape == image.shape and abs(int(treated.mean()) - 90) < 9


def test_labels_are_shares_of_the_image() -> None:
    person = Instance((10, 20, 30, 60), outlines=(SQUARE,))
    assert label_of(person, SIZE, "detect") == "0 0.2 0.5 0.2 0.5"
    assert label_of(person, SIZE, "segment") == "0 0.1 0.25 0.3 0.25 0.3 0.75 0.1 0.75"
    points = np.zeros((17, 3))
    points[0] = (20, 40, 2)
    points[1] = (99, 99, 0)
    numbers = label_of(replace(person, keypoints=points), SIZE, "pose").split()
    assert numbers[5:11] == ["0.2", "0.5", "2", "0", "0", "0"] and len(numbers) == 5 + 51
    assert mirrored_keypoints()[:4] == [0, 2, 1, 4]
    assert sorted(mirrored_keypoints()) == list(range(17))


def test_several_outlines_become_one_of_the_same_area() -> None:
    """The way from one to the next and back encloses nothing."""
    third = SQUARE + (60, 10)
    person = Instance((10, 20, 90, 70), outlines=(SQUARE, BESIDE, third))
    shares = np.array(label_of(person, SIZE, "segment").split()[1:], float).reshape(-1, 2)
    x, y = (shares * SIZE).T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == pytest.approx(2400)


def test_a_detection_is_judged_as_coco_does() -> None:
    scene = Scene(
        Path("x"),
        SIZE,
        (Instance((0, 0, 10, 20)), Instance((50, 0, 100, 80), ignore=True)),
    )
    #       right up to 0.75, the same person again, within a crowd, nobody
    boxes = [[0, 0, 10, 15], [0, 0, 10, 20], [60, 10, 70, 20], [20, 40, 40, 60]]
    judged = judge_scene(found_in(boxes, [0.9, 0.8, 0.7, 0.6]), scene, "detect")
    assert judged.persons == 1
    half = judged.verdicts[LEAST_OVERLAPS.index(0.5)]
    strict = judged.verdicts[LEAST_OVERLAPS.index(0.9)]
    assert half.tolist() == [1, 0, -1, 0] and strict.tolist() == [0, 1, -1, 0]
    assert Judgement.from_json(json.loads(json.dumps(judged.to_json()))).at(0).correct.tolist() == [
        True,
        False,
        False,
    ]
    values = precisions([judged])
    # Below 0.75 the first is right, from 0.8 on the second: six overlaps at 1, four at 1/2.
    assert values["ap50"][0] == 1 and values["ap"][0] == pytest.approx((6 + 4 / 2) / 10)
    nobody = judge_scene(found_in([], []), scene, "detect")
    assert precisions([nobody])["ap"][0] == 0


def test_masks_overlap_by_their_pixels() -> None:
    person = Instance((10, 20, 30, 60), outlines=(SQUARE,))
    half = SQUARE.copy()
    half[2:, 1] = 40
    found = found_in([[10, 20, 30, 40]], [0.9], outlines=[half])
    overlap = mask_overlaps(found, [person, Instance((0, 0, 5, 5), outlines=(BESIDE,))], SIZE)
    assert overlap[0, 0] == pytest.approx(0.5, abs=0.03) and overlap[0, 1] == 0


def test_keypoints_overlap_by_cocos_formula() -> None:
    points = np.zeros((17, 3))
    points[0] = (20, 30, 2)
    points[15] = (25, 55, 1)
    points[16] = (0, 0, 0)
    person = Instance((10, 20, 30, 60), keypoints=points, area=400.0)
    seen = np.zeros((1, 17, 2))
    seen[0, 0] = (23, 34)
    seen[0, 15] = (25, 55)
    overlap = keypoint_overlaps(found_in([[10, 20, 30, 60]], [1], keypoints=seen), [person], SIZE)
    nose = math.exp(-25 / (2 * 400 * 0.052**2))
    assert overlap[0, 0] == pytest.approx((nose + 1) / 2)


def test_a_difference_is_significant_where_its_interval_leaves_0_out() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(0.6, 0.05, 201)  # what all trainings have in common: paired
    base = [images, images + 0.01]
    worse = sum_up([images - 0.1, images - 0.09], base)
    assert worse["significant"] and worse["difference"] == pytest.approx(-0.1)
    assert worse["interval"][0] < worse["value"] < worse["interval"][1]
    noisy = sum_up([images - 0.1, images + 0.09], base)
    assert not noisy["significant"] and noisy["difference"] == pytest.approx(-0.01)


def write_set(folder: Path, name: str, count: int) -> None:
    """Noise with a bright person in each image."""
    rng = np.random.default_rng(len(name))
    images = []
    boxes = []
    (folder / name).mkdir()
    for number in range(count):
        image = rng.integers(0, 60, (64, 64, 3), np.uint8)
        left = int(rng.integers(4, 36))
        image[10:58, left : left + 20] = 220
        Image.fromarray(image).save(folder / name / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        box = {"bbox": [left, 10, 20, 48], "category_id": 1, "id": number, "image_id": number}
        boxes.append(box)
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / f"{name}.json").write_text(json.dumps(coco))


@pytest.mark.slow
def test_a_small_study_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    write_set(tmp_path, "train", 4)
    write_set(tmp_path, "test", 4)
    plan = {
        "weights": "yolov8n.yaml",
        "train": [{"annotations": "train.json"}],
        "test": [{"annotations": "test.json"}],
        "arms": {"body": {"region": "annotated", "treatment": "mask"}},
        "seeds": 1,
        "epochs": 1,
        "image_size": 32,
        "batch": 2,
    }
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(plan))
    monkeypatch.chdir(tmp_path)
    words = ["study", "study.yaml", "--out", "out"]
    trained = []
    learn = learning.learn

    def count(*given: object) -> None:
        trained.append(given)
        learn(*given)

    monkeypatch.setattr(running, "learn", count)
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert len(trained) == 2 and "| body | annotated, mask |" in first.output
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and again.output == first.output and len(trained) == 2
    about = json.loads((tmp_path / "out" / "study.json").read_text())
    assert about["test"] == {"images": 4, "persons": 4}
    assert set(about["figures"]["body"]) == {"originals", "treated", "untrained"}
    assert (tmp_path / "out" / "study.png").stat().st_size > 5000
    page = markdown(read_results(tmp_path / "out"), tmp_path / "out")
    assert "## Trained on anonymized images" in page and "cannot be told: body" in page
    plan["test"] = plan["train"]
    config.write_text(yaml.safe_dump(plan))
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and "all of its 4 images are for tests" in refused.output
