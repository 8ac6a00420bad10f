"""Pictures, videos and packets in files.

One picture is one ``.ran`` file: the bytes of its packet (``codec/packet.py``) and nothing around them. A
video is one ``.ran`` file too, a sequence. All integers are little-endian::

    offset  size  field
         0     4  magic, "RANS"
         4     1  format version, 1
         5     3  0
         8     4  frame rate, numerator       frames a second, above 0 and at most 1000
        12     4  frame rate, denominator
        16        for each frame: 4 bytes, length n of its packet, then n bytes, the packet
                  at the end: 4 bytes, length 0

Without its end a sequence was cut off; the frames before the cut are good. All outputs are written beside
their place, as ``.part``, and put there in one step when they are complete.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from roi_anon_ros.codec import PacketError
from roi_anon_ros.codec.packet import MAX_PAYLOAD, OVERHEAD

SEQUENCE_MAGIC = b"RANS"
SEQUENCE_VERSION = 1
MAX_RATE = 1000

_HEAD = struct.Struct("<4sB3sII")
_LENGTH = struct.Struct("<I")

S = TypeVar("S")

#: What a decoded video is written as, by suffix.
VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def part_of(target: Path) -> Path:
    """Where an output stands while it is written."""
    return target.with_name(target.name + ".part")


def put(part: Path, target: Path, modified_ns: int) -> None:
    """Move a complete output to its place, with the modification time of its source.

    A later run tells by this time that the output is of this very source.
    """
    os.utime(part, ns=(modified_ns, modified_ns))
    os.replace(part, target)


def write_bytes(target: Path, data: bytes, modified_ns: int | None = None) -> None:
    """Write a whole file in one step, with this time of modification or, by default, now's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    part.write_bytes(data)
    put(part, target, time.time_ns() if modified_ns is None else modified_ns)


class JsonLines:
    """A file of JSON lines that grows by one at a time, below a first one that says what they are.

    What a kill left of the last line is dropped. Use it as a context manager.

    Args:
        path: of the file; its folders are made.
        head: the first line; a file with another one, or a torn one, is begun anew.

    Attributes:
        entries: the lines that were there, without the first.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        end = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or (end == 0 and entry != head):
                break
            if end:
                self.entries.append(entry)
            end += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(end)
        if not end:
            self.write(head)

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; it is in the file when this returns."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as 8-bit RGB.

    Grey becomes RGB, 16 bits become 8, alpha is dropped, and the orientation in EXIF is applied.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ValueError: no picture, or a damaged or truncated one.
        OSError: the file cannot be read.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        # From memory: cv2.imread takes a truncated JPEG and fills the rest with grey.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ValueError(f"not a readable picture: {error.err}") from error
    if image is None:
        raise ValueError("not a readable picture: damaged, truncated or of another format")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def png(image: np.ndarray) -> bytes:
    """PNG of a uint8 ``[H, W, 3]`` RGB picture."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


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
            raise PacketError("size", f"frame rate {numerator}/{denominator}, must be above 0 and at most {MAX_RATE}")
        self.rate = Fraction(numerator, denominator)
        self.end = _HEAD.size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the packets, as they are: nothing in them is checked.

        Raises:
            PacketError: reason ``"length"``; the file was cut off, or goes on behind its end. All complete
                packets before that were yielded.
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
                    raise PacketError("length", f"frame {frame + 1}: {length} bytes, must be {bounds}")
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
            keep: bytes of an existing file behind which to go on, :attr:`Sequence.end`; 0 begins anew.
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


class VideoReader:
    """A video file.

    Attributes:
        rate: frames a second; the average where the rate varies.
        announced: frames that the file says it has; an estimate in some containers, 0 if unknown.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            ValueError: no readable video, or its frame rate is out of bounds.
        """
        self._path = path
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
            raise ValueError(f"frame rate: {rate}, must be above 0 and at most {MAX_RATE}")
        # 1001 keeps 30000/1001 and its like exact.
        self.rate = Fraction(rate).limit_denominator(1001)
        if self.rate == 0:
            raise ValueError(f"frame rate: {rate}, too low")
        self.announced = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        # Named, lest a file name with a % is taken for a series of pictures.
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise ValueError("not a readable video")
        return capture

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the frames from number ``start`` on, uint8 ``[H, W, 3]`` RGB, upright."""
        capture = self._open()
        try:
            for _ in range(start):
                if not capture.grab():
                    return
            while True:
                there, image = capture.read()
                if not there:
                    return
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()


def write_video(target: Path, frames: Iterator[np.ndarray], rate: Fraction) -> Path:
    """Write a video beside its place; :func:`put` moves it there.

    Args:
        target: ``.mp4`` (MPEG-4) or ``.avi`` (Motion JPEG).
        frames: uint8 ``[H, W, 3]`` RGB, all of one size. Where it is odd, the video lacks the last column or
            row: its format has even sides only.
        rate: frames a second.

    Returns:
        The file beside it.

    Raises:
        ValueError: no frames, frames of several sizes, or the video could not be written.
    """
    first = next(frames, None)
    if first is None:
        raise ValueError("no frame to write")
    height, width = first.shape[:2]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.stem}.part{target.suffix}")  # OpenCV goes by the suffix
    fourcc = cv2.VideoWriter_fourcc(*VIDEO_CODECS[target.suffix.lower()])
    writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, fourcc, float(rate), (width, height))
    complete = False
    try:
        if not writer.isOpened():
            raise ValueError(f"{target.suffix} cannot be written with {width}x{height} pixels at {rate} Hz")
        count = 0
        image: np.ndarray | None = first
        while image is not None:
            if image.shape != first.shape:
                size = f"{image.shape[1]}x{image.shape[0]}"
                raise ValueError(f"frame {count + 1}: {size} pixels, the first has {width}x{height}")
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            count += 1
            image = next(frames, None)
        writer.release()
        written = VideoReader(part).announced
        if written != count:  # OpenCV does not tell when a frame could not be written
            raise ValueError(f"{written} of {count} frames were written")
        complete = True
    finally:
        writer.release()
        if not complete:
            part.unlink(missing_ok=True)
    return part
