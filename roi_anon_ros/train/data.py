"""Pictures with person and head boxes, and the crops that the codec trains on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..files import read_picture
from .losses import Regions

#: Decoded pictures are kept in memory up to this many bytes in all.
CACHE_BYTES = 4 << 30


@dataclass(frozen=True)
class Record:
    """One annotated picture: its file, and boxes x1 y1 x2 y2 in pixels, float32 ``[n, 4]``."""

    path: Path
    persons: np.ndarray
    heads: np.ndarray


def read_coco(annotations: Path, images: Path) -> list[Record]:
    """Read a COCO JSON whose categories include ``person`` and ``head``.

    Args:
        annotations: the JSON file.
        images: the folder of the pictures that it names.

    Returns:
        A record for each picture, in the file's order; boxes are clipped to the picture and empty ones dropped.

    Raises:
        ValueError: one of the two categories is missing.
    """
    coco = json.loads(Path(annotations).read_text())
    category = {c["name"]: c["id"] for c in coco["categories"]}
    for name in ("person", "head"):
        if name not in category:
            raise ValueError(f"{annotations}: categories have no {name!r}")
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        key = annotation["image_id"], annotation["category_id"]
        boxes.setdefault(key, []).append([x, y, x + w, y + h])
    records = []
    for image in coco["images"]:
        of_kind = [
            clip_boxes(
                np.array(boxes.get((image["id"], category[name]), []), np.float32), image["width"], image["height"]
            )
            for name in ("person", "head")
        ]
        records.append(Record(Path(images) / image["file_name"], *of_kind))
    return records


def clip_boxes(boxes: np.ndarray, width: int, height: int, smallest: float = 1.0) -> np.ndarray:
    """Clip float32 ``[n, 4]`` to the picture and drop what is left narrower or lower than ``smallest`` pixels."""
    boxes = boxes.reshape(-1, 4).copy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[(sides >= smallest).all(axis=1)]


def read_rgb(path: Path) -> np.ndarray:
    """Read a picture as uint8 ``[H, W, 3]`` RGB.

    Raises:
        ValueError: names the file, which is no picture, or a damaged one.
    """
    try:
        return read_picture(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class Crops(Dataset):
    """Random crops with their boxes; item ``i`` is the same in every run with the same seed.

    Most crops are made around a head, scaled so that head sizes are spread evenly (in octaves) from 8 pixels
    to most of the crop; the others show any part of a picture at any scale.

    Args:
        records: the pictures.
        size: side of a crop, pixels.
        length: how many crops there are.
        seed: of everything random.
        around_heads: share of crops made around a head.
    """

    def __init__(self, records: list[Record], size: int, length: int, seed: int, around_heads: float = 0.6) -> None:
        if not records:
            raise ValueError("records: none, must be at least 1")
        self.records, self.size, self.length, self.seed = records, size, length, seed
        self.around_heads = around_heads
        self.first = 0
        self._cache: dict[int, np.ndarray] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self.length

    def preload(self) -> None:
        """Decode pictures into memory, as many as the cache holds, so that worker processes share them."""
        for index in range(len(self.records)):
            self._picture(index)
            if self._cached_bytes > CACHE_BYTES:
                return

    def _picture(self, index: int) -> np.ndarray:
        picture = self._cache.get(index)
        if picture is None:
            picture = read_rgb(self.records[index].path)
            if self._cached_bytes <= CACHE_BYTES:
                self._cache[index] = picture
                self._cached_bytes += picture.nbytes
        return picture

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        """Crop ``first + item``: ``[3, size, size]`` in [0, 1], head boxes and person boxes int64 ``[n, 4]``."""
        rng = np.random.default_rng((self.seed, self.first + item))
        index = int(rng.integers(len(self.records)))
        record, picture = self.records[index], self._picture(index)
        size = self.size
        if len(record.heads) and rng.random() < self.around_heads:
            x1, y1, x2, y2 = record.heads[rng.integers(len(record.heads))]
            wanted = np.exp2(rng.uniform(3, np.log2(0.9 * size)))
            scale = float(np.clip(wanted / max(x2 - x1, y2 - y1), 0.3, 3.0))
            centre = np.array([x1 + x2, y1 + y2]) / 2 + rng.uniform(-0.5, 0.5, 2) * (size / scale)
        else:
            scale = float(np.exp(rng.uniform(np.log(0.4), np.log(2.3))))
            centre = rng.uniform(0, 1, 2) * picture.shape[1::-1]
        # A crop does not reach beyond the picture where the picture is large enough.
        scale = max(scale, size / min(picture.shape[:2]))
        reach = size / scale
        left, top = (
            float(np.clip(c - reach / 2, 0, max(side - reach, 0)))
            for c, side in zip(centre, picture.shape[1::-1], strict=True)
        )
        crop = _cut(picture, left, top, reach, size)
        boxes = []
        for kind in (record.heads, record.persons):
            moved = (kind - np.array([left, top, left, top], np.float32)) * np.float32(scale)
            boxes.append(clip_boxes(moved, size, size, smallest=2.0))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
            boxes = [np.stack([size - b[:, 2], b[:, 1], size - b[:, 0], b[:, 3]], 1) for b in boxes]
        crop = _expose(crop, rng)
        tensor = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float().div_(255)
        heads, persons = (torch.from_numpy(_whole_pixels(b, size)) for b in boxes)
        return tensor, heads, persons


def _cut(picture: np.ndarray, left: float, top: float, reach: float, size: int) -> np.ndarray:
    x1, y1 = int(left), int(top)
    x2, y2 = min(round(left + reach), picture.shape[1]), min(round(top + reach), picture.shape[0])
    part = picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    shrinking = part.shape[0] > size
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


def _expose(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, blur and sensor noise, each now and then."""
    if rng.random() < 0.5:
        gamma, gain = np.exp2(rng.uniform(-0.6, 0.6)), rng.uniform(0.7, 1.2)
        curve = np.clip((np.arange(256) / 255) ** gamma * gain * 255, 0, 255).astype(np.uint8)
        crop = curve[crop]
    if rng.random() < 0.15:
        crop = cv2.GaussianBlur(crop, (0, 0), float(rng.uniform(0.4, 1.5)))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(1, 8), crop.shape)
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    return crop


def _whole_pixels(boxes: np.ndarray, size: int) -> np.ndarray:
    """Grow float boxes to whole pixels inside the crop, int64 ``[n, 4]``."""
    grown = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    return grown.clip(0, size).astype(np.int64)


def collate(items: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Regions, Regions]:
    """Batch crops: ``[B, 3, H, W]``, head regions, person regions."""
    pictures, heads, persons = zip(*items, strict=True)
    batch = torch.stack(pictures).contiguous(memory_format=torch.channels_last)
    return batch, Regions.stack(list(heads)), Regions.stack(list(persons))
