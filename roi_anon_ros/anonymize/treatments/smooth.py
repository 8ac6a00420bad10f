"""Blur and pixelation: fewer details of the same content."""

from __future__ import annotations

import cv2
import numpy as np

from roi_anon_ros.anonymize.regions import Region
from roi_anon_ros.anonymize.treatments.base import Scene, Window

#: Standard deviation of the blur over the longer side of the region.
SHARE = 1 / 8
#: A wider blur is done on a smaller copy, pixels: it looks the same and costs a fraction.
FINE = 4.0
#: Cells along the longer side of a pixelated region.
CELLS = 6


class Blur:
    """A Gaussian blur.

    Args:
        sigma: standard deviation in pixels, cut off at one and a half of it: 7 is the blur of arXiv
            2306.05135 (kernel 21). None: an eighth of the region's longer side, so that it grows
            with the region.

    Raises:
        ValueError: sigma is out of bounds.
    """

    def __init__(self, sigma: float | None = None) -> None:
        if sigma is not None and not 0 < sigma <= 1000:
            raise ValueError(f"blur: got {sigma}, must be above 0 and at most 1000 pixels")
        self._sigma = sigma

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        view = window.of(scene.image)
        if self._sigma is None:
            return _wide_blur(view, region.side * SHARE)
        side = 2 * int(1.5 * self._sigma) + 1
        return cv2.GaussianBlur(view, (side, side), self._sigma, borderType=cv2.BORDER_REPLICATE)


class Pixelate:
    """Cells of the mean colour.

    Args:
        cells: along the region's longer side, 1 to 64.

    Raises:
        ValueError: cells is out of bounds.
    """

    def __init__(self, cells: int = CELLS) -> None:
        if not 1 <= cells <= 64:
            raise ValueError(f"pixelate: got {cells}, must be from 1 to 64 cells")
        self._cells = cells

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        height, width = window.size
        scale = min(self._cells / region.side, 1)
        cells = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(window.of(scene.image), cells, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def _wide_blur(view: np.ndarray, sigma: float) -> np.ndarray:
    height, width = view.shape[:2]
    scale = min(FINE / sigma, 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma * scale, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
