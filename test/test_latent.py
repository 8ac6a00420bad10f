"""Persons straight from latents: the network, what it is bound to, its crops, and the detector."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import wake
from gained_model import make_gained_model
from torch import nn

from roi_anon_ros.codec import Codec, Opened
from roi_anon_ros.codec.modelfile import latent_mark
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.choice import make_detector, make_latent_detector
from roi_anon_ros.detect.latent import LatentNano, load_latent
from roi_anon_ros.detect.latent_persons import LatentPersons, pad_even
from roi_anon_ros.detect.network_file import write_network
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox
from roi_anon_ros.detect.yolox_cells import decode_rows
from roi_anon_ros.detect.yolox_engine import LATENT, make_run

CHANNELS = 4


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec.load(str(make_gained_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> Path:
    torch.manual_seed(0)
    network = LatentNano(CHANNELS)
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    latent = codec.open(codec.encode(image, quality=8).packet).latent
    wake(network, torch.from_numpy(latent[None]))
    path = tmp_path_factory.mktemp("latent") / "own.safetensors"
    write_network(network, path, {LATENT: latent_mark(codec.model.tensors)})
    return path


def test_the_network_says_something_of_every_cell_and_all_of_it_learns() -> None:
    torch.manual_seed(0)
    network = LatentNano(CHANNELS)
    latent = torch.randn(2, CHANNELS, 6, 10)
    logits = network.logits(latent)
    cells = sum((96 // stride) * (160 // stride) for stride in (8, 16, 32))
    assert logits.shape == (2, cells, 6)
    rows = network(latent)
    assert torch.equal(rows[..., :4], logits[..., :4])
    assert torch.equal(rows[..., 4:], logits[..., 4:].sigmoid())
    logits.square().sum().backward()
    assert all(one.grad is not None and one.grad.any() for one in network.parameters())
    with pytest.raises(ValueError, match="latent: got sides 5 x 10, must be even"):
        network(latent[:, :, :5])


def test_it_costs_what_was_allowed() -> None:
    network = LatentNano(40)
    operations = []

    def add(layer: nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        operations.append(2 * layer.weight.numel() * output.shape[-1] * output.shape[-2])

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    with torch.inference_mode():
        network(torch.zeros(1, 40, 480 // 16, 640 // 16))
    assert 0.4e9 < sum(operations) <= 0.5e9


def test_a_cell_of_the_rows_is_where_it_is_in_the_latent() -> None:
    torch.manual_seed(0)
    network = LatentNano(CHANNELS)
    wake(network, torch.randn(2, CHANNELS, 8, 8))
    latent = torch.zeros(1, CHANNELS, 40, 40)
    there = latent.clone()
    there[..., 30, 6] = 30.0
    with torch.inference_mode():
        changed = (network(there) - network(latent)).abs().sum(-1)[0]
    first = 0
    for stride in (8, 16, 32):
        side = 640 // stride
        lines, columns = np.divmod(int(changed[first : first + side**2].argmax()), side)
        assert abs((lines + 0.5) * stride - 30.5 * 16) <= 48
        assert abs((columns + 0.5) * stride - 6.5 * 16) <= 48
        first += side**2


def test_it_takes_over_how_a_detector_on_images_judges(random_yolox: Path) -> None:
    detector: YoloxNano = load_yolox(random_yolox)
    network = LatentNano(CHANNELS)
    network.take_over(detector)
    features = [torch.randn(1, 64, side, side) for side in (8, 4, 2)]
    with torch.inference_mode():
        logits = network.judge(features)
        expected = []
        for head, one in zip(detector.heads, features, strict=True):
            branch = head.box_branch(one)
            expected.append(torch.cat([head.box(branch), head.objectness(branch)], 1).flatten(2))
    torch.testing.assert_close(logits[..., :5], torch.cat(expected, 2).transpose(1, 2))
    assert (logits[..., 5] == logits[0, 0, 5]).all()


def test_another_head_map_leaves_the_mark_and_another_analysis_does_not(codec: Codec) -> None:
    tensors = dict(codec.model.tensors)
    mark = latent_mark(tensors)
    for name in ("head_map.out.1.bias", "g_s.0.weight", "lookup"):
        assert latent_mark(tensors | {name: tensors[name] + 1}) == mark, name
    for name in ("g_a.0.weight", "gain", "inverse_gain"):
        assert latent_mark(tensors | {name: tensors[name] + 1}) != mark, name


def test_weights_for_other_latents_are_refused(codec: Codec, weights: Path) -> None:
    tensors = dict(codec.model.tensors)
    other = replace(codec.model, tensors=tensors | {"gain": tensors["gain"] + 1})
    with pytest.raises(ValueError, match="own.safetensors is for latents .*, must be for .* tiny"):
        LatentPersons(weights, other)
    with pytest.raises(ValueError, match="which reads packets"):
        make_detector(str(weights))
    with pytest.raises(ValueError, match="holds no detector on latents"):
        load_latent(codec.model.path)


def test_who_is_in_a_packet_does_not_depend_on_the_others(codec: Codec, weights: Path) -> None:
    rng = np.random.default_rng(0)
    opened = []
    for width, height in ((150, 100), (96, 64), (150, 100)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        opened.append(codec.open(codec.encode(image, quality=8).packet))
    detect = make_latent_detector(str(weights), codec.model, 0.0, "torch")
    together = detect(opened)
    _, run = make_run(weights, "torch")
    for one, found in zip(opened, together, strict=True):
        check_alone(detect, one, found)
        latent = pad_even(one.latent.astype(np.float32))
        sides = 16 * latent.shape[1], 16 * latent.shape[2]
        boxes, scores = decode_rows(run(latent[None])[0], *sides, 0.0)
        clipped = boxes.clip(0, [*one.header.coded_size, *one.header.coded_size])
        shows = (clipped[:, 2:] > clipped[:, :2]).all(1)
        np.testing.assert_allclose(found.boxes[0], clipped[shows][0], atol=1e-2)
        assert found.scores[0] == pytest.approx(scores[shows][0], rel=1e-4)
    least = float(together[0].scores[3])
    detect.confidence = least
    assert (detect(opened[:1])[0].scores >= least).all()


def check_alone(detect: LatentPersons, opened: Opened, found: Detections) -> None:
    (alone,) = detect([opened])
    np.testing.assert_allclose(alone.boxes, found.boxes, atol=1e-2)
    assert len(alone.boxes) > 0 and set(alone.labels) == {"person"}
    width, height = opened.header.coded_size
    assert (alone.boxes >= 0).all() and (alone.boxes <= [width, height, width, height]).all()
    assert (np.diff(alone.scores) <= 0).all()


lightning = pytest.importorskip("lightning", reason="lightning is not installed")

from roi_anon_ros.train import latent as training  # noqa: E402
from roi_anon_ros.train.latent_crops import LatentCrops, Sample, quantise  # noqa: E402


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A latent whose features tell where they are: 1000 rows + columns, in cells of their own."""
    rng = np.random.default_rng(0)
    arrays = {"latent": rng.normal(0, 20, (CHANNELS, 9, 15)).astype(np.float16)}
    for stride in (8, 16, 32):
        rows, columns = np.mgrid[: 160 // stride, : 256 // stride]
        arrays[f"stride{stride}"] = (100 * rows + columns)[None].repeat(64, 0).astype(np.float16)
    np.savez(tmp_path / "one.npz", **arrays)
    truth = np.array([[40, 30, 100, 140, 0], [200, 0, 240, 144, 1]], np.float32)
    return Sample(tmp_path / "one.npz", truth, 4.75)


def test_a_crop_shows_one_place_in_all_its_parts(codec: Codec, sample: Sample) -> None:
    latents = codec.model.latents
    crops = LatentCrops([sample], latents, 96, 0)
    with np.load(sample.file) as file:
        whole = quantise(file["latent"], latents, 4.75)
    assert whole.shape == (CHANNELS, 10, 16) and not whole[:, 9].any() and not whole[:, :, 15].any()
    places = set()
    usual = 0
    for number in range(40):
        latent, features, kinds, truth = crops[number]
        assert latent.shape == (CHANNELS, 6, 6)
        cells = [(96 // stride) ** 2 for stride in (8, 16, 32)]
        assert features.shape == (64, sum(cells)) and kinds.shape == (sum(cells),)
        top, side = divmod(int(features[0, sum(cells[:2])]), 100)  # in cells of 32 pixels
        places.add((top, side))
        assert [divmod(int(features[5, first]), 100) for first in (0, cells[0])] == [
            (4 * top, 4 * side),
            (2 * top, 2 * side),
        ]
        window = whole[:, 2 * top : 2 * top + 6, 2 * side : 2 * side + 6]
        usual += np.array_equal(latent.numpy(), window)
        shown = kinds[: cells[0]].reshape(12, 12).numpy()
        for x1, y1, x2, y2, _ in truth.tolist():
            left, upper, right, lower = (math.ceil(place / 8 - 0.5) for place in (x1, y1, x2, y2))
            assert (shown[upper:lower, left:right] == 2).all()
        if not len(truth):
            assert not (shown == 2).any()
        again = crops[number]
        assert all(map(torch.equal, again, (latent, features, kinds, truth)))
    assert len(places) > 5
    assert 10 <= usual < 40  # half of them at the quality of the camera, the others at any


def test_cells_outside_the_image_are_not_imitated(codec: Codec, sample: Sample) -> None:
    crops = LatentCrops([sample], codec.model.latents, 320, 0)
    latent, features, kinds, _ = crops[0]
    shown = kinds[: 40 * 40].reshape(40, 40).numpy()
    assert (shown[:20, :32] > 0).all() and not shown[20:].any() and not shown[:, 32:].any()
    assert not latent[:, 10:].any()
    target = features[None].float()
    parts = [target[..., :1600], target[..., 1600:2000], target[..., 2000:]]
    sides = (40, 20, 10)
    maps = [m.reshape(1, 64, side, side).clone() for m, side in zip(parts, sides, strict=True)]
    assert training.measure_imitation(maps, target, kinds[None]) == 0
    maps[0][:, :, 20:] += 1000
    assert training.measure_imitation(maps, target, kinds[None]) == 0
    maps[0][:, :, 0] += 1
    assert training.measure_imitation(maps, target, kinds[None]) > 0


def test_the_normalisations_of_the_training_end_in_the_weights() -> None:
    torch.manual_seed(0)
    network = LatentNano(CHANNELS)
    plain = {name for name, _ in network.named_parameters()}
    training.start_network(network)
    latent = 3 + 5 * torch.randn(4, CHANNELS, 6, 6)
    network.train()
    network(latent)
    folded = training.fold_network(network)
    assert {name for name, _ in folded.named_parameters()} == plain
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(folded(latent), network(latent), atol=1e-4, rtol=1e-4)
