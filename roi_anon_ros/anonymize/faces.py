"""Blur, pixelation and mask-out of faces.

Each takes an image, uint8 ``[H, W, 3]`` RGB, and boxes, ``[n, 4]`` left, top, right, bottom in
pixels, and returns an image in which nothing outside the boxes has changed.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from roi_anon_ros.detect import Detector

#: A found face is grown to this multiple of its sides, about its centre, before it is treated.
GROW = 1.3
#: Standard deviation of the blur over the longer side of the box.
BLUR = 1 / 8
#: Tiles along the longer side of a pixelated box.
TILES = 6


def blur(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Blur each box with a Gaussian of an eighth of its longer side."""

    def treat(part: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(
            part, (0, 0), max(part.shape[:2]) * BLUR, borderType=cv2.BORDER_REPLICATE
        )

    return _each(image, boxes, treat)


def pixelate(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Replace each box by tiles of their mean colour, six along its longer side."""

    def treat(part: np.ndarray) -> np.ndarray:
        height, width = part.shape[:2]
        scale = min(TILES / max(height, width), 1)
        tiles = cv2.resize(
            part,
            (max(round(width * scale), 1), max(round(height * scale), 1)),
            interpolation=cv2.INTER_AREA,
        )
        return cv2.resize(tiles, (width, height), interpolation=cv2.INTER_NEAREST)

    return _each(image, boxes, treat)


def mask(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Paint each box black."""
    return _each(image, boxes, np.zeros_like)


HIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "blur": blur,
    "pixelate": pixelate,
    "mask": mask,
}


class FaceAnonymizer:
    """Treats every face that a detector finds; a face that it does not find stays as it is.

    Args:
        hide: ``"blur"``, ``"pixelate"`` or ``"mask"``.
        detector: of faces; what it raises is passed on, and there is no image then.

    Raises:
        ValueError: there is no such treatment.
    """

    def __init__(self, hide: str, detector: Detector) -> None:
        if hide not in HIDE:
            raise ValueError(f"hide: {hide!r}, must be one of {', '.join(HIDE)}")
        self._hide, self._detector = HIDE[hide], detector

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image, uint8 ``[H, W, 3]`` RGB, with its faces treated, as a new array."""
        boxes = self._detector([image])[0].boxes
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * GROW
        return self._hide(image, np.hstack([centre - half, centre + half]))


def _each(
    image: np.ndarray, boxes: np.ndarray, treat: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    out = image.copy()
    height, width = image.shape[:2]
    for box in np.asarray(boxes, float).reshape(-1, 4):
        left, top = np.floor(box[:2]).clip(0, (width, height)).astype(int)
        right, bottom = np.ceil(box[2:]).clip(0, (width, height)).astype(int)
        if left < right and top < bottom:
            out[top:bottom, left:right] = treat(out[top:bottom, left:right])
    return out
