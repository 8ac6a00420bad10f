"""The attacker's network.

An image is thought of as a grid of cells of 16 pixels. A crop is 8 × 8 cells, and what was sent of
it comes with 4 more cells on each side.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.codec.networks import Bottleneck

#: Side of a crop, pixels; a multiple of every network's grid.
CROP = 128
#: What is sent beyond each edge of a crop, pixels; a multiple of every network's grid.
CONTEXT = 64
#: Channels of the trunk.
WIDTH = 192

#: Pixels in a row that one value of a latent may stand for.
FACTORS = (1, 2, 4, 8, 16, 32, 64)


class Attacker(nn.Module):
    """From what is received to the image.

    .. code-block:: none

        received image, pixels of a cell shuffled into channels │ conv1(→192)
            (+ latent │ conv1(→192))
            │ 5 × block, dilation 1 2 4 2 1 │ cut the context off
            │ shuffle 2, 128 channels + image at an eighth  │ 2 × block
            │ shuffle 2, 64 channels + image at a quarter   │ 2 × block
            │ shuffle 2, 32 channels + image at a half      │ 2 × block
            │ conv3(32→12) shuffle 2 │ + received image

    A block is the codec's residual bottleneck. The last layer begins at 0: the first thing to come
    out is the received image.

    Args:
        channels: of the latent; 0: there is none.
        factor: pixels in a row for each value of the latent, a power of two up to 64.

    Raises:
        ValueError: names the argument and its bounds.
    """

    mean: Tensor
    deviation: Tensor
    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(self, channels: int = 0, factor: int = 16) -> None:
        super().__init__()
        if channels < 0 or factor not in FACTORS:
            raise ValueError(
                f"channels {channels}, factor {factor}: must be at least 0, and one of {FACTORS}"
            )
        self.channels = channels
        self.factor = factor
        #: Pixels of a cell, in a row.
        self.grid = max(16, factor)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))
        width = WIDTH
        self.enter = nn.Conv2d(3 * self.grid**2, width, 1)
        if channels:
            self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
            self.register_buffer("latent_deviation", torch.ones(channels, 1, 1))
            self.enter_latent = nn.Conv2d(channels * (self.grid // factor) ** 2, width, 1)
        self.trunk = nn.Sequential(*[Bottleneck(width, dilation) for dilation in (1, 2, 4, 2, 1)])
        self.scales = [2**i for i in range(self.grid.bit_length() - 2, 0, -1)]
        self.up = nn.ModuleList()
        self.skip = nn.ModuleDict()
        self.blocks = nn.ModuleList()
        for scale in self.scales:
            inner = min(16 * scale, WIDTH)
            self.up.append(nn.Conv2d(width, 4 * inner, 1))
            self.skip[str(scale)] = nn.Conv2d(3 * scale**2, inner, 1)
            self.blocks.append(nn.Sequential(Bottleneck(inner, 1), Bottleneck(inner, 1)))
            width = inner
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        for weights in self.last.parameters():
            nn.init.zeros_(weights)

    def forward(self, received: Tensor, latent: Tensor | None = None) -> Tensor:
        """Recover images.

        Args:
            received: float32 ``[B, 3, H, W]`` in [0, 1], whole cells with 64 pixels of context on
                each side.
            latent: float32 ``[B, N, h, w]`` of the same place.

        Returns:
            float32 ``[B, 3, H, W]`` without the context, around [0, 1].
        """
        x = (received - self.mean) / self.deviation
        y = self.enter(F.pixel_unshuffle(x, self.grid))
        if self.channels:
            assert latent is not None  # of such a method there always is one
            z = (latent - self.latent_mean) / self.latent_deviation
            y = y + self.enter_latent(F.pixel_unshuffle(z, self.grid // self.factor))
        y = _cut(self.trunk(y), CONTEXT // self.grid)
        x = _cut(x, CONTEXT)
        received = _cut(received, CONTEXT)
        for scale, up, blocks in zip(self.scales, self.up, self.blocks, strict=True):
            y = F.pixel_shuffle(up(y), 2)
            y = blocks(y + self.skip[str(scale)](F.pixel_unshuffle(x, scale)))
        return received + F.pixel_shuffle(self.last(y), 2).float()

    @torch.inference_mode()
    def recover(self, received: np.ndarray, latent: np.ndarray | None) -> np.ndarray:
        """A whole image, at once.

        Args:
            received: as in :class:`Pair`.
            latent: likewise.

        Returns:
            uint8 ``[H, W, 3]`` RGB.
        """
        height, width = received.shape[1:]
        cells = -(-height // self.grid), -(-width // self.grid)
        windows = self.windows(received, latent, (0, 0), cells)
        image = self(*(None if w is None else to_tensor([w]) for w in windows))[
            0, :, :height, :width
        ]
        return image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def windows(
        self,
        received: np.ndarray,
        latent: np.ndarray | None,
        corner: tuple[int, int],
        cells: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Cut cells with their context out of what is received; beyond its edges it repeats.

        Args:
            received: ``[3, H, W]``.
            latent: ``[N, h, w]``.
            corner: row and column of the first cell.
            cells: rows and columns of cells.

        Returns:
            The same two, ``[3, H', W']`` and ``[N, h', w']``.
        """

        def cut(values: np.ndarray, factor: int) -> np.ndarray:
            unit = self.grid // factor
            margin = CONTEXT // factor
            rows, columns = (
                np.arange(first * unit - margin, (first + count) * unit + margin).clip(0, side - 1)
                for first, count, side in zip(corner, cells, values.shape[1:], strict=True)
            )
            return values[:, rows[:, None], columns]

        return cut(received, 1), None if latent is None else cut(latent, self.factor)


def _cut(x: Tensor, margin: int) -> Tensor:
    return x[..., margin:-margin, margin:-margin]


def to_tensor(arrays: list[np.ndarray]) -> Tensor:
    """Stack ``[C, h, w]`` to float32 ``[B, C, h, w]``; what has 8 bits goes to [0, 1]."""
    tensor = torch.from_numpy(np.stack(arrays))
    tensor = tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()
    return tensor.contiguous(memory_format=torch.channels_last)
