"""Training: the loss against a literal implementation, and runs that are killed, continued, ended
and shared.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.codec import load_model, save_model
from roi_anon_ros.codec.networks import build
from roi_anon_ros.train.losses import (
    Regions,
    RoiLoss,
    bits_per_pixel,
    head_cells,
    hidden_target,
    outside,
)

ROOT = Path(__file__).resolve().parent.parent


def literal_region_loss(
    x_hat: torch.Tensor, x: torch.Tensor, boxes: list[list[list[int]]], k: int
) -> torch.Tensor:
    """L_k as the paper writes it: k − (−1)^(k+1)·MSE for k in {0, 1}, box by box, image by
    image.
    """
    batch = torch.zeros(())
    for i, of_image in enumerate(boxes):
        if not of_image:
            continue
        total = torch.zeros(())
        for x1, y1, x2, y2 in of_image:
            mse = ((x_hat[i, :, y1:y2, x1:x2] - x[i, :, y1:y2, x1:x2]) ** 2).mean()
            total = total + (1 - mse if k else mse)
        batch = batch + total / len(of_image)
    return batch / len(boxes)


def random_boxes(rng: np.random.Generator, count: int, width: int, height: int) -> list[list[int]]:
    boxes = []
    for _ in range(count):
        x1, y1 = int(rng.integers(0, width - 1)), int(rng.integers(0, height - 1))
        boxes.append(
            [x1, y1, int(rng.integers(x1 + 1, width + 1)), int(rng.integers(y1 + 1, height + 1))]
        )
    return boxes


@pytest.fixture
def batch() -> dict:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    boxes = {
        "heads": [random_boxes(rng, n, 40, 30) for n in (3, 0, 1, 5)],
        "persons": [random_boxes(rng, n, 40, 30) for n in (1, 2, 0, 4)],
    }
    regions = {
        kind: Regions.stack([torch.tensor(b).reshape(-1, 4) for b in lists])
        for kind, lists in boxes.items()
    }
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


def literal_target(x: torch.Tensor, boxes: list[list[list[int]]], hide: str) -> torch.Tensor:
    """The target pixel by pixel: colours of the regions over it mix by their cover, the strongest
    cover counts.
    """
    target = x.clone()
    for i, of_image in enumerate(boxes):
        paint: dict[tuple[int, int], list[tuple[float, torch.Tensor]]] = {}
        for x1, y1, x2, y2 in of_image:
            upper = y2 if hide == "flatten" else y1 + math.ceil((y2 - y1) / 4)
            colour = x[i, :, y1:upper, x1:x2].mean((1, 2))
            for row in range(y1, y2):
                for column in range(x1, x2):
                    u = (column + 0.5 - x1) / (x2 - x1) * 2 - 1
                    v = (row + 0.5 - y1) / (y2 - y1) * 2 - 1
                    radius = (abs(u) ** 3 + abs(v) ** 3) ** (1 / 3)
                    cover = 1.0 if hide == "flatten" else min(max((1.1 - radius) / 0.25, 0.0), 1.0)
                    paint.setdefault((row, column), []).append((cover, colour))
        for (row, column), layers in paint.items():
            total = sum(cover for cover, _ in layers)
            if total > 0:
                mixed = sum(cover * colour for cover, colour in layers) / total
                most = max(cover for cover, _ in layers)
                target[i, :, row, column] += most * (mixed - x[i, :, row, column])
    return target


@pytest.mark.parametrize("hide", ["flatten", "silhouette"])
def test_the_target_hides_each_head_and_nothing_else(batch: dict, hide: str) -> None:
    x, boxes, regions = (batch[key] for key in ("x", "boxes", "regions"))
    target = hidden_target(x, regions["heads"], hide)
    assert torch.allclose(target, literal_target(x, boxes["heads"], hide), atol=1e-5)
    keep = outside(regions["heads"], x).bool().expand_as(x)
    assert torch.equal(target[keep], x[keep])


def test_a_silhouette_shows_the_colour_of_the_hair() -> None:
    """A head with red hair above a face of noise: what is left is red in the middle, background in
    the corners.
    """
    torch.manual_seed(1)
    x = torch.full((1, 3, 64, 64), 0.2)
    x[0, :, 16:48, 16:48] = torch.rand(3, 32, 32)
    x[0, :, 16:24, 16:48] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    head = Regions.stack([torch.tensor([[16, 16, 48, 48]])])
    target = hidden_target(x, head, "silhouette")
    middle = target[0, :, 22:42, 22:42]
    assert torch.allclose(
        middle, torch.tensor([0.9, 0.1, 0.1])[:, None, None].expand_as(middle), atol=1e-5
    )
    assert torch.equal(target[0, :, 16, 16], x[0, :, 16, 16])


@pytest.mark.parametrize("hide", ["flatten", "silhouette"])
def test_bounded_losses_equal_their_literal_form_and_gradient(batch: dict, hide: str) -> None:
    """Heads against their target, box by box; persons and background without the heads' pixels."""
    x, x_hat, boxes, regions = (batch[key] for key in ("x", "x_hat", "boxes", "regions"))
    loss = RoiLoss(rate=0.0, background=0.5, heads=2.0, persons=0.7, hide=hide)
    terms = loss(output(x_hat), x, regions["heads"], regions["persons"])
    mask = torch.ones(4, 1, 30, 40)
    for image, of_image in enumerate(boxes["heads"]):
        for x1, y1, x2, y2 in of_image:
            mask[image, :, y1:y2, x1:x2] = 0
    assert torch.equal(outside(regions["heads"], x), mask)
    error = ((x_hat - x) ** 2).mean(1, keepdim=True)
    persons = torch.zeros(())
    for image, of_image in enumerate(boxes["persons"]):
        for x1, y1, x2, y2 in of_image:
            kept = mask[image, 0, y1:y2, x1:x2]
            share = (error[image, 0, y1:y2, x1:x2] * kept).sum() / kept.sum().clamp(min=1)
            persons = persons + share / len(of_image) / 4
    expected = (
        0.5 * (error * mask).sum() / mask.sum()
        + 2.0
        * literal_region_loss(x_hat, literal_target(x, boxes["heads"], hide), boxes["heads"], 0)
        + 0.7 * persons
    )
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(terms["loss"], x_hat)
    (literal,) = torch.autograd.grad(expected, x_hat)
    assert torch.allclose(gradient, literal, atol=1e-7)


def test_warm_up_scales_the_head_term_alone(batch: dict) -> None:
    x, x_hat, regions = (batch[key] for key in ("x", "x_hat", "regions"))
    loss = RoiLoss(hide="inverse")
    full, half, none = (
        loss(output(x_hat), x, regions["heads"], regions["persons"], warm)
        for warm in (1.0, 0.5, 0.0)
    )
    assert (full["loss"] - half["loss"]).item() == pytest.approx(
        0.3 * full["heads"].item(), rel=1e-5
    )
    assert (half["loss"] - none["loss"]).item() == pytest.approx(
        0.3 * full["heads"].item(), rel=1e-5
    )


def test_images_without_boxes_count_as_zero(batch: dict) -> None:
    nobody = Regions.stack([torch.zeros(0, 4)] * 4)
    terms = RoiLoss(hide="inverse")(output(batch["x_hat"]), batch["x"], nobody, nobody)
    assert terms["heads"].item() == terms["persons"].item() == 0
    assert torch.isfinite(terms["loss"])


def test_rate_in_bits_per_pixel() -> None:
    assert bits_per_pixel(torch.full((2, 3, 4, 5), 0.5), pixels=240).item() == pytest.approx(
        120 / 240
    )


def test_a_cell_that_heads_cover_by_half_is_head() -> None:
    """Cell by cell, with a last row and column that the image fills in part."""
    keep = torch.ones(1, 1, 40, 37)
    keep[..., 16:32, 20:24] = 0  # a quarter of cell (1, 1)
    keep[..., 3:16, 0:16] = 0  # more than half of cell (0, 0)
    keep[..., 32:36, 32:37] = (
        0  # half of what is left of cell (2, 2), whose lower half repeats the edge
    )
    expected = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    assert torch.allclose(head_cells(keep, 16)[0, 0], expected)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("bias", "closed"), [(9.0, 1.0), (-9.0, 0.0)])
def test_validation_says_what_the_gate_closes(
    folder: Path, tmp_path: Path, bias: float, closed: float
) -> None:
    """A gate that is shut everywhere, and one that is open everywhere."""
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import train

    net = build("fast")
    with torch.no_grad():
        net.g_a[-1].heads[-1].weight.zero_()
        net.g_a[-1].heads[-1].bias.fill_(bias)
    net.update()
    save_model(net, tmp_path / "start.safetensors", name="start")
    config = settings(
        folder, steps=1, epoch=1, start=str(tmp_path / "start.safetensors"), learning_rate=1e-6
    )
    figures = load_model(train(written(tmp_path / "tiny.yaml", config), tmp_path / "run")).metadata[
        "figures"
    ]
    assert figures["closed_heads"] == figures["closed_outside"] == closed


def test_an_unknown_way_to_hide_is_refused() -> None:
    with pytest.raises(
        ValueError, match="hide: 'paint', must be one of silhouette, flatten, inverse"
    ):
        RoiLoss(hide="paint")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of noise with drawn heads, in CrowdHuman's format."""
    folder = tmp_path_factory.mktemp("CrowdHuman")
    (folder / "Images").mkdir()
    rng = np.random.default_rng(3)
    lines = []
    for i in range(12):
        noise = rng.integers(0, 255, (12, 16, 3), np.uint8)
        image = cv2.resize(noise, (160, 128), interpolation=cv2.INTER_CUBIC)
        x, y = 10 + 8 * i, 15
        cv2.circle(image, (x + 12, y + 12), 12, (80, 120, 200), -1)
        cv2.imwrite(str(folder / "Images" / f"{i},{i}.jpg"), image)
        person = {
            "tag": "person",
            "hbox": [x, y, 24, 24],
            "vbox": [x - 10, y, 44, 100],
            "fbox": [x - 10, y, 44, 100],
        }
        lines.append(
            json.dumps(
                {"ID": f"{i},{i}", "gtboxes": [person | {"head_attr": {"ignore": 0}, "extra": {}}]}
            )
        )
    for name, part in (("train", lines[:8]), ("val", lines[8:])):
        (folder / f"annotation_{name}.odgt").write_text("\n".join(part))
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "network": "fast",
        "train": [
            {"annotations": str(folder / "annotation_train.odgt"), "images": str(folder / "Images")}
        ],
        "validation": [
            {"annotations": str(folder / "annotation_val.odgt"), "images": str(folder / "Images")}
        ],
        "crop": 64,
        "batch": 2,
        "epoch": 2,
        "warmup": 1,
        "steps": 6,
        "workers": 0,
        "precision": "32-true",
        "validation_images": 2,
    } | changes


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longer than a short training does."""
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from quick_training import REPLACED

    for module, name, replacement in REPLACED:
        monkeypatch.setattr(module, name, replacement)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_model(model).codec.state_dict()


#: The command, but killed in the third step, in the second epoch.
KILLED = """
import os, signal
from quick_training import leave_out
from roi_anon_ros.cli import app
from roi_anon_ros.train.roi import RoiTraining

leave_out()
step = RoiTraining.training_step

def killed(self, batch, index):
    if self.global_step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)

RoiTraining.training_step = killed
app()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_killed_run_continues_to_the_very_same_model(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import train

    config = written(tmp_path / "tiny.yaml", settings(folder, steps=4))
    out = tmp_path / "killed"
    # On as many threads as here, which may add in another order.
    command = [sys.executable, "-c", KILLED, "train", str(config), "--out", str(out)]
    paths = os.pathsep.join([str(ROOT / "test"), os.environ.get("PYTHONPATH", "")])
    changes = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": paths}
    killed = subprocess.run(command, env=os.environ | changes, cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (out / "last.ckpt").exists() and not (out / "tiny.safetensors").exists()
    continued = weights(train(config, out))
    assert len(list((out / "log").glob("version_*"))) == 2

    straight = weights(train(config, tmp_path / "straight"))
    for name in straight:
        assert torch.equal(straight[name], continued[name]), name


@pytest.mark.slow
def test_a_run_leaves_all_that_it_promises(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train import card as cards
    from roi_anon_ros.train.card import read_log
    from roi_anon_ros.train.trainer import train

    monkeypatch.setattr(cards, "SIDES", (96, 64))  # photos that are coded at once
    out = tmp_path / "run"
    privacy = [{"network": "views", "weight": 0.5}]
    config = settings(folder, steps=4, privacy=privacy, heads_warmup=3, loss={"hide": "inverse"})
    model = train(written(tmp_path / "tiny.yaml", config), out)
    metadata = load_model(model).metadata
    assert metadata["name"] == "tiny"
    assert metadata["training"]["steps"] == 4 and metadata["training"]["pictures"] == 8
    assert metadata["training"]["heads"] == 8
    assert metadata["training"]["config"]["privacy"] == privacy
    assert metadata["figures"]["bpp"] > 0
    assert model.stat().st_size < 16e6
    card = model.with_suffix(".md").read_text()
    for expected in (
        metadata["fingerprint"],
        "8 images",
        "roi-anon train",
        "hide: inverse",
        "tiny-curve.png",
    ):
        assert expected in card
    assert cv2.imread(str(out / "tiny-curve.png")) is not None
    if find_spec("ultralytics"):
        assert "tiny-sheet.jpg" in card and cv2.imread(str(out / "tiny-sheet.jpg")).std() > 10
    first, last = (cv2.imread(str(file)) for file in sorted((out / "sheets").glob("*.png")))
    assert (
        first.shape == last.shape == (480, 600, 3)
    )  # two images of 300 x 240 and their decoded ones
    assert list((out / "tensorboard").rglob("events.*"))
    logged = read_log(out / "log")
    assert [step for step, _ in logged["val/bpp"]] == [2, 4]
    for name in ("loss", "views", "privacy", "images_per_second", "waiting"):
        assert len(logged[f"train/{name}"]) == 2
    divided = json.loads((out / "split.json").read_text())
    assert {len(divided["pictures"][part]) for part in ("train", "validation")} == {8, 4}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_short_training_learns(folder: Path, tmp_path: Path) -> None:
    """From random weights: images come out, and the analysis learns where heads are."""
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.card import read_log
    from roi_anon_ros.train.trainer import train

    short = {
        "steps": 280,
        "epoch": 70,
        "batch": 4,
        "warmup": 20,
        "learning_rate": 1e-3,
        "head_map": 0.2,
    }
    loss = {"rate": 0.005, "heads": 2.0}
    train(written(tmp_path / "tiny.yaml", settings(folder, **short, loss=loss)), tmp_path / "run")
    logged = {
        name: [value for _, value in points]
        for name, points in read_log(tmp_path / "run" / "log").items()
    }
    roi = [
        loss - short["head_map"] * m
        for loss, m in zip(logged["train/loss"], logged["train/head_map"], strict=True)
    ]
    assert roi[-1] < 0.7 * roi[0]
    for name in ("val/loss", "val/mse_outside"):
        assert logged[name][-1] < 0.8 * logged[name][0], name
    assert logged["train/head_map"][-1] < logged["train/head_map"][0]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_synthesis_that_learns_alone_leaves_every_payload_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    """Images change; analysis, prior and tables do not, to the last bit, also through a
    checkpoint.
    """
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import train

    net = build("fast")
    net.update()
    save_model(net, tmp_path / "start.safetensors", name="start")
    config = settings(
        folder, start=str(tmp_path / "start.safetensors"), synthesis_only=True, learning_rate=1e-3
    )
    train(written(tmp_path / "tiny.yaml", config | {"steps": 2}), tmp_path / "run")
    taught = load_model(
        train(written(tmp_path / "tiny.yaml", config | {"steps": 4}), tmp_path / "run")
    ).codec
    first = load_model(tmp_path / "start.safetensors").codec
    before, after = first.state_dict(), taught.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("g_s.") for name in changed), changed
    x = torch.rand(1, 3, 64, 96)
    (one,), (other,) = first.compress(x)["strings"], taught.compress(x)["strings"]
    assert one == other


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_two_processes_train_on_different_crops(folder: Path, tmp_path: Path) -> None:
    """Under torchrun: one model from two processes, not the one that either trains alone."""
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import train

    config = written(tmp_path / "tiny.yaml", settings(folder, steps=1, epoch=1))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(ROOT / "test" / "quick_training.py")
    command = [program, "train", str(config), "--out", str(tmp_path / "both")]
    run = subprocess.run([*torchrun, *command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    both = weights(tmp_path / "both" / "tiny.safetensors")
    alone = weights(train(config, tmp_path / "alone"))
    assert any(not torch.equal(both[name], alone[name]) for name in both)


def test_every_process_and_epoch_has_its_own_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.runs import CropNumbers

    numbers = CropNumbers(3)
    alone = []
    for epoch in range(4):
        numbers.epoch = epoch
        alone += list(numbers)
    assert alone == list(range(12))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    together = []
    for epoch in range(2):
        for rank in range(2):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            numbers.epoch = epoch
            together += list(numbers)
    assert sorted(together) == list(range(12))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9}, "batch_size"),
        ({"steps": 0}, "steps: got 0, must be a number of at least 1"),
        ({"crop": 100}, "crop: got 100, must be a multiple of 32"),
        ({"steps": 5}, "steps: got 5, must be a multiple of epoch, 2"),
        ({"own_size": 40}, "own_size: got 40, must be a number from 0 to 1"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, must be a number of more than 0"),
        ({"learning_rate": "4e-4"}, "learning_rate: got '4e-4', must be a number"),
        ({"network": "slow"}, "network: 'slow', must be one of"),
        ({"loss": {"hide": "paint"}}, "hide: 'paint', must be one of"),
        ({"loss": {"face": 1}}, "face"),
        ({"train": {"annotations": "a.json"}}, "train: must be a list of sets"),
        ({"synthesis_only": True}, "synthesis_only: true, needs the analysis of a model in start"),
        (
            {"synthesis_only": True, "start": "fast", "head_map": 0.5},
            "head_map: got 0.5, must be 0 with synthesis_only",
        ),
        (
            {
                "synthesis_only": True,
                "start": "fast",
                "privacy": [{"network": "views", "weight": 1.0}],
            },
            "privacy: must be empty with synthesis_only",
        ),
        ({"steps": "many"}, "steps: got 'many', must be a number of at least 1"),
        ({"utility": {"network": "yolov8n"}}, "utility: got dict, must be a list"),
        ({"utility": ["yolov8n"]}, "utility[0]: got 'yolov8n', must have network, budget, weight"),
        ({"utility": [{"network": "a", "weight": 1}]}, "utility[0]: budget: got none, must be"),
        (
            {"utility": [{"network": "a", "weight": 1, "budget": -1}]},
            "utility[0]: budget: got -1, must be a number of 0 or more",
        ),
        (
            {"utility": [{"network": "a", "weight": 1, "budget": 0, "layers": 3}]},
            "utility[0]: layers: got 3, must be a list of numbers",
        ),
        (
            {"privacy": [{"network": "views", "weight": 0}]},
            "privacy[0]: weight: got 0, must be a number above 0",
        ),
        ({"privacy": [{"network": "faces", "weight": 1}]}, "network: got 'faces', must be one of"),
        ({"privacy": [{"network": "views", "budget": 1}]}, "privacy[0]: got budget, must be one"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.trainer import read_config

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_config(written(tmp_path / "c.yaml", settings(folder) | changes))
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [{"annotations": "nowhere.odgt"}]}, "nowhere.odgt: No such file"),
        ({"start": "no-such-model"}, "no-such-model"),
        (
            {"utility": [{"network": "no/such/weights.pt", "budget": 0.1, "weight": 1.0}]},
            "no file no/such/weights.pt",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_a_line(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    config = written(tmp_path / "tiny.yaml", settings(folder, **changes))
    result = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and message in result.output, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "config", sorted((ROOT / "config" / "train").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_configurations_that_are_shipped_make_sense(config: Path) -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train import persons
    from roi_anon_ros.train.trainer import read_config

    network = read_config(config).network
    if config.stem == "persons":
        assert network == persons.NAME
    else:
        assert config.stem.startswith(network)
