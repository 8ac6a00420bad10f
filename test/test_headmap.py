"""From the head map's answer to regions, with answers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from roi_anon_ros.codec.headmap import LEAST_COARSE, RunMap, find_heads
from roi_anon_ros.codec.regions import CELL

IMAGE = np.zeros((640, 896, 3), np.uint8)
SURE = 9.0


def make_map(level_width: int, side: float) -> RunMap:
    """A map that sees one head of this side, pixels of the level, in cell (4, 6) of one level."""

    def run(level: np.ndarray) -> np.ndarray:
        rows = -(-level.shape[0] // CELL)
        columns = -(-level.shape[1] // CELL)
        answer = np.zeros((4, rows, columns), np.float32)
        answer[0] = -SURE
        if level.shape[1] == level_width:
            answer[0, 4, 6] = SURE
            answer[3, 4, 6] = np.log2(side / CELL)
        return answer

    return run


def test_the_finest_level_sees_heads_of_any_size() -> None:
    for side in (8, 16, LEAST_COARSE, 64):
        regions, confidence = find_heads(make_map(896, side), IMAGE)
        assert regions.cells[4, 6] and len(regions.heads) == 1
        assert confidence == pytest.approx(1 / (1 + np.exp(-SURE)))
        assert regions.heads[0, 2] == side


def test_half_the_size_sees_them_too() -> None:
    regions, _ = find_heads(make_map(448, 8), IMAGE)
    assert regions.cells[8:10, 12:14].all(), "the cell, twice as large"
    assert regions.heads[0].tolist() == [104, 72, 16]


def test_a_coarse_level_sees_the_large_ones() -> None:
    """What is small in it belongs to the finer levels."""
    small, confidence = find_heads(make_map(224, LEAST_COARSE * 0.99), IMAGE)
    assert not small.cells.any() and not len(small.heads)
    assert confidence > 0.9, "the confidence is the map's own"
    large, _ = find_heads(make_map(224, LEAST_COARSE * 1.01), IMAGE)
    assert large.cells[16:20, 24:28].all(), "the cell, four times as large"
    assert large.heads[0].tolist() == [208, 144, 97]
