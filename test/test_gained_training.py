"""Trainings of the codec for every rate and of the head map: a few steps on drawn people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

pytest.importorskip("lightning", reason="the train extra is not installed")

from quick_training import REPLACED

from roi_anon_ros.cli import app
from roi_anon_ros.codec import load_model
from roi_anon_ros.codec.networks import GainedCodec, HeadMap
from roi_anon_ros.codec.networks.gained import TABLES
from roi_anon_ros.codec.regions import HEAD_WIDTH
from roi_anon_ros.datasets import read_coco
from roi_anon_ros.train.card import read_log
from roi_anon_ros.train.gained import GainedTraining
from roi_anon_ros.train.painted_crops import PaintedCrops, list_heads
from roi_anon_ros.train.runs import TrainingError
from roi_anon_ros.train.sets import ImageSet, parse_sets, read_images, scale_heads
from roi_anon_ros.train.trainer import read_config, train
from roi_anon_ros.train.weights import put_head_map, read_weights

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 2, "name": "head"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of 160 x 128 with a drawn person each, in a COCO file of two collections."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "all").mkdir()
    rng = np.random.default_rng(3)
    images = []
    annotations = []
    for number in range(8):
        noise = rng.integers(0, 255, (12, 16, 3), np.uint8)
        image = cv2.resize(noise, (160, 128), interpolation=cv2.INTER_CUBIC)
        x = 20 + 12 * number
        cv2.rectangle(image, (x, 20), (x + 40, 120), (40, 60, 90), -1)
        cv2.circle(image, (x + 20, 32), 12, (80, 120, 200), -1)
        name = f"{number}.png"
        cv2.imwrite(str(folder / "all" / name), image)
        image = {"id": number, "file_name": name, "width": 160, "height": 128}
        if number % 2:
            image |= {"source": "odd", "annotated": [], "partial": ["person", "head"]}
        else:
            image |= {"source": "even", "annotated": ["person", "head"]}
        images.append(image)
        for kind, box in ((1, [x, 20, 40, 100]), (2, [x + 8, 20, 24, 24])):
            annotations.append({"image_id": number, "category_id": kind, "bbox": box})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "all.json").write_text(json.dumps(content))
    return folder


def save_checkpoint(path: Path, state: dict[str, torch.Tensor], prefix: str) -> str:
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
    return str(path)


@pytest.fixture(scope="module")
def head_map(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("heads") / "last.ckpt"
    return save_checkpoint(path, HeadMap().state_dict(), "head_map.")


def settings(folder: Path, network: str, **changes: Any) -> dict[str, Any]:
    return {
        "network": network,
        "train": [{"annotations": str(folder / "all.json"), "collection": "even"}],
        "validation": [{"annotations": str(folder / "all.json"), "collection": "odd"}],
        "batch": 2,
        "epoch": 2,
        "steps": 4,
        "warmup": 1,
        "workers": 0,
        "precision": "32-true",
        "validation_images": 2,
    } | changes


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def train_interrupted(config: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> Path:
    """Stop in the second epoch, then go on with the same command."""
    step = kind.training_step
    for module, name, replacement in REPLACED:
        monkeypatch.setattr(module, name, replacement)

    def stops(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == 3:
            raise OSError("no space left")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "training_step", stops)
        with pytest.raises(OSError, match="no space left"):
            train(config, out)
    assert (out / "last.ckpt").exists()
    return train(config, out)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.slow
def test_a_codec_is_trained_and_continued_to_the_very_same_model(
    folder: Path,
    head_map: str,
    random_yolox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / f"yolox-{random_yolox.name}"
    weights.write_bytes(random_yolox.read_bytes())
    guide = {"network": str(weights), "budget": 0.01, "weight": 0.5}
    content = settings(
        folder,
        "gained",
        crop=64,
        validation_images=1,
        head_map=head_map,
        table_images=2,
        least_channels=1,
        descent=0.5,
        utility=[guide | {"layers": [0, 3]}, guide],
        privacy=[{"network": "views", "weight": 0.1}],
    )
    config = written(tmp_path / "tiny.yaml", content)
    monkeypatch.setattr("roi_anon_ros.train.card.SIDES", (96, 64))  # photos that are coded at once
    straight = load_model(train(config, tmp_path / "straight"))
    continued = load_model(
        train_interrupted(config, tmp_path / "other", monkeypatch, GainedTraining)
    )
    assert_same(straight.codec.state_dict(), continued.codec.state_dict())
    assert straight.codec.lookup.numel() and (tmp_path / "straight" / "tiny.md").exists()
    for name, value in torch.load(head_map)["state_dict"].items():
        found = straight.codec.head_map.state_dict()[name.removeprefix("head_map.")]
        assert torch.allclose(found, value, atol=2e-3), name
    assert straight.metadata["training"]["heads"] == 4
    logged = read_log(tmp_path / "straight" / "log")
    assert [step for step, _ in logged["train/active_channels"]] == [2, 4]
    assert "train/bpp_8" in logged and "train/mse_8" in logged
    assert all(value > 0 for _, value in logged["train/utility"] + logged["train/views"])
    # Half of the run descends: its first step trains level 8 alone.
    assert [step for step, _ in logged.get("train/bpp_1", [(4, 0.0)])][0] == 4
    for level in range(1, 9):
        assert straight.metadata["figures"][f"bpp_{level}"] > 0
        assert straight.metadata["figures"][f"mse_{level}"] > 0


@pytest.mark.slow
def test_a_collapsed_latent_stops_the_run(folder: Path, head_map: str, tmp_path: Path) -> None:
    net = GainedCodec(8)
    with torch.no_grad():
        net.g_a[-1].weight.zero_()
        net.g_a[-1].bias.zero_()
    state = {key: value for key, value in net.state_dict().items() if key not in TABLES}
    start = save_checkpoint(tmp_path / "start.ckpt", state, "codec.")
    content = settings(
        folder, "gained", crop=64, head_map=head_map, start=start, learning_rate=1e-9
    )
    config = written(tmp_path / "tiny.yaml", content)
    with pytest.raises(TrainingError, match="collapsed: got 0 of 8 channels active at step 2"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()
    result = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and "latent: collapsed" in result.output, result.output


@pytest.mark.slow
def test_a_head_map_is_trained_and_continued_to_the_very_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roi_anon_ros.train.heads import HeadsTraining

    config = written(tmp_path / "heads.yaml", settings(folder, "heads", crop=128))
    straight = train(config, tmp_path / "straight")
    assert straight == tmp_path / "straight" / "last.ckpt"
    continued = train_interrupted(config, tmp_path / "other", monkeypatch, HeadsTraining)
    assert_same(read_weights(str(straight)), read_weights(str(continued)))
    codec = GainedCodec(8)
    put_head_map(codec, str(straight))
    assert_same(
        {f"head_map.{k}": v for k, v in codec.head_map.state_dict().items()},
        read_weights(str(straight)),
    )
    logged = read_log(tmp_path / "straight" / "log")
    assert "val/heads_16" in logged and "train/recall" in logged
    assert list((tmp_path / "straight" / "sheets").glob("*.png"))


def test_painted_crops_differ_from_the_original_where_they_say(folder: Path) -> None:
    records = read_coco(folder / "all.json").records
    crops = PaintedCrops(records, size=64, seed=1)
    unpainted = 0
    seen = 0
    for item in range(40):
        shown, target, original, keep, persons = crops[item]
        assert torch.equal(target[:, keep[0]], original[:, keep[0]])
        assert (target != original).any() == (~keep).any()
        for x1, y1, x2, y2 in persons.tolist():
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
            # A drawn body is of one colour along its left side, where no head is.
            if 3 < x1 < x2 - 6 and y1 < y2 - 8:
                assert original[:, y1 + 3 : y2 - 3, x1 + 2].float().std(1).max() < 6
                assert (original[:, y1:y2, x1 - 3 : x1].float().std((1, 2)) > 6).any()
                seen += 1
        unpainted += bool((shown != target).any())
        again = PaintedCrops(records, size=64, seed=1)[item]
        assert all(
            torch.equal(a, b)
            for a, b in zip((shown, target, original, keep, persons), again, strict=True)
        )
    assert 0 < unpainted < 15 and seen > 5


def test_collections_shares_and_what_is_complete(folder: Path, tmp_path: Path) -> None:
    records = read_coco(folder / "all.json").records
    assert [r.collection for r in records[:2]] == ["even", "odd"]
    assert records[0].complete == {"person", "head"} and records[0].annotated >= {"head"}
    assert records[1].complete == records[1].annotated == frozenset()
    assert len(records[1].heads.xyxy) == 1
    half = scale_heads(records[0], 0.5)
    assert half.heads.xyxy.tolist() == [[34, 26, 46, 38]]
    assert list_heads(half) == pytest.approx(np.array([[40, 32, 12 / HEAD_WIDTH]]))
    file = str(folder / "all.json")
    sets = [
        ImageSet(file, collection="odd", share=3, background=0.1),
        ImageSet(file, collection="even", share=1),
    ]
    images, validation = read_images(sets, [], 4, 1, tmp_path, hidden_only=False)
    odd = np.array([r.collection == "odd" for r in images.records])
    assert images.weights[odd].sum() == pytest.approx(0.75) and len(validation) >= 1
    assert set(images.backgrounds[odd]) == {0.1} and set(images.backgrounds[~odd]) == {1.0}
    assert (tmp_path / "split.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_map": ""}, "head_map: '', must name a model or a checkpoint"),
        ({"lambdas": [1.0, 2.0]}, "must be 8 rising numbers above 0"),
        ({"descent": 1.5}, "descent: got 1.5, must be from 0 to 1"),
        ({"dead_zone": 0.5}, "dead_zone: got 0.5, must be from 0 to 0.5"),
        ({"prior_learning_rate": 0}, "prior_learning_rate: got 0, must be a number of more than 0"),
        ({"validate": 3}, "steps: got 4, must be a multiple of epoch, 2 times validate, 3"),
        ({"train": []}, "train: must have at least one set"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    folder: Path, head_map: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    content = settings(folder, "gained", head_map=head_map) | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        read_config(written(tmp_path / "c.yaml", content))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([{"annotations": "a", "weight": 1}], "train: weight: must be one of annotations"),
        ([{"annotations": "a", "share": -1}], "train: a: share: got -1, must be a number"),
        ([{"annotations": "a", "share": 1}, {"annotations": "b"}], "share: must be above 0 in"),
    ],
)
def test_sets_that_make_no_sense_are_refused(sets: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_sets("train", sets)


def test_a_head_map_wants_crops_of_128(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crop: got 192, must be a multiple of 128"):
        read_config(written(tmp_path / "c.yaml", settings(folder, "heads", crop=192)))
