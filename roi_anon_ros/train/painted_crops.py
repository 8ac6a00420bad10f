"""The crops that a codec for painted images trains on."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.codec.image import DEFAULT_MAX_SIDE, as_grey, coded_size, resize
from roi_anon_ros.codec.regions import HEAD_HEIGHT, HEAD_WIDTH, Regions, paint
from roi_anon_ros.datasets import Record
from roi_anon_ros.train import losses
from roi_anon_ros.train.colours import expose, permute_channels
from roi_anon_ros.train.crops import SMALLEST, ImageCrops
from roi_anon_ros.train.head_targets import label_heads
from roi_anon_ros.train.sets import TrainingImages

#: Share of the crops whose heads are shown unpainted: what the head map missed.
UNPAINTED = 0.1
#: Heads are painted at 0.95 to 1.2 times their annotated side: a head map is not exact.
JITTER = (0.95, 1.2)
#: Share of the crops at their image's own size, not scaled.
OWN_SIZE = 0.35
#: An image is scaled by up to this many octaves down and up, and at least so that its shorter side
#: has this many pixels more than a crop.
OCTAVES = (-1.0, 0.6)
MARGIN = 8
#: Share of the crops that show a person, where there is one.
AROUND_PERSONS = 0.6

#: Of one crop: what the codec sees, what it shall decode to, the original, where it is not painted,
#: and the boxes of persons.
PaintedCrop = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
#: The same of several, stacked.
PaintedBatch = tuple[Tensor, Tensor, Tensor, Tensor, losses.Regions]


def list_heads(record: Record) -> np.ndarray:
    """The heads that are painted, annotated and guessed: float64 ``[n, 3]``, centre x, centre y and
    side, pixels of the image.
    """
    labels = label_heads(record)
    boxes = np.concatenate([labels.heads, labels.guessed])
    sides = np.maximum(boxes[:, 2] / HEAD_WIDTH, boxes[:, 3] / HEAD_HEIGHT)
    return np.concatenate([boxes[:, :2], sides[:, None]], axis=1)


class PaintedCrops(ImageCrops):
    """Random crops with their heads painted, see :class:`ImageCrops`.

    Args:
        records: the images.
        size: side of a crop, pixels.
        seed: of everything random.
        weights: see :class:`ImageCrops`.
    """

    def __init__(
        self, records: list[Record], size: int, seed: int, weights: np.ndarray | None = None
    ) -> None:
        super().__init__(records, size, seed, weights)
        self._heads = [list_heads(record) for record in records]

    def __getitem__(self, item: int) -> PaintedCrop:
        """Crop ``item``: what the codec sees, what it shall decode to, and the original, uint8
        ``[3, size, size]``; bool ``[1, size, size]``, False where it is painted; and the boxes of
        persons, int64 ``[n, 4]``.

        The codec sees the painted crop, or, in a tenth of the crops, the original.
        """
        rng = np.random.default_rng((self.seed, item))
        index, image = self.draw(rng)
        crop, corner, scale = self._cut(image, self.records[index].persons.xyxy, rng)
        heads = self._heads[index] - np.array([*corner, 0.0])
        heads *= scale
        heads[:, 2] *= rng.uniform(*JITTER)
        annotated = self.records[index].persons
        moved: np.ndarray = annotated.xyxy[~annotated.ignore] - np.array(
            [*corner, *corner], np.float32
        )
        persons = clip_boxes(np.round(moved * scale), self.size, self.size)
        if rng.random() < 0.5:
            crop = cv2.flip(crop, 1)
            heads[:, 0] = self.size - 1 - heads[:, 0]
            persons[:, [0, 2]] = self.size - persons[:, [2, 0]]
        crop = change_colours(crop, rng)
        near = (np.abs(heads[:, :2] - self.size / 2) < self.size / 2 + heads[:, 2:]).all(axis=1)
        regions = Regions.of_heads(heads[near], self.size, self.size)
        painted = paint(crop, regions)
        shown = crop if rng.random() < UNPAINTED else painted
        keep = torch.from_numpy(~regions.mask(self.size, self.size))[None]
        images = [torch.from_numpy(x).permute(2, 0, 1).contiguous() for x in (shown, painted, crop)]
        large = persons[at_least(persons, SMALLEST)].astype(np.int64)
        return images[0], images[1], images[2], keep, torch.from_numpy(large)

    def _cut(
        self, image: np.ndarray, persons: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, int], float]:
        """A scaled square of an image, its left upper corner there, and its scale."""
        size = self.size
        height, width = image.shape[:2]
        shorter = min(height, width)
        scale = max(np.exp2(rng.uniform(*OCTAVES)), (size + MARGIN) / shorter)
        if rng.random() < OWN_SIZE and shorter >= size:
            scale = 1.0
        # A square of whole pixels: the heads follow it exactly.
        reach = min(max(round(size / scale), 1), shorter)
        if len(persons) and rng.random() < AROUND_PERSONS:
            x1, y1, x2, y2 = persons[rng.integers(len(persons))]
            centre_x = rng.uniform(x1, max(x2, x1 + 1e-3))
            centre_y = rng.uniform(y1, max(y2, y1 + 1e-3))
            left = round(min(max(centre_x - reach / 2, 0), width - reach))
            top = round(min(max(centre_y - reach / 2, 0), height - reach))
        else:
            left = int(rng.integers(width - reach + 1))
            top = int(rng.integers(height - reach + 1))
        square = image[top : top + reach, left : left + reach]
        interpolation = cv2.INTER_AREA if reach > size else cv2.INTER_CUBIC
        crop = cv2.resize(square, (size, size), interpolation=interpolation)
        return crop, (left, top), size / reach


def collate_painted(crops: list[PaintedCrop]) -> PaintedBatch:
    """Batch crops."""
    shown, target, original, keep, persons = zip(*crops, strict=True)
    return (
        torch.stack(shown),
        torch.stack(target),
        torch.stack(original),
        torch.stack(keep),
        losses.Regions.stack(list(persons)),
    )


def change_colours(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permuted channels, grey, or another exposure, each now and then."""
    kind = rng.random()
    if kind < 0.1:
        return permute_channels(crop, rng)
    if kind < 0.18:
        return as_grey(crop)
    if kind < 0.4:
        return expose(crop, rng, 0.6, (0.6, 1.15))
    return crop


def paint_record(image: np.ndarray, record: Record) -> tuple[np.ndarray, Regions]:
    """Paint the heads of a record.

    Args:
        image: uint8 ``[H, W, 3]`` RGB, the record's at any size.
        record: what is annotated on it.

    Returns:
        The painted image, and its regions.
    """
    height, width = image.shape[:2]
    heads = list_heads(record) * (width / record.width)
    regions = Regions.of_heads(heads, width, height)
    return paint(image, regions), regions


def draw_painted_images(images: TrainingImages, count: int, seed: int) -> Iterator[np.ndarray]:
    """Whole painted images at the size at which a camera codes them, uint8 ``[H, W, 3]`` RGB.

    Args:
        images: to draw from, as crops are drawn.
        count: how many; an image may come again.
        seed: of what is drawn.
    """
    drawn = ImageCrops(images.records, 1, seed, images.weights)
    for item in range(count):
        index, image = drawn.draw(np.random.default_rng((seed, item)))
        size = coded_size(image.shape[1], image.shape[0], DEFAULT_MAX_SIDE)
        yield paint_record(resize(image, *size), images.records[index])[0]
