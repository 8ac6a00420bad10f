"""What the second look learns from: which places are heads, and which heads wear a helmet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gained_model import make_gained_model, see_white

from roi_anon_ros.codec import load_model
from roi_anon_ros.codec.engines.stages import to_batch
from roi_anon_ros.codec.headmap import RunMap
from roi_anon_ros.codec.networks import HeadMap
from roi_anon_ros.codec.networks.headmap import MULTIPLE
from roi_anon_ros.codec.second_look import REACHES, SIDE, crop_heads
from roi_anon_ros.datasets import Boxes, Record, read_set
from roi_anon_ros.files import png, read_pixels
from roi_anon_ros.train import look_places, look_teacher
from roi_anon_ros.train.head_targets import label_heads
from roi_anon_ros.train.look_places import (
    LookCrops,
    find_moves,
    find_places,
    judge_places,
    tell_helmets,
)
from roi_anon_ros.train.look_teacher import HINTS, ask_teacher, make_hints
from roi_anon_ros.train.second_look import NormalisedLook
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.trainer import train

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


def test_the_way_from_a_place_to_its_head() -> None:
    """Place 18 pixels wide on the first head of 20, one of 24 beside the second."""
    moves = find_moves(label_heads(record([])), PLACES[[0, 3]])
    expected = [[0, 0, np.log2(20 / 18)], [-1 / 24, 1 / 24, np.log2(20 / 24)]]
    np.testing.assert_allclose(moves, expected, atol=1e-6)
    # Around a small head that is in its middle and a large one to its right: the one of its size.
    boxes = Boxes(np.array([[0, 0, 80, 80], [36, 36, 44, 44]], np.float32), np.zeros(2, bool))
    both = replace(record([]), heads=boxes)
    (move,) = find_moves(label_heads(both), np.array([[44.0, 40.0, 70.0]]))
    np.testing.assert_allclose(move, [-4 / 70, 0, np.log2(80 / 70)], atol=1e-6)


def test_normalisations_go_into_the_weights() -> None:
    torch.manual_seed(0)
    network = NormalisedLook()
    crops = torch.rand(9, 2, 3, SIDE, SIDE)
    evidence = torch.randn(9, 3)
    network(crops, evidence)  # the normalisations' means move
    network.eval()
    with torch.no_grad():
        answer, hints = network(crops, evidence)
        torch.testing.assert_close(network.fold()(crops, evidence), answer, atol=1e-4, rtol=1e-4)
    assert answer.shape == (9, 9) and hints.shape == (9, HINTS)


def white_set(folder: Path, count: int, seed: int) -> Path:
    """Images with two white squares on grey noise; the left one is drawn as a head."""
    rng = np.random.default_rng(seed)
    images = []
    boxes = []
    for index in range(count):
        image = rng.integers(60, 100, (128, 160, 3), np.uint8)
        top = int(rng.integers(16, 72))
        image[top : top + 24, 24:48] = 255
        image[top + 8 : top + 32, 104:128] = 255
        (folder / f"{index}.png").write_bytes(png(image))
        images.append({"id": index, "file_name": f"{index}.png", "width": 160, "height": 128})
        boxes.append({"id": index, "image_id": index, "category_id": 1, "bbox": [24, top, 24, 24]})
    categories = [{"id": 1, "name": "head"}]
    file = folder / "set.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return file


@pytest.fixture(scope="module")
def white(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return white_set(tmp_path_factory.mktemp("white"), 12, seed=1)


@pytest.fixture(scope="module")
def ask() -> RunMap:
    """A head map to which all that is white is a head."""
    net = HeadMap()
    see_white(net)

    @torch.no_grad()
    def run(image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(to_batch(image, MULTIPLE, 2 * MULTIPLE)).permute(0, 3, 1, 2)
        return net(batch.float() / 255)[0].numpy()

    return run


def as_images(file: Path) -> TrainingImages:
    records = read_set(file, file.parent).records
    return TrainingImages(records, None, np.ones(len(records)))


def test_places_are_where_the_upright_image_has_them(white: Path, ask: RunMap) -> None:
    """Half of the images are turned before the map is asked."""
    images = as_images(white)
    places = find_places(images, ask, seed=0)
    assert len(set(places.image.tolist())) == len(images.records)
    assert set(places.heads.tolist()) == {0.0, 1.0} and places.hints.shape[1] == 0
    for index, (x, y, _), head in zip(places.image, places.place, places.heads, strict=True):
        box = images.records[index].heads.xyxy[0]
        inside = box[0] - 4 < x < box[2] + 4 and box[1] - 4 < y < box[3] + 4
        assert inside == (head == 1)
    assert places.weights[places.heads == 1].sum() == pytest.approx(0.5)
    assert places.weights.sum() == pytest.approx(1)


def test_a_turned_crop_says_how_it_is_made_upright(
    white: Path, ask: RunMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SCALED", "TILTED", "MOVED"):
        monkeypatch.setattr(look_places, name, 0.0)
    crops = LookCrops(as_images(white), ask, seed=0)
    number = crops._places.image[0]
    place = crops._places.place[0]
    image = read_pixels(white.parent / f"{number}.png")
    upright = np.concatenate(crop_heads(image, place[None])[0]).astype(float)
    seen = set()
    for turns in range(4):
        both, _ = crops._show(0, turns, np.random.default_rng(turns))
        again = np.concatenate(np.rot90(both.reshape(2, SIDE, SIDE, 3), turns, (1, 2)))
        distances = [np.abs(again - upright).mean(), np.abs(again[:, ::-1] - upright).mean()]
        assert min(distances) < 2
        seen.add(int(np.argmin(distances)))
    assert seen == {0, 1}, "some are mirrored, some are not"
    labels = {int(crops[item][4]) for item in range(60)}
    assert labels == {0, 1, 2, 3}
    torch.testing.assert_close(crops[5], crops[5], rtol=0, atol=0, equal_nan=True)


def test_a_crop_knows_where_its_head_is(white: Path, ask: RunMap) -> None:
    """However it is turned, mirrored, moved and scaled."""
    crops = LookCrops(as_images(white), ask, seed=0)
    moves = crops._places.moves
    assert (np.isfinite(moves).all(axis=1) == (crops._places.heads == 1)).all()
    rng = np.random.default_rng(0)
    for index in np.flatnonzero(np.isfinite(moves[:, 0]))[:8].tolist():
        # Not quite in the middle, and of another size.
        crops._places.place[index, :2] += [3, -2]
        crops._places.moves[index] = find_moves(
            label_heads(crops.records[crops._places.image[index]]),
            crops._places.place[index : index + 1],
        )
        for turns in range(4):
            both, move = crops._show(index, turns, rng)
            rows, columns = np.nonzero(both[:SIDE, :, 0] > 200)
            middle = (SIDE - 1) / 2
            unit = SIDE / REACHES[0]
            assert (columns.mean() - middle) / unit == pytest.approx(move[0], abs=0.06)
            assert (rows.mean() - middle) / unit == pytest.approx(move[1], abs=0.06)
            assert np.sqrt(len(rows)) / unit == pytest.approx(2 ** move[2], rel=0.1)


def test_a_teacher_says_what_it_learned_from_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions that tell heads, and ones that tell nothing but which image it is."""
    monkeypatch.setattr(look_teacher, "STEPS", 100)
    monkeypatch.setattr(look_teacher, "BATCH", 64)
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(200), 4)
    heads = rng.integers(0, 2, len(images)).astype(np.int8)
    weights = np.full(len(images), 1 / len(images))
    telling = rng.normal(size=(len(images), 16))
    telling[:, 3] += 2.5 * heads
    answers = ask_teacher(telling.astype(np.float16), heads, images, weights, seed=1)
    assert ((answers > 0.5) == heads).mean() > 0.8
    # All places of an image are alike, and are heads or not together: known by heart, if at all.
    heads = (rng.random(200) < 0.5).astype(np.int8)[images]
    by_heart = rng.normal(size=(200, 16))[images].astype(np.float16)
    answers = ask_teacher(by_heart, heads, images, weights, seed=1)
    assert 0.35 < ((answers > 0.5) == heads).mean() < 0.65
    # Of what is not known, something is said as well.
    heads[::2] = -1
    assert np.isfinite(ask_teacher(by_heart, heads, images, weights, seed=1)).all()
    with pytest.raises(ValueError, match="too few images"):
        ask_teacher(by_heart, np.ones_like(heads), images, weights, seed=1)


def test_hints_are_along_the_axes_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(5000, 3))
    descriptions = (hidden @ rng.normal(size=(3, 100)) + 7).astype(np.float16)
    hints = make_hints(descriptions, seed=0)
    assert hints.shape == (5000, HINTS) and np.abs(hints).max() <= 3
    np.testing.assert_allclose(hints[:, :3].std(axis=0), 1, atol=0.05)
    # The three hold all that the descriptions do.
    fitted, *_ = np.linalg.lstsq(np.c_[hints[:, :3], np.ones(5000)], hidden, rcond=None)
    left = hidden - np.c_[hints[:, :3], np.ones(5000)] @ fitted
    assert left.std() < 0.2


def test_a_second_look_is_trained_with_a_teacher(
    white: Path, random_yolov8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_teacher, "STEPS", 5)
    codec = make_gained_model(tmp_path / "codec.safetensors")
    validation = white_set(tmp_path, 2, seed=2)
    config = {
        "network": "second-look",
        "train": [{"annotations": str(white), "images": str(white.parent)}],
        "validation": [{"annotations": str(validation), "images": str(tmp_path)}],
        "codec": str(codec),
        "teacher": str(random_yolov8),
        "steps": 4,
        "batch": 8,
        "epoch": 2,
        "validate": 2,
        "precision": "32-true",
        "workers": 0,
    }
    file = tmp_path / "look.yaml"
    file.write_text(yaml.safe_dump(config))
    result = train(file, tmp_path / "run")
    before = load_model(codec)
    after = load_model(result)
    assert after.metadata["training"]["second_look"]["config"]["teacher"] == str(random_yolov8)
    changed = [
        name for name in after.tensors if (after.tensors[name] != before.tensors[name]).any()
    ]
    assert changed and all(name.startswith("second_look.") for name in changed)
