"""Packets: what was written is read, and nothing else is."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.packet import MAX_PAYLOAD, OVERHEAD, Header, pack, unpack

sizes = st.tuples(st.integers(16, 8192), st.integers(16, 8192))
headers = st.builds(
    Header,
    fingerprint=st.binary(min_size=8, max_size=8),
    source_size=sizes,
    coded_size=sizes,
    padding=st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
HEADER = Header(b"12345678", (640, 480), (320, 240), (0, 0))
REASONS = {"magic", "version", "length", "size", "crc", "fingerprint", "payload"}


def seal(body: bytes) -> bytes:
    """A packet with a valid CRC around any body."""
    return body + struct.pack("<I", zlib.crc32(body))


@given(headers, st.binary(max_size=2000))
def test_every_packet_round_trips(header: Header, payload: bytes) -> None:
    packet = pack(header, payload)
    assert len(packet) == len(payload) + OVERHEAD
    read, body, _ = unpack(packet)
    assert (read, bytes(body)) == (header, payload)


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


@given(headers, st.binary(max_size=300), st.data())
def test_every_truncation_is_refused(header: Header, payload: bytes, data: st.DataObject) -> None:
    packet = pack(header, payload)
    with pytest.raises(PacketError):
        unpack(packet[: data.draw(st.integers(0, len(packet) - 1))])


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(200))])
def test_every_single_flipped_byte_is_refused(payload: bytes) -> None:
    packet = pack(HEADER, payload)
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


@given(headers, st.binary(max_size=100))
def test_appended_bytes_are_refused(header: Header, payload: bytes) -> None:
    with pytest.raises(PacketError, match="length"):
        unpack(pack(header, payload) + b"\0")


@pytest.mark.parametrize(
    ("field", "value", "reason", "message"),
    [
        ("magic", b"JPEG", "magic", "must be b'RAN1'"),
        ("version", 2, "version", "version 2"),
        ("flags", 1, "version", "flags 1"),
        ("source width", 15, "size", "source width: 15 pixels, must be from 16 to 8192"),
        ("source height", 8193, "size", "source height 8193"),
        ("coded width", 0, "size", "coded width 0"),
        ("coded height", 65535, "size", "coded height 65535"),
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


def test_boxes_come_back_in_source_pixels() -> None:
    boxes = np.array([[0, 0, 320, 240], [10, 20, 30, 40], [-5, 0, 400, 10]], np.float32)
    expected = [[0, 0, 640, 480], [20, 40, 60, 80], [0, 0, 640, 20]]
    assert HEADER.to_source(boxes).tolist() == expected
    assert HEADER.to_source(np.zeros((0, 4))).shape == (0, 4)
