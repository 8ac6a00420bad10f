"""Attacks on faces that train nothing: candidates encoded and compared, sex and age told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from roi_anon_ros.evaluate.closed_set import (
    RIDGE,
    measure_closed_set,
    name_photos,
    read_head,
    sum_up_named,
)
from roi_anon_ros.evaluate.discrimination import (
    distance,
    measure_discrimination,
    pick,
    sum_up_picked,
)
from roi_anon_ros.evaluate.identity import Face, Scene
from roi_anon_ros.evaluate.inference import correlate, sum_up_attributes, tell_sex
from roi_anon_ros.evaluate.methods import Method, make_method
from roi_anon_ros.evaluate.report.tables import attacks_on_faces

NAMES = [f"person {number // 2}" for number in range(24)]


def draw_faces(folder: Path) -> list[Face]:
    """Two photos of each of twelve people, who look the same on both."""
    faces = []
    for number, name in enumerate(NAMES):
        tiles = np.random.default_rng(number // 2).integers(0, 255, (4, 4, 3), np.uint8)
        path = folder / f"{number}.png"
        image = cv2.resize(tiles, (64, 64), interpolation=cv2.INTER_NEAREST)
        image[0, 0] = number  # no two photos are the same
        cv2.imwrite(str(path), image)
        faces.append(Face(name, path, np.zeros((5, 2), np.float32)))
    return faces


def test_candidates_are_picked_by_distance() -> None:
    """Photos on a line, those of one person next to each other: all are told, by either photo."""
    places = np.arange(24) // 2 * 10 + np.arange(24) % 2
    hits = pick(NAMES, lambda one, other: abs(float(places[one] - places[other])))
    assert np.array_equal(hits, np.ones((2, 24)))
    figures = sum_up_picked(NAMES, hits)
    assert (figures["same"], figures["other"]) == (1, 1)
    assert (figures["candidates"], figures["chance"]) == (10, 1 / 10)


def test_what_is_all_the_same_is_guessed() -> None:
    hits = pick([*NAMES, "alone"], lambda one, other: 0.0)
    assert hits[:, :24] == pytest.approx(np.full((2, 24), 1 / 10))
    assert hits[0, 24] == pytest.approx(1 / 10) and np.isnan(hits[1, 24])
    figures = sum_up_picked([*NAMES, "alone"], hits)
    assert figures["other"] == pytest.approx(1 / 10)
    assert figures["other_interval"] == pytest.approx((1 / 10, 1 / 10))
    few = pick(["a", "a", "b"], lambda one, other: float(one != other))
    assert few[0] == pytest.approx([1, 1, 1]) and few[1, :2] == pytest.approx([1 / 2, 1 / 2])
    apart = pick(["a", "a", "b"], lambda one, other: float(one == 2 or other == 2))
    assert apart[1, :2] == pytest.approx([1, 1])
    assert sum_up_picked(["a", "a", "b"], few)["chance"] == 1 / 2


def test_distance_is_of_all_that_is_received() -> None:
    one = np.zeros((2, 3), np.uint8)
    assert distance(one, one) == 0
    assert distance(one, np.full((2, 3), 200, np.uint8)) == pytest.approx(200**2)
    assert distance(one, np.zeros((3, 3), np.uint8)) == np.inf


def test_a_run_is_continued_and_a_hidden_head_is_guessed(tmp_path: Path) -> None:
    faces = draw_faces(tmp_path)
    original = make_method("original")
    sent = []

    def encode(image: np.ndarray) -> bytes:
        sent.append(image.shape)
        return original.encode(image)

    def hide(image: np.ndarray) -> bytes:
        painted = image.copy()
        painted[16:80] = 90
        return original.encode(painted)

    clear = Method("clear", "clear", encode, original.decode)
    hidden = Method("hidden", "hidden", hide, original.decode)
    rest = (Scene(32), tmp_path / "cache", lambda items, *_: items, "")
    found = measure_discrimination(faces, clear, *rest)
    assert (found["same"], found["other"]) == (1, 1)
    assert sent == [(128, 128, 3)] * 24
    assert measure_discrimination(faces, clear, *rest) == found and len(sent) == 24
    guessed = measure_discrimination(faces, hidden, *rest)
    assert (guessed["same"], guessed["other"]) == pytest.approx((1 / 10, 1 / 10))
    methods = {"clear": {"discrimination": found}, "hidden": {"discrimination": guessed}}
    (table,) = attacks_on_faces("32 px", methods)
    assert [row[0] for row in table] == ["32 px: discrimination", "clear", "hidden"]
    assert table[2][1] == "0.100 (0.100 to 0.100)"


def test_who_sends_heads_is_named_by_his_packets(tmp_path: Path) -> None:
    """By a latent that carries the head everybody is named, where the head is painted nobody is."""
    faces = draw_faces(tmp_path)
    original = make_method("original")

    def latent(data: bytes) -> np.ndarray:
        image = original.decode(data).transpose(2, 0, 1).astype(np.float32)
        return image.reshape(3, 16, 8, 16, 8).mean((2, 4))

    def hide(image: np.ndarray) -> bytes:
        painted = image.copy()
        painted[16:48] = 90
        return original.encode(painted)

    clear = Method("clear", "clear", original.encode, original.decode, latent)
    hidden = Method("hidden", "hidden", hide, original.decode, latent)
    rest = (Scene(32), tmp_path / "cache", lambda items, *_: items, "")
    found = {one.name: measure_closed_set(faces, one, *rest) for one in (clear, hidden)}
    assert found["clear"]["rank1"] == 1
    assert found["hidden"]["rank1"] == pytest.approx(1 / 12)
    assert (found["clear"]["people"], found["clear"]["photos"]) == (12, 24)
    assert measure_closed_set(faces, clear, *rest) == found["clear"]
    methods = {name: {"closed_set": one} for name, one in found.items()}
    (table,) = attacks_on_faces("32 px", methods)
    assert [row[0] for row in table[1:]] == ["clear", "hidden", "by chance"]
    assert table[3][1] == "0.083"


def test_the_head_is_read_where_it_is() -> None:
    """Of a head of 32 pixels in a scene of 128 pixels, lines 16 to 48 and columns 48 to 80."""
    inside = np.zeros((1, 128, 128), np.uint8)
    inside[:, 16:48, 48:80] = 255
    assert read_head(inside, is_image=True) == pytest.approx(np.ones(32 * 32))
    assert read_head(255 - inside, is_image=True) == pytest.approx(np.zeros(32 * 32))
    cells = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    # Cells of 16 pixels: lines 1 to 2 and columns 3 to 4, and those next to them.
    assert np.array_equal(read_head(cells, is_image=False), cells[0, 0:4, 2:6].ravel())


def test_the_linear_layer_is_a_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    person = np.array([0, 0, 1, 1, 2])
    features = rng.normal(size=(5, 3)).astype(np.float32)
    hits = name_photos(features, person)
    # Turn 0 by the primal form: photos 0 and 2 are left out, person 2 has no other one.
    known = features[[1, 3, 4]]
    centred = known - known.mean(0)
    scale = np.sqrt(np.square(centred).mean())
    wanted = np.eye(3) - 1 / 3
    left = centred.T @ centred / scale**2 + 3 * RIDGE * np.eye(3)
    weights = np.linalg.solve(left, centred.T @ wanted / scale)
    scores = (features[[0, 2]] - known.mean(0)) / scale @ weights
    assert hits[[0, 2]].tolist() == (scores.argmax(1) == [0, 1]).tolist()
    assert np.isnan(hits[4])
    figures = sum_up_named(person, hits)
    assert figures["photos"] == 4 and figures["rank1_chance"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="nobody has two photos"):
        name_photos(features, np.arange(5))


def test_sex_and_age_are_told_by_hand() -> None:
    male = np.array([True, True, False, False])
    # Of the four pairs of a man and a woman three are in order.
    assert tell_sex(male, np.array([0.9, 0.4, 0.5, 0.1]), np.ones(4)) == pytest.approx(3 / 4)
    # The second man twice: of six pairs four.
    weights = np.array([1.0, 2, 1, 1])
    assert tell_sex(male, np.array([0.9, 0.4, 0.5, 0.1]), weights) == pytest.approx(4 / 6)
    assert np.isnan(tell_sex(male, np.ones(4), np.array([1.0, 1, 0, 0])))
    truth = np.array([20.0, 30, 40, 50])
    # Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 · 2 / (4 · 15).
    seen = np.array([1.0, 3, 2, 9])
    assert correlate(truth, seen, np.ones(4)) == pytest.approx(0.8)
    assert np.isnan(correlate(truth, np.ones(4), np.ones(4)))


def test_the_truth_is_of_the_other_images() -> None:
    names = ["a", "a", "b", "b", "c", "c", "alone"]
    clear = np.array([[0.9, 30], [0.8, 32], [0.1, 50], [0.2, 54], [0.7, 70], [0.9, 66], [0.9, 20]])
    told = sum_up_attributes(names, clear, clear)["attributes"]
    assert told["images"] == 6 and told["sex_auc"] == 1
    # Truths 32 30 54 50 66 70 against 30 32 50 54 70 66: pairs change places, 1 - 6 · 6 / (6 · 35).
    assert told["age_correlation"] == pytest.approx(1 - 36 / 210)
    blind = sum_up_attributes(names, clear, np.tile([0.6, 40.0], (7, 1)))["attributes"]
    assert blind["sex_auc"] == 0.5 and np.isnan(blind["age_correlation"])
    assert not sum_up_attributes(names, np.tile([0.9, 40.0], (7, 1)), clear)


@pytest.mark.weights
def test_the_network_tells_sex_and_age_of_clear_faces(shared_dir: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from roi_anon_ros.detect.attributes import FaceAttributes

    path = shared_dir / "weights" / "age-gender-recognition-retail-0013.xml"
    if not path.exists():
        pytest.skip(f"{path.name} is not here; it is not shipped")
    told = FaceAttributes(path)([np.full((112, 112, 3), 128, np.uint8)])
    assert told.shape == (1, 2) and 0 <= told[0, 0] <= 1 and 0 < told[0, 1] < 100
    for other in ("w600k_mbf.onnx", "person-reidentification-retail-0277.xml"):
        with pytest.raises((ValueError, FileNotFoundError)):
            FaceAttributes(path.parent / other)
