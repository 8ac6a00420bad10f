"""A network that changes every pixel: the anonymizer of arXiv 2504.14301, in a small size.

It promises nothing about what it leaves in an image, so it is no treatment: it is trained and
measured to compare with.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from roi_anon_ros.detect.network_file import write_network

#: Channels at strides 1, 2, and 4 and more.
WIDTHS = (8, 24, 48)
#: The sides of what it takes are multiples of this, pixels.
MULTIPLE = 8
#: What the metadata of its file say it is.
KIND = "pixel anonymizer"


class PixelNetwork(nn.Module):
    """A U-Net from images to images.

    .. code-block:: none

        conv3, 8 ───────────────────────────────── + │ conv3, 8 │ conv3, 3 │ sigmoid
          conv3(stride 2), 24 ──────────── + │ conv3, 24 │ conv1, 8, twice the side
            conv3(stride 2), 48 ── + │ conv3, 48 │ conv1, 24, twice the side
              conv3(stride 2), 48, twice the side

    SiLU after every conv3 but the last. 64 thousand weights, 5 thousand multiply-adds a pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.down = nn.ModuleList(
            [
                nn.Conv2d(3, fine, 3, 1, 1),
                nn.Conv2d(fine, middle, 3, 2, 1),
                nn.Conv2d(middle, coarse, 3, 2, 1),
                nn.Conv2d(coarse, coarse, 3, 2, 1),
            ]
        )
        self.up = nn.ModuleList(
            [
                nn.Conv2d(coarse, coarse, 3, 1, 1),
                nn.Conv2d(middle, middle, 3, 1, 1),
                nn.Conv2d(fine, fine, 3, 1, 1),
            ]
        )
        self.narrow = nn.ModuleList([nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)])
        self.last = nn.Conv2d(fine, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images in [0, 1].

        Args:
            x: ``[B, 3, H, W]`` in [0, 1]; H and W multiples of 8.
        """
        seen = 4 * (x - 0.5)
        skipped = []
        for layer in self.down:
            seen = F.silu(layer(seen))
            skipped.append(seen)
        seen = skipped.pop()
        for number, layer in enumerate(self.up):
            seen = F.interpolate(seen, scale_factor=2.0) + skipped.pop()
            seen = F.silu(layer(seen))
            if number < len(self.narrow):
                seen = self.narrow[number](seen)
        # Of slope 1 in the middle: to reproduce an image is near.
        return torch.sigmoid(4 * self.last(seen))


class PixelAnonymizer:
    """A :class:`PixelNetwork` at work.

    Args:
        path: of its file, as :func:`save_pixels` wrote it.

    Raises:
        ValueError: it holds none; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.network = load_pixels(path)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """An image, uint8 ``[H, W, 3]`` RGB, anonymized, of the same size."""
        height, width = image.shape[:2]
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        around = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        result = self.network(F.pad(x, around, mode="replicate"))[0, :, :height, :width]
        return (255 * result).round().byte().permute(1, 2, 0).contiguous().numpy()


def save_pixels(network: PixelNetwork, path: Path, training: dict[str, object]) -> None:
    """Write a network, in place of what was there only when it is whole.

    Args:
        network: to be written.
        path: a ``.safetensors`` file.
        training: for JSON: what it learned from, and how.
    """
    write_network(network, path, {"kind": KIND, "training": json.dumps(training)})


def load_pixels(path: Path) -> PixelNetwork:
    """Read what :func:`save_pixels` wrote.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: the file holds none; the message names it.
    """
    try:
        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("kind")
        if kind != KIND:
            raise ValueError(f"kind: got {kind!r}, must be {KIND!r}")
        network = PixelNetwork()
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: holds no pixel anonymizer: {error}") from error
    return network.eval()
