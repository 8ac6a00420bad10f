"""Guides with a budget: the equation, and its gradient, with networks of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from roi_anon_ros.detect.actions import ActionNetwork, save_actions
from roi_anon_ros.detect.budget import ActionGuide, BudgetGuide, Yolov8Guide, YoloxGuide


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights; the two images are a clip to it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "actions.safetensors"
    save_actions(ActionNetwork(["moves", "stays"], frames=2, side=32), path, {})
    return path


@pytest.fixture(params=["yolox", "yolov8", "yolov8 pyramid", "actions"])
def guide(request: pytest.FixtureRequest) -> BudgetGuide:
    if request.param == "actions":
        return ActionGuide(request.getfixturevalue("actions")).double()
    if request.param == "yolox":
        return YoloxGuide(request.getfixturevalue("random_yolox")).double()
    layers = (15, 21) if "pyramid" in request.param else Yolov8Guide.LAYERS
    return Yolov8Guide(request.getfixturevalue("random_yolov8"), layers=layers).double()


def images(seed: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    x = torch.rand(count, 3, 32, 64, dtype=torch.float64)
    x_hat = (x + 0.3 * torch.randn_like(x)).clamp(0, 1)
    keep = (torch.rand(count, 1, 32, 64) > 0.3).double()
    return x_hat, x, keep


def test_the_distance_is_the_equation(guide: BudgetGuide) -> None:
    x_hat, x, keep = images(1)
    found = []
    with torch.no_grad():
        pairs = list(zip(guide.features(x_hat), guide.features(x), strict=True))
    for b in range(len(x)):
        for f_hat, f in pairs:
            rows, columns = f.shape[-2:]
            k = keep[b, 0].reshape(rows, 32 // rows, columns, 64 // columns).mean((1, 3)).numpy()
            rms = [np.sqrt(np.mean((k * one[b].numpy()) ** 2)) for one in (f - f_hat, f)]
            found.append(rms[0] / rms[1])
    guide.budget = float(np.median(found))
    expected = np.mean([max(0, one - guide.budget) for one in found])
    assert min(found) > 0.01
    assert guide(x_hat, x, keep).item() == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_that_of_finite_differences(guide: BudgetGuide) -> None:
    x_hat, x, keep = images(2)
    guide.budget = float(guide.distances(x_hat, x, keep).mean())  # some maps within, some not
    x_hat.requires_grad_(True)
    (gradient,) = torch.autograd.grad(guide(x_hat, x, keep), x_hat)
    for _ in range(4):
        way = torch.randn_like(x)
        step = 1e-6
        with torch.no_grad():
            ahead = guide(x_hat + step * way, x, keep)
            back = guide(x_hat - step * way, x, keep)
        slope = ((ahead - back) / (2 * step)).item()
        assert (gradient * way).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_inside_the_budget_nothing_pulls(guide: BudgetGuide) -> None:
    x_hat, x, keep = images(3)
    guide.budget = 0.0
    for seen, mask in ((x, keep), (x_hat, torch.zeros_like(keep))):
        seen = seen.clone().requires_grad_(True)
        distance = guide(seen, x, mask)
        (gradient,) = torch.autograd.grad(distance, seen)
        assert distance.item() == pytest.approx(0, abs=2e-6)
        assert (gradient == 0).all()


def test_the_network_stays_as_it_is(guide: BudgetGuide) -> None:
    guide.train()
    assert not any(module.training for module in guide.modules())
    assert not any(parameter.requires_grad for parameter in guide.parameters())


def test_bad_arguments_are_refused(random_yolox: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget: got -0.1, must be 0 or more"):
        YoloxGuide(random_yolox, budget=-0.1)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.safetensors: holds no YOLOX-nano"):
        YoloxGuide(tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"layers: got \[6\], must be numbers from 0 to 5"):
        YoloxGuide(random_yolox, layers=[6])
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    with pytest.raises(ValueError, match="weights: got .*random.safetensors, must be a .pt file"):
        Yolov8Guide(random_yolox)


def test_the_maps_are_those_of_the_whole_network(random_yolov8: Path) -> None:
    from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics

    model = import_ultralytics().YOLO(str(random_yolov8)).model.float().fuse(verbose=False).eval()
    model = model.to(memory_format=torch.channels_last)  # as the guide's: it sums in the same order
    caught = []
    model.model[-1].register_forward_pre_hook(lambda _, inputs: caught.extend(inputs[0]))
    x = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model(x)
        maps = Yolov8Guide(random_yolov8, layers=[15, 18, 21]).features(x)
    assert all(torch.equal(a, b) for a, b in zip(maps, caught, strict=True))
    with pytest.raises(ValueError, match=r"layers: got \[22\], must be numbers from 0 to 21"):
        Yolov8Guide(random_yolov8, layers=[22])
