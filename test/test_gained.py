"""A model of every rate at work: qualities, what is painted, zones, holding, turned images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gained_model import make_gained_model

from roi_anon_ros.codec import Codec, ModelFileError, PacketError, find_painted, load_model
from roi_anon_ros.codec.engines import trial_image
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.networks import GainedCodec
from roi_anon_ros.codec.packet import pack, unpack
from roi_anon_ros.codec.regions import Regions, paint

#: A rectangle of the source, and the cells that it touches.
ZONE = [[18, 10], [38, 10], [38, 29], [18, 29]]
ZONE_ROWS = slice(1, 4)
ZONE_COLUMNS = slice(2, 5)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec.load(str(make_gained_model(tmp_path_factory.mktemp("model") / "g.safetensors")))


def dark(width: int = 96, height: int = 64) -> np.ndarray:
    """An image without white."""
    return trial_image(width, height) // 2


def with_head(x: int, y: int) -> np.ndarray:
    """A dark image with a white square of 16 pixels."""
    image = dark()
    image[y : y + 16, x : x + 16] = 255
    return image


def test_the_second_look_of_an_older_release_is_refused(codec: Codec) -> None:
    """It had fewer answers."""
    name = "second_look.last.bias"
    tensors = codec.model.tensors | {name: codec.model.tensors[name][:6]}
    older = replace(codec.model, tensors=tensors)
    with pytest.raises(ModelFileError, match="second_look.last.bias: got 6 answers, must be 9"):
        assert older.second_look


def test_what_is_decoded_is_what_was_coded(codec: Codec) -> None:
    encoded = codec.encode(dark(100, 75), quality=6)
    header, latent, regions = unpack(encoded.packet)
    assert (header.version, header.quality, header.turns, header.padding) == (2, 6.0, 0, (12, 5))
    assert set(encoded.seconds) == {"fit", "heads", "paint", "analysis", "entropy", "pack"}
    x = torch.from_numpy(dark(100, 75)).permute(2, 0, 1)[None].float() / 255
    net = codec.model.codec
    # The equation of the network's documentation, at a level.
    y = net.analyse(x)[0].numpy() * np.exp(net.gain[5].detach().numpy())[:, None, None]
    magnitude = np.maximum(np.abs(y) - 0.1, 0)
    symbols = net.latents.decode(latent, 6.0, 5, 7)
    assert np.array_equal(symbols, np.copysign(np.rint(magnitude), y))
    assert np.unique(symbols).size > 5, "symbols that are all alike prove nothing"
    inverse = np.exp(net.inverse_gain[5].detach().numpy())[:, None, None]
    expected = net.synthesise(torch.from_numpy((symbols * inverse).astype(np.float32))[None])
    image = codec.decode(encoded.packet).image
    assert image.shape == (75, 100, 3) and len(regions) == 0
    wanted = expected[0].permute(1, 2, 0)[:75, :100].numpy() * 255
    assert np.abs(image - wanted).max() <= 0.51


def test_more_quality_takes_more_bytes(codec: Codec) -> None:
    sizes = [len(codec.encode(dark(), quality=quality).packet) for quality in (1, 3, 5, 8)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("quality", [0.99, 8.01, float("nan")])
def test_a_quality_out_of_bounds_is_named(codec: Codec, quality: float) -> None:
    with pytest.raises(ValueError, match="quality: got .*, must be 0 or from 1.0 to 8.0"):
        codec.encode(dark(), quality=quality)


def test_a_head_is_painted_and_the_packet_says_where(codec: Codec) -> None:
    encoded = codec.encode(with_head(48, 24))
    assert encoded.hidden.heads >= 1 and encoded.hidden.confidence > 0.5
    assert encoded.hidden.regions.cells[3:5, 6:8].all()
    assert encoded.hidden.regions.share < 0.6
    decoded = codec.decode(encoded.packet)
    assert np.array_equal(decoded.regions.cells, encoded.hidden.regions.cells)
    assert codec.encode(dark()).hidden.heads == 0


def test_a_packet_does_not_depend_on_what_was_painted(codec: Codec) -> None:
    hiding = Hiding([ZONE])
    first = codec.encode(dark(), hiding=hiding)
    other = dark()
    other[8:32, 16:40] = np.random.default_rng(0).integers(0, 256, (24, 24, 3))
    assert first.hidden.regions.cells[ZONE_ROWS, ZONE_COLUMNS].all()
    assert first.hidden.regions.cells.sum() == 9
    assert codec.encode(other, hiding=hiding).packet == first.packet
    assert codec.encode(other).packet != codec.encode(dark()).packet


def test_not_even_the_head_map_sees_a_zone(codec: Codec) -> None:
    image = with_head(20, 10)
    assert codec.encode(image).hidden.heads >= 1
    assert codec.encode(image, hiding=Hiding([ZONE])).hidden.heads == 0


def test_a_helmet_is_painted_on_what_is_hidden_and_nowhere_else() -> None:
    image = np.full((96, 128, 3), 100, np.uint8)
    bare = Regions.of_heads(np.array([[64, 48, 40]]), 128, 96)
    worn = Regions(bare.cells, bare.heads, np.array([True])).union(Regions.empty(128, 96))
    changed = paint(image, worn) != paint(image, bare)
    assert not changed[~bare.mask(128, 96)].any()
    red, green, blue = paint(image, worn)[36, 64].tolist()
    assert red > 150 and green > 120 and blue < 90, "yellow"
    assert not changed[56:].any(), "below the brim the head is as before"


def test_a_head_that_is_lost_is_held(codec: Codec) -> None:
    hiding = Hiding(hold=0.5)
    seen = codec.encode(with_head(48, 24), hiding=hiding, stamp=10.0)
    held = codec.encode(dark(), hiding=hiding, stamp=10.4)
    assert held.hidden.heads == 0 and held.hidden.held == seen.hidden.heads
    assert held.hidden.regions.cells[3:5, 6:8].all()
    past = codec.encode(dark(), hiding=hiding, stamp=10.6)
    assert past.hidden.held == 0 and not past.hidden.regions.cells.any()
    assert codec.encode(dark(), hiding=Hiding(hold=0), stamp=10.4).hidden.held == 0


@pytest.mark.parametrize("turns", range(4))
def test_a_turned_camera(codec: Codec, turns: int) -> None:
    """What is coded is the upright image; zones and decoded images are the camera's."""
    mounted = np.ascontiguousarray(np.rot90(dark(), turns))
    zone = Regions.of_polygons([np.array(ZONE)], mounted.shape[1], mounted.shape[0])
    encoded = codec.encode(mounted, hiding=Hiding([ZONE]), turns=turns)
    upright = np.rot90(zone.cells, -turns)
    assert np.array_equal(encoded.hidden.regions.cells, upright)
    assert encoded.header.coded_size == (96, 64)
    assert encoded.header.source_size == mounted.shape[1::-1]
    decoded = codec.decode(encoded.packet)
    assert decoded.image.shape == (64, 96, 3)
    shown = decoded.at_source_size()
    assert np.array_equal(np.rot90(shown, -turns), decoded.image)
    assert np.array_equal(find_painted(encoded.packet), zone.mask(*mounted.shape[1::-1]))
    assert np.array_equal(decoded.painted_at_source_size(), find_painted(encoded.packet))


def test_turns_out_of_bounds_are_named(codec: Codec) -> None:
    with pytest.raises(ValueError, match="turns: got 4, must be from 0 to 3"):
        codec.encode(dark(), turns=4)


def test_regions_that_are_none_are_refused(codec: Codec) -> None:
    packet = codec.encode(with_head(48, 24)).packet
    header, latent, regions = unpack(packet)
    cells = Regions.from_bytes(regions, 96, 64)
    for bad in (
        b"x",
        bytes(regions[:-1]),
        bytes(regions) + b"x",
        Regions(np.ones((9, 12), bool), cells.heads).to_bytes(),
    ):
        with pytest.raises(PacketError) as caught:
            codec.decode(pack(header, latent, bad))
        assert caught.value.reason == "regions"


def test_a_packet_of_one_rate_is_refused_by_a_model_of_every_rate(codec: Codec) -> None:
    from dataclasses import replace

    header, latent, _ = unpack(codec.encode(dark()).packet)
    foreign = replace(header, version=1, quality=0.0)
    with pytest.raises(PacketError, match="must be 2 for model tiny-gained") as caught:
        codec.decode(pack(foreign, latent))
    assert caught.value.reason == "version"


@pytest.mark.slow
def test_the_file_gives_the_same_codec_back(codec: Codec, tmp_path: Path) -> None:
    net = codec.model.codec
    again = load_model(codec.model.path)
    assert again.fingerprint == codec.model.fingerprint
    assert isinstance(again.codec, GainedCodec)
    for key, value in net.state_dict().items():
        assert torch.equal(again.codec.state_dict()[key], value), key
    with pytest.raises(RuntimeError, match="no tables"):
        GainedCodec(N=4).latents  # noqa: B018


def test_painted_again_an_image_stays_as_it_is(codec: Codec) -> None:
    regions = codec.encode(with_head(48, 24)).hidden.regions
    painted = paint(with_head(48, 24), regions)
    assert np.array_equal(paint(painted, regions), painted)
