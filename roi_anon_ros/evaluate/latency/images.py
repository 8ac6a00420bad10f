"""The image that is encoded, and its sizes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from roi_anon_ros.codec.image import check_sides
from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.files import read_pixels


def default_image() -> tuple[np.ndarray, str]:
    """An image to encode, uint8 ``[H, W, 3]`` RGB, and what it is: a photo that comes with
    ultralytics, or drawn.
    """
    if photo := example_photo("bus.jpg"):
        return read_pixels(photo), "bus.jpg of ultralytics"
    return synthetic_image(), "synthetic"


def synthetic_image() -> np.ndarray:
    """Discs that hide each other, ``[1024, 1024, 3]``: with edges, and about the spectrum of
    photos.
    """
    rng = np.random.default_rng(0)
    image = np.full((1024, 1024, 3), 128, np.uint8)
    # As many of a radius as its power -3, as in a scene with things at all distances.
    for radius in (6 / np.sqrt(rng.uniform(0.0005, 1, 4000))).round().astype(int).tolist():
        colour = np.clip(rng.uniform(0, 255) + rng.normal(0, 20, 3), 0, 255).tolist()
        cv2.circle(image, rng.integers(0, 1024, 2).tolist(), radius, colour, -1, cv2.LINE_AA)
    return image


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Sizes ``(width, height)`` in pixels from a list such as ``640x480,1280x720``.

    Raises:
        ValueError: names what is no size, or the side that is out of bounds.
    """
    sizes = []
    for size in text.split(","):
        width, _, height = size.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise ValueError(f"size: {size!r}, must be WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    check_sizes(sizes)
    return list(dict.fromkeys(sizes))


def check_sizes(sizes: Sequence[tuple[int, int]]) -> None:
    """Raise a ValueError that names the side that is out of bounds."""
    if not sizes:
        raise ValueError("sizes: none, must be at least one")
    for width, height in sizes:
        check_sides(width, height)
