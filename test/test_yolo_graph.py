"""YOLO in OpenVINO's form: how images are fitted and boxes are chosen, against plain arithmetic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from roi_anon_ros.detect.yolo_graph import (
    MOST,
    OVERLAP,
    PADDING,
    Fit,
    YoloGraph,
    choose,
    fit_into,
    lay,
)

WHOLE = Fit(1.0, 0, 0)


def row(box: tuple[float, float, float, float], *scores: float) -> list[float]:
    """What a network says of a box: left, top, right, bottom, and the scores of the classes."""
    left, top, right, bottom = box
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, *scores]


def columns(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).T


@pytest.mark.parametrize(
    ("shape", "stride", "fit", "size"),
    [
        ((480, 640), 32, Fit(1.0, 0, 0), (480, 640)),
        ((1080, 810), 32, Fit(640 / 1080, 0, 0), (640, 480)),
        ((720, 1280), 32, Fit(0.5, 0, 12), (384, 640)),
        ((720, 1280), None, Fit(0.5, 0, 140), (640, 640)),
        ((321, 200), 32, Fit(640 / 321, 8, 0), (640, 416)),
        ((240, 320), 32, Fit(1.0, 0, 8), (256, 320)),
        ((90, 120), 32, Fit(1.0, 4, 3), (96, 128)),
        ((3, 7), None, Fit(640 / 7, 0, 183), (640, 640)),
    ],
)
def test_images_are_fitted(
    shape: tuple[int, int], stride: int | None, fit: Fit, size: tuple[int, int]
) -> None:
    found, whole = fit_into(shape, (640, 640), stride)
    assert (found.left, found.top) == (fit.left, fit.top) and whole == size
    assert found.scale == pytest.approx(fit.scale)
    laid = lay(np.full((*shape, 3), 7, np.uint8), found, whole)
    assert laid.shape == (*size, 3)
    inside = laid[:, :, 0] == 7
    assert (laid[~inside] == PADDING).all()
    rows, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (rows[0], across[0]) == (found.top, found.left)
    assert len(rows) == round(shape[0] * fit.scale) and len(across) == round(shape[1] * fit.scale)


def test_boxes_come_back_to_the_pixels_of_the_image() -> None:
    boxes, scores = choose(columns(row((10, 32, 110, 232), 0.9)), [0], 0.25, Fit(0.5, 0, 12))
    np.testing.assert_allclose(boxes, [[20, 40, 220, 440]])
    np.testing.assert_allclose(scores, [0.9])


def test_an_object_is_of_its_best_class_alone() -> None:
    rows = columns(row((0, 0, 10, 10), 0.6, 0.7), row((50, 0, 60, 10), 0.5, 0.4))
    boxes, scores = choose(rows, [0], 0.25, WHOLE)
    np.testing.assert_allclose(boxes, [[50, 0, 60, 10]])
    assert choose(rows, [], 0.25, WHOLE)[0].shape == (0, 4)
    np.testing.assert_allclose(choose(rows, [0, 1], 0.25, WHOLE)[1], [0.7, 0.5])


def test_confidence_is_a_floor_and_the_best_come_first() -> None:
    rows = columns(*(row((20 * i, 0, 20 * i + 10, 10), i / 10) for i in range(1, 10)))
    _, scores = choose(rows, [0], 0.45, WHOLE)
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7, 0.6, 0.5])


@pytest.mark.parametrize(("overlap", "left"), [(OVERLAP + 0.02, 1), (OVERLAP - 0.02, 2)])
def test_of_boxes_that_overlap_the_best_stays(overlap: float, left: int) -> None:
    shift = 100 * (1 - overlap) / (1 + overlap)
    rows = columns(row((0, 0, 100, 100), 0.5), row((shift, 0, 100 + shift, 100), 0.9))
    boxes, scores = choose(rows, [0], 0.25, WHOLE)
    assert len(boxes) == left and scores[0] == pytest.approx(0.9)


def test_classes_do_not_suppress_each_other() -> None:
    rows = columns(row((0, 0, 100, 100), 0.5, 0.1), row((0, 0, 100, 100), 0.1, 0.9))
    assert len(choose(rows, [0, 1], 0.25, WHOLE)[0]) == 2


def test_a_crowd_is_bounded() -> None:
    rows = columns(*(row((20 * i, 0, 20 * i + 10, 10), 0.5) for i in range(MOST + 50)))
    assert len(choose(rows, [0], 0.25, WHOLE)[0]) == MOST


def write_network(folder: Path, rows: int, **metadata: object) -> None:
    """A network that gives this many rows of zeros, and what its metadata says."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    from openvino import opset13

    taken = opset13.parameter([1, 3, 64, 64], np.float32)
    nothing = opset13.multiply(
        opset13.reduce_mean(taken, np.array([1, 2, 3]), False), np.float32(0)
    )
    given = opset13.add(nothing, np.zeros((1, rows, 21), np.float32))
    openvino.save_model(openvino.Model([given], [taken]), folder / "model.xml")
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))


def test_other_networks_are_refused(tmp_path: Path) -> None:
    names = {0: "person", 1: "cat"}
    write_network(tmp_path, 6, names=names, task="detect")
    graph = YoloGraph(tmp_path, 640, 1)
    assert graph.fixed and graph.names == names
    ((boxes, scores),) = graph([np.zeros((90, 120, 3), np.uint8)], [0], 0.25)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    for rows, task in ((6, "obb"), (38, "segment"), (300, "detect")):
        write_network(tmp_path, rows, names=names, task=task)
        with pytest.raises(ValueError, match=f"{task} with outputs .*must be detect with 6 rows"):
            YoloGraph(tmp_path, 640, 1)


def write_cells(folder: Path, height: int, width: int) -> None:
    """A network as exported for one size: a box of twice its stride around the centre of each cell,
    whose score is the mean of the cell's pixels.
    """
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    from openvino import opset13 as ops

    taken = ops.parameter([1, 3, height, width], np.float32)
    grey = ops.reduce_mean(taken, np.array([1]), True)
    scales, centres, strides = [], [], []
    for stride in (8, 16, 32):
        sides = [stride, stride]
        none = [0, 0]
        pooled = ops.avg_pool(grey, sides, none, none, sides, False)
        scales.append(ops.reshape(pooled, np.array([1, 1, -1]), False))
        lines, columns = np.mgrid[: height // stride, : width // stride]
        centres.append(np.stack([columns.reshape(-1), lines.reshape(-1)]) + 0.5)
        strides.append(np.full(lines.size, stride))
    cells = np.concatenate(centres, 1)[None].astype(np.float32)
    # The fixed shape at the end, as exports for one size have it.
    scores = ops.reshape(ops.concat(scales, 2), np.array([1, 1, cells.shape[2]]), False)
    sides_of = ops.add(ops.multiply(scores, np.float32(0)), np.full((1, 2, 1), 2, np.float32))
    steps = np.concatenate(strides)[None, None].astype(np.float32)
    boxes = ops.multiply(ops.concat([ops.constant(cells), sides_of], 1), steps)
    given = ops.concat([boxes, scores], 1)
    openvino.save_model(
        openvino.Model([given], [taken]), folder / "model.xml", compress_to_fp16=False
    )
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"names": {0: "person"}}))


def test_a_network_of_one_size_takes_others(tmp_path: Path) -> None:
    write_cells(tmp_path, 128, 160)
    graph = YoloGraph(tmp_path, 640, 1)
    assert not graph.fixed
    image = np.zeros((100, 230, 3), np.uint8)  # becomes 128 x 256: padded by 14 and 13
    image[18:50, 51:83] = 255  # a cell of stride 32: the second line, the third column
    ((boxes, _),) = graph([image], [0], 0.99)
    assert np.isclose(boxes, [51 - 16, 18 - 16, 83 + 16, 50 + 16]).all(1).any()


@pytest.mark.weights
def test_a_detector_through_openvino_leaves_torch_alone() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    pytest.importorskip("ultralytics", reason="needs the 'server' extra")
    from roi_anon_ros.detect import WeightsError, find_weights
    from roi_anon_ros.detect.persons import openvino_form

    try:
        weights = find_weights("yolov8n.onnx")
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")
    openvino_form(weights)  # converted once
    code = (
        "import sys; from roi_anon_ros.detect import YoloPersons; "
        f"YoloPersons({str(weights)!r}, engine='openvino'); "
        "print([name for name in ('torch', 'ultralytics') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr
