"""The watch over what is sent, without ROS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from gained_model import make_gained_model
from typer.testing import CliRunner

from roi_anon_ros import detect
from roi_anon_ros.cli import app
from roi_anon_ros.codec import Codec
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.watchdog import Watchdog
from roi_anon_ros.evaluate.watching import read_most

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


class CornerFaces:
    """Stands for a detector of faces: one in the corner of an image, unless the corner is dark."""

    def __init__(self, always: bool = False) -> None:
        self._always = always

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        (image,) = images
        there = int(self._always or image[16:32, 16:32].mean() > 200)
        boxes = np.array([[16, 16, 32, 32]] * there, np.float32).reshape(-1, 4)
        return [Detections(boxes, np.ones(there, np.float32), ["face"] * there)]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three dark images and one with a face."""
    monkeypatch.setattr(detect, "MtcnnFaces", CornerFaces)
    folder = tmp_path / "images"
    folder.mkdir()
    dark = np.full((64, 96, 3), 40, np.uint8)
    face = dark.copy()
    face[16:32, 16:32] = 255
    for number, image in enumerate([dark, dark, face, dark]):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def call(*arguments: object):
    return CliRunner().invoke(app, ["watch", *map(str, arguments)])


def test_files_end_with_1_where_too_many_show_a_face(watched: Path) -> None:
    alarmed = call(watched)
    assert alarmed.exit_code == 1
    assert "4 images looked at, 1 show a face (25.0%), must be at most 2.0%" in alarmed.stdout
    assert "2.png: image 1: 1 faces" in alarmed.output
    assert call(watched, "--most", 0.25).exit_code == 0
    assert call(watched, "--most", 0.24).exit_code == 1
    assert call(watched / "0.png", watched / "1.png").exit_code == 0
    (watched / "4.png").write_bytes(b"no image")
    broken = call(watched, "--most", 0.9)
    assert broken.exit_code == 1 and "4.png" in broken.output and "4 images" in broken.stdout
    nothing = call(watched / "4.png")
    assert nothing.exit_code == 2 and "no image could be looked at" in nothing.output


@pytest.mark.slow
def test_in_packets_a_face_on_the_paint_is_nobodys(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "MtcnnFaces", lambda: CornerFaces(always=True))
    model = str(make_gained_model(tmp_path / "tiny.safetensors"))
    codec = Codec.load(model)
    for number in (1, 2):  # the model's heads are what is white: it paints the second's corner
        image = cv2.imread(str(watched / f"{number}.png"))[..., ::-1].copy()
        (tmp_path / f"{number}.ran").write_bytes(codec.encode(image, 0).packet)
    bare = call(tmp_path / "1.ran", "--model", model)
    assert bare.exit_code == 1 and "1 show a face" in bare.stdout
    painted = call(tmp_path / "2.ran", "--model", model)
    assert painted.exit_code == 0, painted.output
    assert "0 show a face (0.0%)" in painted.stdout and "1 faces on paint" in painted.stdout
    damaged = bytearray((tmp_path / "2.ran").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "3.ran").write_bytes(damaged)
    both = call(tmp_path / "2.ran", tmp_path / "3.ran", "--model", model)
    assert both.exit_code == 1 and "3.ran" in both.output and "1 images looked at" in both.stdout


def test_a_card_says_how_many_may(watched: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    figures = {
        "mtcnn": {"value": 0.1, "interval": [0.05, 0.3], "command": ""},
        "yunet": {"value": None, "interval": None, "command": "roi-anon evaluate"},
    }
    card.write_text(json.dumps({"watchdog": figures}))
    assert read_most(card, "mtcnn") == 0.3
    assert call(watched, "--card", card).exit_code == 0
    figures["mtcnn"]["interval"] = [0.0, 0.2]
    card.write_text(json.dumps({"watchdog": figures}))
    assert call(watched, "--card", card).exit_code == 1
    with pytest.raises(ValueError, match="no figure of yunet; roi-anon evaluate first"):
        read_most(card, "yunet")
    card.write_text("{}")
    refused = call(watched, "--card", card)
    assert refused.exit_code == 2 and "no privacy card" in refused.output
    both = call(watched, "--card", card, "--most", 0.1)
    assert both.exit_code == 2 and "must be one of them" in both.output
