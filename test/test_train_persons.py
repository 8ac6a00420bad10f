"""Training of the person detector: who shall be found by which cell, the images, and whole runs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.yolox import load_yolox
from roi_anon_ros.train.assignment import assign, decode, lie_on, measure_loss, place
from roi_anon_ros.train.decoded import cut_truth, join_truth, read_persons

pytest.importorskip("lightning", reason="lightning is not installed")

from roi_anon_ros.train import detectors, persons

GOLDEN = Path(__file__).resolve().parent / "golden" / "tiny.safetensors"


def overlap_of(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def assign_literally(
    boxes: list, scores: list, corners: list, strides: list, people: list
) -> list[int]:
    """The docstring of `assign`, cell by cell."""
    choices: dict[int, tuple[float, int]] = {}
    for number, person in enumerate(people):
        cells = []
        for cell, (box, (x, y), stride) in enumerate(zip(boxes, corners, strides, strict=True)):
            x += stride / 2
            y += stride / 2
            off = max(abs(x - (person[0] + person[2]) / 2), abs(y - (person[1] + person[3]) / 2))
            near = off < 2.5 * stride
            inside = person[0] < x < person[2] and person[1] < y < person[3]
            if near or inside:
                overlap = overlap_of(box, person)
                cost = -math.log(max(scores[cell], 1e-8)) - 3 * math.log(max(overlap, 1e-8))
                cells.append((cost + (0 if near and inside else 1e5), cell, overlap))
        wanted = max(1, int(sum(sorted((one[2] for one in cells), reverse=True)[:10])))
        for cost, cell, _ in sorted(cells)[:wanted]:
            if cell not in choices or cost < choices[cell][0]:
                choices[cell] = (cost, number)
    return [choices[cell][1] if cell in choices else -1 for cell in range(len(boxes))]


@pytest.mark.parametrize("seed", range(4))
def test_cells_are_chosen_as_the_docstring_says(seed: int) -> None:
    torch.manual_seed(seed)
    corners, strides = place(96, 128, torch.device("cpu"))
    logits = torch.randn(len(strides), 6)
    logits[:, 2:4] += 1
    boxes = decode(logits, corners, strides)
    scores = torch.rand(len(strides))
    upper = torch.rand(5, 2) * torch.tensor([90.0, 60.0])
    people = torch.cat([upper, upper + 4 + 60 * torch.rand(5, 2)], 1)
    chosen, overlaps = assign(boxes, scores, corners, strides, people)
    arguments = [one.double().tolist() for one in (boxes, scores, corners, strides, people)]
    assert chosen.tolist() == assign_literally(*arguments)
    assert (chosen >= 0).sum() >= 5
    for cell in (chosen >= 0).nonzero()[:, 0].tolist():
        expected = overlap_of(boxes[cell].tolist(), people[chosen[cell]].tolist())
        assert overlaps[cell].item() == pytest.approx(expected, abs=1e-4)


def test_an_image_without_persons_teaches_objectness_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 84, 6, requires_grad=True)
    terms = measure_loss(logits, [torch.zeros(0, 5)], 64, 64)
    expected = torch.nn.functional.softplus(logits[0, :, 4]).sum()
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    terms["loss"].backward()
    assert (logits.grad[..., [0, 1, 2, 3, 5]] == 0).all()


def test_what_lies_on_an_ignored_person_is_no_mistake() -> None:
    logits = torch.zeros(1, 84, 6, requires_grad=True)
    everywhere = torch.tensor([[-100.0, -100.0, 200.0, 200.0, 1.0]])
    terms = measure_loss(logits, [everywhere], 64, 64)
    assert terms["loss"].item() == 0
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 40.0, 40.0]])
    assert lie_on(boxes, torch.tensor([[0.0, 0.0, 10.0, 20.0]])).tolist() == [True, False]
    assert lie_on(boxes, torch.zeros(0, 4)).tolist() == [False, False]


def test_the_loss_is_least_where_boxes_and_scores_are_right() -> None:
    corners, strides = place(64, 64, torch.device("cpu"))
    person = torch.tensor([[16.0, 8.0, 48.0, 56.0, 0.0]])
    good = torch.zeros(1, 84, 6)
    centre = torch.tensor([32.0, 32.0])
    good[0, :, :2] = (centre - corners) / strides[:, None]
    good[0, :, 2:4] = (torch.tensor([32.0, 48.0]) / strides[:, None]).log()
    chosen, _ = assign(
        decode(good[0], corners, strides), torch.full((84,), 0.5), corners, strides, person[:, :4]
    )
    assert (chosen == 0).sum() in (9, 10)  # ten overlaps of 1, or of 1 less a rounding
    good[0, :, 4] = torch.where(chosen == 0, 20.0, -20.0)
    good[0, :, 5] = torch.where(chosen == 0, 20.0, 0.0)
    assert measure_loss(good, [person], 64, 64)["loss"].item() < 1e-3
    worse = good.clone()
    worse[0, :, 3] += 0.3
    assert measure_loss(worse, [person], 64, 64)["box"].item() > 0.2


def make_record(boxes: list[list[float]], annotated: set[str]) -> Record:
    none = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))
    drawn = Boxes(np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), bool))
    return Record(Path("a.png"), 100, 100, drawn, none, none, frozenset(annotated))


def test_a_teacher_adds_who_is_missing() -> None:
    drawn = [10, 10, 30, 50]
    boxes = np.array([[11, 10, 30, 50], [60, 10, 80, 60], [40, 40, 50, 50]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.2], np.float32), ["person"] * 3)
    whole = join_truth(make_record([drawn], {"person"}), True, None)
    assert whole.tolist() == [[*drawn, 0]]
    partly = join_truth(make_record([drawn], {"person"}), False, found)
    assert partly.tolist() == [[*drawn, 0], [60, 10, 80, 60, 1], [40, 40, 50, 50, 1]]
    never = join_truth(make_record([], {"face"}), False, found)
    assert never[:, 4].tolist() == [0, 0, 1]


def test_who_hardly_shows_in_a_crop_is_ignored() -> None:
    truth = np.array(
        [[0, 0, 20, 40, 0], [35, 0, 60, 40, 0], [45, 0, 100, 40, 0], [60, 0, 80, 40, 0]], np.float32
    )
    cut = cut_truth(truth, 10, 0, 40, 64)
    assert cut.tolist() == [[0, 0, 10, 40, 0], [25, 0, 40, 40, 0], [35, 0, 40, 40, 1]]


def write_set(folder: Path, count: int) -> Path:
    """Images of a bright person on noise, all annotated but the last, on which one is missing."""
    rng = np.random.default_rng(0)
    (folder / "set").mkdir()
    images = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        image = rng.integers(0, 120, (96, 128, 3), np.uint8)
        x = int(rng.integers(10, 80))
        cv2.rectangle(image, (x, 20), (x + 30, 80), (200, 220, 240), -1)
        name = f"{number}.png"
        cv2.imwrite(str(folder / "set" / name), image)
        partial = ["person"] if number == count - 1 else []
        known = {"annotated": ["head", "person"], "partial": partial}
        images.append({"id": number, "file_name": name, "width": 128, "height": 96, **known})
        box = {"bbox": [x, 20, 30, 60], "iscrowd": 0, "category_id": 1}
        annotations.append({"id": number, "image_id": number, **box})
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "head"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "set.json"
    path.write_text(json.dumps(content))
    return path


def test_a_set_says_where_people_looked_and_what_is_kept_out(tmp_path: Path) -> None:
    path = write_set(tmp_path, 8)
    images, problems = read_persons({"annotations": str(path)})
    assert not problems
    assert [complete for _, complete in images] == [True] * 7 + [False]
    assert not read_persons({"annotations": str(path), "keep_out": 256})[0]
    some, _ = read_persons({"annotations": str(path), "keep_out": 128})
    # printf 0.png | sha256sum begins with 0f, that is 15; and so on.
    assert [record.path.name for record, _ in some] == ["1.png", "3.png", "4.png", "5.png"]


@pytest.fixture
def config(tmp_path: Path, random_yolox: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def teacher(images: list[np.ndarray]) -> list[Detections]:
        none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [])
        return [none for _ in images]

    monkeypatch.setattr(persons, "make_detector", lambda *_, **__: teacher)
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, 8)
    shutil.copy(GOLDEN, tmp_path / "tiny.safetensors")
    content = {
        "network": "yolox-nano",
        "train": [{"annotations": "set.json"}],
        "start": str(random_yolox),
        "codec": "tiny.safetensors",
        "decoded": "decoded",
        "steps": 4,
        "batch": 2,
        "crop": 64,
        "warmup": 0,
        "epoch": 2,
        "int8": 0,
        "workers": 0,
    }
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_not_been(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = persons.train(config, tmp_path / "whole")
    assert whole == tmp_path / "whole" / "ours.safetensors"
    card = whole.with_suffix(".md").read_text()
    assert "YOLOX-nano of Megvii, Apache-2.0" in card and "| steps | 4 |" in card
    decoded = {file: file.stat().st_mtime_ns for file in (tmp_path / "decoded").rglob("*.png")}
    assert len(decoded) == 8

    calls = []

    def stop(*arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 4:  # two steps and a validation with one image came before
            raise RuntimeError("power cut")
        return measure_loss(*arguments)

    monkeypatch.setattr(detectors, "measure_loss", stop)
    with pytest.raises(RuntimeError, match="power cut"):
        persons.train(config, tmp_path / "stopped")
    monkeypatch.setattr(detectors, "measure_loss", measure_loss)
    stopped = persons.train(config, tmp_path / "stopped")
    expected = load_file(whole)
    found = load_file(stopped)
    start = load_yolox(Path(yaml.safe_load(config.read_text())["start"])).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert any(not torch.equal(start[name], tensor) for name, tensor in expected.items())
    assert decoded == {file: file.stat().st_mtime_ns for file in decoded}
    whole.with_suffix(".md").unlink()
    assert persons.train(config, tmp_path / "whole") == whole  # a run that is over says it again
    assert whole.with_suffix(".md").read_text() == card
    again = load_file(whole)
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 5, "steps: got 5, must be a multiple of epoch, 2"),
        ("crop", 50, "crop: got 50, must be a multiple of 32"),
        ("train", "set.json", "train: must be a list of sets"),
        ("color", 1, "unexpected keyword argument 'color'"),
    ],
)
def test_a_bad_configuration_is_refused(
    config: Path, field: str, value: object, message: str
) -> None:
    content = yaml.safe_load(config.read_text()) | {field: value}
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        persons.Config.read(config)
