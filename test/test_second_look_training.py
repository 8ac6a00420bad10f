"""What the second look learns from: which places are heads, and which heads wear a helmet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.train.head_targets import label_heads
from roi_anon_ros.train.second_look import NormalisedLook, judge_places, tell_helmets

NOBODY = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))
#: Two heads of 20 pixels, far apart.
HEADS = Boxes(np.array([[10, 10, 30, 30], [70, 10, 90, 30]], np.float32), np.zeros(2, bool))
#: On the first head, at its edge, three times as large as it, on the second, and on nothing.
PLACES = np.array([[20, 20, 18], [33, 20, 20], [20, 20, 60], [81, 19, 24], [50, 80, 20]], float)


def record(helmets: list[int]) -> Record:
    annotated = frozenset({"head"})
    told = np.array(helmets, np.int8)
    return Record(
        Path("a.png"), 100, 100, NOBODY, HEADS, NOBODY, annotated, complete=annotated, helmets=told
    )


def test_places_are_heads_no_heads_or_not_known() -> None:
    labels = label_heads(record([]))
    assert judge_places(labels, PLACES, known=True).tolist() == [1, -1, -1, 1, 0]
    assert judge_places(labels, PLACES, known=False).tolist() == [1, -1, -1, 1, -1]


def test_a_place_wears_what_its_head_wears() -> None:
    heads = PLACES[[0, 3]]
    assert tell_helmets(record([1, 0]), heads).tolist() == [1, 0]
    assert tell_helmets(record([-1, 1]), heads).tolist() == [-1, 1]
    assert tell_helmets(record([]), heads).tolist() == [-1, -1]
    assert tell_helmets(record([1, 0]), heads[:0]).tolist() == []


def test_normalisations_go_into_the_weights() -> None:
    torch.manual_seed(0)
    network = NormalisedLook()
    crops = torch.rand(9, 2, 3, 32, 32)
    evidence = torch.randn(9, 3)
    network(crops, evidence)  # the normalisations' means move
    network.eval()
    with torch.no_grad():
        answer = network(crops, evidence)
        torch.testing.assert_close(network.fold()(crops, evidence), answer, atol=1e-4, rtol=1e-4)
    assert answer.shape == (9, 2)
