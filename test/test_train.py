"""Training: the loss against a literal implementation, crops, and a run that is interrupted and continued."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from roi_anon_ros.codec import load_model
from roi_anon_ros.train.data import Crops, Record, clip_boxes, read_coco
from roi_anon_ros.train.losses import Regions, RoiLoss, bits_per_pixel, flatness, outside, region_mse


def literal_region_loss(x_hat: torch.Tensor, x: torch.Tensor, boxes: list[list[list[int]]], k: int) -> torch.Tensor:
    """L_k as the paper writes it: k − (−1)^(k+1)·MSE for k in {0, 1}, box by box, picture by picture."""
    batch = torch.zeros(())
    for i, of_picture in enumerate(boxes):
        if not of_picture:
            continue
        total = torch.zeros(())
        for x1, y1, x2, y2 in of_picture:
            mse = ((x_hat[i, :, y1:y2, x1:x2] - x[i, :, y1:y2, x1:x2]) ** 2).mean()
            total = total + (1 - mse if k else mse)
        batch = batch + total / len(of_picture)
    return batch / len(boxes)


def random_boxes(rng: np.random.Generator, count: int, width: int, height: int) -> list[list[int]]:
    boxes = []
    for _ in range(count):
        x1, y1 = int(rng.integers(0, width - 1)), int(rng.integers(0, height - 1))
        boxes.append([x1, y1, int(rng.integers(x1 + 1, width + 1)), int(rng.integers(y1 + 1, height + 1))])
    return boxes


@pytest.fixture
def batch() -> dict:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    boxes = {
        "heads": [random_boxes(rng, n, 40, 30) for n in (3, 0, 1, 5)],
        "persons": [random_boxes(rng, n, 40, 30) for n in (1, 2, 0, 4)],
    }
    regions = {kind: Regions.stack([torch.tensor(b).reshape(-1, 4) for b in lists]) for kind, lists in boxes.items()}
    x_hat = torch.rand(4, 3, 30, 40, requires_grad=True)
    return {"x": torch.rand(4, 3, 30, 40), "x_hat": x_hat, "boxes": boxes, "regions": regions}


def output(x_hat: torch.Tensor) -> dict:
    return {"x_hat": x_hat, "likelihoods": {"y": torch.full((4, 2, 3, 4), 0.25)}}


def test_the_papers_loss_equals_its_literal_form_and_gradient(batch: dict) -> None:
    x, x_hat, boxes, regions = (batch[key] for key in ("x", "x_hat", "boxes", "regions"))
    terms = RoiLoss(hide="inverse")(output(x_hat), x, regions["heads"], regions["persons"])
    expected = (
        0.04 * (4 * 24 * 2) / (4 * 30 * 40)
        + ((x_hat - x) ** 2).mean()
        + 0.6 * literal_region_loss(x_hat, x, boxes["heads"], 1)
        + literal_region_loss(x_hat, x, boxes["persons"], 0)
    )
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(terms["loss"], x_hat)
    (literal,) = torch.autograd.grad(expected, x_hat)
    assert torch.allclose(gradient, literal, atol=1e-8)


def test_flattening_pulls_each_head_to_its_mean_colour(batch: dict) -> None:
    x, x_hat, regions = (batch[key] for key in ("x", "x_hat", "regions"))
    got = flatness(x_hat, x, regions["heads"])
    expected = []
    for picture, boxes in enumerate(batch["boxes"]["heads"]):
        for x1, y1, x2, y2 in boxes:
            target = x[picture, :, y1:y2, x1:x2].mean((1, 2), keepdim=True)
            expected.append(((x_hat[picture, :, y1:y2, x1:x2] - target) ** 2).mean())
    assert torch.allclose(got.float(), torch.stack(expected), atol=1e-6)


def test_flatten_leaves_the_heads_out_of_the_other_terms(batch: dict) -> None:
    x, x_hat, regions = (batch[key] for key in ("x", "x_hat", "regions"))
    keep = outside(regions["heads"], x)
    mask = torch.ones(4, 1, 30, 40)
    for picture, boxes in enumerate(batch["boxes"]["heads"]):
        for x1, y1, x2, y2 in boxes:
            mask[picture, :, y1:y2, x1:x2] = 0
    assert torch.equal(keep, mask)
    loss = RoiLoss(heads=0.0, rate=0.0, hide="flatten")
    terms = loss(output(x_hat), x, regions["heads"], regions["persons"])
    (gradient,) = torch.autograd.grad(terms["loss"], x_hat)
    assert (gradient.abs().sum(1, keepdim=True)[mask == 0] == 0).all()
    assert (gradient.abs().sum(1, keepdim=True)[mask == 1] > 0).all()
    errors = region_mse(x_hat, x, regions["persons"], keep)
    index = 0
    for picture, boxes in enumerate(batch["boxes"]["persons"]):
        for x1, y1, x2, y2 in boxes:
            error = ((x_hat - x)[picture] ** 2).mean(0)[y1:y2, x1:x2]
            kept = mask[picture, 0, y1:y2, x1:x2]
            expected = (error * kept).sum() / kept.sum().clamp(min=1)
            assert errors[index].item() == pytest.approx(expected.item(), abs=1e-6)
            index += 1


def test_pictures_without_boxes_count_as_zero(batch: dict) -> None:
    nobody = Regions.stack([torch.zeros(0, 4)] * 4)
    terms = RoiLoss(hide="inverse")(output(batch["x_hat"]), batch["x"], nobody, nobody)
    assert terms["heads"].item() == terms["persons"].item() == 0
    assert torch.isfinite(terms["loss"])


def test_rate_in_bits_per_pixel() -> None:
    assert bits_per_pixel(torch.full((2, 3, 4, 5), 0.5), pixels=240).item() == pytest.approx(120 / 240)


def test_an_unknown_way_to_hide_is_refused() -> None:
    with pytest.raises(ValueError, match="hide: 'paint', must be one of flatten, inverse"):
        RoiLoss(hide="paint")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of noise with drawn heads, as COCO JSON."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "head"}]
    coco: dict[str, list] = {"images": [], "annotations": [], "categories": categories}
    for i in range(6):
        noise = rng.integers(0, 255, (12, 16, 3), np.uint8)
        picture = cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)
        x, y = 20 + 10 * i, 15
        cv2.circle(picture, (x + 12, y + 12), 12, (80, 120, 200), -1)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        coco["images"].append({"id": i, "file_name": f"{i}.png", "width": 160, "height": 120})
        for category, box in ((2, [x, y, 24, 24]), (1, [x - 10, y, 44, 200])):
            coco["annotations"].append({"image_id": i, "category_id": category, "bbox": box})
    (folder / "all.json").write_text(json.dumps(coco))
    return folder


def test_read_coco_clips_boxes(folder: Path) -> None:
    records = read_coco(folder / "all.json", folder)
    assert len(records) == 6
    assert records[2].heads.tolist() == [[40, 15, 64, 39]]
    assert records[2].persons.tolist() == [[30, 15, 74, 120]]  # it was 200 pixels high
    assert len(clip_boxes(np.array([[170.0, 5, 190, 9]], np.float32), 160, 120)) == 0


def test_coco_without_heads_is_refused(tmp_path: Path) -> None:
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "a.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match="categories have no 'head'"):
        read_coco(tmp_path / "a.json", tmp_path)


def test_crops_repeat_and_move_on(folder: Path) -> None:
    records = read_coco(folder / "all.json", folder)
    crops = Crops(records, size=64, length=8, seed=1)
    first = [crops[i][0] for i in range(8)]
    again = Crops(records, size=64, length=8, seed=1)
    assert all(torch.equal(a, again[i][0]) for i, a in enumerate(first))
    again.first = 3
    assert torch.equal(first[5], again[2][0])
    assert not torch.equal(first[0], Crops(records, size=64, length=8, seed=2)[0][0])


def test_boxes_follow_the_crop(tmp_path: Path) -> None:
    """A white head on black: after cutting, scaling and flipping, what is bright lies in the head's box."""
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[100:160, 150:230] = 255
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    head = np.array([[150, 100, 230, 160]], np.float32)
    crops = Crops([Record(tmp_path / "p.png", np.zeros((0, 4), np.float32), head)], 96, 60, seed=0)
    seen = 0
    for i in range(60):
        x, heads, _ = crops[i]
        bright = (x.mean(0) > 0.5).nonzero()
        if not len(heads) or not len(bright):
            continue
        seen += 1
        (y1, x1), (y2, x2) = bright.min(0).values, bright.max(0).values + 1
        drawn = torch.stack([x1, y1, x2, y2])
        assert (drawn - heads[0]).abs().max() <= 4
    assert seen > 30


def test_a_run_is_interrupted_and_continued(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import Config, train

    data = {"annotations": str(folder / "all.json"), "images": str(folder)}
    settings = {
        "configuration": "fast",
        "train": data,
        "validation": data,
        "crop": 64,
        "batch": 2,
        "epoch": 2,
        "warmup": 1,
        "steps": 4,
        "workers": 0,
        "precision": "32-true",
    }
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings | {"steps": 2}))
    train(config, tmp_path / "run")
    config.write_text(yaml.safe_dump(settings))
    result = train(config, tmp_path / "run")
    metadata = load_model(result).metadata
    assert metadata["training"]["steps"] == 4 and metadata["training"]["pictures"] == 6
    assert metadata["figures"]["val/bpp"] > 0
    logs = sorted((tmp_path / "run" / "log").glob("version_*/metrics.csv"))
    epochs = [[int(row["epoch"]) for row in csv.DictReader(log.open()) if row["train/loss"]] for log in logs]
    assert epochs == [[0], [1]]  # the second run went on where the first ended

    config.write_text(yaml.safe_dump(settings | {"batch_size": 9}))
    with pytest.raises(ValueError, match="batch_size"):
        Config.read(config)
