"""What several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Before torch, whose threads sleep then where they wait for each other. Where several processes
# share the cores, threads that spin take twenty times as much of them.
import roi_anon_ros  # noqa: F401

if TYPE_CHECKING:
    import torch
    from torch import nn

# No property depends on how fast the machine is.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real material beside the repository; it is not part of it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no real material at {path}")
    return path


def wake(network: nn.Module, example: torch.Tensor) -> None:
    """Scale the layers of an untrained network: activations would vanish from layer to layer."""
    import torch
    from torch import nn

    def scale(layer: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        size = output.std()
        layer.weight.data /= size
        layer.bias.data /= size
        return output / size

    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()


@pytest.fixture(scope="session")
def random_yolox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a YOLOX-nano of one class that saw nothing yet, but whose layers are all awake."""
    import torch

    from roi_anon_ros.detect.network_file import write_network
    from roi_anon_ros.detect.yolox import YoloxNano

    torch.manual_seed(0)
    network = YoloxNano(classes=1)
    wake(network, torch.rand(2, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    write_network(network, path, {})
    return path


@pytest.fixture(scope="session")
def random_yolov8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOv8n of random weights, a .pt file."""
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    import torch
    from torch import nn

    from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics

    torch.manual_seed(0)
    network = import_ultralytics().YOLO("yolov8n.yaml")
    for module in network.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what it has seen
    network.model.train()
    with torch.no_grad():
        network.model(torch.rand(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    network.save(path)
    return path
