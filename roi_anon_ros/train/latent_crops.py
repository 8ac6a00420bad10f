"""What a detector on latents trains on: images as a codec's latents, and who is in them.

An image is painted and analysed once. Its latent is kept before gains and rounding: rounded for any
quality, it is what a packet of that quality holds.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.image import coded_size, resize
from roi_anon_ros.codec.latents import Latents, choose_quality
from roi_anon_ros.codec.packet import MAX_QUALITY, MIN_QUALITY
from roi_anon_ros.codec.regions import paint
from roi_anon_ros.datasets import Record
from roi_anon_ros.detect import Detector
from roi_anon_ros.detect.latent_persons import CELL, pad_even
from roi_anon_ros.detect.yolox import Head, YoloxNano
from roi_anon_ros.detect.yolox_cells import STRIDES, fit
from roi_anon_ros.files import read_pixels
from roi_anon_ros.storage import digest, write_bytes
from roi_anon_ros.train.decoded import cut_truth, find_once, join_truth

log = logging.getLogger(__name__)

#: Share of the crops at the quality at which a camera codes an image of that size.
DEFAULT_SHARE = 0.5
#: Longest side that the model to imitate is shown, pixels: no image that is coded is shrunk.
LARGEST = 8192


@dataclass(frozen=True, eq=False)
class Sample:
    """One image at one size.

    Attributes:
        file: ``.npz`` of ``latent``, float16 ``[N, h, w]`` before gains and rounding, and
            ``stride8``, ``stride16``, ``stride32``, what the model to imitate makes of the painted
            image, float16 ``[64, rows, columns]``.
        truth: float32 ``[n, 5]``: persons' left, top, right and bottom in coded pixels, and 1 where
            it is not sure that this is a person.
        quality: at which a camera codes an image of this size.
    """

    file: Path
    truth: np.ndarray
    quality: float


class Imitated:
    """What a trained detector on images knows of an image before its last branches.

    Args:
        network: of one class, in evaluation mode.
    """

    def __init__(self, network: YoloxNano) -> None:
        self._network = network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``stride8``, ``stride16``, ``stride32`` as in `Sample`, of uint8 ``[H, W, 3]``."""
        pixels = torch.from_numpy(fit(image, LARGEST).copy())
        x = pixels.permute(2, 0, 1)[None].float() / 255
        maps = self._network.features(x.contiguous(memory_format=torch.channels_last))
        found = {}
        for stride, head, m in zip(STRIDES, self._network.heads, maps[len(STRIDES) :], strict=True):
            assert isinstance(head, Head)
            found[f"stride{stride}"] = head.stem(m)[0].half().numpy()
        return found


def analyse_once(
    images: list[tuple[Record, bool]],
    codec: Codec,
    max_side: int,
    more_sides: list[int],
    make_imitated: Callable[[], Imitated],
    mark: str,
    make_teacher: Callable[[], Detector],
    folder: Path,
) -> list[Sample]:
    """Paint and analyse every image, or take what a former run left in the folder.

    Every image is there as a camera codes it; every second one again, mirrored, at another size:
    latents cannot be mirrored or scaled afterwards.

    Args:
        images: of `read_persons`.
        codec: that paints and analyses them.
        max_side: at which a camera codes them, pixels.
        more_sides: longest sides of the images that are there again, in turns, pixels; empty: none
            is.
        make_imitated: makes the model to imitate, if it is needed.
        mark: of that model.
        make_teacher: makes the detector that looks at the originals, if it is needed.
        folder: for the latents, and for what the teacher found.
    """
    make_imitated = cache(make_imitated)
    make_teacher = cache(make_teacher)
    samples = []
    for number, (record, complete) in enumerate(images):
        if number % 100 == 0:
            log.info("analysing: %d of %d images", number, len(images))
        picture = hashlib.sha256(record.path.read_bytes()).hexdigest()[:20]
        found = None if complete else find_once(record, picture, make_teacher, folder)
        truth = join_truth(record, complete, found)
        sizes = [(coded_size(record.width, record.height, max_side), False)]
        if more_sides and number % 2 == 0:
            side = more_sides[number // 2 % len(more_sides)]
            sizes.append((_longest(record, side), True))
        for size, mirrored in sizes:
            name = f"{picture}-{max(size)}{'-mirrored' if mirrored else ''}.npz"
            file = folder / f"{codec.fingerprint}-{mark}" / name
            if not file.is_file():
                image = resize(read_pixels(record.path), *size)
                write_bytes(file, _analyse(image, codec, mirrored, make_imitated()))
            quality = choose_quality(0, *size) if codec.model.latents.has_quality else 0.0
            samples.append(Sample(file, _scale(truth, record, size, mirrored), quality))
    return samples


def _longest(record: Record, side: int) -> tuple[int, int]:
    scale = side / max(record.width, record.height)
    return max(round(record.width * scale), CELL), max(round(record.height * scale), CELL)


def _analyse(image: np.ndarray, codec: Codec, mirrored: bool, imitated: Imitated) -> bytes:
    found = codec.find(image, max_side=0)
    painted = found.image
    if found.hidden is not None:
        painted = paint(painted, found.hidden.regions)
    if mirrored:
        painted = np.ascontiguousarray(painted[:, ::-1])
    latent = codec.engine.analyse(painted).astype(np.float16)
    stream = io.BytesIO()
    np.savez(stream, latent=latent, **imitated(painted))
    return stream.getvalue()


def _scale(truth: np.ndarray, record: Record, size: tuple[int, int], mirrored: bool) -> np.ndarray:
    """Persons in the pixels of a coded image."""
    across = size[0] / record.width
    down = size[1] / record.height
    scaled = truth * np.array([across, down, across, down, 1], np.float32)
    if mirrored:
        scaled[:, [0, 2]] = size[0] - scaled[:, [2, 0]]
    return scaled


def mark_of(weights: Path) -> str:
    """Return what tells the latents' folder which model is imitated."""
    return digest(weights, digits=8)


class LatentCrops(Dataset):
    """Random crops of latents; item ``i``, for any ``i`` from 0, is the same in every run.

    A crop begins on a cell of the coarsest scale. Half of them are at the quality at which a camera
    codes the image, the others at any.

    Args:
        samples: the images.
        latents: of the codec.
        side: of a crop, pixels, a multiple of 32.
        seed: of everything random.
    """

    def __init__(self, samples: list[Sample], latents: Latents, side: int, seed: int) -> None:
        self.samples = samples
        self.latents = latents
        self.side = side
        self.seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a crop.

        Returns:
            The latent as a decoder has it, float32 ``[N, side / 16, side / 16]``; of all cells of
            the detector, what the model to imitate makes of them, float16 ``[64, n]``, and
            whether they lie outside the image, 0, on nobody, 1, or on a person, 2, int8 ``[n]``;
            persons as in `Sample`.
        """
        rng = np.random.default_rng([self.seed, number])
        sample = self.samples[rng.integers(len(self.samples))]
        quality = sample.quality
        if self.latents.has_quality and rng.random() >= DEFAULT_SHARE:
            quality = float(rng.uniform(MIN_QUALITY, MAX_QUALITY))
        with np.load(sample.file) as file:
            latent = quantise(file["latent"], self.latents, quality)
            coarse = STRIDES[-1]
            rows = latent.shape[1] * CELL // coarse
            columns = latent.shape[2] * CELL // coarse
            top = coarse * int(rng.integers(max(rows - self.side // coarse, 0) + 1))
            left = coarse * int(rng.integers(max(columns - self.side // coarse, 0) + 1))
            truth = cut_truth(sample.truth, left, top, self.side, self.side)
            features = []
            kinds = []
            for stride in STRIDES:
                whole = file[f"stride{stride}"]
                inside = np.ones((1, *whole.shape[1:]), np.int8)
                features.append(self._window(whole, left, top, stride).reshape(len(whole), -1))
                shown = self._window(inside, left, top, stride)[0]
                kinds.append((shown * (1 + _on_persons(truth, self.side, stride))).reshape(-1))
        return (
            torch.from_numpy(self._window(latent, left, top, CELL)),
            torch.from_numpy(np.concatenate(features, 1)),
            torch.from_numpy(np.concatenate(kinds)),
            torch.from_numpy(truth),
        )

    def _window(self, values: np.ndarray, left: int, top: int, stride: int) -> np.ndarray:
        """A square out of ``[C, rows, columns]``; 0 where there is nothing."""
        side = self.side // stride
        x = left // stride
        y = top // stride
        patch = values[:, y : y + side, x : x + side]
        square = np.zeros((len(values), side, side), values.dtype)
        square[:, : patch.shape[1], : patch.shape[2]] = patch
        return square


class LatentImages(Dataset):
    """Whole latents as a server gets them.

    Args:
        samples: the images.
        latents: of the codec.
    """

    def __init__(self, samples: list[Sample], latents: Latents) -> None:
        self.samples = samples
        self.latents = latents

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a latent, float32 ``[N, h, w]``, h and w even, and its persons as in `Sample`."""
        sample = self.samples[number]
        with np.load(sample.file) as file:
            latent = quantise(file["latent"], self.latents, sample.quality)
        return torch.from_numpy(latent), torch.from_numpy(sample.truth)


def quantise(latent: np.ndarray, latents: Latents, quality: float) -> np.ndarray:
    """Return what a decoder has of a latent, float32 ``[N, h, w]``, padded to even sides."""
    symbols = latents.quantise(latent.astype(np.float32), quality)
    return pad_even(latents.dequantise(symbols, quality).astype(np.float32))


def _on_persons(truth: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Which cells of a square have their centre on a person, bool ``[rows, columns]``."""
    centres = (np.arange(side // stride) + 0.5) * stride
    on = np.zeros((len(centres), len(centres)), bool)
    for x1, y1, x2, y2, _ in truth:
        down = (centres >= y1) & (centres < y2)
        across = (centres >= x1) & (centres < x2)
        on |= down[:, None] & across[None]
    return on


def collate(
    items: list[tuple[Tensor, Tensor, Tensor, Tensor]],
) -> tuple[tuple[Tensor, Tensor, Tensor], list[Tensor]]:
    """Join crops to a batch: latents, features, kinds, and persons of each."""
    latents, features, kinds, truths = zip(*items, strict=True)
    return (torch.stack(latents), torch.stack(features), torch.stack(kinds)), list(truths)
