"""Aligning faces and recognising people: geometry without weights, and people where the weights are
at hand.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roi_anon_ros.detect.recogniser import (
    SIDE,
    TEMPLATE,
    FaceRecogniser,
    YunetLandmarks,
    align,
    similarity,
)
from roi_anon_ros.files import read_pixels


@pytest.fixture(scope="module")
def recogniser(shared_dir: Path) -> FaceRecogniser:
    return FaceRecogniser(existing(shared_dir / "weights" / "w600k_mbf.onnx"))


@pytest.fixture(scope="module")
def finder(shared_dir: Path) -> YunetLandmarks:
    return YunetLandmarks(existing(shared_dir / "weights" / "face_detection_yunet_2023mar.onnx"))


def existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not here; it is not shipped")
    return path


@given(st.floats(-3.1, 3.1), st.floats(0.1, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_a_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity(TEMPLATE, TEMPLATE @ turn.T + (x, y))
    assert found == pytest.approx(
        np.column_stack([turn, (x, y)]), abs=1e-8 * (1 + scale + abs(x) + abs(y))
    )


def test_a_similarity_is_the_nearest_and_never_a_mirror() -> None:
    """No small change of its four numbers comes nearer, with noisy or mirrored points."""
    noisy = TEMPLATE + np.random.default_rng(0).normal(0, 4, TEMPLATE.shape)
    for points in (noisy, TEMPLATE * (-1, 1)):
        found = similarity(points, TEMPLATE)
        assert np.linalg.det(found[:, :2]) > 0

        def error(matrix: np.ndarray, points: np.ndarray = points) -> float:
            return float(np.square(points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE).sum())

        changes = [
            [[1, 0, 0], [0, 1, 0]],
            [[0, -1, 0], [1, 0, 0]],
            [[0, 0, 1], [0, 0, 0]],
            [[0, 0, 0], [0, 0, 1]],
        ]
        for change in np.array(changes) * 1e-3:
            assert error(found) < min(error(found + change), error(found - change))
    with pytest.raises(ValueError, match="points"):
        similarity(np.ones((5, 2)), TEMPLATE)


@pytest.mark.parametrize("scale", [0.5, 1, 2.5])
def test_aligning_puts_the_points_on_the_template(scale: float) -> None:
    """Five dots of different colours, turned and scaled, come to lie where ArcFace wants them."""
    turn = np.array([[0.9, -0.3], [0.3, 0.9]]) * scale
    points = TEMPLATE @ turn.T + (90, 40)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])
    rows, columns = np.mgrid[:400, :400]
    image = np.zeros((400, 400, 3))
    for (x, y), colour in zip(points, colours, strict=True):
        image += (
            np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (3 * scale) ** 2))[..., None]
            * colour
        )
    face = align(image.clip(0, 255).astype(np.uint8), points)
    assert face.shape == (SIDE, SIDE, 3) and face.dtype == np.uint8
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for point, colour in zip(TEMPLATE, colours, strict=True):
        weight = (np.abs(face.astype(float) - colour).sum(2) < 120) * face.max(2)
        centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        assert centre == pytest.approx(point, abs=0.5)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(ValueError, match="landmarks"):
        align(image, TEMPLATE[:4])
    with pytest.raises(ValueError, match="dtype"):
        align(image.astype(np.float32), TEMPLATE)
    with pytest.raises(FileNotFoundError, match="model_path"):
        FaceRecogniser(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="model_path"):
        FaceRecogniser(tmp_path / "text.onnx")


@pytest.mark.weights
def test_vectors_have_length_one_and_keep_to_themselves(recogniser: FaceRecogniser) -> None:
    faces = list(np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE, 3), np.uint8))
    vectors = recogniser(faces)
    assert vectors.shape == (3, 512) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(recogniser(faces[1:2])[0], vectors[1])
    assert recogniser([]).shape == (0, 512)
    with pytest.raises(ValueError, match=r"faces\[1\]"):
        recogniser([faces[0], faces[1][:100]])


@pytest.mark.weights
def test_opencv_runs_the_network_as_onnxruntime_does(
    recogniser: FaceRecogniser, shared_dir: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(
        str(shared_dir / "weights" / "w600k_mbf.onnx"), providers=["CPUExecutionProvider"]
    )
    face = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    planes = ((face.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
    (theirs,) = session.run(None, {session.get_inputs()[0].name: planes})[0]
    assert recogniser([face])[0] == pytest.approx(theirs / np.linalg.norm(theirs), abs=1e-5)


@pytest.mark.weights
def test_one_person_is_told_from_another(
    recogniser: FaceRecogniser, finder: YunetLandmarks, shared_dir: Path
) -> None:
    """Two images each of eight people, one of them turned and made smaller: everybody is nearest
    to himself.
    """
    people = sorted(existing(shared_dir / "weights" / "lfw_pairs").iterdir())[::40]
    first, second = [], []
    for person in people:
        one, other = (read_pixels(path) for path in sorted(person.iterdir())[:2])
        turned = cv2.warpAffine(other, cv2.getRotationMatrix2D((125, 125), 15, 0.6), (250, 250))
        for image, vectors in ((one, first), (turned, second)):
            vectors.append(recogniser([align(image, finder.landmarks(image))])[0])
    similarities = np.array(first) @ np.array(second).T
    assert (similarities.argmax(1) == np.arange(len(people))).all()
    assert (
        np.diag(similarities).mean() > 0.4
        and similarities[~np.eye(len(people), dtype=bool)].mean() < 0.1
    )


@pytest.mark.weights
def test_landmarks_are_of_the_surest_face(finder: YunetLandmarks, shared_dir: Path) -> None:
    person = sorted(existing(shared_dir / "weights" / "lfw_pairs").iterdir())[0]
    crop = read_pixels(sorted(person.iterdir())[0])
    alone = finder.landmarks(crop)
    assert alone.shape == (5, 2) and alone.dtype == np.float32
    assert (
        alone[0, 0] < alone[1, 0] and alone[3, 0] < alone[4, 0]
    )  # the left one in the image first
    assert alone[:2, 1].max() < alone[2, 1] < alone[3:, 1].min()
    scene = np.zeros((400, 600, 3), np.uint8)
    scene[100:350, 50:300] = crop
    scene[200:250, 400:450] = cv2.GaussianBlur(
        cv2.resize(crop, (50, 50), interpolation=cv2.INTER_AREA), (0, 0), 2
    )
    assert finder.landmarks(scene) == pytest.approx(alone + (50, 100), abs=12)
    assert finder.landmarks(np.zeros((60, 80, 3), np.uint8)) is None


def write_recogniser(path: Path) -> None:
    """A small network of all the operations that MobileFaceNet has, with random weights."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper = onnx.helper
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "b1": (4,), "s": (4, 1, 1), "w2": (4, 1, 3, 3), "b2": (4,)}
    shapes |= {"fc.w": (8, 4 * 28 * 28), "fc.b": (8,), "g": (8,), "b": (8,), "m": (8,)}
    values = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    values["v"] = rng.uniform(0.5, 2, 8)
    wide = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["1"], strides=[4, 4], **wide),
        helper.make_node("PRelu", ["1", "s"], ["2"]),
        helper.make_node("Conv", ["2", "w2", "b2"], ["3"], group=4, strides=[1, 1], **wide),
        helper.make_node("Add", ["2", "3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "fc.w", "fc.b"], ["6"], transB=1),
        helper.make_node("BatchNormalization", ["6", "g", "b", "m", "v"], ["y"], epsilon=1e-5),
    ]
    kept = [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()]
    face = helper.make_tensor_value_info("x", 1, [1, 3, 112, 112])
    vector = helper.make_tensor_value_info("y", 1, [1, 8])
    graph = helper.make_graph(nodes, "face", [face], [vector], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)


def test_a_recogniser_with_gradient_gives_the_same_vectors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from roi_anon_ros.detect.recogniser_torch import TorchRecogniser

    path = tmp_path / "face.onnx"
    write_recogniser(path)
    network = TorchRecogniser(path)
    faces = list(np.random.default_rng(1).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8))
    plain = FaceRecogniser(path)
    assert network.fingerprint == plain.fingerprint
    values = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float().div(255)
    values.requires_grad_()
    vectors = network(values)
    assert vectors.detach().numpy() == pytest.approx(plain(faces), abs=1e-5)
    vectors[0, 0].backward()
    assert values.grad[0].abs().max() > 0 and values.grad[1].abs().max() == 0
    # SFace has the scaling of its input in itself.
    path.rename(tmp_path / "face_sface.onnx")
    other = FaceRecogniser(tmp_path / "face_sface.onnx")
    scaled = network(values.detach() * 127.5 + 0.5).numpy()
    assert other(faces) == pytest.approx(scaled, abs=1e-4)


def test_what_is_no_recogniser_with_gradient_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    from roi_anon_ros.detect.recogniser_torch import TorchRecogniser

    with pytest.raises(FileNotFoundError, match="there is no file"):
        TorchRecogniser(tmp_path / "none.onnx")
    path = tmp_path / "bad.onnx"
    path.write_text("no network")
    with pytest.raises(ValueError, match="no .onnx file"):
        TorchRecogniser(path)
    write_recogniser(path)
    model = onnx.load(path)
    model.graph.node[1].op_type = "Sin"
    onnx.save(model, path)
    with pytest.raises(ValueError, match="has Sin, which is not known"):
        TorchRecogniser(path)
