"""YOLOX-nano in torch against the published network in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect.yolox import YoloxNano, read_onnx

WEIGHTS = cache_dir() / "weights" / "yolox_nano.onnx"


@pytest.fixture(scope="module")
def published() -> Path:
    if not WEIGHTS.is_file():
        pytest.skip(f"the published weights are not there: {WEIGHTS}")
    return WEIGHTS


def real_image(side: int) -> np.ndarray:
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    cv2 = pytest.importorskip("cv2")
    path = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    return cv2.resize(cv2.imread(str(path))[:810], (side, side), interpolation=cv2.INTER_AREA)


def test_it_gives_what_the_published_network_gives(published: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bgr = real_image(416).transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(published), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"images": bgr})[0]
    rgb = torch.from_numpy(bgr[:, ::-1].copy()) / 255
    with torch.no_grad():
        found = read_onnx(published)(rgb).numpy()
    assert expected[0, :, 4].max() > 0.5  # there is something to see
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_one_class_of_it_is_that_class(published: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        every = read_onnx(published)(x)
        persons = read_onnx(published, classes=[0])(x)
    assert persons.shape == (1, 126, 6)
    torch.testing.assert_close(persons, every[..., :6])


def test_another_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "other.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match="other.onnx: got SHA-256 .*, must be 615e2661"):
        read_onnx(tmp_path / "other.onnx")


def test_shapes_of_maps_and_rows() -> None:
    network = YoloxNano(classes=1).eval()
    x = torch.rand(2, 3, 64, 96)
    shapes = [tuple(one.shape) for one in network.features(x)]
    assert shapes == [(2, 64, 8, 12), (2, 128, 4, 6), (2, 256, 2, 3)] * 2
    assert network(x).shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 6)
    with pytest.raises(ValueError, match="x: got sides 64 x 80, must be multiples of 32"):
        network(x[..., :80])


def test_channels_last_gives_the_same_and_the_gradient_reaches_the_image() -> None:
    torch.manual_seed(0)
    network = YoloxNano(classes=1).double().eval().requires_grad_(False)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    plain = network(x)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), plain)
    plain.sum().backward()
    assert x.grad.abs().min() > 0
