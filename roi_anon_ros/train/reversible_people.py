"""Images of people for the training of a learned reversible anonymizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from roi_anon_ros.datasets.bodies import Body, read_bodies
from roi_anon_ros.files import read_pixels

#: Height and width of an image, pixels.
SIZE = 128, 64


@dataclass(frozen=True, eq=False)
class People:
    """Images of persons.

    Attributes:
        images: float32 ``[n, 3, 128, 64]`` in [0, 1].
        person: int ``[n]``, numbers without gaps.
        camera: int ``[n]``.
    """

    images: Tensor
    person: np.ndarray
    camera: np.ndarray

    @property
    def count(self) -> int:
        """How many people."""
        return int(self.person.max()) + 1

    def take(self, chosen: np.ndarray) -> People:
        """Some of the images, bool ``[n]``; people are numbered anew."""
        person = np.unique(self.person[chosen], return_inverse=True)[1]
        return People(self.images[torch.from_numpy(chosen)], person, self.camera[chosen])

    def draw(self, seed: tuple[int, int], people: int, images: int) -> tuple[Tensor, Tensor]:
        """Draw the batch of a step, mirrored or not.

        Args:
            seed: of the training, and the step's number.
            people: how many, if there are so many.
            images: of each.

        Returns:
            float32 ``[B, 3, 128, 64]``, and int64 ``[B]``, whose they are.
        """
        rng = np.random.default_rng(seed)
        rows: list[int] = []
        for one in rng.choice(self.count, min(people, self.count), replace=False):
            own = np.flatnonzero(self.person == one)
            rows += rng.choice(own, images, replace=len(own) < images).tolist()
        shown = self.images[rows]
        mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)
        shown = torch.where(mirrored[:, None, None, None], shown.flip(3), shown)
        shown = shown.contiguous(memory_format=torch.channels_last)
        return shown, torch.from_numpy(self.person[rows])


def read_people(sets: list[dict[str, Any]]) -> tuple[People, set[tuple[str, str]]]:
    """Read folders of people.

    Returns:
        The people, and who they are: folder and name.

    Raises:
        ValueError: a set cannot be used, or has nobody from ``people``.
    """
    bodies: list[tuple[str, Body]] = []
    for one in sets:
        found = read_bodies(Path(one["images"]))
        names = sorted({body.name for body in found})
        first, end = one.get("people", (0, len(names)))
        chosen = set(names[first:end])
        if not chosen:
            raise ValueError(f"people: got {first} to {end}, {one['images']} has {len(names)}")
        bodies += [(one["images"], body) for body in found if body.name in chosen]
    labels = [f"{folder}/{body.name}" for folder, body in bodies]
    cameras = [f"{folder}/{body.camera}" for folder, body in bodies]
    images = [_fit(read_pixels(body.path)) for _, body in bodies]
    person = np.unique(labels, return_inverse=True)[1]
    camera = np.unique(cameras, return_inverse=True)[1]
    return People(torch.stack(images), person, camera), {(f, body.name) for f, body in bodies}


def _fit(image: np.ndarray) -> Tensor:
    """An image at the networks' size, ``[3, 128, 64]``."""
    how = cv2.INTER_AREA if image.shape[0] > SIZE[0] else cv2.INTER_CUBIC
    scaled = cv2.resize(image, SIZE[::-1], interpolation=how)
    return torch.from_numpy(scaled).permute(2, 0, 1).float() / 255
