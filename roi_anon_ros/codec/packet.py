"""The packet: one coded picture, self-describing and bounded.

All integers are little-endian::

    offset  size  field
         0     4  magic, "RAN1"
         4     1  format version, 1
         5     1  flags, 0
         6     8  model fingerprint: the first bytes of SHA-256 over its weights and tables
        14     2  source width            16 to 8192 pixels
        16     2  source height           16 to 8192 pixels
        18     2  coded width             16 to 8192 pixels
        20     2  coded height            16 to 8192 pixels
        22     1  padding at the right    0 to 255 pixels, cut off after decoding
        23     1  padding at the bottom   0 to 255 pixels, cut off after decoding
        24     4  payload length          0 to 67,108,864 bytes
        28     n  payload, see entropy.py
    28 + n     4  CRC-32 of everything before it

Every packet stands alone. :func:`unpack` checks all of this before anything is allocated or
decoded; the CRC finds
every single flipped byte. It is no signature: who can write packets can write any picture.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from roi_anon_ros.boxes import clip_boxes
from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.picture import check_sides

MAGIC = b"RAN1"
VERSION = 1
MAX_PAYLOAD = 1 << 26
#: Coded pixels that a decoder takes by default: a picture of 4096 × 2160.
MAX_PIXELS = 4096 * 2160

_HEADER = struct.Struct("<4sBB8s4H2BI")
_CRC = struct.Struct("<I")
#: Bytes of a packet beside its payload.
OVERHEAD = _HEADER.size + _CRC.size


@dataclass(frozen=True)
class Header:
    """What a packet says of itself.

    Attributes:
        fingerprint: 8 bytes, the model that encoded it.
        source_size: ``(width, height)`` of the camera's picture, pixels.
        coded_size: ``(width, height)`` of the picture that was coded, without padding, pixels.
        padding: ``(right, bottom)`` pixels that were added before the coding.
        version: of the format.
    """

    fingerprint: bytes
    source_size: tuple[int, int]
    coded_size: tuple[int, int]
    padding: tuple[int, int]
    version: int = VERSION

    @property
    def padded_size(self) -> tuple[int, int]:
        """``(width, height)`` that went through the network, pixels."""
        return self.coded_size[0] + self.padding[0], self.coded_size[1] + self.padding[1]

    def bits_per_pixel(self, packet_bytes: int) -> float:
        """Rate of a packet of this many bytes: its bits over the pixels of the source."""
        return 8 * packet_bytes / (self.source_size[0] * self.source_size[1])

    def to_source(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes from the decoded picture to the camera's.

        Args:
            boxes: float ``[n, 4]``, x1 y1 x2 y2 in coded pixels.

        Returns:
            float32 ``[n, 4]`` in source pixels, clipped to the picture.
        """
        size = np.array(self.source_size * 2, np.float32)
        scale = size / np.array(self.coded_size * 2, np.float32)
        return clip_boxes(np.asarray(boxes, np.float32).reshape(-1, 4) * scale, *self.source_size)

    def check(self) -> None:
        """Raise a PacketError with reason ``"size"`` where a size is out of bounds."""
        for name, (width, height) in (("source", self.source_size), ("coded", self.coded_size)):
            try:
                check_sides(width, height)
            except ValueError as error:
                raise PacketError("size", f"{name} {error}") from None
        for side, pixels in zip(("right", "bottom"), self.padding, strict=True):
            if not 0 <= pixels <= 255:
                raise PacketError("size", f"padding {side} {pixels}, must be from 0 to 255")


def pack(header: Header, payload: bytes) -> bytes:
    """Write a packet.

    Raises:
        PacketError: a size or the payload's length is out of bounds.
    """
    header.check()
    if len(payload) > MAX_PAYLOAD:
        raise PacketError("length", f"payload {len(payload)} bytes, must be at most {MAX_PAYLOAD}")
    head = _HEADER.pack(
        MAGIC,
        header.version,
        0,
        header.fingerprint,
        *header.source_size,
        *header.coded_size,
        *header.padding,
        len(payload),
    )
    return b"".join((head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))))


def unpack(packet: bytes | bytearray | memoryview) -> tuple[Header, memoryview]:
    """Check a packet and read it.

    Returns:
        Its header, and a view of its payload.

    Raises:
        PacketError: with the first of the reasons ``"length"``, ``"magic"``, ``"version"``,
            ``"crc"`` and ``"size"``.
    """
    view = memoryview(packet).cast("B")
    if len(view) < OVERHEAD:
        raise PacketError("length", f"{len(view)} bytes, must be at least {OVERHEAD}")
    magic, version, flags, fingerprint, *sizes, length = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise PacketError("magic", f"{magic!r}, must be {MAGIC!r}")
    if version != VERSION or flags != 0:
        raise PacketError("version", f"version {version} flags {flags}, must be {VERSION} and 0")
    if length > MAX_PAYLOAD or len(view) != OVERHEAD + length:
        raise PacketError("length", f"{len(view)} bytes, the header promises {OVERHEAD + length}")
    (crc,) = _CRC.unpack_from(view, _HEADER.size + length)
    if zlib.crc32(view[: -_CRC.size]) != crc:
        raise PacketError("crc", "the packet was damaged on its way")
    header = Header(
        fingerprint, (sizes[0], sizes[1]), (sizes[2], sizes[3]), (sizes[4], sizes[5]), version
    )
    header.check()
    return header, view[_HEADER.size : -_CRC.size]
