"""The second look at a head that the map found, for the training; see ``codec.second_look``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from roi_anon_ros.codec.second_look import ANSWERS, HEAD, HELMET, SIDE, STRIDES

#: Channels of the convolutions for each reach.
WIDTHS = ((3, 16, 32, 48, 64, 64, 64), (3, 16, 32, 64, 64))
#: Sides of their kernels: of the first, and of all others.
FIRST_KERNEL = 5
KERNEL = 3
#: Values of the last hidden layer, and what the head map adds to them.
HIDDEN = 160
EVIDENCE = 3


class SecondLook(nn.Module):
    """Says of a place whether there is a head in its middle, whether a helmet is on it, which way
    is up, and where exactly the head is.

    .. code-block:: none

        the head      [3, 48, 48]  conv5(→16, stride 2) │ conv3(→32, stride 2) │ conv3(→48) │
                                   conv3(→64, stride 2) │ 2 × conv3(→64) │ flat 2304
        around it     [3, 48, 48]  conv5(→16, stride 2) │ conv3(→32, stride 2) │
                                   conv3(→64, stride 2) │ conv3(→64) │ flat 2304
                                   4608→160 │ 160 + 3 → 9

    ReLU after each but the last. About 11 million multiply-adds a place. As it is made, it says
    yes to every head where it is, to no helmet, and nothing of which way is up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _make_branch(widths, strides) for widths, strides in zip(WIDTHS, STRIDES, strict=True)
        )
        cells = [(SIDE // math.prod(strides)) ** 2 for strides in STRIDES]
        left = sum(count * widths[-1] for count, widths in zip(cells, WIDTHS, strict=True))
        self.hidden = nn.Linear(left, HIDDEN)
        self.last = nn.Linear(HIDDEN + EVIDENCE, ANSWERS)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.zero_()
            self.last.bias[HEAD] = 5
            self.last.bias[HELMET] = -5

    @property
    def convolutions(self) -> list[list[nn.Conv2d]]:
        """The layers for each reach."""
        return [list(cast("Iterable[nn.Conv2d]", branch)) for branch in self.branches]

    def forward(self, crops: Tensor, evidence: Tensor) -> Tensor:
        """The answers ``[n, 9]``, see :data:`~roi_anon_ros.codec.second_look.HEAD`.

        Args:
            crops: ``[n, 2, 3, 48, 48]`` in [0, 1], of each reach.
            evidence: ``[n, 3]``, see :func:`~roi_anon_ros.codec.second_look.weigh`.
        """
        flat = []
        for reach, layers in enumerate(self.convolutions):
            x = crops[:, reach] - 0.5
            for layer in layers:
                x = torch.relu(layer(x))
            flat.append(x.flatten(1))
        hidden = torch.relu(self.hidden(torch.cat(flat, 1)))
        return self.last(torch.cat([hidden, evidence], 1))


def _make_branch(widths: tuple[int, ...], strides: tuple[int, ...]) -> nn.ModuleList:
    layers = nn.ModuleList()
    for index, stride in enumerate(strides):
        kernel = KERNEL if index else FIRST_KERNEL
        layers.append(nn.Conv2d(widths[index], widths[index + 1], kernel, stride, kernel // 2))
    return layers
