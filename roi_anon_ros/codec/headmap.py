"""From the head map's answer to regions: a pyramid of the image, a threshold, stamps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.regions import CELL, Regions, count_cells

#: What runs the network: uint8 ``[H, W, 3]`` RGB to float32 ``[4, rows, columns]``, see
#: ``networks.headmap``.
RunMap = Callable[[np.ndarray], np.ndarray]

#: Cells of at least this probability are painted.
THRESHOLD = 0.35
#: The image is halved until its longer side has at most this many pixels: a head that fills it is
#: found there.
COARSEST = 224
#: A level that is shrunk by 4 or more has no say on heads of fewer pixels in it: finer ones see
#: them better, and its cells cover 32 pixels. Shrunk by 2 it has: without it heads of 16 to 32
#: pixels with helmets are found in 0.65 instead of 0.75 of the cases.
LEAST_COARSE = 24
#: Two heads of the pyramid are one where their centres are closer than this share of the larger
#: one's side.
SAME_HEAD = 0.5
#: Heads in one image at most; further ones are painted without a stamp.
MAX_HEADS = 256


def find_heads(
    run: RunMap, image: np.ndarray, threshold: float = THRESHOLD
) -> tuple[Regions, float]:
    """Find the heads in an image.

    Args:
        run: the head map.
        image: uint8 ``[H, W, 3]`` RGB.
        threshold: on the probability of a cell, 0 to 1.

    Returns:
        The regions, and the highest probability of any cell.
    """
    height, width = image.shape[:2]
    columns, rows = count_cells(width, height)
    cells = np.zeros((rows, columns), bool)
    candidates = []
    highest = 0.0
    scale = 1
    level = image
    while True:
        probability, heads = read_map(run(level))
        shown = probability[: -(-level.shape[0] // CELL), : -(-level.shape[1] // CELL)]
        highest = max(highest, float(shown.max()))
        hot = shown >= threshold
        if scale >= 4:
            hot &= heads[2, : hot.shape[0], : hot.shape[1]] >= LEAST_COARSE
        if hot.any():
            grown = hot.repeat(scale, axis=0).repeat(scale, axis=1)[:rows, :columns]
            cells[: grown.shape[0], : grown.shape[1]] |= grown
            found = heads[:, : hot.shape[0], : hot.shape[1]][:, hot] * scale
            candidates.append(np.vstack([found, shown[hot][None]]))
        if max(level.shape[:2]) <= COARSEST:
            break
        scale *= 2
        level = resize(image, max(width // scale, CELL), max(height // scale, CELL))
    if not candidates:
        return Regions.empty(width, height), highest
    heads = merge_heads(np.concatenate(candidates, axis=1))
    covered = Regions.of_heads(heads, width, height)
    return Regions(covered.cells | cells, covered.heads), highest


def read_map(answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[rows, columns]``; heads ``[3, rows, columns]``, x, y and side in pixels."""
    logit, right, down, octave = answer
    probability = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
    side = CELL * np.exp2(np.clip(octave, -1, 9))
    rows, columns = logit.shape
    centre_x = (np.arange(columns) + 0.5) * CELL
    centre_y = (np.arange(rows) + 0.5) * CELL
    x = centre_x[None, :] + np.clip(right, -1.5, 1.5) * side
    y = centre_y[:, None] + np.clip(down, -1.5, 1.5) * side
    return probability, np.stack([x, y, side])


def merge_heads(candidates: np.ndarray) -> np.ndarray:
    """One head for each group of cells that speak of the same one.

    Args:
        candidates: ``[4, n]``: centre x, centre y, side, probability.

    Returns:
        ``[m, 3]``: centre x, centre y and side, the most probable first.
    """
    order = np.argsort(-candidates[3], kind="stable")
    left = candidates[:3, order]
    heads: list[tuple[float, float, float]] = []
    while left.shape[1] and len(heads) < MAX_HEADS:
        x, y, side = left[:, 0]
        larger = np.maximum(left[2], side)
        distance = np.hypot(left[0] - x, left[1] - y)
        heads.append((x, y, side))
        left = left[:, distance > SAME_HEAD * larger]
    return np.array(heads)
