"""Mask-out and silhouette: nothing of the content but its shape."""

from __future__ import annotations

import colorsys

import numpy as np

from roi_anon_ros.anonymize.regions import Region
from roi_anon_ros.anonymize.treatments.base import Scene, Window, seed

GREY = 127


class MaskOut:
    """One grey.

    Args:
        grey: 0, black, to 255, white.

    Raises:
        ValueError: grey is out of bounds.
    """

    def __init__(self, grey: int = GREY) -> None:
        if not 0 <= grey <= 255:
            raise ValueError(f"mask: got {grey}, must be from 0 to 255")
        self._grey = grey

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        return np.full((*window.size, 3), self._grey, np.uint8)


class Silhouette:
    """One colour for each object, by its track, so that they can be told apart."""

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        hue = seed(scene, region, "silhouette").random()
        colour = np.array(colorsys.hsv_to_rgb(hue, 0.6, 0.8)) * 255
        return np.broadcast_to(colour.round().astype(np.uint8), (*window.size, 3))
