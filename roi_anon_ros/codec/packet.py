"""The packet: one coded image, self-describing and bounded.

All integers are little-endian::

    offset  size  field
         0     4  magic, "RAN1"
         4     1  format version, 1 or 2
         5     1  version 1: flags, 0; version 2: quality in sixteenths, 16 to 128
         6     8  model fingerprint: the first bytes of SHA-256 over its weights and tables
        14     2  source width            16 to 8192 pixels
        16     2  source height           16 to 8192 pixels
        18     2  coded width             16 to 8192 pixels
        20     2  coded height            16 to 8192 pixels
        22     1  padding at the right    0 to 255 pixels, cut off after decoding
        23     1  padding at the bottom   0 to 255 pixels, cut off after decoding
        24     4  payload length          0 to 67,108,864 bytes
        28     n  payload; version 1: a latent, see entropy.py; version 2: see below
    28 + n     4  CRC-32 of everything before it

Version 2 is for models that have every rate and paint what they hide. Its payload is::

         0     1  quarter turns clockwise that the image was turned by before the coding, 0 to 3
         1     4  length of the regions, 0 to 1,048,576 bytes
         5     m  regions: cells of 8 x 8 coded pixels that were painted before, see regions.py
     5 + m        a latent, see contexts.py

Every packet stands alone. :func:`unpack` checks all of this before anything is allocated or
decoded; the CRC finds every single flipped byte. It is no signature: who can write packets can
write any image.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from roi_anon_ros.boxes import clip_boxes
from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.image import check_sides

MAGIC = b"RAN1"
#: Bounds of a quality, and the steps in which a packet carries it.
MIN_QUALITY = 1.0
MAX_QUALITY = 8.0
QUALITY_STEP = 1 / 16
#: Versions of the format: of models with one rate, and of models with every rate and regions.
VERSION = 1
VERSION_QUALITY = 2
VERSIONS = (VERSION, VERSION_QUALITY)
MAX_PAYLOAD = 1 << 26
MAX_REGIONS = 1 << 20
#: Coded pixels that a decoder takes by default: an image of 4096 × 2160.
MAX_PIXELS = 4096 * 2160

_HEADER = struct.Struct("<4sBB8s4H2BI")
_CRC = struct.Struct("<I")
_SECOND = struct.Struct("<BI")
#: Bytes of a packet besides its payload.
OVERHEAD = _HEADER.size + _CRC.size


@dataclass(frozen=True)
class Header:
    """What a packet says of itself.

    Attributes:
        fingerprint: 8 bytes, the model that encoded it.
        source_size: ``(width, height)`` of the camera's image, pixels.
        coded_size: ``(width, height)`` of the image that was coded, without padding, pixels.
        padding: ``(right, bottom)`` pixels that were added before the coding.
        version: of the format.
        quality: 1 to 8, of a model that has every rate; 0 of one that has one.
        turns: quarter turns clockwise that the image was turned by before the coding, 0 to 3.
    """

    fingerprint: bytes
    source_size: tuple[int, int]
    coded_size: tuple[int, int]
    padding: tuple[int, int]
    version: int = VERSION
    quality: float = 0.0
    turns: int = 0

    @property
    def padded_size(self) -> tuple[int, int]:
        """``(width, height)`` that went through the network, pixels."""
        return self.coded_size[0] + self.padding[0], self.coded_size[1] + self.padding[1]

    def bits_per_pixel(self, packet_bytes: int) -> float:
        """Rate of a packet of this many bytes: its bits over the pixels of the source."""
        return 8 * packet_bytes / (self.source_size[0] * self.source_size[1])

    def to_source(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes from the decoded image to the camera's.

        Args:
            boxes: float ``[n, 4]``, x1 y1 x2 y2 in coded pixels.

        Returns:
            float32 ``[n, 4]`` in source pixels, clipped to the image.
        """
        width, height = self.source_size
        upright = (height, width) if self.turns % 2 else (width, height)
        scale = np.array(upright * 2, np.float32) / np.array(self.coded_size * 2, np.float32)
        x1, y1, x2, y2 = (np.asarray(boxes, np.float32).reshape(-1, 4) * scale).T
        if self.turns == 1:
            corners = (y1, height - x2, y2, height - x1)
        elif self.turns == 2:
            corners = (width - x2, height - y2, width - x1, height - y1)
        elif self.turns == 3:
            corners = (width - y2, x1, width - y1, x2)
        else:
            corners = (x1, y1, x2, y2)
        return clip_boxes(np.stack(corners, axis=1), width, height)

    def check(self) -> None:
        """Check every field.

        Raises:
            PacketError: reason ``"size"``, ``"turns"`` or ``"quality"``; it is out of bounds.
        """
        for name, (width, height) in (("source", self.source_size), ("coded", self.coded_size)):
            try:
                check_sides(width, height)
            except ValueError as error:
                raise PacketError("size", f"{name} {error}") from None
        for side, pixels in zip(("right", "bottom"), self.padding, strict=True):
            if not 0 <= pixels <= 255:
                raise PacketError("size", f"padding {side} {pixels}, must be from 0 to 255")
        if self.version == VERSION:
            if self.turns:
                raise PacketError("turns", f"{self.turns}, must be 0 in version {VERSION}")
            if self.quality:
                raise PacketError("quality", f"{self.quality}, must be 0 in version {VERSION}")
            return
        if not 0 <= self.turns <= 3:
            raise PacketError("turns", f"{self.turns}, must be from 0 to 3")
        if not MIN_QUALITY <= self.quality <= MAX_QUALITY:
            raise PacketError(
                "quality", f"{self.quality}, must be from {MIN_QUALITY} to {MAX_QUALITY}"
            )


def pack(header: Header, latent: bytes, regions: bytes = b"") -> bytes:
    """Write a packet.

    Args:
        header: of the version that it names.
        latent: what the entropy coder made.
        regions: what was painted, see :meth:`Regions.to_bytes`; version 2 only.

    Raises:
        PacketError: a size, the quality, the turns or a length is out of bounds.
    """
    header.check()
    most = MAX_REGIONS if header.version == VERSION_QUALITY else 0
    if len(regions) > most:
        raise PacketError("regions", f"{len(regions)} bytes, must be at most {most}")
    payload = latent
    if header.version == VERSION_QUALITY:
        payload = _SECOND.pack(header.turns, len(regions)) + regions + latent
    if len(payload) > MAX_PAYLOAD:
        raise PacketError("length", f"payload {len(payload)} bytes, must be at most {MAX_PAYLOAD}")
    packed = _HEADER.pack(
        MAGIC,
        header.version,
        round(header.quality / QUALITY_STEP),
        header.fingerprint,
        *header.source_size,
        *header.coded_size,
        *header.padding,
        len(payload),
    )
    return b"".join((packed, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(packed)))))


def unpack(packet: bytes | bytearray | memoryview) -> tuple[Header, memoryview, memoryview]:
    """Check a packet and read it.

    Returns:
        Its header, and views of its latent and of its regions, which are empty in version 1.

    Raises:
        PacketError: with the first of the reasons ``"length"``, ``"magic"``, ``"version"``,
            ``"crc"``, ``"size"``, ``"regions"``, ``"turns"`` and ``"quality"``.
    """
    view = memoryview(packet).cast("B")
    if len(view) < OVERHEAD:
        raise PacketError("length", f"{len(view)} bytes, must be at least {OVERHEAD}")
    magic, version, rate, fingerprint, *sizes, length = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise PacketError("magic", f"{magic!r}, must be {MAGIC!r}")
    if version not in VERSIONS or (version == VERSION and rate != 0):
        raise PacketError(
            "version", f"version {version} flags {rate}, must be {VERSION} and 0, or 2"
        )
    if length > MAX_PAYLOAD or len(view) != OVERHEAD + length:
        raise PacketError("length", f"{len(view)} bytes, the header promises {OVERHEAD + length}")
    (crc,) = _CRC.unpack_from(view, _HEADER.size + length)
    if zlib.crc32(view[: -_CRC.size]) != crc:
        raise PacketError("crc", "the packet was damaged on its way")
    source = sizes[0], sizes[1]
    coded = sizes[2], sizes[3]
    padding = sizes[4], sizes[5]
    payload = view[_HEADER.size : -_CRC.size]
    if version == VERSION:
        header = Header(fingerprint, source, coded, padding, version)
        header.check()
        return header, payload, payload[:0]
    if len(payload) < _SECOND.size:
        raise PacketError("regions", f"{len(payload)} bytes, must be at least {_SECOND.size}")
    turns, size = _SECOND.unpack_from(payload)
    header = Header(fingerprint, source, coded, padding, version, rate * QUALITY_STEP, turns)
    header.check()
    rest = payload[_SECOND.size :]
    if size > MAX_REGIONS or size > len(rest):
        raise PacketError("regions", f"{size} bytes, must be at most {min(MAX_REGIONS, len(rest))}")
    return header, rest[size:], rest[:size]
