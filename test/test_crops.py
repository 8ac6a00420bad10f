"""Crops: the same in every run, with boxes where their content is, heads of all sizes, and damaged
files left out.
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.train import crops as module
from roi_anon_ros.train.crops import Crops, WholeImages, collate

NONE = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))


def boxes(*rows: tuple[float, ...], ignore: tuple[bool, ...] | None = None) -> Boxes:
    return Boxes(np.array(rows, np.float32), np.array(ignore or [False] * len(rows)))


def record(path: Path, image: np.ndarray, heads: Boxes = NONE, persons: Boxes = NONE) -> Record:
    """Write the image (RGB) and describe it."""
    assert cv2.imwrite(str(path), image[..., ::-1])
    height, width = image.shape[:2]
    return Record(path, width, height, persons, heads, NONE, frozenset(("person", "head")))


def noise(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    head, person = boxes((20.5, 15.2, 44.1, 39.9)), boxes((10, 10, 54, 120))
    return [record(tmp_path / f"{i}.png", noise(i), head, person) for i in range(6)]


def test_crops_repeat(records: list[Record]) -> None:
    one, two = Crops(records, size=64, seed=1), Crops(records, size=64, seed=1)
    two.preload()
    assert all(same(one[i], two[i]) for i in (7, 0, 3, 10**9))
    assert not torch.equal(one[0][0], one[1][0])
    assert not torch.equal(one[0][0], Crops(records, size=64, seed=2)[0][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_replaced_and_named_once(
    records: list[Record],
    workers: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = records[1].path.read_bytes()
    records[1].path.write_bytes(whole[: len(whole) // 2])
    records[4].path.unlink()
    crops, preloaded = Crops(records, size=64, seed=1), Crops(records, size=64, seed=1)
    loader = DataLoader(
        crops,
        4,
        sampler=range(40),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=False,
    )
    batches = torch.cat([x for x, _, _ in loader])
    if not workers:  # two processes may meet the same file at the same time
        warned = [
            entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING
        ]
        assert len(warned) == 2
        for path in (records[1].path, records[4].path):
            assert sum(message.startswith(f"{path}: left out: ") for message in warned) == 1
    preloaded.preload()
    assert all(torch.equal(batches[i], preloaded[i][0]) for i in range(40))


def test_without_a_single_image_there_are_no_crops(records: list[Record]) -> None:
    with pytest.raises(ValueError, match="records: none"):
        Crops([], size=64, seed=0)
    for r in records:
        r.path.write_bytes(b"")
    with pytest.raises(ValueError, match="records: none of the images can be decoded"):
        Crops(records, size=64, seed=0)[0]
    with pytest.raises(ValueError, match="records: none of the images can be decoded"):
        WholeImages(records)


def test_the_cache_ends_at_its_bound(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    decode = module.read_pixels
    monkeypatch.setattr(module, "read_pixels", lambda path: read.append(path) or decode(path))
    monkeypatch.setattr(module, "CACHE_BYTES", noise(0).nbytes)
    crops = Crops(records, size=64, seed=1)
    crops.preload()
    assert len(read) == 2
    expected = Crops(records, size=64, seed=1)
    assert all(same(crops[i], expected[i]) for i in range(10))


@given(
    size=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    corner=st.tuples(st.floats(0, 0.7), st.floats(0, 0.7)),
    side=st.floats(0.1, 0.3),
)
@settings(max_examples=20, deadline=None)
def test_boxes_follow_their_content(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    corner: tuple[float, float],
    side: float,
) -> None:
    """A white head on black: after cutting, scaling and flipping, what is bright lies in the head's
    box.
    """
    width, height = size
    x1, y1 = round(corner[0] * width), round(corner[1] * height)
    x2, y2 = x1 + max(round(side * width), 3), y1 + max(round(side * height), 3)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    path = tmp_path_factory.mktemp("crop") / "p.png"
    crops = Crops([record(path, image, boxes((x1, y1, x2, y2)))], 96, seed=0, around_heads=1)
    crops.preload()
    seen = 0
    for i in range(8):
        x, heads, _ = crops[i]
        bright = (x.mean(0) > 0.5).nonzero()
        if len(heads) and len(bright):
            seen += 1
            (top, left), (bottom, right) = bright.min(0).values, bright.max(0).values + 1
            drawn = torch.stack([left, top, right, bottom])
            assert (drawn - heads[0]).abs().max() <= 3  # blur, and the box is grown to whole pixels
    assert seen


def test_ignored_heads_are_hidden_and_ignored_persons_left_out(tmp_path: Path) -> None:
    heads = boxes((10, 10, 60, 60), (70, 10, 120, 60), ignore=(True, False))
    persons = boxes((0, 0, 64, 120), (64, 0, 128, 120), ignore=(True, False))
    r = record(tmp_path / "a.png", noise(0), heads, persons)
    x, shown, kept = WholeImages([r])[0]
    assert x.shape == (3, 120, 160)
    assert shown.tolist() == heads.xyxy.tolist() and kept.tolist() == [[64, 0, 128, 120]]
    most = [len(item[1]) - len(item[2]) for item in map(Crops([r], 64, 0).__getitem__, range(40))]
    assert max(most) == 1  # both heads and one person


def test_whole_images_have_whole_boxes(records: list[Record]) -> None:
    records[2].path.write_bytes(b"")
    images = WholeImages(records)
    assert [r.path.name for r in images.records] == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    x, heads, persons = images[2]
    assert torch.equal(x, torch.from_numpy(noise(3)).permute(2, 0, 1) / 255)
    assert heads.tolist() == [[20, 15, 45, 40]] and persons.tolist() == [[10, 10, 54, 120]]
    batch, regions, _ = collate([images[2]])
    assert batch.shape == (1, 3, 120, 160) and regions.boxes.tolist() == heads.tolist()


def test_large_whole_images_shrink_to_what_a_camera_codes(tmp_path: Path) -> None:
    image = np.zeros((960, 1280, 3), np.uint8)
    image[200:400, 600:700] = 255
    x, heads, _ = WholeImages([record(tmp_path / "a.png", image, boxes((600, 200, 700, 400)))])[0]
    assert x.shape == (3, 480, 640)
    (y1, x1), (y2, x2) = (
        (x.mean(0) > 0.5).nonzero().amin(0),
        (x.mean(0) > 0.5).nonzero().amax(0) + 1,
    )
    assert heads.tolist() == [[x1, y1, x2, y2]] == [[300, 100, 350, 200]]


@pytest.mark.slow
def test_heads_come_in_all_sizes(tmp_path: Path) -> None:
    """Images with heads of 12 to 400 pixels: in crops of 192 pixels, every octave from 8 on has
    its share.
    """
    records = []
    for i, side in enumerate(np.geomspace(12, 400, 8)):
        head = boxes((100, 40, 100 + side, 40 + side))
        records.append(record(tmp_path / f"{i}.png", np.zeros((480, 640, 3), np.uint8), head))
    crops = Crops(records, size=192, seed=0, around_heads=1)
    crops.preload()
    sides = [
        (heads[0, 2:] - heads[0, :2]).max().item() for heads in (crops[i][1] for i in range(400))
    ]
    octaves = np.histogram(np.log2(sides), [3, 4, 5, 6, 7, np.log2(192)])[0] / 400
    assert (octaves > 0.05).all(), octaves
    assert min(sides) <= 10 and max(sides) >= 160


@pytest.mark.slow
def test_a_share_of_the_crops_has_the_size_at_which_a_camera_codes(tmp_path: Path) -> None:
    """A head of 50 pixels in an image that a camera would halve is one of 25 in them, and of all
    sizes in others.
    """
    r = record(tmp_path / "a.png", np.zeros((960, 1280, 3), np.uint8), boxes((620, 460, 670, 510)))

    def heads(own_size: float) -> list[int]:
        crops = Crops([r], size=192, seed=0, own_size=own_size)
        items = [crops[i][1] for i in range(120)]
        return [int(h[0, 3] - h[0, 1]) for h in items if len(h) and 0 < h[0, 1] and h[0, 3] < 192]

    def share(found: list[int]) -> float:
        return sum(25 <= side <= 27 for side in found) / len(found)

    assert share(heads(1.0)) == 1 and len(heads(1.0)) > 5
    assert share(heads(0.0)) < 0.2


def test_sensor_and_transmission_leave_their_marks(tmp_path: Path) -> None:
    """Three of ten crops are grey, three have another colour; half of the others are exposed, and
    keep their hue.
    """
    image = np.full((200, 200, 3), (90, 120, 60), np.uint8)
    image[::2] += 20
    crops = Crops([record(tmp_path / "a.png", image)], size=64, seed=0)
    colours = torch.stack([crops[i][0].mean((1, 2)) for i in range(200)]) * 255
    plain = torch.tensor([100.0, 130.0, 70.0])
    grey = colours.amax(1) - colours.amin(1) < 3
    assert 0.2 < grey.float().mean() < 0.4
    as_it_was = ((colours - plain).abs().amax(1) < 3).float().mean()
    assert 0.1 < as_it_was < 0.3
    in_order = (colours[:, 1] > colours[:, 0]) & (colours[:, 0] > colours[:, 2])
    assert 0.4 < in_order.float().mean() < 0.7
