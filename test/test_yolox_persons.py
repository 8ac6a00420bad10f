"""The package's own detector: from rows to boxes, its engines, and how it is chosen."""

from __future__ import annotations

import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect import choice, yolox_export
from roi_anon_ros.detect.boxes import suppress
from roi_anon_ros.detect.weights import WeightsError
from roi_anon_ros.detect.yolox_cells import decode_rows, fit
from roi_anon_ros.detect.yolox_engine import digest_of, make_run, onnx_file
from roi_anon_ros.detect.yolox_export import calibrate, write_graph
from roi_anon_ros.detect.yolox_persons import OVERLAP, YoloxPersons
from roi_anon_ros.evaluate import judges
from roi_anon_ros.processors import has_gpu

PUBLISHED = cache_dir() / "weights" / "yolox_nano.onnx"


def test_boxes_are_those_of_their_cells() -> None:
    height, width = 96, 64
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (12 * 8 + 6 * 4 + 3 * 2, 6)).astype(np.float32)
    rows[:, 4:] = rng.uniform(0, 1, (len(rows), 2))
    expected = []
    number = 0
    for stride in (8, 16, 32):
        for line in range(height // stride):
            for column in range(width // stride):
                dx, dy, w, h, objectness, person = rows[number].tolist()
                x = (column + dx) * stride
                y = (line + dy) * stride
                w = math.exp(w) * stride
                h = math.exp(h) * stride
                score = objectness * person
                if score >= 0.25:
                    expected.append((score, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
                number += 1
    expected.sort(reverse=True)
    boxes, scores = decode_rows(rows, height, width, 0.25)
    np.testing.assert_allclose(np.column_stack([scores, boxes]), expected, rtol=1e-4, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_no_box_that_stays_overlaps_a_better_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 60, (count, 2))], 1)
    boxes = boxes.astype(np.float32)
    scores = rng.uniform(0.01, 1, count).astype(np.float32)
    stay: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[i], boxes[j]) <= OVERLAP for j in stay):
            stay.append(int(i))
    assert suppress(boxes, scores, OVERLAP).tolist() == stay


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((320, 224), (320, 224)),
        ((100, 33), (128, 128)),
        ((16, 150), (128, 160)),
        ((1280, 700), (640, 352)),
    ],
)
def test_an_image_keeps_its_size_unless_it_is_too_large(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    image = np.full((size[1], size[0], 3), 7, np.uint8)
    seen = fit(image, 640)
    assert seen.shape == (fitted[1], fitted[0], 3)
    scale = min(1, 640 / max(size))
    inside = seen[: round(size[1] * scale), : round(size[0] * scale)]
    assert (inside == 7).all()
    assert (seen == 7).sum() == inside.size


@pytest.mark.weights
def test_the_published_network_finds_who_is_there() -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published weights are not there: {PUBLISHED}")
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    cv2 = pytest.importorskip("cv2")
    path = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    image = cv2.imread(str(path))[..., ::-1].copy()
    detect = YoloxPersons(PUBLISHED)
    found, of_none, of_half = detect([image, np.zeros((64, 64, 3), np.uint8), image[:, :405]])
    # Measured by hand on the image, in its pixels.
    for person in [(55, 400, 245, 900), (225, 405, 342, 858), (670, 395, 810, 880)]:
        assert max(overlap(box, np.array(person)) for box in found.boxes) > 0.7
    assert (np.diff(found.scores) <= 0).all()
    assert len(of_none.boxes) == 0
    assert 2 <= len(of_half.boxes) <= 3


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """To trace the network takes seconds: once for all engines of the same weights."""
    make_program = yolox_export.make_program
    traced: dict[str, Any] = {}

    def find_program(weights: Path) -> Any:
        key = digest_of(weights)
        if key not in traced:
            traced[key] = make_program(weights)
        return traced[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yolox_export, "make_program", find_program)
        yield


@pytest.mark.parametrize(
    ("engine", "needs", "off"),
    [
        ("onnxruntime", ("onnxruntime", "onnxscript"), 1e-3),
        ("openvino", ("openvino",), 0.15),  # where it counts in bfloat16
        ("openvino-int8", ("openvino", "nncf"), 0.6),
    ],
)
@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
def test_engines_give_the_rows_of_torch(
    random_yolox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    needs: tuple[str, ...],
    off: float,
) -> None:
    for package in needs:
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = Path(shutil.copy(random_yolox, tmp_path))
    rng = np.random.default_rng(0)
    if engine == "openvino-int8":
        calibrate(weights, rng.integers(0, 256, (4, 128, 160, 3), np.uint8))
    if engine == "onnxruntime":  # openvino converts what lies there without an exported network
        write_graph(weights)
    _, reference = make_run(weights, "torch")
    name, run = make_run(weights, engine)
    assert name == engine
    for shape in ((1, 128, 160, 3), (2, 160, 128, 3)):
        batch = rng.integers(0, 256, shape, np.uint8)
        expected = reference(batch)
        found = run(batch)
        assert found.shape == expected.shape
        columns = np.abs(found - expected).mean((0, 1)) / expected.std((0, 1))
        assert columns.max() < off, columns


NO_TORCH = """
import sys
import numpy as np
from roi_anon_ros.detect.choice import make_detector

image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
for engine in sys.argv[1:]:
    (found,) = make_detector("persons", 0.0, engine)([image])
    assert not {"torch", "ultralytics"} & set(sys.modules)
    print(engine, *found.boxes[0], found.scores[0])
"""


@pytest.mark.slow
def test_the_packages_own_detector_leaves_torch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("openvino", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing was converted before
    engines = ["onnxruntime", "openvino", "openvino-int8", "auto"]
    ran = subprocess.run([sys.executable, "-c", NO_TORCH, *engines], capture_output=True, text=True)
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[0] for line in lines] == engines, ran.stderr
    surest = {engine: np.array(numbers, float) for engine, *numbers in lines}
    # Noise on which no engine is sure of anybody, and all think of the same place.
    for engine in engines[1:]:
        np.testing.assert_allclose(surest[engine], surest["onnxruntime"], atol=8)
    assert np.array_equal(surest["auto"], surest["openvino-int8"]) or has_gpu()


def test_a_network_in_float_of_other_weights_is_refused(random_yolox: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    weights = Path(shutil.copy(random_yolox, tmp_path / "other.safetensors"))
    shutil.copy(onnx_file(choice.own_weights()), onnx_file(weights))
    with pytest.raises(ValueError, match="other-float.onnx: made of weights .*, must be of"):
        make_run(weights, "onnxruntime")


def test_a_network_in_int8_of_other_weights_is_refused(
    random_yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    weights = Path(shutil.copy(random_yolox, tmp_path / "other.safetensors"))
    parameter = openvino.opset13.parameter([1, 3])
    graph = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    graph.set_rt_info("of others", "weights")
    openvino.save_model(graph, tmp_path / "other-int8.xml")
    with pytest.raises(ValueError, match="other-int8.xml: made of weights of others, must be of"):
        make_run(weights, "openvino-int8")


def test_a_name_is_a_detector(
    random_yolox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise WeightsError("not here")

    monkeypatch.setattr(choice, "model_folders", lambda: [tmp_path])
    monkeypatch.setattr(choice, "YoloPersons", unreachable)
    with pytest.raises(WeightsError, match="detector persons: there is none of"):
        choice.make_detector("persons", engine="torch")
    with pytest.raises(WeightsError, match="not here"):
        choice.make_detector_or_ours("yolov8n", engine="torch")
    (tmp_path / "detectors").mkdir()
    shutil.copy(random_yolox, tmp_path / "detectors" / "persons.safetensors")
    assert isinstance(choice.make_detector("persons", engine="torch"), YoloxPersons)
    assert isinstance(choice.make_detector(str(random_yolox), engine="torch"), YoloxPersons)
    with caplog.at_level(logging.WARNING):
        assert isinstance(choice.make_detector_or_ours("yolov8n", engine="torch"), YoloxPersons)
    assert "must do with persons: not here" in caplog.text
    # What was asked for by its name, and what measures, never gets another one.
    with pytest.raises(WeightsError, match="not here"):
        choice.make_detector_or_ours("yolov8m", engine="torch")
    with pytest.raises(WeightsError, match="not here"):
        choice.make_detector("yolov8n", engine="torch")


def test_yolo_takes_the_nearest_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        choice, "YoloPersons", lambda name, confidence, engine: asked.append(engine)
    )
    for engine in ("torch", "openvino", "openvino-int8", "onnxruntime", "auto"):
        choice.make_detector("yolov8n", engine=engine)
    assert asked == ["torch", "openvino", "openvino", "torch", "auto"]


def test_an_evaluation_judges_by_name_and_engine(
    random_yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float, str]] = []
    monkeypatch.setattr(judges, "MtcnnFaces", lambda confidence: None)
    monkeypatch.setattr(judges, "make_detector", lambda *given: asked.append(given))
    file = str(random_yolox)
    detectors, alone = judges.make_judges(file)
    assert list(detectors) == ["persons", "mtcnn"]
    detectors, both = judges.make_judges(file, f"{file}@onnxruntime")
    assert list(detectors) == ["persons", "judge", "mtcnn"]
    assert asked == [(file, 0.001, "torch")] * 2 + [(file, 0.001, "onnxruntime")]
    # What was measured with one engine does not stand for another.
    assert both[0] == alone[0] and both[1] != alone[0] and "onnxruntime" in both[1]


def test_bad_arguments_are_refused(random_yolox: Path) -> None:
    with pytest.raises(ValueError, match="confidence"):
        YoloxPersons(random_yolox, confidence=1.5)
    with pytest.raises(ValueError, match="max_side: got 33, must be a multiple of 32"):
        YoloxPersons(random_yolox, max_side=33)
    with pytest.raises(ValueError, match="engine: got 'steam', must be one of auto, torch"):
        YoloxPersons(random_yolox, engine="steam")
