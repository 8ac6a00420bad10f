"""Fitting an image to the coded size and back: geometry only, no network."""

from __future__ import annotations

import cv2
import numpy as np

#: Bounds of an image's side in pixels.
MIN_SIDE = 16
MAX_SIDE = 8192
#: Longest side that is coded by default, by the edge node and by the command line; larger images
#: shrink to it.
DEFAULT_MAX_SIDE = 640


def check_sides(width: int, height: int) -> None:
    """Raise a ValueError that names the side, in pixels, that is out of bounds."""
    for name, side in (("height", height), ("width", width)):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise ValueError(f"{name}: {side} pixels, must be from {MIN_SIDE} to {MAX_SIDE}")


def check_image(image: np.ndarray) -> None:
    """Refuse what is not an image.

    Args:
        image: uint8 ``[H, W, 3]`` with sides from 16 to 8192.

    Raises:
        ValueError: names the field (dtype, shape, height, width) and the bound.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: {type(image).__name__}, must be a numpy array")
    if image.dtype != np.uint8:
        raise ValueError(f"image: dtype {image.dtype}, must be uint8")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: shape {image.shape}, must be [H, W, 3]")
    check_sides(width=image.shape[1], height=image.shape[0])


def coded_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Size ``(width, height)`` at which an image is coded: its longest side at most ``max_side``,
    same aspect.

    Args:
        width: of the source, pixels.
        height: of the source, pixels.
        max_side: 16 to 8192, or 0 to keep every image at its size.

    Raises:
        ValueError: ``max_side`` is out of bounds.
    """
    if max_side != 0 and not MIN_SIDE <= max_side <= MAX_SIDE:
        raise ValueError(f"max_side: {max_side}, must be 0 or from {MIN_SIDE} to {MAX_SIDE}")
    longest = max(width, height)
    if max_side == 0 or longest <= max_side:
        return width, height
    # A very long image keeps a short side that the codec still takes.
    coded_width = max(round(width * max_side / longest), MIN_SIDE)
    coded_height = max(round(height * max_side / longest), MIN_SIDE)
    return coded_width, coded_height


def as_grey(image: np.ndarray) -> np.ndarray:
    """An image, uint8 ``[H, W, 3]`` RGB, as a monochrome camera sees it, in the same shape."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize uint8 ``[H, W, 3]``: area averaging when shrinking, linear when growing."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
