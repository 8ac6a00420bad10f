"""Boxes as arrays: x1 y1 x2 y2 in pixels."""

from __future__ import annotations

import numpy as np


def clip_boxes(xyxy: np.ndarray, width: int, height: int) -> np.ndarray:
    """Clip boxes ``[n, 4]`` to an image; float32."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(np.asarray(xyxy, np.float32).reshape(-1, 4), 0, limits)


def at_least(xyxy: np.ndarray, side: float) -> np.ndarray:
    """Bool ``[n]``, whether a box is at least ``side`` pixels wide and high."""
    return (xyxy[:, 2:] - xyxy[:, :2] >= side).all(axis=1)


def share_covered(box: np.ndarray, mask: np.ndarray) -> float:
    """The share of a box, float32 ``[4]``, that a mask covers; 0 of one outside the image.

    Args:
        box: left, top, right, bottom, pixels.
        mask: bool ``[H, W]``.
    """
    left, top, right, bottom = np.round(box).astype(int).tolist()
    inside = mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    return round(float(inside.mean()), 3) if inside.size else 0.0
