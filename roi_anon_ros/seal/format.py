"""The sealed part of one packet as bytes: a segment, then a frame.

A segment says who may open, a frame what is sealed. A frame is of the segment whose id it names.
All integers are little-endian. The segment::

    offset  size    field
         0     4    magic, "RSG1"
         4     1    format version, 1
         5     1    officers n                1 to 16
         6     1    threshold, officers that it takes to open    1 to n
         7     1    1 where the keys were destroyed, else 0
         8    16    segment id, random
        24     8    when it was begun         nanoseconds since 1970, UTC
        32    97 n  grants, see below; zeros where the keys were destroyed
    32 + 97 n  32   HMAC-SHA256 of everything before it; zeros where the keys were destroyed

A grant is the content key, or a share of it, for one officer::

         0    16    key id: first bytes of SHA-256 of the officer's public key
        16     1    number of the share       1 to n; 0 where the threshold is 1
        17    32    ephemeral public key, X25519
        49    48    the key or share, AES-256-GCM: 32 bytes and the tag

The frame::

         0     4    magic, "RSF1"
         4     1    format version, 1
         5     1    coding of the pixels, 1: see pixels.py
         6     2    0
         8    16    segment id
        24     4    number of the frame in its segment
        28     8    stamp of the image, nanoseconds, signed
        36    32    SHA-256 of the packet
        68     2    coded width               16 to 8192 pixels
        70     2    coded height              16 to 8192 pixels
        72     4    length c of the cells     at most 147,456 bytes
        76     4    length p of the pixels    16 to 67,108,880 bytes
        80     c    cells: zlib of one bit a cell, row by row, first cell in the highest bit
    80 + c     p    pixels, AES-256-GCM: their code and the tag

All bytes of a frame before the pixels are the cipher's associated data.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from roi_anon_ros.seal.errors import SealError

SEGMENT_MAGIC = b"RSG1"
FRAME_MAGIC = b"RSF1"
VERSION = 1
CODING = 1

#: Side of a cell, pixels.
CELL = 8
#: Bounds of an image's side, pixels, as in the packet.
MIN_SIDE = 16
MAX_SIDE = 8192
MAX_OFFICERS = 16
MAX_CELLS_BYTES = 9 << 14
TAG_BYTES = 16
MAX_PIXELS_BYTES = (1 << 26) + TAG_BYTES

_SEGMENT = struct.Struct("<4sBBBB16sQ")
_GRANT = struct.Struct("<16sB32s48s")
_FRAME = struct.Struct("<4sBB2s16sIq32sHHII")
MAC_BYTES = 32
SEGMENT_HEAD_BYTES = _SEGMENT.size
FRAME_HEAD_BYTES = _FRAME.size


@dataclass(frozen=True)
class Grant:
    """The content key of a segment, or a share of it, for one officer.

    Attributes:
        key_id: 16 bytes, of the officer's public key.
        number: of the share, 1 to 16; 0 for the whole key.
        ephemeral: 32 bytes, the public half of a key pair that was used once.
        wrapped: 48 bytes, what only the officer can read.
    """

    key_id: bytes
    number: int
    ephemeral: bytes
    wrapped: bytes


@dataclass(frozen=True)
class Segment:
    """Who may open the frames of some seconds.

    Attributes:
        id: 16 random bytes.
        created_ns: when it was begun, nanoseconds since 1970.
        threshold: officers that it takes to open.
        grants: one for each officer.
        mac: 32 bytes, over everything else, by a key that is derived from the content key.
        erased: whether the keys were destroyed.
    """

    id: bytes
    created_ns: int
    threshold: int
    grants: tuple[Grant, ...]
    mac: bytes = bytes(MAC_BYTES)
    erased: bool = False

    def pack_without_mac(self) -> bytes:
        """Write all but the last field: what the code of authentication covers."""
        count = len(self.grants)
        head = (SEGMENT_MAGIC, VERSION, count, self.threshold, self.erased, self.id)
        grants = [_GRANT.pack(g.key_id, g.number, g.ephemeral, g.wrapped) for g in self.grants]
        return _SEGMENT.pack(*head, self.created_ns) + b"".join(grants)

    def pack(self) -> bytes:
        """Write the segment."""
        return self.pack_without_mac() + self.mac


@dataclass(frozen=True)
class Frame:
    """What is sealed of one image.

    Attributes:
        segment_id: 16 bytes.
        number: of the frame in its segment; it makes the cipher's nonce.
        stamp_ns: of the image.
        packet_sha256: 32 bytes, of the packet that the image became.
        size: ``(width, height)`` of the coded image, pixels.
        cells_code: see :func:`pack_cells`.
        pixels: their code, enciphered, with its tag.
    """

    segment_id: bytes
    number: int
    stamp_ns: int
    packet_sha256: bytes
    size: tuple[int, int]
    cells_code: bytes
    pixels: bytes

    @property
    def cells(self) -> np.ndarray:
        """The painted cells, bool ``[ceil(height / 8), ceil(width / 8)]``."""
        return unpack_cells(self.cells_code, self.size)

    def associated_data(self, pixels_bytes: int) -> bytes:
        """Write all fields but the pixels, which will have this many bytes with their tag."""
        head = (FRAME_MAGIC, VERSION, CODING, bytes(2), self.segment_id, self.number, self.stamp_ns)
        lengths = (len(self.cells_code), pixels_bytes)
        return _FRAME.pack(*head, self.packet_sha256, *self.size, *lengths) + self.cells_code

    def pack(self) -> bytes:
        """Write the frame."""
        return self.associated_data(len(self.pixels)) + self.pixels


def cells_shape(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells in an image of ``(width, height)`` pixels."""
    width, height = size
    return -(-height // CELL), -(-width // CELL)


def pack_cells(cells: np.ndarray) -> bytes:
    """Code a mask of cells, bool ``[rows, columns]``."""
    return zlib.compress(np.packbits(cells).tobytes(), 1)


def unpack_cells(code: bytes, size: tuple[int, int]) -> np.ndarray:
    """Read a mask of cells, bool ``[rows, columns]``.

    Args:
        code: of :func:`pack_cells`.
        size: ``(width, height)`` of the image, pixels.

    Raises:
        SealError: ``"cells"``; the code is none of a mask of this size.
    """
    rows, columns = cells_shape(size)
    expected = -(-rows * columns // 8)
    reader = zlib.decompressobj()
    try:
        packed = reader.decompress(code, expected + 1)
    except zlib.error as error:
        raise SealError("cells", f"not readable: {error}") from error
    if len(packed) != expected or not reader.eof or reader.unused_data:
        got = f"{len(packed)} bytes or more"
        raise SealError("cells", f"got {got}, must be {expected} for {columns} x {rows} cells")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    if bits[rows * columns :].any():
        raise SealError("cells", "got a cell outside the image")
    return bits[: rows * columns].reshape(rows, columns).astype(bool)


def _check_begin(kind: str, got: tuple[bytes, int], expected: bytes) -> None:
    """Refuse another magic or version."""
    magic, version = got
    if magic != expected:
        raise SealError("magic", f"{kind}: got {magic!r}, must be {expected!r}")
    if version != VERSION:
        raise SealError("version", f"{kind}: got {version}, must be {VERSION}")


def _head(kind: str, layout: struct.Struct, view: memoryview) -> tuple:
    """The fields at the beginning of a view."""
    if len(view) < layout.size:
        raise SealError("length", f"{kind}: got {len(view)} bytes, must be {layout.size} or more")
    return layout.unpack_from(view)


def segment_bytes(head: bytes | memoryview) -> int:
    """Length of the segment that begins with these 32 bytes.

    Raises:
        SealError: they are no beginning of a segment, or a field is out of bounds.
    """
    magic, version, count, threshold, erased, _, _ = _head("segment", _SEGMENT, memoryview(head))
    _check_begin("segment", (magic, version), SEGMENT_MAGIC)
    if not 1 <= count <= MAX_OFFICERS:
        raise SealError("size", f"officers: got {count}, must be from 1 to {MAX_OFFICERS}")
    if not 1 <= threshold <= count:
        raise SealError("size", f"threshold: got {threshold}, must be from 1 to {count}")
    if erased not in (0, 1):
        raise SealError("size", f"erased: got {erased}, must be 0 or 1")
    return _SEGMENT.size + count * _GRANT.size + MAC_BYTES


def unpack_segment(data: bytes | memoryview) -> Segment:
    """Read a segment.

    Raises:
        SealError: ``"magic"``, ``"version"``, ``"size"`` or ``"length"``.
    """
    view = memoryview(data).cast("B")
    expected = segment_bytes(view)
    if len(view) != expected:
        raise SealError("length", f"segment: got {len(view)} bytes, must be {expected}")
    _, _, count, threshold, erased, segment_id, created_ns = _SEGMENT.unpack_from(view)
    grants = []
    for index in range(count):
        grant = Grant(*_GRANT.unpack_from(view, _SEGMENT.size + index * _GRANT.size))
        whole = threshold == 1
        if not erased and (grant.number == 0) != whole or grant.number > count:
            bounds = "0" if whole else f"from 1 to {count}"
            raise SealError("size", f"share: got number {grant.number}, must be {bounds}")
        grants.append(grant)
    mac = bytes(view[-MAC_BYTES:])
    segment = Segment(segment_id, created_ns, threshold, tuple(grants), mac, bool(erased))
    if erased and view != erase_segment(view):
        raise SealError("size", "segment: its keys were destroyed, but not all are zeros")
    return segment


def created_ns(segment: bytes | memoryview) -> int:
    """When a segment, as bytes whose length was checked, was begun: nanoseconds since 1970."""
    return _SEGMENT.unpack_from(segment)[-1]


def erase_segment(segment: bytes | memoryview) -> bytes:
    """A segment, as bytes whose length was checked, with its keys destroyed: of the same length."""
    magic, version, count, threshold, _, segment_id, created = _SEGMENT.unpack_from(segment)
    head = _SEGMENT.pack(magic, version, count, threshold, True, segment_id, created)
    return head + bytes(len(segment) - len(head))


def frame_bytes(head: bytes | memoryview) -> int:
    """Length of the frame that begins with these 80 bytes.

    Raises:
        SealError: they are no beginning of a frame, or a field is out of bounds.
    """
    fields = _head("frame", _FRAME, memoryview(head))
    magic, version, coding, zeros, _, _, _, _, width, height, cells_bytes, pixels_bytes = fields
    _check_begin("frame", (magic, version), FRAME_MAGIC)
    if coding != CODING or any(zeros):
        raise SealError(
            "version", f"frame: got coding {coding} {zeros.hex()}, must be {CODING} 0000"
        )
    for name, side in (("width", width), ("height", height)):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise SealError("size", f"{name}: got {side}, must be from {MIN_SIDE} to {MAX_SIDE}")
    if cells_bytes > MAX_CELLS_BYTES:
        raise SealError(
            "length", f"cells: got {cells_bytes} bytes, must be at most {MAX_CELLS_BYTES}"
        )
    if not TAG_BYTES <= pixels_bytes <= MAX_PIXELS_BYTES:
        bounds = f"from {TAG_BYTES} to {MAX_PIXELS_BYTES}"
        raise SealError("length", f"pixels: got {pixels_bytes} bytes, must be {bounds}")
    return _FRAME.size + cells_bytes + pixels_bytes


def unpack_frame(data: bytes | memoryview) -> Frame:
    """Read a frame.

    Raises:
        SealError: ``"magic"``, ``"version"``, ``"size"``, ``"length"`` or ``"cells"``.
    """
    view = memoryview(data).cast("B")
    expected = frame_bytes(view)
    if len(view) != expected:
        raise SealError("length", f"frame: got {len(view)} bytes, must be {expected}")
    fields = _FRAME.unpack_from(view)
    _, _, _, _, segment_id, number, stamp_ns, packet_sha256, width, height, cells_bytes, _ = fields
    begin = _FRAME.size + cells_bytes
    cells_code = bytes(view[_FRAME.size : begin])
    unpack_cells(cells_code, (width, height))
    pixels = bytes(view[begin:])
    size = (width, height)
    return Frame(segment_id, number, stamp_ns, packet_sha256, size, cells_code, pixels)


def pack_part(segment: Segment, frame: Frame) -> bytes:
    """Write the sealed part of one packet, as it stands in a message."""
    return segment.pack() + frame.pack()


def unpack_part(part: bytes | bytearray | memoryview) -> tuple[Segment, Frame]:
    """Read the sealed part of one packet.

    Raises:
        SealError: as from :func:`unpack_segment` and :func:`unpack_frame`, or ``"order"``: the
            frame is of another segment.
    """
    view = memoryview(part).cast("B")
    border = segment_bytes(view)
    segment = unpack_segment(view[:border])
    frame = unpack_frame(view[border:])
    if frame.segment_id != segment.id:
        got = f"got {frame.segment_id.hex()}, must be {segment.id.hex()}"
        raise SealError("order", f"segment of the frame: {got}")
    return segment, frame
