"""The second look at a head that the map found, for the training; see ``codec.second_look``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from roi_anon_ros.codec.second_look import STRIDES

#: Channels of the convolutions.
WIDTHS = (3, 16, 32, 32, 64, 64)
#: Sides of their kernels.
KERNELS = (5, 3, 3, 3, 3)
#: Values of the last hidden layer, and what the head map adds to them.
HIDDEN = 48
EVIDENCE = 3


class SecondLook(nn.Module):
    """Says of a crop around a place whether there is a head in its middle, and a helmet on it.

    .. code-block:: none

        [3, 32, 32]  conv5(→16, stride 2) │ conv3(→32, stride 2) │ conv3(→32) │
                     conv3(→64, stride 2) │ conv3(→64) │ flat │ 1024→48 │ 48 + 3 → 2

    ReLU after each but the last. About 2.1 million multiply-adds a place. As it is made, it says
    yes to every head, and to no helmet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(WIDTHS[i], WIDTHS[i + 1], kernel, STRIDES[i], kernel // 2)
            for i, kernel in enumerate(KERNELS)
        )
        self.hidden = nn.Linear(16 * WIDTHS[-1], HIDDEN)
        self.last = nn.Linear(HIDDEN + EVIDENCE, 2)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([5.0, -5.0]))

    def forward(self, crops: Tensor, evidence: Tensor) -> Tensor:
        """The logits ``[n, 2]`` of "this is a head" and "it wears a helmet".

        Args:
            crops: ``[n, 3, 32, 32]`` in [0, 1].
            evidence: ``[n, 3]``, see :func:`~roi_anon_ros.codec.second_look.weigh`.
        """
        x = crops - 0.5
        for layer in self.layers:
            x = torch.relu(layer(x))
        hidden = torch.relu(self.hidden(x.flatten(1)))
        return self.last(torch.cat([hidden, evidence], 1))
