"""The head map: where heads are in an image, and how large, on a grid of 8 × 8 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Pixels on a side of a cell of the map.
CELL = 8
#: Channels at 1/4, 1/8, 1/16, 1/32, 1/64 and 1/128 of the resolution.
WIDTHS = (24, 48, 80, 112, 128, 128)
#: Blocks at 1/8 and below.
BLOCKS = (1, 2, 2, 2, 3)
#: Sides of an image are padded to multiples of this.
MULTIPLE = 128


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; a model file has the normalisation in the weights."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Block(nn.Module):
    """Residual bottleneck, 1×1 → 3×3 → 1×1, normalised, ``[B, C, H, W]`` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        last = nn.Conv2d(inner, channels, 1, bias=False)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # a block begins as the identity
        self.branch = nn.Sequential(
            _conv(channels, inner, 1), _conv(inner, inner, 3, padding=1), last, norm
        )

    def forward(self, x: Tensor) -> Tensor:
        """``relu(x + branch(x))``."""
        return torch.relu(x + self.branch(x))


class HeadMap(nn.Module):
    """A small U-shaped network; finds heads from 8 pixels to beyond the image.

    .. code-block:: none

        1/4    conv6(3→24, stride 4)
        1/8    conv3(24→48, stride 2) │ block ──────────────────────── + ─ block ─ conv3 ─ conv1(→4)
        1/16     conv3(→80, stride 2) │ 2 blocks ─────────── + ─ block ┘ conv1, nearest
        1/32        conv3(→112, stride 2) │ 2 blocks ── + ───┘
        1/64           conv3(→128, stride 2) │ 2 ── + ──┘
        1/128             conv3(→128, stride 2) │ 3 ┘

    About 1,500 multiply-adds a pixel, 1,900 over the pyramid of :mod:`codec.headmap`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, WIDTHS[0], 6, stride=4, padding=1)
        stages = []
        laterals = []
        for index, blocks in enumerate(BLOCKS):
            width = WIDTHS[index + 1]
            layers: list[nn.Module] = [_conv(WIDTHS[index], width, 3, stride=2, padding=1)]
            layers += [Block(width) for _ in range(blocks)]
            stages.append(nn.Sequential(*layers))
            if index:
                laterals.append(nn.Conv2d(width, WIDTHS[index], 1))
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(laterals)
        self.merges = nn.ModuleList([Block(width) for width in WIDTHS[1:-1]])
        self.out = nn.Sequential(_conv(WIDTHS[1], 32, 3, padding=1), nn.Conv2d(32, 4, 1))
        with torch.no_grad():
            self.out.get_parameter("1.bias").copy_(torch.tensor([-4.0, 0.0, 0.0, 1.5]))

    def forward(self, x: Tensor) -> Tensor:
        """Find heads.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], sides multiples of 128.

        Returns:
            ``[B, 4, H / 8, W / 8]``: the logit of "this cell is head"; the offset (right, down)
            from the cell's centre to the head's, in sides of the head; log2 of the head's longer
            side in cells.
        """
        maps = []
        x = self.stem(x - 0.5)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        for index in reversed(range(len(self.laterals))):
            up = nn.functional.interpolate(
                self.laterals[index](x), scale_factor=2.0, mode="nearest"
            )
            x = self.merges[index](maps[index] + up)
        return self.out(x)
