"""Regions: what they cover, how they grow, and how they go through time."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from roi_anon_ros.anonymize.regions import Region, Regions, feathered, polygon, union
from roi_anon_ros.anonymize.sources import Annotated, Bodies, Detected, Polygons
from roi_anon_ros.anonymize.tracks import Tracker, fill_gaps
from roi_anon_ros.detect import Detections, YunetFaces
from roi_anon_ros.files.images import read_image

SIDE = st.floats(-40, 140)
BOX = st.tuples(SIDE, SIDE, st.floats(1, 80), st.floats(1, 80)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
WIDTH = 90
HEIGHT = 60
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


@settings(max_examples=50, deadline=None)
@given(box=BOX, shape=st.sampled_from(["box", "ellipse"]))
def test_a_region_is_every_pixel_that_it_touches(box: tuple, shape: str) -> None:
    drawn = Region(box, shape).drawn(WIDTH, HEIGHT)
    steps = (np.arange(8) + 0.5) / 8  # points inside each pixel
    x = (np.arange(WIDTH)[:, None] + steps).ravel()
    y = (np.arange(HEIGHT)[:, None] + steps).ravel()
    left, top, right, bottom = box
    if shape == "box":
        inside = ((left <= x) & (x <= right))[None] & ((top <= y) & (y <= bottom))[:, None]
    else:
        across = (x - (left + right) / 2) / ((right - left) / 2)
        down = (y - (top + bottom) / 2) / ((bottom - top) / 2)
        inside = across[None] ** 2 + down[:, None] ** 2 <= 1
    touched = inside.reshape(HEIGHT, 8, WIDTH, 8).any((1, 3))
    assert not (touched & ~drawn).any()
    assert drawn.sum() <= touched.sum() + 2 * (WIDTH + HEIGHT)


@settings(max_examples=50, deadline=None)
@given(box=BOX, factor=st.floats(1, 3))
def test_growing_hides_more_and_an_ellipse_of_root_2_hides_the_box(
    box: tuple, factor: float
) -> None:
    for shape in ("box", "ellipse"):
        region = Region(box, shape)
        less = region.drawn(WIDTH, HEIGHT)
        assert not (less & ~region.grown(factor).drawn(WIDTH, HEIGHT)).any()
    ellipse = Region(box, "ellipse").grown(1.42).drawn(WIDTH, HEIGHT)
    whole = Region(box).drawn(WIDTH, HEIGHT)
    assert not (whole & ~ellipse).any()


def test_a_mask_grows_all_around() -> None:
    triangle = polygon([(20, 10), (60, 10), (40, 50)], WIDTH, HEIGHT)
    grown = triangle.grown(1.2)
    before = triangle.drawn(WIDTH, HEIGHT)
    after = grown.drawn(WIDTH, HEIGHT)
    assert not (before & ~after).any()
    ys, xs = np.nonzero(before)
    new_ys, new_xs = np.nonzero(after)
    margin = round(0.1 * triangle.side)
    assert (xs.min() - new_xs.min(), new_xs.max() - xs.max()) == (margin, margin)
    assert new_ys.max() - ys.max() == margin


def test_the_soft_edge_lies_outside() -> None:
    inside = Region((30, 20, 60, 40)).drawn(WIDTH, HEIGHT)
    weight = feathered(inside, 5)
    assert (weight[inside] == 1).all()
    assert weight[30, 29] == pytest.approx(1 - 1 / 6, abs=0.01)
    assert weight[30, 24] == 0 and weight[30, 25] > 0
    assert np.array_equal(feathered(inside, 0), inside.astype(np.float32))


def test_a_wrong_region_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Region((0, 0, 1, 1), "star")
    with pytest.raises(ValueError, match="mask"):
        Region((0, 0, 1, 1), "mask")
    with pytest.raises(ValueError, match="box"):
        Region((0, 0, float("nan"), 1))
    with pytest.raises(ValueError, match="size"):
        Regions((4, 4)) | Regions((5, 4))


def test_sources_keep_their_classes_and_pass_errors_on() -> None:
    boxes = np.array([[10, 10, 20, 20], [30, 10, 40, 30]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), ["car", "person"])
    source = Detected(lambda images: [found], labels={"car"}, grow=2)
    assert [region.box for region in source(IMAGE).items] == [(5, 5, 25, 25)]
    both = union([source, Polygons([[(0, 0), (0.5, 0), (0.5, 0.5)]])])
    assert [region.label for region in both(IMAGE).items] == ["car", "zone"]

    def broken(images: list) -> list:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        union([Detected(broken)])(IMAGE)
    with pytest.raises(ValueError, match="grow"):
        Detected(broken, grow=0.5)


def test_annotated_boxes_know_their_image_and_no_other(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(3)]
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    source = Annotated({paths[0]: np.array([[10, 20, 30, 40]]), paths[1]: None}, "face", "ellipse")
    (region,) = source(images[0]).items
    assert (region.box, region.shape, region.label) == ((10, 20, 30, 40), "ellipse", "face")
    assert region.landmarks[:, 0].min() > 10 and region.landmarks[:, 1].max() < 40
    for image in images[1:]:
        with pytest.raises(ValueError, match="no face was looked for"):
            source(image)


@pytest.mark.weights
def test_a_face_detector_finds_landmarks(shared_dir: Path) -> None:
    weights = shared_dir / "weights" / "face_detection_yunet_2023mar.onnx"
    found = find_spec("ultralytics")
    if not weights.is_file() or found is None:
        pytest.skip("needs YuNet's file and the images of ultralytics")
    image = read_image(Path(found.origin).parent / "assets" / "bus.jpg").image
    faces = Detected(YunetFaces(weights), shape="ellipse")(image).items
    assert len(faces) >= 2
    for face in faces:
        left, top, right, bottom = face.box
        x, y = face.landmarks.T
        assert left < x.min() and x.max() < right and top < y.min() and y.max() < bottom
        assert x[0] < x[1] and x[3] < x[4] and max(y[:2]) < y[2] < min(y[3:])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "no JSON"),
        ("{}", "list"),
        ("[[[0, 0], [1, 1]]]", "polygon 1"),
        ("[[[0, 0], [1, 1], [2, 0]]]", "0 to 1"),
    ],
)
def test_wrong_polygons_are_refused(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "zones.json").write_text(content)
    with pytest.raises(ValueError, match=named):
        Polygons.read(tmp_path / "zones.json")


def test_bodies_without_a_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="pose"):
        Bodies(Detected(lambda images: []), tmp_path / "pose.tflite")


def at(left: float, **fields: object) -> Regions:
    return Regions((WIDTH, HEIGHT), (Region((left, 20, left + 20, 40), label="face", **fields),))


NOBODY = Regions((WIDTH, HEIGHT))


def test_a_tracker_numbers_objects_and_holds_them() -> None:
    tracker = Tracker(hold=0.5)
    two = at(0) | at(60)
    first = tracker(two, 0.0)
    second = tracker(at(64) | at(4), 0.1)
    assert [region.track for region in first.items] == [0, 1]
    assert [region.track for region in second.items] == [1, 0]
    held = tracker(NOBODY, 0.5)
    assert sorted(region.track for region in held.items) == [0, 1]
    assert held.items[0].box[0] < 64 and held.items[0].box[2] > 84 or held.items[1].box[2] > 84
    assert len(tracker(NOBODY, 0.7)) == 0
    assert tracker(at(64), 0.8).items[0].track == 2
    with pytest.raises(ValueError, match="hold"):
        Tracker(-1)


def test_without_a_hold_an_object_keeps_its_number_from_image_to_image() -> None:
    tracker = Tracker(hold=0)
    assert [tracker(at(5 * index), index / 10).items[0].track for index in range(3)] == [0, 0, 0]
    assert len(tracker(NOBODY, 0.3)) == 0
    assert tracker(at(10), 0.4).items[0].track == 1
    both = fill_gaps([at(0), NOBODY, at(8)], [1.0, 1.0, 1.0], hold=0)
    assert [len(regions) for regions in both] == [1, 1, 1]


def test_another_size_or_time_backwards_ends_tracks() -> None:
    tracker = Tracker(hold=1)
    tracker(at(0), 1.0)
    assert len(tracker(Regions((10, 10)), 1.1)) == 0
    tracker(at(0), 2.0)
    assert len(tracker(NOBODY, 1.5)) == 0


def test_gaps_are_filled_forward_and_backward() -> None:
    found = [NOBODY, NOBODY, at(10), NOBODY, NOBODY, NOBODY, at(50), NOBODY, NOBODY, NOBODY]
    found[4] = at(30)
    times = [index / 10 for index in range(10)]
    filled = fill_gaps(found, times, hold=0.15)
    assert [len(regions) for regions in filled] == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert {regions.items[0].track for regions in filled if len(regions)} == {0}
    assert filled[3].items[0].box == pytest.approx((20, 20, 40, 40))
    assert filled[5].items[0].box == pytest.approx((40, 20, 60, 40))
    before = filled[1].items[0].box
    assert before[0] < 10 and before[2] > 30


def test_what_moves_takes_its_landmarks_along() -> None:
    points = np.array([[12, 22], [18, 22], [15, 26], [12, 30], [18, 30]], np.float32)
    region = Region((10, 20, 20, 40), label="face", landmarks=points)
    moved = region.moved((30, 0, 50, 40))
    assert moved.landmarks == pytest.approx(
        np.array([[34, 4], [46, 4], [40, 12], [34, 20], [46, 20]])
    )
    assert json.dumps(moved.box)
