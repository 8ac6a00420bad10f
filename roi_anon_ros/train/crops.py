"""The crops that a codec trains on, and the whole images that it is validated on."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.codec.image import DEFAULT_MAX_SIDE, as_grey, coded_size, resize
from roi_anon_ros.datasets import Record
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.colours import add_noise, blur, compress, expose, tint
from roi_anon_ros.train.losses import Regions

log = logging.getLogger(__name__)

#: Decoded images are kept in memory up to this many bytes in all.
CACHE_BYTES = 4 << 30
#: Boxes that reach less than this many pixels into a crop do not count.
SMALLEST = 2.0


class PreloadedCrops(Dataset):
    """What batches are made of; item i is the same in every run."""

    def preload(self) -> None:
        """Prepare what all worker processes share."""
        raise NotImplementedError


class ImageCrops(PreloadedCrops):
    """Random crops of images; item ``i``, for any ``i`` from 0, is the same in every run with the
    same seed.

    In place of an image that cannot be decoded comes another one; it is named in a warning, once.

    Args:
        records: the images.
        size: side of a crop, pixels.
        seed: of everything random.
        weights: float64 ``[n]``, how likely each image is drawn, of sum 1; None: all alike.

    Raises:
        ValueError: there is no image; from items: none of them can be decoded.
    """

    def __init__(
        self, records: list[Record], size: int, seed: int, weights: np.ndarray | None = None
    ) -> None:
        if not records:
            raise ValueError("records: none, must be at least 1")
        self.records = records
        self.size = size
        self.seed = seed
        self._ends = None if weights is None else np.cumsum(weights)
        self._cache: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        # In shared memory: what one of several loading processes finds broken is broken for all of
        # them.
        self._broken = torch.zeros(len(records), dtype=torch.bool).share_memory_()

    def preload(self) -> None:
        """Decode images into memory, as many as the cache holds, so that worker processes share
        them.
        """
        for index in range(len(self.records)):
            self._image(index)
            if self._cached_bytes > CACHE_BYTES:
                return

    def _image(self, index: int) -> np.ndarray | None:
        image = self._cache.get(index)
        if image is None and not self._broken[index]:
            image = _decode(self.records[index])
            if image is None:
                self._broken[index] = True
            elif self._cached_bytes <= CACHE_BYTES:
                self._cache[index] = image
                self._cached_bytes += image.nbytes
        return image

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """The number of a random image, and the image."""
        while True:
            if self._ends is None:
                index = int(rng.integers(len(self.records)))
            else:
                place = np.searchsorted(self._ends, rng.random() * self._ends[-1], "right")
                index = min(int(place), len(self.records) - 1)
            image = self._image(index)
            if image is not None:
                return index, image
            if self._broken.all():
                raise ValueError("records: none of the images can be decoded")


class Crops(ImageCrops):
    """Random crops with their boxes, see :class:`ImageCrops`.

    Most crops are made around a head, scaled so that head sizes are spread evenly (in octaves) from
    8 pixels to most of the crop, as far as the image has the pixels; the others show any part of
    an image at any scale, or, a share of them, at the size at which a camera codes it. Ignored
    heads are hidden like all others, ignored persons are left out.

    Args:
        records: the images.
        size: side of a crop, pixels.
        seed: of everything random.
        around_heads: share of crops made around a head.
        own_size: share of crops of any part of an image at the size at which a camera codes it, 0
            to 1; the rest divides as ``around_heads`` says.
        weights: see :class:`ImageCrops`.
    """

    def __init__(
        self,
        records: list[Record],
        size: int,
        seed: int,
        around_heads: float = 0.6,
        own_size: float = 0.0,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(records, size, seed, weights)
        self.around_heads = around_heads
        self.own_size = own_size
        self._boxes = [_boxes(record) for record in records]

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        """Crop ``item``: ``[3, size, size]`` in [0, 1], head boxes and person boxes int64 ``[n,
        4]``.
        """
        rng = np.random.default_rng((self.seed, item))
        index, image = self.draw(rng)
        boxes = self._boxes[index]
        size = self.size
        height, width = image.shape[:2]
        head = None
        if self.own_size and rng.random() < self.own_size:
            scale = coded_size(width, height, DEFAULT_MAX_SIDE)[0] / width
        elif len(boxes[0]) and rng.random() < self.around_heads:
            head = boxes[0][rng.integers(len(boxes[0]))]
            side = float((head[2:] - head[:2]).max())
            scale = min(np.exp2(rng.uniform(3, np.log2(0.9 * size))) / side, 3.0)
        else:
            scale = np.exp(rng.uniform(np.log(min(0.4, size / min(width, height))), np.log(2.3)))
        # A square of whole pixels inside the image: the boxes follow it exactly.
        reach = min(max(round(size / scale), 1), width, height)
        if head is None:
            centre = rng.uniform(0, 1, 2) * (width, height)
        else:  # its edge cuts off a quarter of the head at most
            centre = (head[:2] + head[2:]) / 2 + rng.uniform(-0.5, 0.5, 2) * max(
                reach - side / 2, 0
            )
        left = min(max(round(centre[0] - reach / 2), 0), width - reach)
        top = min(max(round(centre[1] - reach / 2), 0), height - reach)
        interpolation = cv2.INTER_AREA if reach > size else cv2.INTER_LINEAR
        crop = cv2.resize(
            image[top : top + reach, left : left + reach],
            (size, size),
            interpolation=interpolation,
        )
        origin = np.array([left, top, left, top], np.float32)
        moved = [
            clip_boxes((kind - origin) * np.float32(size / reach), size, size) for kind in boxes
        ]
        seen = [kind[at_least(kind, SMALLEST)] for kind in moved]
        if rng.random() < 0.5:
            crop = cv2.flip(crop, 1)
            seen = [np.stack([size - b[:, 2], b[:, 1], size - b[:, 0], b[:, 3]], 1) for b in seen]
        heads, persons = seen
        return _item(_expose(crop, rng), heads, persons)


def collate(items: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Regions, Regions]:
    """Batch crops: ``[B, 3, H, W]``, head regions, person regions."""
    images, heads, persons = zip(*items, strict=True)
    batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
    return batch, Regions.stack(list(heads)), Regions.stack(list(persons))


class WholeImages(Dataset):
    """Whole images with their boxes, as :class:`Crops` gives crops, at the size at which a camera
    codes them.

    Attributes:
        records: those images that can be decoded; the others are named in a warning.

    Raises:
        ValueError: none can.
    """

    #: Of a loader.
    collate = staticmethod(collate)

    def __init__(self, records: list[Record]) -> None:
        self.records = [record for record in records if _decode(record) is not None]
        if not self.records:
            raise ValueError("records: none of the images can be decoded")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image ``item``: ``[3, H, W]`` in [0, 1], boxes of heads and persons int64 ``[n, 4]``."""
        record = self.records[item]
        size = coded_size(record.width, record.height, DEFAULT_MAX_SIDE)
        scale = np.float32(size[0] / record.width)
        return _item(
            resize(read_pixels(record.path), *size), *(boxes * scale for boxes in _boxes(record))
        )


def _decode(record: Record) -> np.ndarray | None:
    try:
        return read_pixels(record.path)
    except (OSError, ValueError) as error:
        log.warning("%s: left out: %s", record.path, error)
        return None


def _boxes(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Heads to hide and persons to keep, float32 ``[n, 4]``."""
    return record.heads.xyxy, record.persons.xyxy[~record.persons.ignore]


def _item(
    image: np.ndarray, heads: np.ndarray, persons: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """An image as ``[3, H, W]`` in [0, 1], and its float boxes grown to whole pixels inside it,
    int64 ``[n, 4]``.
    """
    tensor = torch.from_numpy(image).permute(2, 0, 1).float().div_(255)
    height, width = image.shape[:2]
    grown = []
    for boxes in (heads, persons):
        whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
        grown.append(torch.from_numpy(clip_boxes(whole, width, height).astype(np.int64)))
    return tensor, grown[0], grown[1]


def _expose(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour, exposure, contrast, blur, sensor noise and JPEG artefacts, each now and then."""
    colour = rng.random()
    if colour < 0.3:
        # Monochrome and infrared cameras: a codec that saw colour alone knows heads by their skin.
        crop = as_grey(crop)
    elif colour < 0.6:
        crop = tint(crop, rng, 1.4, 0.25)
    if rng.random() < 0.5:
        crop = expose(crop, rng, 0.6, (0.7, 1.2))
    if rng.random() < 0.15:
        crop = blur(crop, rng, 1.5)
    if rng.random() < 0.2:
        crop = add_noise(crop, rng, 8)
    if rng.random() < 0.2:
        crop = compress(crop, rng, (20, 96))
    return crop
