"""The attacker's own images, and what is sent of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.datasets import Record, spread
from roi_anon_ros.evaluate.attack.network import CROP, Attacker
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.files import read_pixels

log = logging.getLogger(__name__)

#: What reaches less than this many pixels into a crop is no head: nobody is known by it.
SMALLEST = 8

#: Share of the crops that are made around a head.
AROUND_HEADS = 0.8

#: Head sizes in octaves, log2 of pixels; smaller and larger ones count as the first and the last.
OCTAVES = 3, 7

#: Original images that are kept in memory, bytes; what was sent of them takes as much again, or
#: less as a rule.
MEMORY = 1 << 30


@dataclass(frozen=True, eq=False)
class Pair:
    """An image of the attacker's own, and what is sent of it.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB.
        received: uint8 ``[3, H, W]``, what every receiver sees.
        latent: float16 ``[N, h, w]`` of a model, None of other methods.
        heads: float32 ``[n, 4]``, x1 y1 x2 y2 in pixels.
    """

    image: np.ndarray
    received: np.ndarray
    latent: np.ndarray | None
    heads: np.ndarray


def choose(records: list[Record], images: int = 600) -> list[Record]:
    """The images to train on: with a head and no side below 128 pixels, spread over the list.

    Args:
        records: a set, none of whose images the attack is evaluated on.
        images: how many at most, and no more than a gigabyte when decoded.

    Raises:
        ValueError: there is none.
    """
    fit = [r for r in records if len(r.heads.xyxy) and min(r.width, r.height) >= CROP]
    if not fit:
        raise ValueError(
            f"records: none of {len(records)} has a head and sides of at least {CROP} pixels"
        )
    mean = sum(3 * r.width * r.height for r in fit) / len(fit)
    return spread(fit, max(min(images, int(MEMORY / mean)), 1))


def gather(records: list[Record], method: Method) -> Iterator[Pair]:
    """Yield each image with what the method sends of it; one that cannot be read or sent is named
    in a warning.
    """
    for record in records:
        try:
            image = read_pixels(record.path)
            received, latent = method.receive(method.encode(image))
        except (OSError, ValueError) as error:
            log.warning("%s: left out: %s", record.path, error)
            continue
        yield Pair(image, received, latent, record.heads.xyxy)


class Windows:
    """Crops of images with what was sent of them; crop ``i`` is the same in every run with the
    same seed.

    Four of five lie around a head. Heads are drawn evenly over the octaves of their size, for large
    ones are those that somebody is known by; but an octave with few heads counts as one with a
    twentieth of them all, so that they are not learned by heart. Crops lie on the grid, and inside
    their image.

    Args:
        pairs: images of at least 128 pixels a side.
        net: that they are for.
        seed: of everything random.

    Raises:
        ValueError: there is no head of 8 pixels or more, or an image is too small.
    """

    def __init__(self, pairs: list[Pair], net: Attacker, seed: int) -> None:
        self.pairs = pairs
        self.net = net
        self.seed = seed
        if min(min(p.image.shape[:2]) for p in pairs) < CROP:
            raise ValueError(f"pairs: an image is smaller than {CROP} pixels")
        self._owner = np.repeat(np.arange(len(pairs)), [len(p.heads) for p in pairs])
        self._heads = np.concatenate([p.heads for p in pairs]).reshape(-1, 4)
        large = at_least(self._heads, SMALLEST)
        if not large.any():
            raise ValueError(f"pairs: no head of at least {SMALLEST} pixels")
        self._owner = self._owner[large]
        self._heads = self._heads[large]
        sides = (self._heads[:, 2:] - self._heads[:, :2]).max(axis=1)
        octave = np.floor(np.log2(sides)).clip(*OCTAVES).astype(int)
        counts = np.bincount(octave)[octave]
        weights = 1 / np.maximum(counts, len(counts) / 20)
        self.chances = weights / weights.sum()

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Tensor]:
        """Crop ``number``: what was received of it, its latent, uint8 ``[3, 128, 128]``, its heads
        int64 ``[n, 4]``.
        """
        rng = np.random.default_rng((self.seed, number))
        grid = self.net.grid
        if rng.random() < AROUND_HEADS:
            chosen = rng.choice(len(self.chances), p=self.chances)
            pair = self.pairs[self._owner[chosen]]
            head = self._heads[chosen]
            reach = np.maximum(head[2:] - head[:2], CROP / 2)
            wanted = (head[:2] + head[2:] - CROP) / 2 + rng.uniform(-0.5, 0.5, 2) * reach
        else:
            pair = self.pairs[rng.integers(len(self.pairs))]
            wanted = rng.uniform(0, 1, 2) * pair.image.shape[1::-1] - CROP / 2
        last = (np.array(pair.image.shape[1::-1]) - CROP) // grid
        column, row = (int(v) for v in np.rint(wanted / grid).clip(0, last))
        left = column * grid
        top = row * grid
        windows = self.net.windows(
            pair.received, pair.latent, (row, column), (CROP // grid, CROP // grid)
        )
        image = pair.image[top : top + CROP, left : left + CROP].transpose(2, 0, 1)
        heads = pair.heads - np.array([left, top, left, top], np.float32)
        heads = clip_boxes(
            np.concatenate([np.floor(heads[:, :2]), np.ceil(heads[:, 2:])], axis=1), CROP, CROP
        )
        return (
            *windows,
            image,
            torch.from_numpy(heads[at_least(heads, SMALLEST)].astype(np.int64)),
        )
