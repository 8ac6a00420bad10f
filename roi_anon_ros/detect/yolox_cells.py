"""How YOLOX-nano sees an image, and which boxes its rows are; without torch."""

from __future__ import annotations

import numpy as np

#: Pixels of the image that one cell of each scale stands for, one after the other.
STRIDES = (8, 16, 32)
#: Grey at the right and lower edge where sides are no multiples of 32, or too short.
PADDING = 114
#: What the network sees has sides of at least this many pixels. OpenVINO crashes where a processor
#: multiplies int8 in tiles (AMX) and the coarsest map has fewer than some five cells.
LEAST_SIDE = 128


def fit(image: np.ndarray, max_side: int) -> np.ndarray:
    """Shrink uint8 ``[H, W, 3]`` to a longest side of ``max_side``; pad it to multiples of 32, and
    to :data:`LEAST_SIDE`.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest > max_side:
        height = max(round(height * max_side / longest), 1)
        width = max(round(width * max_side / longest), 1)
        import cv2  # here, for a detector that is only imported costs nothing

        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    whole = [max(side + -side % 32, LEAST_SIDE) for side in (height, width)]
    if whole == [height, width]:
        return image
    padded = np.full((*whole, 3), PADDING, np.uint8)
    padded[:height, :width] = image
    return padded


def decode_rows(
    rows: np.ndarray, height: int, width: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Turn `YoloxNano.forward`'s rows of one image into boxes.

    Args:
        rows: float32 ``[n, 6]``, of one class.
        height: of the image that the network saw, pixels.
        width: the same.
        confidence: least score.

    Returns:
        Boxes ``[m, 4]``, left, top, right, bottom in pixels, and scores ``[m]``, highest first.
    """
    scores = rows[:, 4] * rows[:, 5]
    candidates = np.flatnonzero(scores >= confidence)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    columns, lines, strides = place_cells(candidates, height, width)
    rows = rows[candidates]
    centres = (rows[:, :2] + np.stack([columns, lines], 1)) * strides[:, None]
    # A side of e to the 10th pixels is wider than any image; beyond that it may overflow.
    halves = np.exp(rows[:, 2:4].clip(max=10)) * strides[:, None] / 2
    return np.concatenate([centres - halves, centres + halves], 1), scores[candidates]


def place_cells(
    numbers: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return column, line and stride, float32 ``[m]`` each, of cells by their row numbers."""
    columns = np.zeros(len(numbers), np.float32)
    lines = np.zeros(len(numbers), np.float32)
    strides = np.zeros(len(numbers), np.float32)
    first = 0
    for stride in STRIDES:
        count = (height // stride) * (width // stride)
        here = (numbers >= first) & (numbers < first + count)
        lines[here], columns[here] = np.divmod(numbers[here] - first, width // stride)
        strides[here] = stride
        first += count
    return columns, lines, strides
