"""What a utility budget gives back: trainings side by side on drawn people, and the attacker who
links them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

pytest.importorskip("lightning", reason="the train extra is not installed")

from quick_training import REPLACED

from roi_anon_ros.cli import app
from roi_anon_ros.datasets import Boxes
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.attack.linking import People, learn_links, link
from roi_anon_ros.evaluate.precision import judge
from roi_anon_ros.evaluate.report.budgets import table
from roi_anon_ros.study import budgets
from roi_anon_ros.study.budgets import sum_up, train_budgets


def draw_people(count: int, seed: int) -> torch.Tensor:
    """Persons in soft clothes of their own colours."""
    coarse = torch.rand(count, 3, 8, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(128, 64), mode="bilinear")


@pytest.mark.slow
def test_an_attacker_links_whom_he_sees_and_guesses_whom_he_does_not() -> None:
    own = draw_people(12, 1)
    others = draw_people(12, 2)
    shown = learn_links(People(own, own), steps=25)
    assert link(shown, People(others, others)).mean() > 0.5
    hidden = learn_links(People(torch.full_like(own, 0.5), own), steps=3)
    found = link(hidden, People(torch.full_like(others, 0.5), others))
    assert found.shape == (12,) and found.mean() == pytest.approx(1 / 12, abs=0.02)
    with pytest.raises(ValueError, match="own: got 1 persons of 24 pixels, must be at least 2"):
        learn_links(People(own[:1], own[:1]), steps=1)


def test_persons_are_cut_out_of_both_images() -> None:
    original = np.zeros((80, 60, 3), np.uint8)
    original[10:70, 20:50] = (200, 100, 0)
    boxes = np.array([[20.2, 9.8, 50, 70], [0, 0, 23, 80]], np.float32)
    people = People.cut(255 - original, original, boxes)
    assert people.originals.shape == people.received.shape == (1, 3, 128, 64)
    assert torch.allclose(people.originals.mean((0, 2, 3)) * 255, torch.tensor([200.0, 100, 0]))
    assert torch.allclose(people.received, 1 - people.originals)
    assert len(People.join([people, people, People.cut(original, original, boxes[1:])])) == 2


def test_each_figure_is_followed_by_those_of_the_same_resamples() -> None:
    people = draw_people(8, 3)
    parts = [People(people[i : i + 2], people[i : i + 2]) for i in range(0, 8, 2)]
    box = np.array([[0, 0, 10, 20]], np.float32)
    truth = Boxes(box, np.zeros(1, bool))
    right = judge(Detections(box, np.ones(1, np.float32), ["person"]), truth, 0.5)
    wrong = judge(Detections(box + 50, np.ones(1, np.float32), ["person"]), truth, 0.5)
    found = sum_up([right, right, wrong, right], parts, steps=2)
    assert found["people"] == 4 and len(found["linked"]) == len(found["ap50"]) == 201
    assert found["ap50"][0] == pytest.approx(0.6875)  # precision 1, 1, 3/4 of three in four
    assert 0 <= min(found["linked"]) <= found["linked"][0] <= max(found["linked"]) <= 1


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of 128 x 96 with two drawn persons each, in a COCO file."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(5)
    images = []
    annotations = []
    for number in range(8):
        image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (128, 96))
        for left in (10, 70):
            cv2.rectangle(image, (left, 10), (left + 40, 90), rng.integers(0, 255, 3).tolist(), -1)
            for kind, box in ((1, [left, 10, 40, 80]), (2, [left + 10, 10, 20, 20])):
                annotations.append({"image_id": number, "category_id": kind, "bbox": box})
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "head"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "people.json").write_text(json.dumps(content))
    return folder


class LeftPersons:
    """Finds the left person of each image."""

    def __init__(self, name: str, confidence: float) -> None:
        assert confidence < 0.01  # precision needs the doubtful ones as well

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        box = np.array([[10, 10, 50, 90]], np.float32)
        return [Detections(box, np.ones(1, np.float32), ["person"]) for _ in images]


@pytest.mark.slow
def test_budgets_side_by_side_go_on_where_they_were(
    people: Path, random_yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "yolox-random.safetensors"
    weights.write_bytes(random_yolox.read_bytes())
    sets = [{"annotations": str(people / "people.json")}]
    config = tmp_path / "tiny.yaml"
    content = {"network": "fast", "train": sets, "steps": 1, "epoch": 1, "batch": 2, "crop": 64}
    content |= {"warmup": 1, "workers": 0, "precision": "32-true", "validation_images": 1}
    content["utility"] = [{"network": str(weights), "budget": 0.3, "weight": 1.0}]
    content["privacy"] = [{"network": "views", "weight": 1.0}]
    config.write_text(yaml.safe_dump(content))
    for module, name, replacement in REPLACED:
        monkeypatch.setattr(module, name, replacement)
    monkeypatch.setattr("roi_anon_ros.detect.choice.make_detector", LeftPersons)
    trained: list[str] = []
    train = budgets.train

    def train_or_stop(file: Path, out: Path) -> Path:
        trained.append(out.name)
        if len(trained) == 2:
            raise OSError("no space left")
        return train(file, out)

    monkeypatch.setattr(budgets, "train", train_or_stop)
    out = tmp_path / "out"
    words = ["budget", str(config), str(people / "people.json"), "--out", str(out)]
    words += ["--budgets", "0.2", "--attack-steps", "2", "--detector", str(weights)]
    stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 2 and "no space left" in stopped.output, stopped.output
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert trained == ["budget-none", "budget-0.2", "budget-0.2"]
    monkeypatch.setattr(budgets, "learn_links", None)  # what is judged is not judged again
    again = CliRunner().invoke(app, words)
    # Lightning's bars stand before it.
    assert again.exit_code == 0 and first.stdout.endswith(again.stdout) and len(trained) == 3
    about = json.loads((out / "budget.json").read_text())
    assert list(about["figures"]) == ["original", "none", "0.2"] and about["people"] == 8
    for figures in about["figures"].values():
        assert figures["ap50"]["value"] == 0.5 and 0 <= figures["linked"]["value"] <= 1
    assert about["figures"]["none"]["linked"]["difference"] == 0
    rows = table(about)
    assert rows[1][2] == "0.500 (0.500 to 0.500)" and "+0.000" in rows[1][3]
    assert "| 0.2 |" in again.stdout and (out / "budget.png").stat().st_size > 5000
    used = yaml.safe_load((out / "budget-0.2" / "training.yaml").read_text())
    assert used["utility"] == [content["utility"][0] | {"budget": 0.2}]
    assert used["privacy"] == content["privacy"]
    config.write_text(yaml.safe_dump(content | {"seed": 1}))
    with pytest.raises(ValueError, match="training.yaml: of another training; name another folder"):
        train_budgets(config, [0.2], out)


@pytest.mark.parametrize(
    ("changes", "numbers", "message"),
    [
        ({}, [0.3], "utility: got none, must be there"),
        (
            {"utility": [{"network": "yolov8n", "budget": 0.3, "weight": 1.0}]},
            [0.3, -1.0],
            "budgets: got -1.0, must be 0 or more",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, changes: dict[str, Any], numbers: list[float], message: str
) -> None:
    config = tmp_path / "c.yaml"
    content = {"network": "fast", "train": [{"annotations": "a.json"}], "steps": 500}
    config.write_text(yaml.safe_dump(content | changes))
    with pytest.raises(ValueError, match=message):
        train_budgets(config, numbers, tmp_path / "out")
    assert not (tmp_path / "out").exists()
