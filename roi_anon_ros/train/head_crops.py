"""The crops that a head map trains on: turned, mirrored, from close-ups to crowds."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.datasets import Record
from roi_anon_ros.train.colours import (
    add_noise,
    blur,
    compress,
    expose,
    permute_channels,
    tint,
)
from roi_anon_ros.train.crops import ImageCrops
from roi_anon_ros.train.head_targets import HeadLabels, View, label_heads, make_targets

#: Share of the crops that are made around a head, where there is one.
AROUND_HEADS = 0.55
#: The largest head in a crop, in sides of it: beyond the crop.
LARGEST = 1.3
#: Weight of a cell without a head where some people were left out in the annotation, at most.
PARTIAL = 0.03
#: An image is enlarged this much at most around a head.
MOST_ENLARGED = 3.0


class HeadCrops(ImageCrops):
    """Random crops with what the head map shall say of them, see :class:`ImageCrops`.

    Most are made around a head, scaled so that head sizes are spread evenly (in octaves) from 8
    pixels to 1.3 times the crop; the others show any part of an image at any scale.

    Args:
        records: the images.
        size: side of a crop, a multiple of 128 pixels.
        seed: of everything random.
        backgrounds: float64 ``[n]``, weight of a cell without a head in each image; where no kind
            was drawn completely, it is 0.03 at most.
        weights: see :class:`ImageCrops`.
    """

    def __init__(
        self,
        records: list[Record],
        size: int,
        seed: int,
        backgrounds: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(records, size, seed, weights)
        complete = np.array([bool(record.complete) for record in records])
        self.backgrounds = np.where(complete, backgrounds, np.minimum(backgrounds, PARTIAL))
        self._labels = [label_heads(record) for record in records]

    def __getitem__(self, item: int) -> tuple[Tensor, ...]:
        """Crop ``item``: uint8 ``[3, size, size]``, and the four fields of
        :class:`~roi_anon_ros.train.head_targets.HeadTargets`.
        """
        rng = np.random.default_rng((self.seed, item))
        index, image = self.draw(rng)
        labels = self._labels[index]
        height, width = image.shape[:2]
        view = draw_view(labels, width, height, self.size, rng)
        crop = change_colours(show(image, view, rng), rng)
        targets = make_targets(labels, view, float(self.backgrounds[index]))
        arrays = (targets.head, targets.weight, targets.place, targets.place_weight)
        return (
            torch.from_numpy(crop).permute(2, 0, 1).contiguous(),
            *(torch.from_numpy(array) for array in arrays),
        )


def draw_view(
    labels: HeadLabels, width: int, height: int, size: int, rng: np.random.Generator
) -> View:
    """A random view of an image of this size, pixels."""
    heads = np.concatenate([labels.heads, labels.guessed])
    if len(heads) and rng.random() < AROUND_HEADS:
        head = heads[rng.integers(len(heads))]
        wanted = np.exp2(rng.uniform(3, np.log2(LARGEST * size)))
        scale = min(wanted / max(head[2], head[3], 3.0), MOST_ENLARGED)
        # The head's centre lies anywhere in the crop.
        off = 0.95 * size / scale / 2
        centre = head[:2] + rng.uniform(-off, off, 2)
    else:
        least = min(size / min(width, height), 1.0)
        scale = np.exp2(rng.uniform(np.log2(least), 0.6))
        centre = rng.uniform(0, 1, 2) * (width, height)
    sides = np.array([width, height])
    reach = np.minimum(size / scale / 2, sides / 2)
    centre = np.clip(centre, reach, sides - reach)
    angle = np.deg2rad(draw_angle(rng))
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    cosine = np.cos(angle) * scale
    sine = np.sin(angle) * scale
    turn = np.array([[cosine * mirrored, -sine], [sine * mirrored, cosine]])
    return View(turn, size / 2 - turn @ centre, float(scale), size)


def draw_angle(rng: np.random.Generator) -> float:
    """A turn in degrees: a camera on its side or upside down, any angle, a tilt, or mostly none."""
    kind = rng.random()
    if kind < 0.34:
        return float(rng.choice([90, 180, 270]))
    if kind < 0.46:
        return float(rng.uniform(-180, 180))
    if kind < 0.60:
        return float(rng.uniform(-20, 20))
    return 0.0


def show(image: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    """The crop, uint8 ``[size, size, 3]``; outside the image its edge, or one grey."""
    height, width = image.shape[:2]
    # Halved beforehand: bilinear sampling alone would alias.
    before = 1.0
    while view.scale / before < 0.6 and before > 0.1:
        before /= 2
    if before < 1:
        small = (max(8, round(width * before)), max(8, round(height * before)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    shrunk = np.array([image.shape[1] / width, image.shape[0] / height])
    matrix = np.concatenate([view.turn / shrunk, view.shift[:, None]], axis=1)
    border = (cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT)[int(rng.integers(2))]
    return cv2.warpAffine(
        image,
        matrix,
        (view.size, view.size),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=[int(rng.integers(256))] * 3,
    )


def change_colours(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permuted channels, grey, negative, tinted; dark, blurred, noisy, compressed."""
    kind = rng.random()
    if kind < 0.12:
        crop = permute_channels(crop, rng)
    elif kind < 0.22:
        crop = as_grey(crop)
    elif kind < 0.25:
        crop = 255 - crop
    elif kind < 0.45:
        crop = tint(crop, rng, 1.6, 0.4)
    if rng.random() < 0.4:
        crop = expose(crop, rng, 0.7, (0.5, 1.2))
    if rng.random() < 0.12:
        crop = blur(crop, rng, 1.6)
    if rng.random() < 0.15:
        crop = add_noise(crop, rng, 10)
    if rng.random() < 0.2:
        crop = compress(crop, rng, (25, 91))
    return crop
