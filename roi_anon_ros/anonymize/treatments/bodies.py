"""Realistic bodies: a mannequin in the colours of the clothes, on inpainted ground."""

from __future__ import annotations

import cv2
import numpy as np

from roi_anon_ros.anonymize.regions import Region
from roi_anon_ros.anonymize.treatments.base import Scene, Window, mean_colour
from roi_anon_ros.anonymize.treatments.flat import MaskOut
from roi_anon_ros.anonymize.treatments.inpaint import Inpaint

#: A smaller body, pixels a side, is masked out.
SMALLEST = 32
#: Width of a standing person over the height; in a wider box the mannequin is cut off below, as
#: close persons are.
SLENDER = 0.42
#: Parts of the mannequin, in shares of its height from the top and of its width from the middle:
#: polygons.
HEAD = (0.07, 0.065)
TORSO = (
    (-0.34, 0.155),
    (0.34, 0.155),
    (0.5, 0.22),
    (0.5, 0.5),
    (0.4, 0.5),
    (0.32, 0.28),
    (0.3, 0.52),
)
TORSO_LEFT = ((-0.3, 0.52), (-0.32, 0.28), (-0.4, 0.5), (-0.5, 0.5), (-0.5, 0.22))
LEGS = ((-0.3, 0.5), (0.3, 0.5), (0.28, 1.0), (0.06, 1.0), (0.0, 0.58), (-0.06, 1.0), (-0.28, 1.0))
#: Where the clothes are looked at, in shares of the box: left, top, right, bottom.
UPPER = (0.3, 0.22, 0.7, 0.5)
LOWER = (0.3, 0.6, 0.7, 0.9)
SKIN_GREY = 150


class Mannequin:
    """A standing mannequin for a person: its shape is that of the box, not of the person."""

    def __init__(self) -> None:
        self._background = Inpaint()
        self._small = MaskOut()

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        left, top, right, bottom = region.box
        if right - left < SMALLEST or bottom - top < SMALLEST:
            return self._small(scene, region, window)
        upper = mean_colour(_part(scene, region, UPPER))
        lower = mean_colour(_part(scene, region, LOWER))
        patch = self._background(scene, region, window).astype(np.float32)
        height = max(bottom - top, (right - left) / SLENDER)
        width = height * SLENDER if right - left > height * SLENDER else right - left
        middle = (left + right) / 2 - window.columns.start
        above = top - window.rows.start
        scale = np.array([width, height])
        place = np.array([middle, above])
        _paint(patch, _polygon(LEGS, scale, place, window.size), lower)
        _paint(patch, _polygon(TORSO + TORSO_LEFT, scale, place, window.size), upper)
        _paint(patch, _head(height, place, window.size), np.full(3, float(SKIN_GREY)))
        return patch.round().astype(np.uint8)


def _part(scene: Scene, region: Region, shares: tuple[float, float, float, float]) -> np.ndarray:
    left, top, right, bottom = region.box
    corners = np.array(shares) * np.tile((right - left, bottom - top), 2) + np.tile((left, top), 2)
    limits = np.tile(scene.image.shape[1::-1], 2)
    x1, y1, x2, y2 = np.clip(corners, 0, limits).astype(int)
    return scene.image[y1:y2, x1:x2]


def _polygon(
    corners: tuple[tuple[float, float], ...],
    scale: np.ndarray,
    place: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    drawn = np.zeros(size, np.uint8)
    points = np.array(corners) * scale + place
    cv2.fillPoly(drawn, np.round(points * 16).astype(np.int32)[None], 255, cv2.LINE_AA, shift=4)
    return drawn


def _head(height: float, place: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(size, np.uint8)
    down, radius = HEAD
    centre = (place + (0, down * height)).round().astype(int)
    axes = (max(round(radius * height * 0.75), 1), max(round(radius * height), 1))
    cv2.ellipse(drawn, tuple(centre.tolist()), axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA)
    return drawn


def _paint(patch: np.ndarray, drawn: np.ndarray, colour: np.ndarray) -> None:
    """Paint a part, darker towards its edge as a round body is."""
    depth = cv2.distanceTransform((drawn > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    deepest = max(float(depth.max()), 1.0)
    shade = 0.75 + 0.25 * np.sqrt(np.clip(depth / deepest, 0, 1))
    weight = (drawn / 255.0)[..., None]
    patch[...] = patch * (1 - weight) + np.clip(colour * shade[..., None], 0, 255) * weight
