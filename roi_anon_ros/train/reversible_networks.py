"""The networks of a learned reversible anonymizer (arXiv 2207.11677), in a small size, and their
file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from roi_anon_ros.codec.networks import Bottleneck, pad_to_multiple
from roi_anon_ros.storage import write_bytes
from roi_anon_ros.train.views import make_strided

FORMAT_VERSION = 1
METADATA = "roi_anon_reversible"
#: Channels at a half and at a quarter of the resolution.
WIDTHS = 32, 48
#: Sides of what the networks take are multiples of this.
GRID = 4


class Translator(nn.Module):
    """From an image to another of its size; it begins as the identity.

    .. code-block:: none

        image, 2 × 2 pixels shuffled into channels │ conv3(12→32) ReLU ──────────────┐
            │ conv3(32→48, stride 2) │ 4 × block, dilation 1 2 1 2                   │
            │ conv1(48→128) shuffle 2 │ + ←──────────────────────────────────────────┘
            │ block │ conv3(32→12) shuffle 2 │ + image

    A block is the codec's residual bottleneck. 57 thousand weights, 46 million multiply-adds for
    64 × 128 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, coarse = WIDTHS
        self.enter = nn.Conv2d(12, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, coarse, 3, 2, 1)
        self.trunk = nn.Sequential(*[Bottleneck(coarse, dilation) for dilation in (1, 2, 1, 2)])
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.block = Bottleneck(fine, 1)
        self.last = nn.Conv2d(fine, 12, 3, padding=1)
        for weights in self.last.parameters():
            nn.init.zeros_(weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``[B, 3, H, W]`` around [0, 1] of the same, whose sides are multiples of 4."""
        fine = self.enter(F.pixel_unshuffle(image, 2)).relu()
        coarse = self.trunk(self.down(fine))
        y = self.block(fine + F.pixel_shuffle(self.up(coarse), 2))
        return image + F.pixel_shuffle(self.last(y), 2)

    @torch.inference_mode()
    def translate(self, image: np.ndarray) -> np.ndarray:
        """A whole image of any size, uint8 ``[H, W, 3]`` RGB, to the same."""
        height, width = image.shape[:2]
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        y = self(pad_to_multiple(x, GRID))[0, :, :height, :width]
        return y.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


class Discriminator(nn.Module):
    """Whether patches of 22 pixels are of the target: ``[B, 3, H, W]`` to ``[B, 1, H/8, W/8]``, 1
    where they are.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in (8, 16, 32):
            layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """How far each patch looks like the target."""
        return self.layers(2 * image - 1)


class Identities(nn.Module):
    """Who is it: images of persons to places on a sphere, and to the people it learns from.

    .. code-block:: none

        4 × [conv3(stride 2), group norm, ReLU]: 16, 32, 64, 64 channels
            │ mean over the places │ linear(→64) │ length 1 │ × 16, linear(→people)

    Args:
        people: whom it learns from.
    """

    def __init__(self, people: int) -> None:
        super().__init__()
        self.layers = make_strided((16, 32, 64, 64))
        self.place = nn.Linear(64, 64)
        self.name = nn.Linear(64, people)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return places ``[B, 64]`` of length 1, and logits of the people ``[B, people]``."""
        places = F.normalize(self.place(self.layers(4 * (image - 0.5)).mean((2, 3))), dim=1)
        return places, self.name(16 * places)


@dataclass(frozen=True)
class Reversible:
    """What a training made.

    Attributes:
        generator: from an image to a protected one.
        recovery: back, for those who were given it.
        attacker: back as well, of one who has only the generator and images of his own people.
        about: what the file says of its training.
    """

    generator: Translator
    recovery: Translator
    attacker: Translator
    about: Mapping[str, Any]

    @property
    def networks(self) -> dict[str, Translator]:
        """The three, by their names in a file."""
        return {
            "generator": self.generator,
            "recovery": self.recovery,
            "attacker": self.attacker,
        }


def write_reversible(path: Path, made: Reversible) -> None:
    """Write the three networks, in float16."""
    tensors = {}
    for name, network in made.networks.items():
        for key, value in network.state_dict().items():
            tensors[f"{name}.{key}"] = value.detach().half().contiguous()
    about = dict(made.about) | {"format_version": FORMAT_VERSION}
    write_bytes(path, save(tensors, metadata={METADATA: json.dumps(about)}))


def read_reversible(path: Path) -> Reversible:
    """Read the file of :func:`write_reversible`.

    Raises:
        ValueError: there is no such file, or it is damaged, foreign, or of another format; the
            message names it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(METADATA, "null"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from error
    if not isinstance(about, dict) or about.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path}: no reversible anonymizer of format {FORMAT_VERSION}")
    made = Reversible(Translator(), Translator(), Translator(), about)
    try:
        for name, network in made.networks.items():
            prefix = f"{name}."
            own = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            network.load_state_dict(own)
            network.eval()
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit its networks: {error}") from error
    return made
