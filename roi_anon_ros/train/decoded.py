"""What a person detector trains on: images as a codec gives them back, and who is in them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.latents import AUTO_QUALITY
from roi_anon_ros.datasets import Record, read_set
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.detect.matching import overlaps
from roi_anon_ros.detect.yolox_cells import PADDING, fit
from roi_anon_ros.files import png, read_pixels
from roi_anon_ros.storage import write_bytes

log = logging.getLogger(__name__)

#: Score from which what the teacher finds is a person, and from which it may be one.
SURE = 0.5
UNSURE = 0.1
#: What the teacher finds is somebody else than an annotated person where they overlap less.
SAME = 0.5
#: A person of whom a crop shows less than this share, or fewer pixels, is ignored.
LEAST_SHARE = 0.3
LEAST_SIDE = 4
#: Scales of crops that are not at the size at which the image was decoded.
SCALES = (0.6, 1.5)
#: By how much a crop's colours are stretched.
COLOURS = (0.8, 1.25)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image, decoded.

    Attributes:
        files: of the image decoded at each quality, .png.
        truth: float32 ``[n, 5]``: persons' left, top, right and bottom in pixels of the decoded
            image, and 1 where it is not sure that this is a person.
    """

    files: tuple[Path, ...]
    truth: np.ndarray


def read_persons(one: dict[str, Any]) -> tuple[list[tuple[Record, bool]], list[str]]:
    """Read a set.

    Args:
        one: ``annotations`` and ``images`` as `read_set` takes them, and ``keep_out``, 0 to 256:
            images whose name has a SHA-256 with a first byte below this are left out, for judging.

    Returns:
        The images, each with whether its persons are annotated completely and by people; and a line
        for each image that was left out because it cannot be used.

    Raises:
        ValueError: nothing can be read.
    """
    annotations = Path(one["annotations"])
    reading = read_set(annotations, Path(one["images"]) if "images" in one else None)
    partly = _partly_annotated(annotations)
    images = []
    for record in reading.records:
        name = record.path.name
        if hashlib.sha256(name.encode()).digest()[0] < one.get("keep_out", 0):
            continue
        by_hand = "person" in record.annotated and "person" not in record.by_detector
        images.append((record, by_hand and name not in partly))
    return images, reading.problems


def _partly_annotated(annotations: Path) -> set[str]:
    """Names of the images on which people annotated only some of the persons, of a COCO JSON."""
    if annotations.suffix.lower() != ".json":
        return set()
    images = json.loads(annotations.read_text())["images"]
    return {Path(i["file_name"]).name for i in images if "person" in i.get("partial", ())}


def join_truth(record: Record, complete: bool, found: Detections | None) -> np.ndarray:
    """Join what is annotated on an image with what a teacher found on the original.

    People's boxes come first. Where they are not complete, whatever else the teacher may have found
    is ignored; where nobody looked for persons, what it is sure of is a person.

    Args:
        record: the image.
        complete: its persons are annotated completely and by people.
        found: on the original, from the score `UNSURE` on; None where ``complete``.

    Returns:
        float32 ``[n, 5]`` as in `Sample`, pixels of the original.
    """
    given = np.column_stack([record.persons.xyxy, record.persons.ignore])
    if complete or found is None:
        return given.astype(np.float32)
    new = overlaps(found.boxes, record.persons.xyxy).max(1, initial=0) < SAME
    unsure = np.ones(len(found.boxes), bool)
    if "person" not in record.annotated:
        unsure = found.scores < SURE
    more = np.column_stack([found.boxes, unsure])[new]
    return np.concatenate([given, more]).astype(np.float32)


def decode_once(
    images: list[tuple[Record, bool]],
    codec: Codec,
    qualities: list[int],
    max_side: int,
    make_teacher: Callable[[], Detector],
    folder: Path,
) -> list[Sample]:
    """Decode every image at every quality, or take what a former run left in the folder.

    Args:
        images: of `read_persons`.
        codec: that codes them.
        qualities: of the codec; empty: its only one.
        max_side: at which a camera codes them, pixels.
        make_teacher: makes the detector that looks at the originals, if it is needed.
        folder: for the decoded images, and for what the teacher found.
    """
    make_teacher = cache(make_teacher)
    samples = []
    for number, (record, complete) in enumerate(images):
        if number % 100 == 0:
            log.info("decoding: %d of %d images", number, len(images))
        mark = hashlib.sha256(record.path.read_bytes()).hexdigest()[:20]
        found = None if complete else find_once(record, mark, make_teacher, folder)
        files = []
        chosen: list[float] = list(qualities) or [AUTO_QUALITY]
        for quality in chosen:
            at = f"{codec.fingerprint}-{max_side}"
            if qualities:
                at += f"-{quality}"
            files.append(folder / at / f"{mark}.png")
            if not files[-1].is_file():
                encoded = codec.encode(read_pixels(record.path), max_side, quality)
                write_bytes(files[-1], png(codec.decode(encoded.packet).image))
        width, height = encoded_size(files[0])
        scale = np.array([width / record.width, height / record.height] * 2 + [1], np.float32)
        samples.append(Sample(tuple(files), join_truth(record, complete, found) * scale))
    return samples


def find_once(
    record: Record, mark: str, make_teacher: Callable[[], Detector], folder: Path
) -> Detections:
    """Have a teacher look at an original, or take what it found in a former run.

    Args:
        record: the image.
        mark: of the image's content.
        make_teacher: makes the detector, if it is needed.
        folder: for what it found.
    """
    file = folder / "teacher" / f"{mark}.json"
    if not file.is_file():
        (seen,) = make_teacher()([read_pixels(record.path)])
        rows = np.column_stack([seen.boxes, seen.scores]).astype(float).round(4)
        write_bytes(file, json.dumps(rows.tolist()).encode())
    rows = np.array(json.loads(file.read_text()), np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4], ["person"] * len(rows))


def encoded_size(file: Path) -> tuple[int, int]:
    """Return width and height of a .png file by its header."""
    with file.open("rb") as stream:
        header = stream.read(24)
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


class DecodedCrops(Dataset):
    """Random crops of decoded images; item ``i``, for any ``i`` from 0, is the same in every run.

    A crop is of any of its image's qualities, at the decoded size or at another scale, with its
    colours stretched, mirrored or not.

    Args:
        samples: the images.
        side: of a crop, pixels, a multiple of 32.
        own_size: share of the crops at the decoded size, 0 to 1.
        seed: of everything random.
    """

    def __init__(self, samples: list[Sample], side: int, own_size: float, seed: int) -> None:
        self.samples = samples
        self.side = side
        self.own_size = own_size
        self.seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a crop, uint8 ``[3, side, side]`` RGB, and its persons as in `Sample`."""
        rng = np.random.default_rng([self.seed, number])
        sample = self.samples[rng.integers(len(self.samples))]
        image = read_pixels(sample.files[rng.integers(len(sample.files))])
        truth = sample.truth.copy()
        scale = 1.0
        if rng.random() >= self.own_size:
            scale = float(np.exp(rng.uniform(*np.log(SCALES))))
            shrinking = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=shrinking)
        truth[:, :4] *= scale
        if rng.random() < 0.5:
            image = image[:, ::-1]
            truth[:, [0, 2]] = image.shape[1] - truth[:, [2, 0]]
        low, high = np.log(COLOURS).tolist()
        stretch = np.exp(rng.uniform(low, high, 3)) * np.exp(rng.uniform(low, high))
        image = np.clip(image * stretch.astype(np.float32), 0, 255).astype(np.uint8)
        left = int(rng.integers(max(image.shape[1] - self.side, 0) + 1))
        top = int(rng.integers(max(image.shape[0] - self.side, 0) + 1))
        patch = image[top : top + self.side, left : left + self.side]
        crop = np.full((self.side, self.side, 3), PADDING, np.uint8)
        crop[: patch.shape[0], : patch.shape[1]] = patch
        truth = cut_truth(truth, left, top, patch.shape[1], patch.shape[0])
        return torch.from_numpy(crop.transpose(2, 0, 1).copy()), torch.from_numpy(truth)


class DecodedImages(Dataset):
    """Whole decoded images as the server's detector sees them, every quality of each.

    Args:
        samples: the images.
        max_side: of the detector, pixels.
    """

    def __init__(self, samples: list[Sample], max_side: int) -> None:
        self.items = [(file, sample.truth) for sample in samples for file in sample.files]
        self.max_side = max_side

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 ``[3, H, W]`` RGB, and its persons as in `Sample`."""
        file, truth = self.items[number]
        image = read_pixels(file)
        scale = min(1.0, self.max_side / max(image.shape[:2]))
        seen = fit(image, self.max_side)
        truth = truth * np.array([scale] * 4 + [1], np.float32)
        return torch.from_numpy(seen.transpose(2, 0, 1).copy()), torch.from_numpy(truth)


def cut_truth(truth: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """Cut persons, ``[n, 5]`` as in `Sample`, to a window; who hardly shows in it is ignored."""
    moved: np.ndarray = truth[:, :4] - np.array([left, top] * 2, np.float32)
    cut: np.ndarray = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
    sides = cut[:, 2:] - cut[:, :2]
    whole = np.maximum((moved[:, 2:] - moved[:, :2]).prod(1), 1e-6)
    hardly = (sides.prod(1) / whole < LEAST_SHARE) | (sides.min(1, initial=np.inf) < LEAST_SIDE)
    ignored = (truth[:, 4] > 0) | hardly
    shows = (sides > 0).all(1)
    return np.column_stack([cut, ignored])[shows].astype(np.float32)


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Join items of the sets above to a batch: images ``[B, 3, H, W]``, and persons of each."""
    images = torch.stack([image for image, _ in items])
    return images, [truth for _, truth in items]
