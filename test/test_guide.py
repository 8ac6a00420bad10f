"""The guide: a distance as a frozen detector sees it, with a network of random weights that needs
no download.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")

from roi_anon_ros.detect.guide import PersonGuide  # noqa: E402
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.manual_seed(0)
    network = import_ultralytics().YOLO("yolov8n.yaml")
    network.model.names = {i: "person" if i == 3 else f"thing {i}" for i in range(80)}
    # Untrained, its activations vanish from layer to layer, until its normalisation has seen
    # something.
    for module in network.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.model.train()
    with torch.no_grad():
        for _ in range(5):
            network.model(torch.rand(4, 3, 64, 64))
        for branch in [*network.model.model[-1].cv2, *network.model.model[-1].cv3]:
            branch[-1].weight *= 0.05  # no probability of exactly 0 or 1
    network.save(path)
    return path


@pytest.fixture(scope="module")
def guide(weights: Path) -> PersonGuide:
    return PersonGuide(str(weights))


def literal(
    network: torch.nn.Module, x_hat: torch.Tensor, x: torch.Tensor, keep: torch.Tensor, person: int
) -> float:
    """The docstring's equation, anchor by anchor, from the head's inputs."""
    head = network.model[-1]
    seen = []
    for image in (x_hat, x):
        caught = []
        hook = head.register_forward_pre_hook(
            lambda _, inputs, caught=caught: caught.append([f.clone() for f in inputs[0]])
        )
        with torch.no_grad():
            network(image)
        hook.remove()
        seen.append(caught[0])
    features, detections, persons = 0.0, 0.0, float(len(x))
    for level, (f_hat, f) in enumerate(zip(*seen, strict=True)):
        k = F.adaptive_avg_pool2d(keep, f.shape[-2:])
        features += float((k * (f_hat - f) ** 2).sum() / (k * f**2).sum())
        with torch.no_grad():
            p_hat, p = (torch.sigmoid(head.cv3[level](t)[:, person]).double() for t in (f_hat, f))
            sides_hat, sides = (head.cv2[level](t).double() for t in (f_hat, f))
        for b, row, column in torch.cartesian_prod(*map(torch.arange, p.shape)).tolist():
            a, c = p[b, row, column], p_hat[b, row, column]
            detections += float(a * (a / c).log() + (1 - a) * ((1 - a) / (1 - c)).log())
            for side in range(4):
                q, r = (
                    torch.softmax(s[b, 16 * side : 16 * side + 16, row, column], 0)
                    for s in (sides, sides_hat)
                )
                detections += float(a * (q * (q / r).log()).sum() / 4)
            persons += float(a)
    return features + detections / persons


def test_the_distance_is_the_equation(guide: PersonGuide, weights: Path) -> None:
    torch.manual_seed(1)
    x = torch.rand(2, 3, 64, 96)
    x_hat = (x + 0.3 * torch.rand_like(x)).clamp(0, 1)
    keep = (torch.rand(2, 1, 64, 96) > 0.3).float()
    network = import_ultralytics().YOLO(str(weights)).model.float().fuse(verbose=False).eval()
    assert guide(x_hat, x, keep).item() == pytest.approx(
        literal(network, x_hat, x, keep, 3), rel=1e-3
    )
    assert guide(x, x, keep).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_reaches_the_image_and_stops_at_the_weights(guide: PersonGuide) -> None:
    torch.manual_seed(2)
    x = torch.rand(1, 3, 64, 64)
    x_hat = torch.rand(1, 3, 64, 64, requires_grad=True)
    guide.train()(x_hat, x, torch.ones(1, 1, 64, 64)).backward()
    assert x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in guide.parameters())
    assert not any(module.training for module in guide.modules())


def test_weights_without_persons_or_gradient_are_refused(tmp_path: Path) -> None:
    network = import_ultralytics().YOLO("yolov8n.yaml")
    network.model.names = {i: f"thing {i}" for i in range(80)}
    network.save(tmp_path / "things.pt")
    with pytest.raises(ValueError, match="things.pt knows no class 'person'"):
        PersonGuide(str(tmp_path / "things.pt"))
    (tmp_path / "exported.onnx").touch()
    with pytest.raises(ValueError, match="must be a .pt file"):
        PersonGuide(str(tmp_path / "exported.onnx"))
