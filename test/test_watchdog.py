"""The watch over what is sent, without ROS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.watchdog import Watchdog

IMAGE = np.zeros((40, 60, 3), np.uint8)
PAINT = np.zeros((40, 60), bool)
PAINT[:, :20] = True
ON_PAINT = [0, 0, 10, 10]
HALF = [15, 0, 25, 10]
OUTSIDE = [40, 0, 50, 10]


class Found:
    """A detector that finds the boxes of one image after the other."""

    def __init__(self, *images: list[list[int]]) -> None:
        self._images: Iterator[list[list[int]]] = iter(images)

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        assert len(images) == 1
        boxes = np.array(next(self._images), np.float32).reshape(-1, 4)
        return [Detections(boxes, np.ones(len(boxes), np.float32), ["face"] * len(boxes))]


def test_faces_on_paint_are_nobodys() -> None:
    watchdog = Watchdog(Found([ON_PAINT, HALF, OUTSIDE], [ON_PAINT], [ON_PAINT]), 0.0, 10)
    first = watchdog.look(IMAGE, PAINT)
    assert (first.faces, first.stamps) == (2, 1)
    second = watchdog.look(IMAGE, PAINT)
    assert (second.faces, second.stamps) == (0, 1)
    unknown = watchdog.look(IMAGE)
    assert (unknown.faces, unknown.stamps) == (1, 0)
    described = watchdog.describe()
    assert described["images looked at"] == "3" and described["images with a face"] == "2"
    assert described["faces on paint, nobody's"] == "2"
    assert float(described["last face (s ago)"]) >= 0


def test_the_alarm_comes_with_the_first_face_too_many_and_goes_with_the_window() -> None:
    nobody: list[list[int]] = []
    watchdog = Watchdog(Found([OUTSIDE], nobody, [OUTSIDE], nobody, nobody, nobody), 0.25, 4)
    assert watchdog.alarm == ""
    alarms = []
    for _ in range(6):
        watchdog.look(IMAGE, PAINT)
        alarms.append(bool(watchdog.alarm))
    # One of four is allowed. The second face is in the third image; two images later the first one
    # leaves the window.
    assert alarms == [False, False, True, True, False, False]


def test_the_alarm_says_how_many() -> None:
    watchdog = Watchdog(Found([OUTSIDE]), 0.0, 50)
    watchdog.look(IMAGE, PAINT)
    assert watchdog.alarm == "1 of the last 1 images show a face, must be at most 0.0% of 50"


@pytest.mark.parametrize(
    ("most", "window", "message"),
    [
        (1.0, 10, "most: got 1.0, must be from 0 to below 1"),
        (-0.1, 10, "most: got -0.1"),
        (0.1, 0, "window: got 0, must be 1 or more"),
    ],
)
def test_bounds_are_named(most: float, window: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Watchdog(Found(), most, window)
