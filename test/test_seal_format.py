"""Sealed parts as bytes: what was written is read, and nothing else; the golden file opens."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra seal")
pytest.importorskip("Cryptodome", reason="needs the extra seal")

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from roi_anon_ros.seal import Opener, SealError
from roi_anon_ros.seal import format as seal_format
from roi_anon_ros.seal.file import read_frames
from roi_anon_ros.seal.format import (
    Frame,
    Grant,
    Segment,
    cells_shape,
    erase_segment,
    pack_cells,
    pack_part,
    unpack_cells,
    unpack_frame,
    unpack_part,
    unpack_segment,
)
from roi_anon_ros.seal.keys import load_private_key
from roi_anon_ros.seal.pixels import code_pixels, decode_pixels, paste_pixels

GOLDEN = Path(__file__).parent / "golden"
PASSPHRASE = "golden, and no secret"


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    count = draw(st.integers(1, 16))
    threshold = draw(st.integers(1, count))
    number = st.just(0) if threshold == 1 else st.integers(1, count)
    grant = st.builds(
        Grant,
        st.binary(min_size=16, max_size=16),
        number,
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=48, max_size=48),
    )
    grants = draw(st.lists(grant, min_size=count, max_size=count))
    segment_id = draw(st.binary(min_size=16, max_size=16))
    created = draw(st.integers(0, 2**64 - 1))
    mac = draw(st.binary(min_size=32, max_size=32))
    return Segment(segment_id, created, threshold, tuple(grants), mac)


@st.composite
def frames(draw: st.DrawFn, segment_id: bytes = bytes(16)) -> Frame:
    size = draw(st.tuples(st.integers(16, 200), st.integers(16, 200)))
    seed = draw(st.integers(0, 1000))
    cells = np.random.default_rng(seed).random(cells_shape(size)) < draw(st.floats(0, 1))
    return Frame(
        segment_id,
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(-(2**63), 2**63 - 1)),
        draw(st.binary(min_size=32, max_size=32)),
        size,
        pack_cells(cells),
        draw(st.binary(min_size=16, max_size=300)),
    )


@settings(deadline=None)
@given(st.data())
def test_every_part_round_trips(data: st.DataObject) -> None:
    segment = data.draw(segments())
    frame = data.draw(frames(segment.id))
    assert unpack_part(pack_part(segment, frame)) == (segment, frame)


@settings(deadline=None)
@given(st.data())
def test_every_truncation_and_every_longer_part_is_refused(data: st.DataObject) -> None:
    segment = data.draw(segments())
    part = pack_part(segment, data.draw(frames(segment.id)))
    with pytest.raises(SealError):
        unpack_part(part[: data.draw(st.integers(0, len(part) - 1))])
    with pytest.raises(SealError, match="length"):
        unpack_part(part + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    for begin in (b"", b"RSG1\1\1\1\0", b"RSF1\1\1\0\0"):
        with pytest.raises(SealError):
            unpack_part(begin + data)
    with pytest.raises(SealError):
        unpack_frame(b"RSF1\1\1\0\0" + data)


@settings(deadline=None)
@given(st.tuples(st.integers(16, 300), st.integers(16, 300)), st.integers(0, 99))
def test_cells_round_trip(size: tuple[int, int], seed: int) -> None:
    cells = np.random.default_rng(seed).random(cells_shape(size)) < 0.3
    assert np.array_equal(unpack_cells(pack_cells(cells), size), cells)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"", "must be 1 for"),
        (b"no zlib", "not readable"),
        (zlib.compress(b"\xff\xff"), "got 2 bytes"),
        (zlib.compress(b"\xf0")[:-1], "must be 1 for"),
        (zlib.compress(b"\xf0") + b"\0", "must be 1 for"),
        (zlib.compress(b"\xf1"), "outside the image"),
        (zlib.compress(bytes(1 << 20)), "got 2 bytes or more"),  # is not inflated any further
    ],
)
def test_cells_that_are_none_of_this_size_are_refused(code: bytes, message: str) -> None:
    with pytest.raises(SealError, match=message) as caught:
        unpack_cells(code, (16, 16))
    assert caught.value.reason == "cells"


SEGMENT = Segment(b"s" * 16, 7, 2, tuple(Grant(bytes(16), i, bytes(32), bytes(48)) for i in (1, 2)))
FRAME = Frame(SEGMENT.id, 3, -5, bytes(32), (16, 24), pack_cells(np.ones((3, 2), bool)), bytes(16))


@pytest.mark.parametrize(
    ("offset", "value", "reason", "message"),
    [
        (0, b"RSG2", "magic", "must be b'RSG1'"),
        (4, b"\2", "version", "segment: got 2, must be 1"),
        (5, b"\0", "size", "officers: got 0, must be from 1 to 16"),
        (5, b"\x11", "size", "officers: got 17, must be from 1 to 16"),
        (5, b"\3", "length", "segment: got"),
        (6, b"\0", "size", "threshold: got 0, must be from 1 to 2"),
        (6, b"\3", "size", "threshold: got 3, must be from 1 to 2"),
        (6, b"\1", "size", "share: got number 1, must be 0"),
        (7, b"\2", "size", "erased: got 2, must be 0 or 1"),
        (7, b"\1", "size", "not all are zeros"),
        (48, b"\0", "size", "share: got number 0, must be from 1 to 2"),
        (48, b"\3", "size", "share: got number 3, must be from 1 to 2"),
    ],
)
def test_fields_of_a_segment_out_of_bounds_are_named(
    offset: int, value: bytes, reason: str, message: str
) -> None:
    data = bytearray(SEGMENT.pack())
    data[offset : offset + len(value)] = value
    with pytest.raises(SealError, match=message) as caught:
        unpack_segment(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("offset", "value", "reason", "message"),
    [
        (0, b"RSF2", "magic", "must be b'RSF1'"),
        (4, b"\0", "version", "frame: got 0, must be 1"),
        (5, b"\2", "version", "coding 2"),
        (6, b"\1", "version", "0100, must be 1 0000"),
        (68, struct.pack("<H", 15), "size", "width: got 15, must be from 16 to 8192"),
        (70, struct.pack("<H", 8193), "size", "height: got 8193"),
        (72, struct.pack("<I", 147457), "length", "cells: got 147457 bytes"),
        (76, struct.pack("<I", 15), "length", "pixels: got 15 bytes"),
        (76, b"\xff\xff\xff\xff", "length", "pixels: got 4294967295 bytes"),
        (76, struct.pack("<I", 17), "length", "frame: got"),
    ],
)
def test_fields_of_a_frame_out_of_bounds_are_named(
    offset: int, value: bytes, reason: str, message: str
) -> None:
    data = bytearray(FRAME.pack())
    data[offset : offset + len(value)] = value
    with pytest.raises(SealError, match=message) as caught:
        unpack_frame(data)
    assert caught.value.reason == reason


def test_erased_keys_are_zeros_and_stay_readable() -> None:
    data = erase_segment(SEGMENT.pack())
    segment = unpack_segment(data)
    assert segment.erased and segment.pack() == data
    assert not any(data[32:])
    assert (segment.id, segment.created_ns) == (SEGMENT.id, SEGMENT.created_ns)


@st.composite
def images_and_cells(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height = draw(st.integers(16, 90))
    width = draw(st.integers(16, 90))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    cells = rng.random(cells_shape((width, height))) < draw(st.floats(0, 1))
    return image, cells


def spread(cells: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The mask of the pixels, written down independently of the code."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return cells[y // 8, x // 8]


@settings(max_examples=40, deadline=None)
@given(images_and_cells())
def test_nothing_but_the_painted_pixels_is_coded(case: tuple[np.ndarray, np.ndarray]) -> None:
    image, cells = case
    outside = ~spread(cells, image)
    other = image.copy()
    other[outside] ^= 255
    assert code_pixels(other, cells, 90) == code_pixels(image, cells, 90)


@settings(max_examples=40, deadline=None)
@given(images_and_cells())
def test_pixels_come_back_under_the_painted_cells_and_nowhere_else(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    image, cells = case
    decoded = np.full_like(image, 77)
    pixels = decode_pixels(code_pixels(image, cells, 100), int(cells.sum()))
    back = paste_pixels(decoded, cells, pixels)
    painted = spread(cells, image)
    assert (decoded == 77).all()
    assert (back[~painted] == 77).all()
    # At quality 100 a JPEG without subsampling is off by the roundings of its colours and cosines.
    assert np.abs(back[painted].astype(int) - image[painted]).max(initial=0) <= 6


@pytest.mark.parametrize("truncated", [False, True])
def test_a_mosaic_of_another_size_or_format_is_refused(
    truncated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some library told Pillow to take what was cut off."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", truncated)
    image = np.zeros((32, 32, 3), np.uint8)
    code = code_pixels(image, np.ones((4, 4), bool), 90)
    for wrong in (code[:200], b"", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        with pytest.raises(SealError, match="image: pixels: not readable"):
            decode_pixels(wrong, 16)
    with pytest.raises(SealError, match="image: mosaic"):
        decode_pixels(code, 17)
    with pytest.raises(SealError, match="must be 0 without cells"):
        decode_pixels(code, 0)


def derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256 for 32 bytes, from RFC 5869."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, purpose + b"\1", "sha256")


def multiply(a: int, b: int) -> int:
    """In GF(2^128) modulo x^128 + x^7 + x^2 + x + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a >> 128:
            a ^= (1 << 128) | 0x87
    return product


def invert(a: int) -> int:
    """a^(2^128 - 2)."""
    result = 1
    for _ in range(127):
        a = multiply(a, a)
        result = multiply(result, a)
    return result


def combine(first: tuple[int, bytes], second: tuple[int, bytes]) -> bytes:
    """The line through two points, at 0."""
    (x, y), (u, v) = first, second
    both = multiply(int.from_bytes(y, "big"), u) ^ multiply(int.from_bytes(v, "big"), x)
    return multiply(both, invert(x ^ u)).to_bytes(16, "big")


@pytest.fixture(scope="module")
def golden_keys(tmp_path_factory: pytest.TempPathFactory) -> list:
    """The first key has a passphrase; a checkout does not keep who may read a file."""
    folder = tmp_path_factory.mktemp("keys")
    keys = []
    for name, passphrase in (("first", PASSPHRASE), ("second", None)):
        path = Path(shutil.copy(GOLDEN / f"seal-{name}.key", folder))
        path.chmod(0o600)
        keys.append(load_private_key(path, passphrase))
    return keys


def test_the_golden_file_opens(golden_keys: list) -> None:
    packets = [b"golden packet 0", b"golden packet 1", b"golden packet 2"]
    image = np.load(GOLDEN / "seal-image.npy")
    painted = np.load(GOLDEN / "seal-cells.npy")
    opener = Opener(golden_keys)
    found = list(read_frames(GOLDEN / "golden.seal"))
    assert len({segment.id for segment, _ in found}) == 2
    for number, (segment, frame) in enumerate(found):
        opened = opener.open_frame(segment, frame, packets[number], stamp_ns=number * 10**9)
        back = opened.paste_into(np.zeros_like(image))
        cells = painted[number]
        assert np.array_equal(opened.cells, cells)
        mask = spread(cells, image)
        assert not back[~mask].any()
        difference = back[mask].astype(int) - image[mask]
        assert np.square(difference).sum() <= 36 * difference.size  # of a JPEG of quality 90


def test_the_golden_file_opens_by_the_description_alone(golden_keys: list) -> None:
    """Two of three officers; arithmetic that shares no code with ours."""
    data = (GOLDEN / "golden.seal").read_bytes()
    assert data[:8] == b"RSEA\1\0\0\0"
    begin = 8
    head = data[begin : begin + 32]
    magic, _, count, threshold, _, segment_id, created = struct.unpack("<4sBBBB16sQ", head)
    assert (magic, count, threshold) == (b"RSG1", 3, 2)
    shares = []
    for at in range(begin + 32, begin + 32 + 97 * count, 97):
        officer, number, ephemeral, wrapped = struct.unpack_from("<16sB32s48s", data, at)
        for key in golden_keys:
            public = key.key.public_key().public_bytes_raw()
            if hashlib.sha256(public).digest()[:16] != officer:
                continue
            secret = key.key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            wrapping = derive(secret, ephemeral + public, b"roi_anon_ros seal 1 grant")
            bound = segment_id + struct.pack("<QBB", created, threshold, number) + officer
            shares.append((number, AESGCM(wrapping).decrypt(bytes(12), wrapped, bound)))
    assert len(shares) == 2
    low = combine(*[(number, share[:16]) for number, share in shares])
    content_key = low + combine(*[(number, share[16:]) for number, share in shares])

    end = begin + 32 + 97 * count
    mac_key = derive(content_key, b"", b"roi_anon_ros seal 1 segment")
    assert hmac.digest(mac_key, data[begin:end], "sha256") == data[end : end + 32]

    frame = end + 32
    number, stamp, digest, width, height, cells, pixels = struct.unpack_from(
        "<Iq32sHHII", data, frame + 24
    )
    assert (number, stamp, width, height) == (0, 0, 100, 60)
    assert digest == hashlib.sha256(b"golden packet 0").digest()
    border = frame + 80 + cells
    cipher = AESGCM(derive(content_key, b"", b"roi_anon_ros seal 1 frames"))
    nonce = number.to_bytes(12, "big")
    jpeg = cipher.decrypt(nonce, data[border : border + pixels], data[frame:border])
    assert jpeg[:2] == b"\xff\xd8"


def test_cells_and_sizes_are_those_of_the_codec() -> None:
    from roi_anon_ros.codec import MAX_SIDE, MIN_SIDE
    from roi_anon_ros.codec.regions import CELL

    assert (seal_format.CELL, seal_format.MIN_SIDE, seal_format.MAX_SIDE) == (
        CELL,
        MIN_SIDE,
        MAX_SIDE,
    )
