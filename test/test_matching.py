"""Matching of detections with annotated boxes, against a literal loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.matching import match, overlaps

CORNER = st.integers(0, 12)
BOX = st.tuples(CORNER, CORNER, st.integers(1, 8), st.integers(1, 8)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def pixels(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


def array(boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@given(st.lists(BOX, max_size=4), st.lists(BOX, max_size=4))
def test_overlap_is_the_share_of_common_pixels(first: list, second: list) -> None:
    got = overlaps(array(first), array(second))
    assert got.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert got[i, j] == pytest.approx(
                len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b))
            )


@given(st.lists(st.tuples(BOX, st.floats(0, 1, width=32)), max_size=6), st.lists(BOX, max_size=6))
def test_match_is_greedy_from_the_surest(found: list, truth: list) -> None:
    boxes, scores = (
        array([box for box, _ in found]),
        np.array([score for _, score in found], np.float32),
    )
    got = match(Detections(boxes, scores, ["person"] * len(found)), array(truth), 0.3)
    free = set(range(len(truth)))
    for i in sorted(range(len(found)), key=lambda i: -scores[i]):
        shares = {
            j: len(pixels(found[i][0]) & pixels(truth[j]))
            / len(pixels(found[i][0]) | pixels(truth[j]))
            for j in free
        }
        best = max(shares.values(), default=0)
        if best < 0.3:
            assert got[i] == -1
        else:
            assert got[i] in free and shares[got[i]] == pytest.approx(best)
            free.discard(int(got[i]))


def test_of_two_detections_of_one_person_the_surer_counts() -> None:
    found = Detections(
        array([(0, 0, 10, 10), (0, 0, 10, 9)]), np.array([0.4, 0.9], np.float32), ["person"] * 2
    )
    assert match(found, array([(0, 0, 10, 10)])).tolist() == [-1, 0]
