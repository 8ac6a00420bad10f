"""What the head map is taught, against a formula cell by cell, and how it is validated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.train.head_targets import HeadLabels, View, label_heads, make_targets

SIZE = 64


def boxes(*rows: tuple[float, ...], ignore: bool = False) -> Boxes:
    return Boxes(np.array(rows, np.float32).reshape(-1, 4), np.full(len(rows), ignore))


def record(heads: Boxes, persons: Boxes, *complete: str) -> Record:
    annotated = frozenset(("person", "head"))
    return Record(
        Path("a.png"),
        300,
        400,
        persons,
        heads,
        boxes(),
        annotated,
        complete=frozenset(complete),
    )


def literal_targets(labels: HeadLabels, view: View, background: float) -> np.ndarray:
    """Head, weight, three numbers of the place and its weight of each cell: ``[6, g, g]``."""
    grid = view.size // 8
    result = np.zeros((6, grid, grid))
    result[1] = background
    nearest = np.full((grid, grid), math.inf)
    back = np.linalg.inv(view.turn)
    source = {}
    for row in range(grid):
        for column in range(grid):
            cell = np.array([8 * column + 3.5, 8 * row + 3.5])
            source[row, column] = back @ (cell - view.shift)
            x, y = source[row, column]
            for x1, y1, x2, y2 in labels.unknown:
                if x1 < x < x2 and y1 < y < y2:
                    result[1, row, column] = 0
    everyone = [(box, True) for box in labels.guessed] + [(box, False) for box in labels.heads]
    for (x, y, width, height), guessed in everyone:
        place = view.turn @ np.array([x, y]) + view.shift
        sides = np.array([width, height]) * view.scale
        if not all(-s < p < view.size + s for p, s in zip(place, sides, strict=True)):
            continue
        within = 0 <= place[0] < view.size and 0 <= place[1] < view.size
        own = (
            min(math.floor((place[1] + 0.5) / 8), grid - 1),
            min(math.floor((place[0] + 0.5) / 8), grid - 1),
        )
        hit = []
        radii = {}
        for cell, (sx, sy) in source.items():
            radius = math.sqrt(((sx - x) * 2 / width) ** 2 + ((sy - y) * 2 / height) ** 2)
            radii[cell] = radius
            wide = 1.35 * width / 2 + 4 / view.scale
            high = 1.35 * height / 2 + 4 / view.scale
            ring = ((sx - x) / wide) ** 2 + ((sy - y) / high) ** 2 < 1
            if (ring or (guessed and radius < 2)) and result[0][cell] == 0:
                result[1][cell] = 0
            if radius < (0.5 if guessed else 0.85) or (within and cell == own):
                hit.append(cell)
        for cell in hit:
            weight = (1.2 if guessed else 3.0) / math.sqrt(len(hit))
            result[0][cell] = 1
            result[1][cell] = max(weight * (1.3 if len(hit) <= 4 else 1), 0.15)
        for cell, radius in radii.items():
            if not guessed and (radius < 1 or cell in hit) and radius < nearest[cell]:
                nearest[cell] = radius
                side = max(width, height) * view.scale
                result[2][cell] = (place[0] - 8 * cell[1] - 3.5) / side
                result[3][cell] = (place[1] - 8 * cell[0] - 3.5) / side
                result[4][cell] = math.log2(max(side, 2) / 8)
                result[5][cell] = 1 / math.sqrt(max(len(hit), 1))
    return result


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_targets_equal_their_literal_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-20, 84, (5, 2))
    heads = np.concatenate([centres, np.exp2(rng.uniform(1, 6.5, (5, 2)))], axis=1)
    corner = rng.uniform(0, 50, (2, 2))
    unknown = np.concatenate([corner, corner + rng.uniform(5, 40, (2, 2))], axis=1)
    labels = HeadLabels(heads[:3], heads[3:], unknown)
    angle = rng.uniform(-math.pi, math.pi)
    scale = rng.uniform(0.5, 2)
    mirrored = rng.choice([-1, 1])
    turn = scale * np.array(
        [
            [mirrored * math.cos(angle), -math.sin(angle)],
            [mirrored * math.sin(angle), math.cos(angle)],
        ]
    )
    view = View(turn, 32 - turn @ np.array([32.0, 32.0]), scale, SIZE)
    targets = make_targets(labels, view, 0.7)
    made = np.concatenate(
        [
            targets.head[None],
            targets.weight[None],
            targets.place,
            targets.place_weight[None],
        ]
    )
    assert np.allclose(made, literal_targets(labels, view, 0.7), atol=1e-5)


UPRIGHT = (100.0, 50.0, 160.0, 250.0)


@pytest.mark.parametrize(
    ("complete", "unknown", "guessed"),
    [
        (("person", "head"), 0, 0),
        (("head",), 0, 0),
        (("face",), 1, 0),
        (("person",), 1, 1),
        ((), 1, 0),
    ],
)
def test_what_is_complete_decides_what_is_unknown(
    complete: tuple[str, ...], unknown: int, guessed: int
) -> None:
    labels = label_heads(record(boxes(), boxes(UPRIGHT), *complete))
    assert (len(labels.unknown), len(labels.guessed)) == (unknown, guessed)
    for x1, y1, x2, y2 in labels.unknown:
        assert (x1, y1, x2, y2) == pytest.approx((97, 40, 163, 150))
    for x, y, width, height in labels.guessed:
        assert (x, y, width, height) == pytest.approx((130, 67, 30, 30))


def test_a_person_with_a_head_has_nothing_unknown() -> None:
    head = boxes((115, 52, 145, 88))
    labels = label_heads(record(head, boxes(UPRIGHT), "person"))
    assert not len(labels.unknown) and not len(labels.guessed)
    below = boxes((115, 150, 145, 190))
    assert len(label_heads(record(below, boxes(UPRIGHT), "person")).unknown) == 1


def test_who_sits_or_is_cut_off_has_no_guessed_head_and_crowds_are_unknown() -> None:
    sitting = (100.0, 50.0, 200.0, 150.0)
    cut_off = (100.0, 0.0, 160.0, 200.0)
    labels = label_heads(record(boxes(), boxes(sitting, cut_off), "person"))
    assert (len(labels.unknown), len(labels.guessed)) == (2, 0)
    crowd = label_heads(record(boxes(), boxes(UPRIGHT, ignore=True), "person", "head"))
    assert crowd.unknown.tolist() == [list(UPRIGHT)]


def test_the_loss_equals_its_literal_form() -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.codec.headmap import THRESHOLD
    from roi_anon_ros.train.heads import head_loss

    torch.manual_seed(0)
    answer = torch.randn(2, 4, 4, 4)
    head = (torch.rand(2, 4, 4) < 0.3).float()
    weight = torch.rand(2, 4, 4)
    place = torch.randn(2, 3, 4, 4)
    place_weight = torch.rand(2, 4, 4) * head
    terms = head_loss(answer, head, weight, place, place_weight)
    entropy = 0.0
    distance = 0.0
    for index in np.ndindex(2, 4, 4):
        image, row, column = index
        p = 1 / (1 + math.exp(-float(answer[image, 0, row, column])))
        right = p if head[index] else 1 - p
        entropy += float(weight[index]) * -math.log(right) * (0.25 + (1 - right) ** 1.5)
        for k in range(3):
            d = abs(float(answer[image, 1 + k, row, column] - place[image, k, row, column]))
            smooth = d - 0.05 if d >= 0.1 else d * d / 0.2
            distance += float(place_weight[index]) * smooth
    distance /= max(float(place_weight.sum()), 1)
    assert terms["head"].item() == pytest.approx(entropy / 2 / 60, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(entropy / 120 + 0.3 * distance, rel=1e-4)
    hot = F.sigmoid(answer[:, 0]) > THRESHOLD
    assert terms["recall"].item() == pytest.approx(hot[head > 0].float().mean().item())


def test_painted_heads_are_counted_by_size() -> None:
    pytest.importorskip("lightning", reason="the train extra is not installed")
    from roi_anon_ros.train.heads import count_painted, share_outside

    mask = np.zeros((100, 200), bool)
    mask[:50, :100] = True
    heads = np.array(
        [
            (0, 0, 4, 4),  # below 8 pixels
            (10, 10, 18, 19),
            (150, 10, 158, 19),
            (20, 20, 52, 40),
            (40, 0, 180, 60),
        ]
    )
    counts = count_painted(mask, heads)
    assert counts.tolist() == [[1, 2], [0, 0], [1, 1], [0, 0], [0, 1]]
    near = np.array([(10, 10, 90, 40)])  # grown by 24 and 9: to the left edge, from 1 to 49
    assert share_outside(mask, near) == pytest.approx(2 * 100 / (100 * 200))
