"""Which detections are right: matching with annotated boxes."""

from __future__ import annotations

import numpy as np

from roi_anon_ros.detect.boxes import Detections


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes [n, 4] and [m, 4], float64 [n, m]."""
    a = np.asarray(a, np.float64).reshape(-1, 4)
    b = np.asarray(b, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = sides.clip(min=0).prod(2)
    area_a, area_b = ((c[:, 2:] - c[:, :2]).prod(1) for c in (a, b))
    return both / np.maximum(area_a[:, None] + area_b[None] - both, 1e-12)


def match(found: Detections, truth: np.ndarray, least_overlap: float = 0.5) -> np.ndarray:
    """Assign detections to annotated boxes [m, 4]; see :func:`assign`.

    Returns int64 [n]: the box that a detection found, or -1 where it overlaps no free box by
    `least_overlap` (intersection over union) or more.
    """
    return assign(found.scores, overlaps(found.boxes, truth), least_overlap)


def assign(scores: np.ndarray, overlap: np.ndarray, least_overlap: float) -> np.ndarray:
    """Assign detections to what is annotated, the surest first, each of it at most once.

    Each detection takes, of what is still free, the one that it overlaps most.

    Args:
        scores: [n].
        overlap: of each detection with all that is annotated, [n, m], 0 to 1.
        least_overlap: that makes a detection right, above 0.

    Returns:
        int64 [n]: what a detection found, or -1.
    """
    taken = np.full(len(scores), -1, np.int64)
    free = np.array(overlap, np.float64)
    order = np.argsort(-scores, kind="stable")
    for i in order[(free >= least_overlap).any(axis=1)[order]]:
        best = int(free[i].argmax())
        if free[i, best] >= least_overlap:
            taken[i] = best
            free[:, best] = -1
    return taken
