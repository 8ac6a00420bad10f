"""Guides with a budget: decoded images may differ to a detector's inner maps, up to a limit.

Source: the penalty of arXiv 2504.14301, a hinge on the distance between features; here the distance
is relative to the features and leaves out what shall not be shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.detect.actions import WIDTHS, ActionNetwork, load_actions
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
        network = network.eval().requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last)

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
    """A `BudgetGuide` with YOLOX-nano.

    Args:
        weights: a name that `find_weights` knows, or a file for `load_yolox`.
        budget: B, 0 or more.
        layers: which maps: 0 to 2 are those of strides 8, 16, 32 of the backbone, 3 to 5 those of
            the pyramid.

    Raises:
        WeightsError: the weights cannot be had.
        ValueError: they are of another kind, the budget is negative, or there is no such layer.
    """

    LAYERS = (0, 1, 2, 3, 4, 5)

    def __init__(
        self,
        weights: str | Path = "yolox_nano",
        budget: float = 0.3,
        layers: Sequence[int] = LAYERS,
    ) -> None:
        super().__init__(load_yolox(find_weights(weights)), budget)
        self.layers = check_layers(layers, len(self.LAYERS))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the chosen layers."""
        assert isinstance(self.network, YoloxNano)
        maps = self.network.features(x)
        return [maps[number] for number in self.layers]


class Yolov8Guide(BudgetGuide):
    """A `BudgetGuide` with a network of ultralytics'.

    Args:
        weights: a name that `find_weights` knows, or a ``.pt`` file.
        budget: B, 0 or more.
        layers: which maps, by the number of their layer in the network. Of YOLOv8, 2, 4, 6 and 9
            are those of strides 4 to 32 of the backbone, 15, 18 and 21 what its head looks at.

    Raises:
        ImportError: ultralytics is not installed.
        WeightsError: the weights cannot be had.
        ValueError: they are of another kind, the budget is negative, or there is no such layer.
    """

    LAYERS = (2, 4, 6, 9)

    def __init__(
        self,
        weights: str | Path = "yolov8n",
        budget: float = 0.3,
        layers: Sequence[int] = LAYERS,
    ) -> None:
        path = find_weights(weights)
        if path.suffix.lower() != ".pt":
            raise ValueError(f"weights: got {path}, must be a .pt file: others pass no gradient")
        model = import_ultralytics().YOLO(str(path)).model.float().fuse(verbose=False).model
        # The last one is the head, which has no map.
        self.layers = check_layers(layers, len(model) - 1)
        super().__init__(model[: max(self.layers) + 1], budget)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the chosen layers."""
        maps: list[Tensor] = []
        for layer in self.network.children():
            # Where a layer's input comes from: -1 is the one before it.
            source: Any = layer.f
            if source == -1:
                x = layer(x)
            elif isinstance(source, int):
                x = layer(maps[source])
            else:
                x = layer([maps[number] for number in source])
            maps.append(x)
        return [maps[number] for number in self.layers]


class ActionGuide(BudgetGuide):
    """A `BudgetGuide` with a network of actions: the images are frames of clips, one after the
    other.

    Args:
        weights: a file for `load_actions`.
        budget: B, 0 or more.
        layers: which maps, 0 to 3: those of strides 2 to 16.

    Raises:
        ValueError: the file is of another kind, the budget is negative, or there is no such layer;
            from images that are no whole clips.
    """

    LAYERS = (1, 2, 3)

    def __init__(
        self, weights: str | Path, budget: float = 0.3, layers: Sequence[int] = LAYERS
    ) -> None:
        super().__init__(load_actions(Path(weights)), budget)
        self.layers = check_layers(layers, len(WIDTHS))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the chosen layers."""
        assert isinstance(self.network, ActionNetwork)
        maps = self.network.maps(x)
        return [maps[number] for number in self.layers]


def check_layers(layers: Sequence[int], count: int) -> tuple[int, ...]:
    """The numbers of layers.

    Raises:
        ValueError: there are none, or one is not from 0 to below ``count``.
    """
    numbers = tuple(layers)
    if not numbers or not all(type(n) is int and 0 <= n < count for n in numbers):
        raise ValueError(f"layers: got {list(numbers)}, must be numbers from 0 to {count - 1}")
    return numbers


def load_guide(network: str, budget: float, layers: Sequence[int] = ()) -> BudgetGuide:
    """A guide by the name or file of its network: YOLOX where it starts with ``yolox``, actions
    where it starts with ``actions``, or YOLOv8.

    Args:
        network: see :class:`YoloxGuide`, :class:`ActionGuide` and :class:`Yolov8Guide`, which say
            what is raised.
        budget: B, 0 or more.
        layers: likewise; none: the network's usual ones.
    """
    name = Path(network).name
    if name.startswith("yolox"):
        return YoloxGuide(network, budget, layers or YoloxGuide.LAYERS)
    if name.startswith("actions"):
        return ActionGuide(network, budget, layers or ActionGuide.LAYERS)
    return Yolov8Guide(network, budget, layers or Yolov8Guide.LAYERS)
