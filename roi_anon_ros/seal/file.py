"""Sealed parts in files, for keeping, wrapping anew and destroying keys.

``NAME.seal`` holds the sealed parts of the packets in ``NAME.ran``, of one image or of a sequence,
in the packets' order. A segment is written once, before its first frame::

    8 bytes     "RSEA", format version 1, three zeros
    then        a segment, and its frames; the next segment, and its frames (format.py)
    8 bytes     at the end: "REND", number of the frames

Without its end a file was cut off, and is refused. Between frames there may be gaps, of packets
that went out without a sealed part, but each segment comes once and its frames' numbers only grow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import (
    FRAME_HEAD_BYTES,
    FRAME_MAGIC,
    SEGMENT_HEAD_BYTES,
    SEGMENT_MAGIC,
    Frame,
    Segment,
    created_ns,
    erase_segment,
    frame_bytes,
    segment_bytes,
    unpack_frame,
    unpack_part,
    unpack_segment,
)
from roi_anon_ros.storage import draft_of

MAGIC = b"RSEA"
END_MAGIC = b"REND"
VERSION = 1
SUFFIX = ".seal"
DAY_NS = 86_400 * 1_000_000_000

_HEAD = struct.Struct("<4sB3s")
_END = struct.Struct("<4sI")
_MAGIC_BYTES = 4


class SealedWriter:
    """Writes a file of sealed parts; a context that closes the file.

    A file that is there is written over. Write beside its place, and move it there when it is
    whole.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._file.write(_HEAD.pack(MAGIC, VERSION, bytes(3)))
        self._segment: bytes | None = None
        self._frames = 0

    def __enter__(self) -> SealedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, part: bytes) -> None:
        """Append the sealed part of one packet; it is in the file when this returns.

        Raises:
            SealError: it is none.
        """
        segment, frame = unpack_part(part)
        packed = segment.pack()
        if packed != self._segment:
            self._file.write(packed)
            self._segment = packed
        self._file.write(frame.pack())
        self._file.flush()
        self._frames += 1

    def finish(self) -> None:
        """Write the end; the file is on the disk when this returns."""
        self._file.write(_END.pack(END_MAGIC, self._frames))
        self._file.flush()
        os.fsync(self._file.fileno())


def read_frames(path: Path) -> Iterator[tuple[Segment, Frame]]:
    """Yield the frames of a file, each with its segment.

    Raises:
        SealError: the file is none, damaged or cut off. All whole frames before that were yielded.
        OSError: the file cannot be read.
    """
    segment: Segment | None = None
    known = set()
    last = -1
    for _, data in _read_items(path):
        if data[:_MAGIC_BYTES] == SEGMENT_MAGIC:
            segment = unpack_segment(data)
            last = -1
            if segment.id in known:
                raise SealError("order", f"segment {segment.id.hex()} comes twice")
            known.add(segment.id)
            continue
        frame = unpack_frame(data)
        if segment is None or frame.segment_id != segment.id:
            raise SealError(
                "order", f"a frame of segment {frame.segment_id.hex()} stands elsewhere"
            )
        if frame.number <= last:
            raise SealError("order", f"frame {frame.number} stands after frame {last}")
        last = frame.number
        yield segment, frame


def read_segments(path: Path) -> Iterator[Segment]:
    """Yield the segments of a file; arguments and errors as of :func:`read_frames`."""
    for _, data in _read_items(path):
        if data[:_MAGIC_BYTES] == SEGMENT_MAGIC:
            yield unpack_segment(data)


def change_segments(path: Path, change: Callable[[Segment], Segment]) -> int:
    """Write a file anew with other segments, in one step.

    Args:
        path: of the file.
        change: makes the new segment, of the same id.

    Returns:
        The number of segments.

    Raises:
        SealError: the file is damaged, or what ``change`` raises; the file stays as it was.
    """
    draft = draft_of(path)
    segments = 0
    frames = 0
    try:
        with draft.open("wb") as file:
            file.write(_HEAD.pack(MAGIC, VERSION, bytes(3)))
            for _, data in _read_items(path):
                if data[:_MAGIC_BYTES] == SEGMENT_MAGIC:
                    file.write(change(unpack_segment(data)).pack())
                    segments += 1
                else:
                    file.write(data)
                    frames += 1
            file.write(_END.pack(END_MAGIC, frames))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return segments


def expire_segments(path: Path, days: float, now_ns: int) -> int:
    """Destroy the keys of the segments that are older than a number of days.

    They are written over with zeros where they stand, and are on the disk as zeros when this
    returns; nobody opens the frames any more. Run again after an interruption, it finishes.

    Args:
        path: of the file.
        days: 0 or more.
        now_ns: nanoseconds since 1970.

    Returns:
        The number of segments whose keys were destroyed by this call.

    Raises:
        SealError: ``"size"``; the days are out of bounds, or a segment was begun in the future, so
            its age is unknown. As from :func:`read_frames`, too: what stood before the damage is
            destroyed.
    """
    if not 0 <= days < float("inf"):
        raise SealError("size", f"days: got {days}, must be 0 or more")
    count = 0
    future = 0
    with path.open("r+b") as file:
        try:
            for offset, data in _read_items(path):
                # By its bytes, not by its mark: an interruption may have left half of them.
                if data[:_MAGIC_BYTES] != SEGMENT_MAGIC or data == erase_segment(data):
                    continue
                age_ns = now_ns - created_ns(data)
                if age_ns < 0:
                    future += 1
                elif age_ns >= days * DAY_NS:
                    file.seek(offset)
                    file.write(erase_segment(data))
                    count += 1
        finally:
            file.flush()
            os.fsync(file.fileno())
    if future:
        raise SealError("size", f"age: got {future} segments from the future, must be of the past")
    return count


def _read_items(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield segments and frames as they stand, with their offsets in the file.

    Raises:
        SealError: the file is none, damaged or cut off; of the items only the length was checked.
    """
    frames = 0
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise SealError("length", f"got {len(head)} bytes, must be {_HEAD.size} or more")
        magic, version, zeros = _HEAD.unpack(head)
        if magic != MAGIC:
            raise SealError("magic", f"got {magic!r}, must be {MAGIC!r}")
        if version != VERSION or any(zeros):
            raise SealError("version", f"got {version} {zeros.hex()}, must be {VERSION} 000000")
        while True:
            offset = file.tell()
            magic = file.read(_MAGIC_BYTES)
            if magic == SEGMENT_MAGIC:
                yield offset, _read_item(file, magic, SEGMENT_HEAD_BYTES, segment_bytes, frames)
            elif magic == FRAME_MAGIC:
                yield offset, _read_item(file, magic, FRAME_HEAD_BYTES, frame_bytes, frames)
                frames += 1
            else:
                _check_end(magic, file, frames)
                return


def _read_item(
    file: BinaryIO, magic: bytes, head_bytes: int, length: Callable[[bytes], int], frames: int
) -> bytes:
    """The bytes of the segment or frame whose magic was read."""
    head = magic + file.read(head_bytes - len(magic))
    if len(head) < head_bytes:
        raise SealError("length", f"the file was cut off after {frames} frames")
    missing = length(head) - head_bytes
    rest = file.read(missing)
    if len(rest) < missing:
        raise SealError("length", f"the file was cut off after {frames} frames")
    return head + rest


def _check_end(magic: bytes, file: BinaryIO, frames: int) -> None:
    """Refuse anything but the end of a file with this number of frames."""
    if len(magic) == _MAGIC_BYTES and magic != END_MAGIC:
        expected = f"{SEGMENT_MAGIC!r}, {FRAME_MAGIC!r} or {END_MAGIC!r}"
        raise SealError("magic", f"got {magic!r}, must be {expected}")
    end = magic + file.read(_END.size - len(magic))
    if len(end) < _END.size:
        raise SealError("length", f"the file was cut off after {frames} frames")
    _, count = _END.unpack(end)
    if count != frames:
        raise SealError("length", f"got {frames} frames, must be {count}")
    if file.read(1):
        raise SealError("length", f"the file goes on after its end, after {frames} frames")
