"""Packets: what was written is read, and nothing else is."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.packet import (
    MAX_PAYLOAD,
    MAX_REGIONS,
    OVERHEAD,
    QUALITY_STEP,
    VERSION_QUALITY,
    Header,
    pack,
    unpack,
)

sizes = st.tuples(st.integers(16, 8192), st.integers(16, 8192))
headers = st.builds(
    Header,
    fingerprint=st.binary(min_size=8, max_size=8),
    source_size=sizes,
    coded_size=sizes,
    padding=st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
#: Of models that have every rate and paint.
headers_of_every_rate = st.builds(
    Header,
    fingerprint=st.binary(min_size=8, max_size=8),
    source_size=sizes,
    coded_size=sizes,
    padding=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    version=st.just(VERSION_QUALITY),
    quality=st.integers(16, 128).map(lambda steps: steps * QUALITY_STEP),
    turns=st.integers(0, 3),
)
HEADER = Header(b"12345678", (640, 480), (320, 240), (0, 0))
HEADER_OF_EVERY_RATE = replace(HEADER, version=VERSION_QUALITY, quality=4.5, turns=3)
#: Bytes of the turns and of the length of the regions.
SECOND = 5
REASONS = {"magic", "version", "length", "size", "crc", "regions", "turns", "quality"}


def seal(body: bytes) -> bytes:
    """A packet with a valid CRC around any body."""
    return body + struct.pack("<I", zlib.crc32(body))


@given(headers, st.binary(max_size=2000))
def test_every_packet_round_trips(header: Header, payload: bytes) -> None:
    packet = pack(header, payload)
    assert len(packet) == len(payload) + OVERHEAD
    read, body, regions = unpack(packet)
    assert (read, bytes(body), bytes(regions)) == (header, payload, b"")


@given(headers_of_every_rate, st.binary(max_size=2000), st.binary(max_size=500))
def test_every_packet_of_every_rate_round_trips(
    header: Header, latent: bytes, regions: bytes
) -> None:
    packet = pack(header, latent, regions)
    assert len(packet) == len(latent) + len(regions) + SECOND + OVERHEAD
    read, body, cells = unpack(packet)
    assert (read, bytes(body), bytes(cells)) == (header, latent, regions)


def test_golden_layout() -> None:
    packet = pack(HEADER, b"\xaa\xbb\xcc")
    body = (
        b"RAN1"
        + bytes([1, 0])
        + b"12345678"
        + struct.pack("<4H2BI", 640, 480, 320, 240, 0, 0, 3)
        + b"\xaa\xbb\xcc"
    )
    assert packet == body + struct.pack("<I", zlib.crc32(body))


def test_golden_layout_of_every_rate() -> None:
    packet = pack(HEADER_OF_EVERY_RATE, b"\xaa\xbb\xcc", b"\x01\x02")
    body = (
        b"RAN1"
        + bytes([2, 72])
        + b"12345678"
        + struct.pack("<4H2BI", 640, 480, 320, 240, 0, 0, 10)
        + struct.pack("<BI", 3, 2)
        + b"\x01\x02"
        + b"\xaa\xbb\xcc"
    )
    assert packet == body + struct.pack("<I", zlib.crc32(body))


@given(headers | headers_of_every_rate, st.binary(max_size=300), st.data())
def test_every_truncation_is_refused(header: Header, payload: bytes, data: st.DataObject) -> None:
    packet = pack(header, payload)
    with pytest.raises(PacketError):
        unpack(packet[: data.draw(st.integers(0, len(packet) - 1))])


@pytest.mark.parametrize(
    "packet",
    [
        pack(HEADER, b""),
        pack(HEADER, b"x"),
        pack(HEADER, bytes(range(200))),
        pack(HEADER_OF_EVERY_RATE, b""),
        pack(HEADER_OF_EVERY_RATE, bytes(range(200)), bytes(range(50))),
    ],
    ids=len,
)
def test_every_single_flipped_byte_is_refused(packet: bytes) -> None:
    for at in range(len(packet)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(packet)
            damaged[at] ^= flip
            with pytest.raises(PacketError) as caught:
                unpack(damaged)
            assert caught.value.reason in REASONS


@settings(max_examples=500)
@given(st.binary(max_size=500))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PacketError):
        unpack(data)
    with pytest.raises(PacketError):
        unpack(b"RAN1\1\0" + data)
    with pytest.raises(PacketError):
        unpack(b"RAN1\2\20" + data)


@given(headers, st.binary(max_size=100))
def test_appended_bytes_are_refused(header: Header, payload: bytes) -> None:
    with pytest.raises(PacketError, match="length"):
        unpack(pack(header, payload) + b"\0")


@pytest.mark.parametrize(
    ("field", "value", "reason", "message"),
    [
        ("magic", b"JPEG", "magic", "must be b'RAN1'"),
        ("version", 0, "version", "version 0"),
        ("version", 3, "version", "version 3"),
        ("flags", 1, "version", "flags 1"),
        ("source width", 15, "size", "source width: 15 pixels, must be from 16 to 8192"),
        ("source height", 8193, "size", "source height: 8193 pixels"),
        ("coded width", 0, "size", "coded width: 0 pixels"),
        ("coded height", 65535, "size", "coded height: 65535 pixels"),
        ("length", 4, "length", "the header promises 36"),
        ("length", 0xFFFFFFFF, "length", "the header promises"),
    ],
)
def test_fields_out_of_bounds_are_named_even_with_a_valid_crc(
    field: str, value: object, reason: str, message: str
) -> None:
    fields = {
        "magic": b"RAN1",
        "version": 1,
        "flags": 0,
        "fingerprint": b"12345678",
        "source width": 640,
        "source height": 480,
        "coded width": 640,
        "coded height": 480,
        "right": 0,
        "bottom": 0,
        "length": 0,
    }
    fields[field] = value
    with pytest.raises(PacketError, match=message) as caught:
        unpack(seal(struct.pack("<4sBB8s4H2BI", *fields.values())))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("rate", "payload", "reason", "message"),
    [
        (72, b"", "regions", "0 bytes, must be at least 5"),
        (72, bytes(4), "regions", "4 bytes, must be at least 5"),
        (15, struct.pack("<BI", 0, 0), "quality", "0.9375, must be from 1.0 to 8.0"),
        (129, struct.pack("<BI", 0, 0), "quality", "8.0625, must be from 1.0 to 8.0"),
        (72, struct.pack("<BI", 4, 0), "turns", "4, must be from 0 to 3"),
        (72, struct.pack("<BI", 0, 4) + b"abc", "regions", "4 bytes, must be at most 3"),
        (72, struct.pack("<BI", 0, 0xFFFFFFFF), "regions", "4294967295 bytes, must be at most 0"),
        (
            72,
            struct.pack("<BI", 0, MAX_REGIONS + 1) + bytes(MAX_REGIONS + 2),
            "regions",
            f"{MAX_REGIONS + 1} bytes, must be at most {MAX_REGIONS}",
        ),
    ],
)
def test_fields_of_every_rate_out_of_bounds_are_named(
    rate: int, payload: bytes, reason: str, message: str
) -> None:
    sides = (640, 480, 640, 480, 0, 0)
    head = struct.pack("<4sBB8s4H2BI", b"RAN1", 2, rate, b"12345678", *sides, len(payload))
    with pytest.raises(PacketError, match=message) as caught:
        unpack(seal(head + payload))
    assert caught.value.reason == reason


def test_refusing_allocates_nothing_to_speak_of() -> None:
    body = struct.pack(
        "<4sBB8s4H2BI", b"RAN1", 1, 0, b"12345678", 8192, 8192, 8192, 8192, 0, 0, MAX_PAYLOAD
    )
    tracemalloc.start()
    with pytest.raises(PacketError):
        unpack(seal(body))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_payload_out_of_bounds_is_not_written() -> None:
    with pytest.raises(PacketError, match="at most"):
        pack(HEADER, bytes(MAX_PAYLOAD + 1))
    with pytest.raises(PacketError, match="padding right 256"):
        pack(Header(b"12345678", (640, 480), (640, 480), (256, 0)), b"")


@pytest.mark.parametrize(
    ("header", "regions", "reason"),
    [
        (HEADER_OF_EVERY_RATE, bytes(MAX_REGIONS + 1), "regions"),
        (HEADER, b"x", "regions"),
        (replace(HEADER, turns=1), b"", "turns"),
        (replace(HEADER, quality=4.5), b"", "quality"),
        (replace(HEADER_OF_EVERY_RATE, turns=4), b"", "turns"),
        (replace(HEADER_OF_EVERY_RATE, quality=8.1), b"", "quality"),
        (replace(HEADER_OF_EVERY_RATE, quality=float("nan")), b"", "quality"),
    ],
)
def test_what_no_packet_can_say_is_not_written(header: Header, regions: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as caught:
        pack(header, b"latent", regions)
    assert caught.value.reason == reason


@pytest.mark.parametrize("turns", range(4))
def test_boxes_come_back_from_a_turned_image(turns: int) -> None:
    """A box is drawn, the image turned, the box found again, and brought back."""
    image = np.zeros((48, 64), np.uint8)
    image[8:20, 30:50] = 1
    turned = np.rot90(image, -turns)
    rows, columns = np.nonzero(turned)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    size = turned.shape[::-1]
    header = Header(b"12345678", (64, 48), size, (0, 0), VERSION_QUALITY, 4.5, turns)
    assert header.to_source(np.array([box], np.float32)).tolist() == [[30, 8, 50, 20]]


def test_boxes_come_back_in_source_pixels() -> None:
    boxes = np.array([[0, 0, 320, 240], [10, 20, 30, 40], [-5, 0, 400, 10]], np.float32)
    expected = [[0, 0, 640, 480], [20, 40, 60, 80], [0, 0, 640, 20]]
    assert HEADER.to_source(boxes).tolist() == expected
    assert HEADER.to_source(np.zeros((0, 4))).shape == (0, 4)
