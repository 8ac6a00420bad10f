"""Packets in files.

One image is one ``.ran`` file: the bytes of its packet (``codec/packet.py``) and nothing around
them. A video is one ``.ran`` file too, a sequence. All integers are little-endian::

    offset  size  field
         0     4  magic, "RANS"
         4     1  format version, 2
         5     3  0
         8     4  frame rate, numerator       frames a second, above 0 and at most 1000;
        12     4  frame rate, denominator     the average where it varies
        16        for each frame: 4 bytes, length n of its packet,
                                  8 bytes, its time after the first frame in nanoseconds, rising,
                                  n bytes, the packet
                  at the end: 4 bytes, length 0

Without its end a sequence was cut off; the frames before the cut are good.

Version 1 has no times: frame i, from 0, is at i / rate. It is still read, and no longer written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from roi_anon_ros.codec import PacketError
from roi_anon_ros.codec.packet import MAX_PAYLOAD, OVERHEAD

SEQUENCE_MAGIC = b"RANS"

SEQUENCE_VERSION = 2

MAX_RATE = 1000

#: Nanoseconds; some 292 years.
MAX_TIME = 2**63 - 1

_SECOND = 10**9

_HEAD = struct.Struct("<4sB3sII")

_LENGTH = struct.Struct("<I")

_TIME = struct.Struct("<Q")


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
        version: of the format.
        rate: frames a second; the average where it varies.
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
        if not 1 <= version <= SEQUENCE_VERSION or any(zero):
            raise PacketError(
                "version", f"sequence version {version}, must be from 1 to {SEQUENCE_VERSION}"
            )
        if not 0 < numerator <= MAX_RATE * denominator:
            raise PacketError(
                "size",
                f"frame rate {numerator}/{denominator}, must be above 0 and at most {MAX_RATE}",
            )
        self.version: int = version
        self.rate = Fraction(numerator, denominator)
        self.end = _HEAD.size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the packets alone; see :meth:`timed`."""
        for packet, _ in self.timed():
            yield packet

    def timed(self) -> Iterator[tuple[bytes, Fraction]]:
        """Yield the packets as they are, nothing in them is checked, and their times.

        Yields:
            A packet, and its time after the first one in seconds.

        Raises:
            PacketError: reason ``"length"``, the file was cut off, or goes on after its end; or
                ``"time"``, a time does not rise. All complete packets before that were yielded.
        """
        self.end = _HEAD.size
        frame = 0
        last = -1
        with self._path.open("rb") as file:
            file.seek(self.end)
            while True:
                (length,) = _LENGTH.unpack(_read(file, _LENGTH.size, frame))
                if length == 0:
                    break
                if not OVERHEAD <= length <= OVERHEAD + MAX_PAYLOAD:
                    bounds = f"from {OVERHEAD} to {OVERHEAD + MAX_PAYLOAD}"
                    raise PacketError(
                        "length", f"frame {frame + 1}: {length} bytes, must be {bounds}"
                    )
                time = Fraction(frame) / self.rate
                if self.version >= 2:
                    last = _check_time(_read(file, _TIME.size, frame), last, frame)
                    time = Fraction(last, _SECOND)
                packet = _read(file, length, frame)
                self.end = file.tell()
                frame += 1
                yield packet, time
            if file.read(1):
                raise PacketError("length", f"bytes after the sequence's end after {frame} frames")


def _read(file: BinaryIO, size: int, frame: int) -> bytes:
    """Exactly ``size`` bytes, after this number of complete frames."""
    data = file.read(size)
    if len(data) < size:
        raise PacketError("length", f"the sequence was cut off after {frame} frames")
    return data


def _check_time(data: bytes, last: int, frame: int) -> int:
    """The time of a frame, nanoseconds, after the ``last`` one."""
    (time,) = _TIME.unpack(data)
    if not last < time <= MAX_TIME or (frame == 0 and time):
        bounds = "0" if frame == 0 else f"above {last} and at most {MAX_TIME}"
        raise PacketError("time", f"frame {frame + 1}: {time} ns, must be {bounds}")
    return time


class SequenceWriter:
    """Writes a sequence, or goes on with one; a context that closes the file."""

    def __init__(
        self, path: Path, rate: Fraction, keep: int = 0, last: Fraction | None = None
    ) -> None:
        """Open the file.

        Args:
            path: of the file.
            rate: frames a second; the average where it varies.
            keep: bytes of an existing file after which to go on, :attr:`Sequence.end`; 0 begins
                anew.
            last: time of the last frame that is kept, seconds; None: none is.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if keep else "wb")
        self._last = -1 if last is None else round(last * _SECOND)
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

    def write(self, packet: bytes, time: Fraction) -> None:
        """Append one packet; it is in the file when this returns.

        Args:
            packet: of the next frame.
            time: seconds after the first frame, later than the last one.

        Raises:
            ValueError: the time does not rise, or the first one is not 0.
        """
        nanoseconds = round(time * _SECOND)
        first = self._last < 0
        if not self._last < nanoseconds <= MAX_TIME or (first and nanoseconds):
            bounds = "0" if first else f"above {self._last} and at most {MAX_TIME}"
            raise ValueError(f"time: got {nanoseconds} ns, must be {bounds}")
        self._last = nanoseconds
        self._file.write(_LENGTH.pack(len(packet)) + _TIME.pack(nanoseconds) + packet)
        self._file.flush()

    def finish(self) -> None:
        """Write the end."""
        self._file.write(_LENGTH.pack(0))
        self._file.flush()
