"""A model at work: files, golden packet, images to packets and back."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from roi_anon_ros.codec import (
    Codec,
    Header,
    ModelFileError,
    PacketError,
    find_model,
    list_models,
    load_model,
    save_model,
)
from roi_anon_ros.codec.image import coded_size
from roi_anon_ros.codec.networks import FastCodec, PaperCodec
from roi_anon_ros.codec.packet import pack, unpack

GOLDEN = Path(__file__).parent / "golden"


def make_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(x / 7 + y / 11), 127 + 100 * np.cos(x / 13), (x * 3 + y * 5) % 256]
    return np.stack(waves, -1).round().astype(np.uint8)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(str(GOLDEN / "tiny.safetensors"))


def test_golden_packet_decodes_to_the_same_symbols_everywhere(codec: Codec) -> None:
    packet = (GOLDEN / "tiny.ran").read_bytes()
    header, payload, _ = unpack(packet)
    assert (header.source_size, header.coded_size, header.padding) == ((70, 50), (70, 50), (10, 14))
    assert header.fingerprint.hex() == codec.fingerprint
    symbols = codec.model.codec.tables.decode(payload, 4, 5)
    assert np.array_equal(symbols, np.load(GOLDEN / "tiny_symbols.npy"))
    decoded = codec.decode(packet).image
    expected = np.load(GOLDEN / "tiny_decoded.npy")
    assert np.abs(decoded.astype(int) - expected).max() <= 1


def test_golden_symbols_encode_to_the_golden_packet(codec: Codec) -> None:
    packet = (GOLDEN / "tiny.ran").read_bytes()
    symbols = np.load(GOLDEN / "tiny_symbols.npy").astype(np.int32)
    assert pack(unpack(packet)[0], codec.model.codec.tables.encode(symbols)) == packet


def test_encode_and_decode(codec: Codec) -> None:
    image = make_image(50, 70)
    encoded = codec.encode(image)
    assert set(encoded.seconds) == {"fit", "analysis", "entropy", "pack"}
    assert encoded.bits_per_pixel == 8 * len(encoded.packet) / 3500
    decoded = codec.decode(encoded.packet)
    assert decoded.image.shape == image.shape and decoded.image.dtype == np.uint8
    assert set(decoded.seconds) == {"unpack", "entropy", "synthesis"}
    assert decoded.header == encoded.header


def test_a_large_image_is_fitted_and_comes_back_at_its_size(codec: Codec) -> None:
    encoded = codec.encode(make_image(90, 300), max_side=100)
    assert encoded.header.source_size == (300, 90)
    assert encoded.header.coded_size == (100, 30)
    decoded = codec.decode(encoded.packet)
    assert decoded.image.shape == (30, 100, 3)
    assert decoded.at_source_size().shape == (90, 300, 3)
    assert codec.encode(make_image(90, 300), max_side=0).header.coded_size == (300, 90)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((640, 480), 640, (640, 480)),
        ((1920, 1080), 640, (640, 360)),
        ((480, 1920), 640, (160, 640)),
        ((8192, 16), 640, (640, 16)),
        ((8192, 8192), 0, (8192, 8192)),
        ((20, 30), 640, (20, 30)),
    ],
)
def test_coded_size_keeps_the_aspect(
    size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    assert coded_size(*size, max_side) == expected


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((20, 20, 3), np.float32), "dtype float32, must be uint8"),
        (np.zeros((20, 20), np.uint8), r"shape \(20, 20\)"),
        (np.zeros((20, 20, 4), np.uint8), r"shape \(20, 20, 4\)"),
        (np.zeros((0, 20, 3), np.uint8), "height: 0 pixels, must be from 16 to 8192"),
        (np.zeros((20, 15, 3), np.uint8), "width: 15 pixels"),
        (None, "NoneType, must be a numpy array"),
    ],
)
def test_what_is_no_image_is_named(codec: Codec, image: object, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        codec.encode(image)


def test_max_side_out_of_bounds_is_named(codec: Codec) -> None:
    with pytest.raises(ValueError, match="max_side: 9, must be 0 or from 16 to 8192"):
        codec.encode(make_image(20, 20), max_side=9)


def test_a_packet_of_another_model_is_refused(codec: Codec) -> None:
    header, payload, _ = unpack(codec.encode(make_image(50, 70)).packet)
    foreign = Header(b"\0" * 8, header.source_size, header.coded_size, header.padding)
    with pytest.raises(PacketError, match="of model 0000000000000000, this is tiny") as caught:
        codec.decode(pack(foreign, bytes(payload)))
    assert caught.value.reason == "fingerprint"


def test_too_many_pixels_are_refused_before_anything_is_decoded(codec: Codec) -> None:
    header = Header(codec.model.fingerprint, (8192, 8192), (8192, 8192), (0, 0))
    with pytest.raises(
        PacketError, match="8192x8192 coded pixels, must be at most 8847360"
    ) as caught:
        codec.decode(pack(header, b"\0"))
    assert caught.value.reason == "size"


def test_a_hostile_packet_with_a_valid_crc_raises_the_typed_error(codec: Codec) -> None:
    rng = np.random.default_rng(4)
    packet = codec.encode(make_image(50, 70)).packet
    refused = 0
    for _ in range(400):
        body = bytearray(packet[:-4])
        for at in rng.integers(14, len(body), 3):
            body[at] = rng.integers(256)
        try:
            image = codec.decode(
                bytes(body) + struct.pack("<I", zlib.crc32(body)), max_pixels=200 * 200
            ).image
        except PacketError:
            refused += 1
        else:
            assert image.dtype == np.uint8
    assert refused > 300


def test_padding_other_than_the_codecs_own_is_refused(codec: Codec) -> None:
    header, payload, _ = unpack(codec.encode(make_image(50, 70)).packet)
    other = Header(header.fingerprint, header.source_size, header.coded_size, (26, 14))
    with pytest.raises(PacketError, match="next multiple of 16"):
        codec.decode(pack(other, bytes(payload)))


@pytest.mark.parametrize("make", [lambda: PaperCodec(4, 1), lambda: FastCodec(4)])
def test_a_model_file_gives_the_same_codec_back(make, tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = make()
    net.update()
    path = tmp_path / "m.safetensors"
    mark = save_model(net, path, "m", training={"pictures": 3}, figures={"bpp": 0.1})
    model = load_model(path)
    assert model.fingerprint == mark and len(mark) == 8
    assert (
        model.metadata["training"] == {"pictures": 3} and model.metadata["licence"] == "Apache-2.0"
    )
    assert model.codec.hyperparameters == net.hyperparameters and not model.codec.training
    for key, value in net.state_dict().items():
        tolerance = 2e-3 if value.is_floating_point() else 0
        assert torch.allclose(
            model.codec.state_dict()[key].double(), value.double(), rtol=tolerance, atol=1e-6
        ), key
    again = tmp_path / "again.safetensors"
    assert save_model(model.codec, again, "m") == mark  # float16 twice is float16 once
    assert not list(tmp_path.glob("*.part"))


def test_a_network_without_tables_or_with_nan_is_not_saved(tmp_path: Path) -> None:
    net = PaperCodec(4, 0)
    with pytest.raises(RuntimeError, match="call update"):
        save_model(net, tmp_path / "m.safetensors", "m")
    net.update()
    with torch.no_grad():
        net.g_a[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="g_a.0.weight: not finite"):
        save_model(net, tmp_path / "m.safetensors", "m")
    assert not list(tmp_path.iterdir())


def test_every_damage_to_a_model_file_is_refused(tmp_path: Path) -> None:
    good = (GOLDEN / "tiny.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    rng = np.random.default_rng(1)
    header = 8 + int.from_bytes(good[:8], "little")
    places = [*range(8), *rng.integers(8, header, 60), *rng.integers(header, len(good), 60)]
    for at in places:
        damaged = bytearray(good)
        damaged[at] ^= 1 << int(rng.integers(7))
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_model(path)
    for cut in (0, 7, 100, header, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(ModelFileError):
            load_model(path)


def rewrite(path: Path, **changes: object) -> None:
    """The golden model with other metadata, and a checksum that fits."""
    import hashlib

    with safe_open(GOLDEN / "tiny.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["roi_anon"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    metadata.update(changes)
    del metadata["checksum"]
    metadata["checksum"] = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
    save_file(tensors, path, metadata={"roi_anon": json.dumps(metadata)})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"format_version": 2}, "format_version 2, this release reads 1"),
        ({"architecture": "transformer"}, "architecture 'transformer'"),
        ({"hyperparameters": {"N": 9, "M": 2}}, "does not fit its architecture"),
        ({"hyperparameters": {"K": 9}}, "does not fit its architecture"),
        ({"fingerprint": "00" * 8}, "fingerprint"),
    ],
)
def test_newer_and_foreign_files_say_so(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    path = tmp_path / "other.safetensors"
    rewrite(path, **changes)
    with pytest.raises(ModelFileError, match=what):
        load_model(path)


def test_a_safetensors_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="of something else"):
        load_model(path)


def test_models_are_found_by_name_or_path() -> None:
    path = GOLDEN / "tiny.safetensors"
    assert find_model(str(path)) == path
    for name, file in list_models().items():
        assert find_model(name) == file
    with pytest.raises(ModelFileError, match="model 'nobody': neither a file nor one of"):
        find_model("nobody")


def test_every_shipped_model_loads_and_has_a_card() -> None:
    for name, path in list_models().items():
        assert path.stat().st_size < 16 << 20
        assert load_model(path).metadata["name"] == name
        assert path.with_suffix(".md").is_file(), f"{name} has no card"
