"""Detectors side by side: what counts in which group."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate import detectors


def make_boxes(boxes: list[list[float]]) -> Boxes:
    return Boxes(np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), bool))


def make_found(boxes: list[list[float]], scores: list[float]) -> Detections:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(array, np.array(scores, np.float32), ["person"] * len(boxes))


SMALL = [0, 0, 10, 30]
TALL = [50, 0, 90, 100]
#: Both persons, a false box as tall as the tall one, one as small as the small one.
FOUND = make_found([SMALL, TALL, [0, 50, 40, 150], [100, 0, 110, 20]], [0.9, 0.2, 0.8, 0.1])


def test_each_height_is_judged_by_its_own_persons() -> None:
    truth = make_boxes([SMALL, TALL])
    small = detectors.judge_height(FOUND, truth, 0, 32)
    assert small.found.tolist() == pytest.approx([0.9])
    assert small.scores.tolist() == pytest.approx([0.9, 0.1])
    tall = detectors.judge_height(FOUND, truth, 64, 128)
    assert tall.found.tolist() == pytest.approx([0.2])
    assert tall.correct.tolist() == [True, False]
    assert len(detectors.judge_height(FOUND, truth, 256, math.inf).scores) == 0


def test_the_table_has_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "street_1.png"
    cv2.imwrite(str(path), np.zeros((160, 128, 3), np.uint8))
    none = make_boxes([])
    persons = make_boxes([SMALL, TALL])
    record = Record(path, 128, 160, persons, none, none, frozenset({"person"}))
    blind = make_found([], [])
    finders = {"a": lambda images: [FOUND], "b": lambda images: [blind]}
    monkeypatch.setattr(detectors, "make_detector", lambda name, confidence: finders[name])
    table = detectors.compare([record], ["original"], ["a", "b"], 0.25)
    lines = {line.split(" | ")[1]: line.split(" | ")[2:] for line in table.splitlines()[2:]}
    # Curve: found at 0.9, false at 0.8, found at 0.2: precision 1 and 2/3 at recalls 1/2 and 1.
    assert lines["all"] == ["2", "0.833", "0.500", "1.00", "0.000", "0.000", "0.00 |"]
    assert lines["street"] == lines["all"]
    assert lines["0 to 32 px"][:4] == ["1", "1.000", "1.000", "0.00"]
    assert lines["64 to 128 px"][:4] == ["1", "0.500", "0.000", "1.00"]
    assert lines["over 256 px"][:2] == ["0", "nan"]
