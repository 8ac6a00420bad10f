"""Packets in files.

One picture is one ``.ran`` file: the bytes of its packet (``codec/packet.py``) and nothing around
them. A video is one ``.ran`` file too, a sequence. All integers are little-endian::

    offset  size  field
         0     4  magic, "RANS"
         4     1  format version, 1
         5     3  0
         8     4  frame rate, numerator       frames a second, above 0 and at most 1000
        12     4  frame rate, denominator
        16        for each frame: 4 bytes, length n of its packet, then n bytes, the packet
                  at the end: 4 bytes, length 0

Without its end a sequence was cut off; the frames before the cut are good.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from roi_anon_ros.codec import PacketError
from roi_anon_ros.codec.packet import MAX_PAYLOAD, OVERHEAD

SEQUENCE_MAGIC = b"RANS"

SEQUENCE_VERSION = 1

MAX_RATE = 1000

_HEAD = struct.Struct("<4sB3sII")

_LENGTH = struct.Struct("<I")


def is_sequence(path: Path) -> bool:
    """Whether a file begins as a sequence does."""
    with path.open("rb") as file:
        return file.read(len(SEQUENCE_MAGIC)) == SEQUENCE_MAGIC


def read_packet(path: Path) -> bytes:
    """Read the bytes of one packet, unchecked, and no more than a packet may have."""
    with path.open("rb") as file:
        return file.read(OVERHEAD + MAX_PAYLOAD + 1)


class Sequence:
    """The packets of a sequence file, one by one.

    Attributes:
        rate: frames a second.
        end: bytes from the file's beginning to the end of the last packet that was read.
    """

    def __init__(self, path: Path) -> None:
        """Open a sequence.

        Raises:
            PacketError: no sequence, of a newer version, or its rate is out of bounds.
            OSError: the file cannot be read.
        """
        self._path = path
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise PacketError("length", f"{len(head)} bytes, a sequence has at least {_HEAD.size}")
        magic, version, zero, numerator, denominator = _HEAD.unpack(head)
        if magic != SEQUENCE_MAGIC:
            raise PacketError("magic", f"{magic!r}, must be {SEQUENCE_MAGIC!r}")
        if version != SEQUENCE_VERSION or any(zero):
            raise PacketError("version", f"sequence version {version}, must be {SEQUENCE_VERSION}")
        if not 0 < numerator <= MAX_RATE * denominator:
            raise PacketError(
                "size",
                f"frame rate {numerator}/{denominator}, must be above 0 and at most {MAX_RATE}",
            )
        self.rate = Fraction(numerator, denominator)
        self.end = _HEAD.size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the packets, as they are: nothing in them is checked.

        Raises:
            PacketError: reason ``"length"``; the file was cut off, or goes on behind its end. All
                complete packets before that were yielded.
        """
        self.end = _HEAD.size
        frame = 0
        with self._path.open("rb") as file:
            file.seek(self.end)
            while True:
                prefix = file.read(_LENGTH.size)
                if len(prefix) < _LENGTH.size:
                    raise PacketError("length", f"the sequence was cut off after {frame} frames")
                (length,) = _LENGTH.unpack(prefix)
                if length == 0:
                    break
                if not OVERHEAD <= length <= OVERHEAD + MAX_PAYLOAD:
                    bounds = f"from {OVERHEAD} to {OVERHEAD + MAX_PAYLOAD}"
                    raise PacketError(
                        "length", f"frame {frame + 1}: {length} bytes, must be {bounds}"
                    )
                packet = file.read(length)
                if len(packet) < length:
                    raise PacketError("length", f"the sequence was cut off after {frame} frames")
                self.end += _LENGTH.size + length
                frame += 1
                yield packet
            if file.read(1):
                raise PacketError("length", f"bytes behind the sequence's end after {frame} frames")


class SequenceWriter:
    """Writes a sequence, or goes on with one; a context that closes the file."""

    def __init__(self, path: Path, rate: Fraction, keep: int = 0) -> None:
        """Open the file.

        Args:
            path: of the file.
            rate: frames a second.
            keep: bytes of an existing file behind which to go on, :attr:`Sequence.end`; 0 begins
                anew.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if keep else "wb")
        if keep:
            self._file.truncate(keep)
            self._file.seek(keep)
        else:
            head = (SEQUENCE_MAGIC, SEQUENCE_VERSION, bytes(3), rate.numerator, rate.denominator)
            self._file.write(_HEAD.pack(*head))

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, packet: bytes) -> None:
        """Append one packet; it is in the file when this returns."""
        self._file.write(_LENGTH.pack(len(packet)) + packet)
        self._file.flush()

    def finish(self) -> None:
        """Write the end."""
        self._file.write(_LENGTH.pack(0))
        self._file.flush()
