"""Heads painted: by height, view, in videos; views; subsets and sequences."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from gained_model import make_gained_model
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.datasets import Boxes, Frame, Record, read_coco, read_sequences
from roi_anon_ros.detect.poses import PoseNetwork, Poses
from roi_anon_ros.evaluate.heads import (
    add_heads_of_poses,
    heads_of_poses,
    judge_paint,
    sum_up_paint,
)
from roi_anon_ros.evaluate.helmets import Helmets, judge_helmets
from roi_anon_ros.evaluate.methods import make_method, parse_name, slug
from roi_anon_ros.evaluate.report.heads import paint_table
from roi_anon_ros.evaluate.tracks import judge_frame, sum_up_video
from roi_anon_ros.evaluate.views import VIEWS, find_view

NOBODY = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))


def record(path: Path, *heads: tuple[float, float, float, float], size: int = 100) -> Record:
    boxes = Boxes(np.array(heads, np.float32).reshape(-1, 4), np.zeros(len(heads), bool))
    return Record(path, size, size, NOBODY, boxes, NOBODY, frozenset({"head"}))


def test_heads_are_counted_by_their_centres() -> None:
    """Three heads of 10, 20 and 40 px; the left half of the image is painted."""
    mask = np.zeros((100, 100), bool)
    mask[:, :50] = True
    one = record(Path("a.png"), (10, 0, 20, 10), (60, 0, 70, 20), (30, 50, 60, 90))
    painted = judge_paint(mask, one)
    assert painted.heights.tolist() == [10, 20, 40]
    assert painted.centres.tolist() == [True, False, True]
    assert painted.share == 0.5
    bare = 100 * 100 - 10 * 10 - 10 * 20 - 30 * 40
    assert painted.outside == pytest.approx((5000 - 10 * 10 - 20 * 40) / bare)
    figures = sum_up_paint([painted, painted])
    shares = [part["share"] for part in figures["by_height"].values()]
    assert shares == [1, 0, 1]
    assert figures["by_height"]["8 to 16 px"]["heads"] == 2
    nothing = judge_paint(mask, dataclasses.replace(one, annotated=frozenset()))
    assert sum_up_paint([nothing])["outside"] is None


@pytest.mark.parametrize("name", ["upright", "turned-90", "turned-180", "swapped"])
def test_a_view_is_undone(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    view = VIEWS[name]
    sent = view.send(image)
    assert np.array_equal(view.undo(sent), image)
    assert (name == "upright") == (sent.shape == image.shape and np.array_equal(sent, image))
    mask = image[..., 0] > 99
    if name.startswith("turned"):
        assert np.array_equal(view.undo(view.send(mask)), mask)
    else:
        assert np.array_equal(view.undo(mask), mask)


def test_a_turned_camera_turns_clockwise() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[0, 0] = 255
    assert VIEWS["turned-90"].send(image)[0, -1].tolist() == [255] * 3
    with pytest.raises(ValueError, match="view: got 'inverted', must be one of upright"):
        find_view("inverted")


def test_a_close_up_fills_the_image_with_the_head(tmp_path: Path) -> None:
    """Many names, heads of half to 1.5 times the image's height, in its middle."""
    whole = np.zeros((600, 600, 3), np.uint8)
    whole[250:350, 260:340] = 200
    ratios = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), whole)
        one = record(path, (260, 250, 340, 350), (0, 0, 30, 30), size=600)
        image, seen = VIEWS["close-up"].see(one)
        assert image.shape == (seen.height, seen.width, 3)
        assert seen.height >= 240 and abs(seen.width / seen.height - 4 / 3) < 0.03
        wanted = 0.5 + hashlib.sha256(path.name.encode()).digest()[0] / 255
        bright = (image[..., 0] > 100).any(axis=1).sum() / seen.height
        assert bright == pytest.approx(min(wanted, 1), abs=0.03)
        assert len(seen.heads.xyxy) == 1
        ratios.append(wanted)
    assert min(ratios) < 0.8 and max(ratios) > 1.2
    assert not VIEWS["close-up"].takes(record(tmp_path / "0.png", (0, 0, 30, 30)))


def test_the_worst_frame_of_each_track() -> None:
    """Two tracks over three frames; a is bare in the middle one, b is too small to count."""
    small = (70, 0, 90, 20)
    boxes = np.array([(10, 10, 50, 50), small], np.float32)
    frames = [Frame(Path("f.png"), n / 10, boxes, ["a", "b"]) for n in range(3)]
    masks = [np.zeros((100, 100), bool) for _ in frames]
    masks[0][10:50, 10:50] = True
    masks[1][10:20, 10:50] = True
    masks[2][10:40, 10:50] = True
    figures = sum_up_video([judge_frame(m, f) for m, f in zip(masks, frames, strict=True)])
    assert figures["frames_unpainted"] == 1 and figures["unpainted_share"] == pytest.approx(1 / 3)
    assert figures["frames_with_heads"] == 3
    (track,) = figures["tracks"]
    assert track == {
        "track": "a",
        "frames": 3,
        "unpainted": 1,
        "worst_frame": 1,
        "worst_share": pytest.approx(0.25),
    }


def coco(names: list[str], **image: object) -> dict:
    images = [
        {"id": n, "file_name": name, "width": 96, "height": 64, "source": f"s{n % 2}"} | image
        for n, name in enumerate(names)
    ]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [8, 8, 40, 40]}
        for n in range(len(names))
    ]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "head"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images in ``all/``, and ``all.json``."""
    (tmp_path / "all").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{n}.png" for n in range(4)]
    for name in names:
        image = rng.integers(0, 200, (64, 96, 3), np.uint8)
        image[8:48, 8:48] = rng.integers(230, 256, (40, 40, 3), np.uint8)  # a head, to the model
        cv2.imwrite(str(tmp_path / "all" / name), image)
    (tmp_path / "all.json").write_text(json.dumps(coco(names)))
    return tmp_path


def test_a_subset_is_named_by_rules(folder: Path) -> None:
    target = folder / "parts" / "s1.json"
    source = str(folder / "all.json")
    command = ["subset", source, str(target), "--only", "s1", "--kind", "hand"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "2 images, 2 boxes" in done.output, done.output
    records = read_coco(target).records
    assert [r.path.name for r in records] == ["1.png", "3.png"]
    assert {r.collection for r in records} == {"hand"} and {len(r.heads.xyxy) for r in records} == {
        1
    }
    assert {r.collection for r in read_coco(folder / "all.json").records} == {"s0", "s1"}
    first = {name: hashlib.sha256(name.encode()).digest()[0] for name in ("0.png", "1.png")}
    least = min(hashlib.sha256(f"{n}.png".encode()).digest()[0] for n in range(4))
    done = CliRunner().invoke(
        app, ["subset", source, str(folder / "few.json"), "--below", str(least + 1)]
    )
    assert done.exit_code == 0 and "1 images" in done.output and len(first) == 2
    for options, message in (
        (["--only", "s7"], "source: got 's7', must be one of s0, s1"),
        (["--below", str(max(least, 1))], "no image is left"),
    ):
        refused = CliRunner().invoke(app, ["subset", source, str(folder / "x.json"), *options])
        assert refused.exit_code == 2 and message in refused.output
        assert not (folder / "x.json").exists()


class OnePose:
    """A pose network that sees one person, from the front."""

    def __call__(self, image: np.ndarray) -> Poses:
        points = np.zeros((1, 17, 2), np.float32)
        seen = np.zeros((1, 17), np.float32)
        points[0, :5] = [[40, 30], [44, 26], [36, 26], [50, 28], [30, 28]]
        points[0, 5:7] = [[70, 60], [10, 60]]
        seen[0, :7] = 0.9
        box = np.array([[0, 10, 80, 210]], np.float32)
        return Poses(box, np.array([0.8], np.float32), points, seen)


def test_a_pose_tells_a_head_where_nobody_looked_for_one(folder: Path) -> None:
    path = folder / "all" / "0.png"
    drawn = record(path, (0, 0, 20, 20))
    network = cast(PoseNetwork, OnePose())
    assert add_heads_of_poses(drawn, network) is drawn
    bare = dataclasses.replace(record(path), annotated=frozenset({"person"}))
    (head,) = add_heads_of_poses(bare, network).heads.xyxy
    # Its shoulders are the widest measure: 0.55 of 60; a face of 20 gives 27, a person of 200 22.
    assert head == pytest.approx([40 - 16.5, 27.6 - 19.8, 40 + 16.5, 27.6 + 19.8], abs=1e-4)
    unseen = network(np.zeros((8, 8, 3), np.uint8))
    unseen.seen[0, :4] = 0.3
    assert len(heads_of_poses(unseen).xyxy) == 0, "one point of a face is none"
    mask = np.zeros((100, 100), bool)
    kinds = {"robot": {"by_pose": 3, "views": {"upright": sum_up_paint([judge_paint(mask, bare)])}}}
    assert paint_table(kinds)[1][0] == "robot, heads by poses"


def test_frames_are_read_in_order(folder: Path) -> None:
    content = coco(["0.png", "1.png", "2.png"])
    for number, image in enumerate(content["images"]):
        image |= {"frame_id": 2 - number, "video_id": 7}
        content["annotations"][number]["track_id"] = "a"
    file = folder / "all.json"
    file.write_text(json.dumps(content))
    (frames,) = read_sequences(file, rate=4).values()
    assert [f.path.name for f in frames] == ["2.png", "1.png", "0.png"]
    assert [f.seconds for f in frames] == [0, 0.25, 0.5] and frames[0].tracks == ["a"]
    assert frames[0].heads.tolist() == [[8, 8, 48, 48]]
    del content["images"][1]["frame_id"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="frame_id"):
        read_sequences(file)


@pytest.mark.slow
def test_the_command_counts_and_reports(folder: Path) -> None:
    """A tiny model with random weights, on a set and on a video of the same images."""
    model = folder / "tiny.safetensors"
    make_gained_model(model)
    content = coco([f"{n}.png" for n in range(4)])
    for number, image in enumerate(content["images"]):
        image["frame_id"] = number
        content["annotations"][number]["track_id"] = 5
    (folder / "all.json").write_text(json.dumps(content))
    source = str(folder / "all.json")
    out = folder / "out"
    command = ["heads", f"{model}:3", source, "--video", source, "--packets", "1"]
    done = CliRunner().invoke(app, [*command, "--views", "upright,turned-90", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads((out / "heads.json").read_text())
    assert found["quality"] == 3 and set(found["kinds"]) == {"s0", "s1"}
    for kind in found["kinds"].values():
        assert kind["packets"]["noise"] == {"packets": 1, "same": 1}
        tall = kind["views"]["turned-90"]["by_height"]["32 px and more"]
        assert tall["heads"] == 2 and tall["share"] == 1
    video = found["videos"]["all/all"]
    assert video["frames_with_heads"] == 4 and video["frames_unpainted"] == 0
    report = CliRunner().invoke(app, ["report", str(out)])
    assert report.exit_code == 0 and "What is painted" in (out / "report.md").read_text()
    refused = CliRunner().invoke(app, ["heads", "fast", source, "--out", str(out)])
    assert refused.exit_code == 2 and "has no head map" in refused.output


@pytest.mark.slow
def test_names_of_models_have_qualities(folder: Path) -> None:
    name = parse_name("a/b.safetensors@openvino:4.5")
    assert (name.subject, name.engine, name.quality) == ("a/b.safetensors", "openvino", 4.5)
    assert parse_name("roi").quality == 0
    stamps = parse_name("stamps:a/b.safetensors+avif:10")
    assert (stamps.anonymizer, stamps.subject) == ("stamps:a/b.safetensors", "avif")
    assert slug("x/roi.safetensors:4") == "roi-4" and slug("x/roi.safetensors:5") == "roi-5"
    model = folder / "tiny.safetensors"
    make_gained_model(model)
    image = cv2.imread(str(folder / "all" / "0.png"))
    few = make_method(f"{model}:1")
    many = make_method(f"{model}:8")
    assert few.key != many.key and len(few.encode(image)) < len(many.encode(image))
    painted = make_method(f"stamps:{model}+jpeg:90")
    assert not np.array_equal(
        painted.decode(painted.encode(image)),
        make_method("jpeg:90").decode(make_method("jpeg:90").encode(image)),
    )
    for wrong, message in (
        (f"{model}:9", "quality: got 9.0"),
        ("fast:4", "has one rate"),
        ("stamps:fast+avif:10", "has no head map"),
    ):
        with pytest.raises(ValueError, match=message):
            make_method(wrong)


def test_helmets_are_counted_on_painted_heads_of_which_something_is_known() -> None:
    one = record(Path("a.png"), (0, 0, 20, 20), (40, 0, 60, 20), (70, 0, 90, 20), (0, 50, 20, 70))
    told = dataclasses.replace(one, helmets=np.array([1, 0, -1, 1], np.int8))
    heads = np.array([[12, 10, 20], [50, 12, 18], [80, 10, 20]])
    with_helmet = np.array([True, True, True])
    found = judge_helmets(told, heads, with_helmet)
    assert found == Helmets(worn=1, kept=1, bare=1, added=1)
    assert judge_helmets(told, heads, ~with_helmet) == Helmets(worn=1, bare=1)
    assert judge_helmets(told, heads[:0], with_helmet[:0]) == Helmets()
