"""Inpainting: the region becomes what is around it."""

from __future__ import annotations

import cv2
import numpy as np

from roi_anon_ros.anonymize.regions import Region
from roi_anon_ros.anonymize.treatments.base import Scene, Window

#: Pixels of the surroundings that are looked at, over the region's longer side.
CONTEXT = 0.25
#: A larger window is shrunk to this longer side: what is filled in is smooth, and time grows with
#: the area.
LARGEST = 192
#: Of the fast marching method, pixels.
RADIUS = 3


class Inpaint:
    """OpenCV's inpainting by fast marching (Telea 2004). No pixel of any region is looked at."""

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        margin = max(int(CONTEXT * max(window.size)), 4)
        wide = window.grown(margin, scene.image)
        filled = fill(wide.of(scene.image), wide.of(scene.hidden))
        top = window.rows.start - wide.rows.start
        left = window.columns.start - wide.columns.start
        height, width = window.size
        return filled[top : top + height, left : left + width]


def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """An image with a hole filled from around it; grey where nothing is around.

    Args:
        image: uint8 ``[h, w, 3]``.
        hole: bool ``[h, w]``.
    """
    if hole.all():
        return np.full_like(image, 127)
    height, width = hole.shape
    scale = min(LARGEST / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    # A mean over a pixel of the small image must hold nothing of the hole: the hole is emptied and
    # grown first.
    emptied = image.copy()
    emptied[hole] = image[~hole].mean(0).round().astype(np.uint8)
    small = cv2.resize(emptied, size, interpolation=cv2.INTER_AREA)
    touched = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    if touched.all():
        return emptied
    filled = cv2.inpaint(small, touched.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None], large, image)
