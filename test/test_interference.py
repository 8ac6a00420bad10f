"""Non-interference: what stands under the regions changes neither painted image nor packet."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gained_model import make_gained_model
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.regions import STAMPS, Regions, count_cells, paint
from roi_anon_ros.evaluate.interference import (
    REPLACEMENTS,
    GivenRegions,
    compare_packets,
    count_same,
    replace_hidden,
)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gained_model(tmp_path_factory.mktemp("model") / "tiny-gained.safetensors")


@pytest.fixture(scope="module", params=["torch", "openvino"])
def codec(request: pytest.FixtureRequest, model_file: Path) -> Codec:
    if request.param == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    return Codec.load(str(model_file), request.param)


@st.composite
def scenes(draw: st.DrawFn, sides: tuple[int, int]) -> tuple[np.ndarray, Regions, np.ndarray]:
    """An image, regions in it, and another image that differs in what is under the regions."""
    height = draw(st.integers(*sides))
    width = draw(st.integers(*sides))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    columns, rows = count_cells(width, height)
    cells = rng.random((rows, columns)) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    cells[rng.integers(rows), rng.integers(columns)] = True
    heads = rng.uniform([-9, -9, 1], [width + 9, height + 9, 1.5 * height], (3, 3))
    regions = Regions(cells, np.zeros((0, 3), np.int32)).union(
        Regions.of_heads(heads[: draw(st.integers(0, 3))], width, height)
    )
    by = draw(st.sampled_from(REPLACEMENTS))
    other = rng.integers(0, 256, (20, 30, 3), np.uint8)
    return image, regions, replace_hidden(image, regions, by, other, 7)


@settings(max_examples=60)
@given(scenes((1, 70)), st.sampled_from(STAMPS))
def test_paint_does_not_read_what_it_hides(
    scene: tuple[np.ndarray, Regions, np.ndarray], stamp: str
) -> None:
    image, regions, changed = scene
    mask = regions.mask(image.shape[1], image.shape[0])
    painted = paint(image, regions, stamp)
    assert np.array_equal(paint(changed, regions, stamp), painted)
    assert np.array_equal(painted[~mask], image[~mask])


@settings(max_examples=8)
@given(scenes((16, 80)), st.sampled_from([1.0, 4.5, 8.0]))
def test_the_packet_does_not_depend_on_what_is_hidden(
    codec: Codec, scene: tuple[np.ndarray, Regions, np.ndarray], quality: float
) -> None:
    image, regions, changed = scene
    before = codec.encode(image, 0, quality, GivenRegions(regions))
    after = codec.encode(changed, 0, quality, GivenRegions(regions))
    assert before.packet == after.packet
    assert np.array_equal(codec.decode(before.packet).regions.cells, regions.cells)


def test_the_packet_shows_what_is_not_hidden(codec: Codec) -> None:
    """The same change outside the regions is another packet: the comparison can fail."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    regions = Regions.of_heads(np.array([[20, 20, 16]]), 64, 64)
    before = codec.encode(image, 0, 8.0, GivenRegions(regions)).packet
    assert codec.encode(255 - image, 0, 8.0, GivenRegions(regions)).packet != before


def test_not_even_the_head_map_sees_a_zone(codec: Codec) -> None:
    """With the regions that the codec finds itself."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (64, 96, 3), np.uint8)
    zones = [[[8, 8], [60, 8], [60, 50], [8, 50]]]
    hidden = codec.encode(image, 0, hiding=Hiding(zones)).packet
    under = Regions.of_polygons([np.array(zones[0])], 96, 64)
    for by in REPLACEMENTS:
        changed = replace_hidden(image, under, by, image[::-1, ::-1], 5)
        assert codec.encode(changed, 0, hiding=Hiding(zones)).packet == hidden


class LeakyCodec:
    """A codec whose packets show one hidden pixel."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.engine = codec.engine

    def encode(self, image: np.ndarray, *arguments: object) -> object:
        encoded = self._codec.encode(image, *arguments)
        mask = encoded.hidden.regions.mask(image.shape[1], image.shape[0])
        object.__setattr__(encoded, "packet", encoded.packet + image[mask][:1].tobytes())
        return encoded


def test_the_measurement_counts(codec: Codec) -> None:
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 200, (64, 96, 3), np.uint8) for _ in range(2)]
    for image in images:  # heads of this model are what is white
        image[16:40, 24:48] = rng.integers(230, 256, (24, 24, 3), np.uint8)
    assert all(codec.encode(image, 0).hidden.regions.cells.any() for image in images)
    counted = count_same(compare_packets(images, codec, 4.0))
    assert counted == {by: {"packets": 2, "same": 2} for by in REPLACEMENTS}
    leaky = count_same(compare_packets(images, LeakyCodec(codec), 4.0))
    assert leaky == {by: {"packets": 2, "same": 0} for by in REPLACEMENTS}


def test_a_replacement_must_be_known() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="by: got 'smoke', must be one of noise"):
        replace_hidden(image, Regions.empty(16, 16), "smoke", image)
