"""Every encoding of an image message against a separate conversion, pixel by pixel."""

from __future__ import annotations

import io
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="needs ROS 2: sensor_msgs")

from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image

from roi_anon_ros.nodes.base.images import (
    ENCODINGS,
    OUTSIDE,
    ImageError,
    decompress,
    levels_of,
    to_rgb,
)

pytestmark = pytest.mark.ros

BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
#: Where red, green, green and blue lie in a cell of 2 x 2: by their letters, row by row.
CELLS = {name: name[len("bayer_") : -1] for name in BAYER}


def message(rows: np.ndarray, encoding: str, width: int, height: int, **more: object) -> Image:
    """A message of these rows of bytes, ``[rows, step]``."""
    data = array("B", rows.tobytes())
    step = rows.shape[1]
    return Image(width=width, height=height, step=step, encoding=encoding, data=data, **more)


def pad(values: np.ndarray, padding: int) -> np.ndarray:
    """Rows of bytes with some more at the end of each."""
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=201)


def from_yuv(y: float, u: float, v: float) -> list[float]:
    """RGB of a colour as ITU-R BT.601 has it, from its constants 0.299 and 0.114."""
    red, blue = 0.299, 0.114
    green = 1 - red - blue
    bright = (y - 16) * 255 / 219
    to_red = 2 * (1 - red) * (v - 128) * 255 / 224
    to_blue = 2 * (1 - blue) * (u - 128) * 255 / 224
    rest = bright - red * (bright + to_red) - blue * (bright + to_blue)
    return [bright + to_red, rest / green, bright + to_blue]


sizes = st.tuples(st.integers(8, 20), st.integers(8, 20)).map(lambda s: (2 * s[0], 2 * s[1]))
seeds = st.integers(0, 2**32 - 1)
paddings = st.integers(0, 9)


@given(sizes, seeds, paddings, st.sampled_from(["8UC1", "8UC3"]))
def test_encodings_without_a_meaning_are_blue_first(
    size: tuple[int, int], seed: int, padding: int, encoding: str
) -> None:
    channels = int(encoding[-1])
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], channels), np.uint8)
    image = to_rgb(message(pad(values, padding), encoding, *size))
    expected = values.repeat(3, axis=2) if channels == 1 else values[..., [2, 1, 0]]
    np.testing.assert_array_equal(image, expected)
    assert levels_of(message(pad(values, padding), encoding, *size)) == {}


@given(sizes, seeds, paddings, st.sampled_from(["rgba8", "bgra8", "8UC4"]), st.booleans())
def test_transparent_pixels_are_laid_on_black(
    size: tuple[int, int], seed: int, padding: int, encoding: str, opaque: bool
) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 4), np.uint8)
    if opaque:
        values[..., 3] = 255
    image = to_rgb(message(pad(values, padding), encoding, *size))
    colours = values[..., :3] if encoding == "rgba8" else values[..., [2, 1, 0]]
    expected = (2 * colours.astype(int) * values[..., 3:] + 255) // 510  # rounded
    np.testing.assert_array_equal(image, expected)


def test_erased_pixels_of_a_compressed_image_are_black() -> None:
    values = np.random.default_rng(2).integers(1, 256, (32, 48, 4), np.uint8)
    values[..., 3] = 255
    values[8:16, 8:24, 3] = 0
    file = io.BytesIO()
    PilImage.fromarray(values).save(file, "PNG")
    image = decompress(CompressedImage(format="png", data=array("B", file.getvalue())))
    expected = values[..., :3] * (values[..., 3:] == 255)
    np.testing.assert_array_equal(image, expected)


def test_the_colour_that_a_compressed_image_names_transparent_is_black() -> None:
    file = io.BytesIO()
    grey = np.full((32, 48), 7, np.uint8)
    grey[:16] = 90
    PilImage.fromarray(grey).save(file, "PNG", transparency=90)
    image = decompress(CompressedImage(format="png", data=array("B", file.getvalue())))
    assert (image[:16] == 0).all() and (image[16:] == 7).all()


@given(sizes, seeds, paddings, st.sampled_from(["mono16", "16UC1", "rgb16"]), st.booleans())
def test_16_bits_are_scaled_from_the_range_that_most_values_lie_in(
    size: tuple[int, int], seed: int, padding: int, encoding: str, big: bool
) -> None:
    noise = np.random.default_rng(seed)
    lowest, highest = np.sort(noise.integers(0, 65536, 2))
    channels = 3 if encoding == "rgb16" else 1
    shape = (*size[::-1], channels)
    values = noise.integers(lowest, highest + 1, shape).astype(">u2" if big else "<u2")
    given_message = message(pad(values, padding), encoding, *size, is_bigendian=int(big))
    image = to_rgb(given_message)
    ordered = np.sort(values.ravel().astype(int))
    low = ordered[int(OUTSIDE * len(ordered))]
    high = ordered[int(np.ceil((1 - OUTSIDE) * len(ordered))) - 1]
    assert levels_of(given_message) == {"lowest level": low, "highest level": high}
    scaled = np.clip((values.astype(float) - low) / max(high - low, 1), 0, 1) * 255
    assert np.abs(image - np.broadcast_to(scaled, image.shape)).max() <= 0.51


def test_a_hot_pixel_does_not_darken_the_rest() -> None:
    values = np.random.default_rng(0).integers(3000, 3256, (64, 64, 1)).astype("<u2")
    values[5, 5] = 65535
    image = to_rgb(message(pad(values, 0), "16UC1", 64, 64))
    assert image.std() > 60


@given(sizes, seeds, paddings, st.sampled_from(["nv12", "nv21", "nv24"]))
def test_planes_of_brightness_and_colour(
    size: tuple[int, int], seed: int, padding: int, encoding: str
) -> None:
    width, height = size
    noise = np.random.default_rng(seed)
    bright = noise.integers(16, 236, (height, width), np.uint8)
    part = 1 if encoding == "nv24" else 2
    colours = noise.integers(16, 241, (height // part, width // part, 2), np.uint8)
    if part == 1:  # a row of colours is as long as two of brightness
        rows = pad(colours, 2 * padding).reshape(-1, width + padding)
    else:
        rows = pad(colours, padding)
    data = np.concatenate((pad(bright, padding), rows))
    image = to_rgb(message(data, encoding, width, height))
    for y, x in noise.integers(0, (height, width), (20, 2)):
        first, second = colours[y // part, x // part].astype(float)
        u, v = (second, first) if encoding == "nv21" else (first, second)
        expected = np.clip(from_yuv(float(bright[y, x]), u, v), 0, 255)
        np.testing.assert_allclose(image[y, x], expected, atol=2.5)


@given(sizes, st.sampled_from(BAYER), paddings, st.integers(0, 255), st.integers(0, 255))
def test_a_mosaic_of_one_colour_is_that_colour(
    size: tuple[int, int], encoding: str, padding: int, red: int, blue: int
) -> None:
    width, height = size
    colour = {"r": red, "g": 100, "b": blue}
    cell = np.array([colour[letter] for letter in CELLS[encoding]], np.uint8).reshape(2, 2)
    mosaic = np.tile(cell, (height // 2, width // 2))
    image = to_rgb(message(pad(mosaic, padding), encoding, width, height))
    np.testing.assert_array_equal(
        image[2:-2, 2:-2], np.full_like(image[2:-2, 2:-2], 1) * [red, 100, blue]
    )


@pytest.mark.parametrize("encoding", BAYER)
def test_a_mosaic_in_a_compressed_image_is_named_by_its_format(encoding: str) -> None:
    mosaic = np.random.default_rng(1).integers(0, 256, (32, 48), np.uint8)
    file = io.BytesIO()
    PilImage.fromarray(mosaic).save(file, "PNG")
    data = array("B", file.getvalue())
    for suffix in ("; png compressed ", ""):
        image = decompress(CompressedImage(format=encoding + suffix, data=data))
        np.testing.assert_array_equal(image, to_rgb(message(mosaic, encoding, 48, 32)))
    grey = decompress(CompressedImage(format="mono8; png compressed ", data=data))
    np.testing.assert_array_equal(grey, mosaic[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_refuses_wrong_rows_and_sizes(encoding: str) -> None:
    known = ENCODINGS[encoding]
    step = 32 * known.channels * known.depth
    rows = int(32 * known.planes)
    good = np.zeros((rows, step), np.uint8)
    assert to_rgb(message(good, encoding, 32, 32)).shape == (32, 32, 3)
    cases = [
        (good[:-1], 32, 32, "data"),
        (np.zeros((rows + 1, step), np.uint8), 32, 32, "data"),
        (good[:, :-1], 32, 32, "step"),
        (good, 8, 32, "size"),
    ]
    if known.even[0]:
        cases.append((good, 31, 32, "size"))
    if known.even[1]:
        cases.append((good, 32, 31, "size"))
    for data, width, height, reason in cases:
        with pytest.raises(ImageError) as caught:
            to_rgb(message(data, encoding, width, height))
        assert caught.value.reason == reason


def test_a_long_encoding_is_quoted_in_part() -> None:
    with pytest.raises(ImageError) as caught:
        to_rgb(message(np.zeros((16, 16), np.uint8), "x" * 100_000, 16, 16))
    assert caught.value.reason == "encoding" and len(str(caught.value)) < 400
