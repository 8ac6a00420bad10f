"""Guides with a budget: decoded images may differ to a detector's inner maps, up to a limit.

Source: the penalty of arXiv 2504.14301, a hinge on the distance between features; here the distance
is relative to the features and leaves out what shall not be shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import find_weights
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox


class BudgetGuide(nn.Module, ABC):
    """Distance of a decoded image from its original as a frozen network sees it, above a budget.

    With the inner maps f of the original and f̂ of the decoded image, and RMS over the channels and
    cells of one image's map:

        mean over images and maps of  relu(RMS(k (f − f̂)) / RMS(k f) − B)

    k is the share of each cell that shall look alike. An image inside the budget has no gradient.
    The weights stay as they are.

    Args:
        network: gets frozen.
        budget: B, 0 or more.

    Raises:
        ValueError: a negative budget.
    """

    def __init__(self, network: nn.Module, budget: float) -> None:
        super().__init__()
        if not budget >= 0:
            raise ValueError(f"budget: got {budget}, must be 0 or more")
        self.budget = budget
        self.network = network.eval().requires_grad_(False)

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """Return the inner maps, each ``[B, C, h, w]``, of images ``[B, 3, H, W]``."""

    def train(self, mode: bool = True) -> BudgetGuide:
        """Stay in evaluation mode."""
        return super().train(False)

    def distances(self, x_hat: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return RMS(k (f − f̂)) / RMS(k f), ``[maps, B]``; arguments as of `forward`."""
        with torch.no_grad():
            originals = self.features(x)
        distances = []
        for f_hat, f in zip(self.features(x_hat), originals, strict=True):
            precision = torch.promote_types(f.dtype, torch.float32)
            f = f.to(precision)
            k = F.adaptive_avg_pool2d(keep.to(precision), (f.shape[-2], f.shape[-1]))
            difference = (k * (f - f_hat.to(precision))).square().sum((1, 2, 3))
            size = (k * f).square().sum((1, 2, 3)).clamp(min=1e-6)
            # The root's slope at 0 is infinite; below the bound the clamp passes no gradient.
            distances.append((difference / size).clamp(min=1e-12).sqrt())
        return torch.stack(distances)

    def forward(self, x_hat: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return the distance above the budget, a scalar of 0 or more.

        Args:
            x_hat: decoded images, ``[B, 3, H, W]``, RGB in [0, 1]; H and W multiples of 32.
            x: their originals.
            keep: ``[B, 1, H, W]``, 1 where the images shall look alike, 0 where not.
        """
        return (self.distances(x_hat, x, keep) - self.budget).relu().mean()


class YoloxGuide(BudgetGuide):
    """A `BudgetGuide` with YOLOX-nano: six maps, of its backbone and of its pyramid.

    Args:
        weights: a name that `find_weights` knows, or a file for `load_yolox`.
        budget: B, 0 or more.

    Raises:
        WeightsError: the weights cannot be had.
        ValueError: they are of another kind, or the budget is negative.
    """

    def __init__(self, weights: str | Path = "yolox_nano", budget: float = 0.3) -> None:
        super().__init__(load_yolox(find_weights(weights)), budget)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of strides 8, 16, 32 of the backbone, then of the pyramid."""
        assert isinstance(self.network, YoloxNano)
        return self.network.features(x)


class Yolov8Guide(BudgetGuide):
    """A `BudgetGuide` with the backbone of YOLOv8: four maps, of strides 4, 8, 16 and 32.

    Args:
        weights: a name that `find_weights` knows, or a ``.pt`` file.
        budget: B, 0 or more.

    Raises:
        ImportError: ultralytics is not installed.
        WeightsError: the weights cannot be had.
        ValueError: they are of another kind, or the budget is negative.
    """

    #: The last layer of each stride of the backbone; 9 is its pooling.
    LAYERS = (2, 4, 6, 9)

    def __init__(self, weights: str | Path = "yolov8n", budget: float = 0.3) -> None:
        path = find_weights(weights)
        if path.suffix.lower() != ".pt":
            raise ValueError(f"weights: got {path}, must be a .pt file: others pass no gradient")
        model = import_ultralytics().YOLO(str(path)).model.float().fuse(verbose=False)
        backbone = model.model[: max(self.LAYERS) + 1]
        if any(layer.f != -1 for layer in backbone):
            raise ValueError(f"weights: got {path}, must be YOLOv8: its backbone is no chain")
        super().__init__(backbone, budget)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of `LAYERS`."""
        maps = []
        for number, layer in enumerate(self.network.children()):
            x = layer(x)
            if number in self.LAYERS:
                maps.append(x)
        return maps


def load_guide(network: str, budget: float) -> BudgetGuide:
    """A guide by the name or file of its network: YOLOX where it starts with ``yolox``, or YOLOv8.

    Args:
        network: see :class:`YoloxGuide` and :class:`Yolov8Guide`, which say what is raised.
        budget: B, 0 or more.
    """
    guide = YoloxGuide if Path(network).name.startswith("yolox") else Yolov8Guide
    return guide(network, budget)
