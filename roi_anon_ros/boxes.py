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
