"""A detector of persons on a codec's latents, in torch: YOLOX's cells behind another stem.

No image is made: the network begins where a codec's synthesis would.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from roi_anon_ros.detect.yolox import (
    HEAD_WIDTH,
    Conv,
    CrossStage,
    DepthwiseConv,
    Head,
    PyramidPooling,
    YoloxNano,
)

#: Width of the map at a sixteenth, and of the one that the coarse map has been merged into.
WIDTH = 128
MERGED = 96


class Branch(nn.Module):
    """What one scale says: box, objectness and class, from one branch.

    Args:
        stem: that makes the branch's input, `HEAD_WIDTH` wide.
    """

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.branch = nn.Sequential(*[DepthwiseConv(HEAD_WIDTH, HEAD_WIDTH) for _ in "12"])
        self.rows = nn.Conv2d(HEAD_WIDTH, 6, 1)


class LatentNano(nn.Module):
    """Persons from latents: 0.49 GFLOPs for an image of 640 × 480, 0.3 million weights.

    Latents are ``[B, N, h, w]`` as the synthesis takes them, one value for 16 pixels; h and w are
    even.

    .. code-block:: none

        latent ─ conv1 ─ CSP ─┬────────────────────────────── merge CSP ─┬─ conv1 shuffle 2 ─► 8
                              └─ stride 2, pooling, CSP ─┬─ double ─┘    └───────────────────► 16
                                                         └───────────────────────────────────► 32

    Each scale ends in a branch that says the same as `YoloxNano` of one class: n rows in the same
    order, with the same meaning.

    Args:
        channels: N of the latent.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.sixteenth = nn.Sequential(
            Conv(channels, WIDTH), CrossStage(WIDTH, WIDTH, 3, residual=True)
        )
        self.thirtysecond = nn.Sequential(
            DepthwiseConv(WIDTH, WIDTH, 2),
            PyramidPooling(WIDTH),
            CrossStage(WIDTH, WIDTH, 1, residual=True),
        )
        self.narrow = Conv(WIDTH, WIDTH // 2)
        self.merge = CrossStage(WIDTH + WIDTH // 2, MERGED, 1, residual=True)
        self.up = nn.Sequential(Conv(MERGED, 2 * HEAD_WIDTH), nn.PixelShuffle(2))
        self.branches = nn.ModuleList(
            [
                Branch(DepthwiseConv(HEAD_WIDTH // 2, HEAD_WIDTH)),
                Branch(Conv(MERGED, HEAD_WIDTH)),
                Branch(Conv(WIDTH, HEAD_WIDTH)),
            ]
        )

    def features(self, latent: Tensor) -> list[Tensor]:
        """Return the inputs of the branches, ``[B, 64, rows, columns]``, strides 8, 16, 32.

        Raises:
            ValueError: sides that are odd.
        """
        height, width = latent.shape[-2:]
        if height % 2 or width % 2:
            raise ValueError(f"latent: got sides {height} x {width}, must be even")
        sixteenth = self.sixteenth(latent)
        thirtysecond = self.thirtysecond(sixteenth)
        narrow = self.narrow(thirtysecond)
        double = F.interpolate(narrow, scale_factor=2.0, mode="nearest")
        merged = self.merge(torch.cat([double, sixteenth], 1))
        maps = [self.up(merged), merged, thirtysecond]
        features = []
        for branch, m in zip(self.branches, maps, strict=True):
            assert isinstance(branch, Branch)
            features.append(branch.stem(m))
        return features

    def judge(self, features: list[Tensor]) -> Tensor:
        """Return logits ``[B, n, 6]`` of what `features` gave."""
        cells = []
        for branch, m in zip(self.branches, features, strict=True):
            assert isinstance(branch, Branch)
            cells.append(branch.rows(branch.branch(m)).flatten(2))
        return torch.cat(cells, 2).transpose(1, 2)

    def logits(self, latent: Tensor) -> Tensor:
        """Return what `forward` does, with objectness and class before their sigmoid."""
        return self.judge(self.features(latent))

    def forward(self, latent: Tensor) -> Tensor:
        """Return ``[B, n, 6]``, the rows of `YoloxNano.forward` for one class."""
        logits = self.logits(latent)
        return torch.cat([logits[..., :4], logits[..., 4:].sigmoid()], -1)

    @torch.no_grad()
    def take_over(self, detector: YoloxNano) -> None:
        """Take the last branches of a detector on images: box and objectness.

        The class, which that detector has a branch of its own for, begins with 0.9 everywhere.

        Args:
            detector: of one class.
        """
        for branch, head in zip(self.branches, detector.heads, strict=True):
            assert isinstance(branch, Branch) and isinstance(head, Head)
            branch.branch.load_state_dict(head.box_branch.state_dict())
            class_row = torch.zeros_like(head.objectness.weight)
            rows = [head.box.weight, head.objectness.weight, class_row]
            branch.rows.weight.copy_(torch.cat(rows))
            assert head.box.bias is not None and head.objectness.bias is not None
            bias = [head.box.bias, head.objectness.bias, torch.full((1,), 2.2)]
            assert branch.rows.bias is not None
            branch.rows.bias.copy_(torch.cat(bias))


def load_latent(path: Path) -> LatentNano:
    """Load a network out of a file.

    Args:
        path: ``.safetensors``, as `write_network` writes it.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: the file holds no such network.
    """
    try:
        tensors = load_file(path)
        network = LatentNano(tensors["sixteenth.0.0.weight"].shape[1])
        network.load_state_dict(tensors)
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: holds no detector on latents: {error}") from error
    return network.eval()
