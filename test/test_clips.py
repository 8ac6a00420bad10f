"""Clips with actions: readers, the network that tells them, and the anonymizer of pixels."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

pytest.importorskip("lightning", reason="the train extra is not installed")

from roi_anon_ros.anonymize.pixels import PixelAnonymizer, PixelNetwork, save_pixels
from roi_anon_ros.cli import app
from roi_anon_ros.datasets import clips as clips_module
from roi_anon_ros.datasets import read_clips, read_frames, split, squash
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.actions import ActionNetwork, load_actions, save_actions
from roi_anon_ros.evaluate.attack.linking import People
from roi_anon_ros.evaluate.methods import make_method
from roi_anon_ros.evaluate.precision import draw_images
from roi_anon_ros.files import Frame, write_video
from roi_anon_ros.study.clips import resample, sum_up_clips
from roi_anon_ros.train.branches import BranchedConfig, BranchedTraining
from roi_anon_ros.train.clips import ClipCrops, ClipsConfig, divide_clips
from roi_anon_ros.train.trainer import read_config
from roi_anon_ros.train.views import draw_frames


def write_folder(folder: Path, greys: list[int], width: int = 48) -> None:
    """A clip as a folder of frames of one grey each."""
    folder.mkdir(parents=True)
    for number, grey in enumerate(greys):
        image = np.full((32, width, 3), grey, np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), image)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four origins of two clips each, of one action each: a bright square that moves, or stays."""
    folder = tmp_path_factory.mktemp("clips")
    origins = {}
    for number in range(8):
        label = ("moves", "stays")[number % 2]
        path = folder / label / f"clip{number}"
        path.mkdir(parents=True)
        for moment in range(4):
            image = np.full((40, 60, 3), 20 * number, np.uint8)
            left = 10 + 8 * moment * (label == "moves")
            image[10:30, left : left + 12] = 255
            cv2.imwrite(str(path / f"{moment}.png"), image)
        origins[path.name] = number // 2
    (folder / "origins.json").write_text(json.dumps(origins))
    return folder


def test_videos_and_folders_of_frames_are_clips(tmp_path: Path) -> None:
    write_folder(tmp_path / "run" / "b", [0, 50, 100, 150])
    (tmp_path / "run" / "notes").mkdir()
    (tmp_path / "run" / "readme.txt").write_text("no clip")
    greys = [20, 60, 100, 140, 180, 220]
    frames = [
        Frame(np.full((32, 48, 3), grey, np.uint8), Fraction(number, 10))
        for number, grey in enumerate(greys)
    ]
    (tmp_path / "walk").mkdir()
    write_video(tmp_path / "walk" / "v_Walk_g03_c02.mp4", ".mp4", frames, Fraction(10))
    (tmp_path / "origins.json").write_text(json.dumps({"b": 7}))
    folder, video = read_clips(tmp_path)
    assert (folder.label, folder.source) == ("run", "origin 7")
    assert (video.label, video.source) == ("walk", "v_Walk_g03")
    assert [int(one.mean()) for one in read_frames(folder, 2)] == [50, 150]
    assert [int(one.mean()) for one in read_frames(folder, 8)][:4] == [0, 0, 50, 50]
    seen = read_frames(video, 3)
    assert seen[0].shape == (32, 48, 3)
    assert np.allclose([one.mean() for one in seen], [60, 140, 220], atol=4)
    assert squash(seen, 16).shape == (3, 16, 16, 3)


def test_what_is_no_set_of_clips_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "run" / "a", [0, 1, 2])
    with pytest.raises(ValueError, match="got clips of 1 actions, must be 2 or more"):
        read_clips(tmp_path)
    write_folder(tmp_path / "walk" / "b", [0])
    (tmp_path / "origins.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"origins.json: got list, must be an object"):
        read_clips(tmp_path)
    (tmp_path / "origins.json").unlink()
    first = read_clips(tmp_path)[0]
    assert first.source == "run/a"
    monkeypatch.setattr(clips_module, "MOST_FRAMES", 2)
    with pytest.raises(ValueError, match="run/a: frames: got more than 2; cut the clip"):
        read_frames(first, 2)


def test_no_origin_is_on_both_sides(clips: Path) -> None:
    found = read_clips(clips)
    assert len(found) == 8
    sides = set()
    for seed in range(12):
        train, held = split(found, {"train": 0.5, "held": 0.5}, seed).values()
        assert not {clip.source for clip in train} & {clip.source for clip in held}
        assert len(train) + len(held) == 8
        sides.add(len(train))
    assert len(sides) > 1  # they are divided, and not always alike
    sets = [{"annotations": str(clips)}]
    told = ClipsConfig(network="actions", train=sets, validation=sets)
    with pytest.raises(ValueError, match="train: got clips of nothing, kept apart are those of mo"):
        divide_clips(told)  # of the same origins all


def test_all_frames_of_a_crop_change_alike(clips: Path) -> None:
    still = [clip for clip in read_clips(clips) if clip.label == "stays"]
    crops = ClipCrops(still, ["moves", "stays"], frames=2, side=32, seed=3)
    seen = [crops[item] for item in range(6)]
    for frames, label in seen:
        assert frames.shape == (2, 3, 32, 32) and label == 1
        assert torch.equal(frames[0], frames[1])
    again = ClipCrops(still, ["moves", "stays"], frames=2, side=32, seed=3)
    assert all(torch.equal(again[item][0], seen[item][0]) for item in (5, 2))
    assert len({int(frames.float().mean()) for frames, _ in seen}) > 3


def test_two_views_are_of_two_frames_of_one_clip() -> None:
    images = torch.arange(12.0).reshape(12, 1, 1, 1).expand(12, 3, 4, 4)
    for _ in range(5):
        one, other = draw_frames(images, 4)
        assert one.shape == (3, 3, 4, 4)
        first = one[:, 0, 0, 0]
        second = other[:, 0, 0, 0]
        assert torch.equal(first // 4, second // 4) and (first != second).all()
        assert (first // 4).tolist() == [0, 1, 2]
    assert draw_frames(images, 1)[1] is images


def test_a_network_of_actions_comes_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ActionNetwork(["moves", "stays", "turns"], frames=3, side=32).eval()
    path = tmp_path / "actions.safetensors"
    save_actions(network, path, {"steps": 1})
    again = load_actions(path)
    assert (again.labels, again.frames, again.side) == (network.labels, 3, 32)
    x = torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(x), network(x)) and network(x).shape == (2, 3)
        assert [tuple(one.shape[1:]) for one in network.maps(x)] == [
            (24, 16, 16),
            (48, 8, 8),
            (96, 4, 4),
            (128, 2, 2),
        ]
        # Frames in another order are another action to it.
        assert not torch.allclose(network(x), network(x.flip(0)), atol=1e-5)
    with pytest.raises(ValueError, match="x: got 4 frames, must be a multiple of 3"):
        network(x[:4])
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"actions.safetensors: holds no network of actions"):
        load_actions(path)


def test_pixels_are_a_method_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = tmp_path / "pixels.safetensors"
    save_pixels(PixelNetwork(), path, {"steps": 1})
    image = np.random.default_rng(2).integers(0, 255, (21, 35, 3), np.uint8)
    method = make_method(f"pixels:{path}")
    received = method.decode(method.encode(image))
    assert received.shape == image.shape and not np.array_equal(received, image)
    assert np.array_equal(received, PixelAnonymizer(path)(image))
    key = method.key
    save_pixels(PixelNetwork(), path, {"steps": 1})
    assert make_method(f"pixels:{path}").key != key
    save_actions(ActionNetwork(["a", "b"]), path, {})
    with pytest.raises(ValueError, match="kind: got None, must be 'pixel anonymizer'"):
        make_method(f"pixels:{path}")


def test_whole_origins_are_resampled() -> None:
    values = np.array([1.0, 0, 1, 1, 0])
    origin = np.array([0, 0, 1, 2, 2])
    found = resample(values, origin, 3)
    assert found[0] == pytest.approx(0.6)
    for figure, draw in zip(found[1:], draw_images(3), strict=True):
        drawn = np.concatenate([values[origin == one] for one in draw])
        assert figure == pytest.approx(drawn.mean())


def test_the_attacker_learns_on_other_origins() -> None:
    generator = torch.Generator().manual_seed(3)
    people = [
        People(*torch.rand(2, count, 3, 128, 64, generator=generator)) for count in (2, 3, 0, 2)
    ]
    found = sum_up_clips([True, False, True, True], people, ["a", "b", "c", "d"], steps=1)
    assert found["people"] == 5  # those of b and d
    assert found["top1"][0] == 0.75 and len(found["linked"]) == 201
    with pytest.raises(ValueError, match="clips: got 0 persons to be linked"):
        sum_up_clips([True, True], [people[0], people[2]], ["a", "b"], steps=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "actions", "held": 1.0}, "held: got 1.0, must be above 0 and below 1"),
        ({"network": "actions", "frames": 1}, "frames: got 1, must be a number of at least 2"),
        ({"network": "pixels"}, "reproduce: got 0, must be above 0 where actions is empty"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    config = tmp_path / "c.yaml"
    content = {"train": [{"annotations": "clips"}], "steps": 500, **changes}
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_config(config)


def test_images_have_no_actions(tmp_path: Path) -> None:
    path = tmp_path / "actions.safetensors"
    save_actions(ActionNetwork(["a", "b"]), path, {})
    utility = [{"network": str(path), "budget": 0.3, "weight": 1.0}]
    sets = [{"annotations": "a.json"}]
    config = BranchedConfig(network="fast", train=sets, utility=utility)
    with pytest.raises(ValueError, match="utility: got a network of actions, must be of images"):
        BranchedTraining(config, [], tmp_path)


class LeftHalf:
    """Finds a person in the left half of each image."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        height, width = images[0].shape[:2]
        box = np.array([[0, 0, width / 2, height]], np.float32)
        return [Detections(box, np.ones(1, np.float32), ["person"])]


@pytest.mark.slow
def test_budgets_of_an_anonymizer_side_by_side(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("roi_anon_ros.detect.choice.make_detector", LeftHalf)
    common = {"train": [{"annotations": str(clips)}], "held": 0.5, "frames": 2, "crop": 32}
    common |= {"steps": 1, "epoch": 1, "batch": 2, "workers": 0, "precision": "32-true"}
    common |= {"validation_images": 1}  # of one action, of two that are learned
    configs = {
        "actions": {"network": "actions"},
        "actions-judge": {"network": "actions", "seed": 1},
        "start": {"network": "pixels", "reproduce": 1.0},
    }
    models = {}
    for name, content in configs.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(common | content))
        done = CliRunner().invoke(app, ["train", str(file)])
        assert done.exit_code == 0, done.output
        models[name] = f"runs/{name}/{name}.safetensors"
    weights = [
        load_actions(Path(models[name])).last.weight for name in ("actions", "actions-judge")
    ]
    assert not torch.equal(*weights)  # the judge is another network
    assert (
        json.loads(Path("runs/actions/split.json").read_text())["pictures"]
        == json.loads(Path("runs/start/split.json").read_text())["pictures"]
    )
    config = tmp_path / "pixels.yaml"
    content = {"network": "pixels", "start": models["start"], "actions": models["actions"]}
    content["utility"] = [{"network": models["actions"], "budget": 0.3, "weight": 1.0}]
    content["privacy"] = [{"network": "views", "weight": 1.0}]
    config.write_text(yaml.safe_dump(common | content))
    words = ["budget", str(config), str(clips), "--out", "out", "--budgets", "0.2"]
    words += ["--attack-steps", "1"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and "--judge: got none" in refused.output
    words += ["--judge", models["actions-judge"]]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    monkeypatch.setattr("roi_anon_ros.study.budgets.learn_links", None)  # judged is judged
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and first.stdout.endswith(again.stdout)
    about = json.loads(Path("out/budget.json").read_text())
    assert list(about["figures"]) == ["original", "start", "none", "0.2"]
    assert about["clips"] == 2 * about["origins"] and about["measured"] == "top1"
    assert "| budget | bits per pixel | actions told right (95 %) |" in again.stdout
    assert Path("out/budget.png").stat().st_size > 5000
    weights = [
        torch.load(f"out/budget-{name}/last.ckpt", weights_only=False)["state_dict"]
        for name in ("none", "0.2")
    ]
    same = [torch.equal(weights[0][name], weights[1][name]) for name in weights[0]]
    assert not all(same)  # a budget of 0.2 binds, and is learned from
