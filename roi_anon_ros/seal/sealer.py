"""The camera's side: the pixels that were painted over become a sealed part.

No nonce comes twice under one key. A content key is 32 bytes of the system's random numbers, made
for a segment and kept in memory alone; a restart begins another segment. The nonce is the number of
the frame in its segment (the deterministic construction of NIST SP 800-38D, 8.2.1), and a number is
taken under a lock, before the cipher runs, and never given back. A process that was forked begins
another segment as well.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import TAG_BYTES, Frame, Segment, pack_cells, pack_part
from roi_anon_ros.seal.grants import frame_key, new_segment
from roi_anon_ros.seal.keys import load_officers
from roi_anon_ros.seal.pixels import check_image, code_pixels

#: Frames of a segment, at most, however slowly the stamps go on.
MAX_FRAMES = 1 << 20
SECOND_NS = 1_000_000_000


@dataclass
class _Open:
    """The segment that frames are sealed in now."""

    segment: Segment
    cipher: AESGCM
    first_stamp_ns: int
    process: int
    frames: int = 0


class Sealer:
    """Seals what was painted over, for the officers of a folder; may be called from several
    threads.

    The folder is read anew for each segment: a key that was revoked or added counts from the next
    one on.

    Args:
        officers: folder of public keys.
        threshold: officers that it takes to open, 1 to their number.
        segment_s: seconds of stamps after which another segment begins, above 0.
        quality: of the JPEG, 1 to 100.

    Raises:
        SealError: ``"size"``; an argument is out of bounds. As from :func:`load_officers`, too.
    """

    def __init__(
        self, officers: Path, threshold: int = 1, segment_s: float = 60.0, quality: int = 90
    ) -> None:
        if not 0 < segment_s < float("inf"):
            raise SealError("size", f"segment_s: got {segment_s}, must be above 0")
        if not 1 <= quality <= 100:
            raise SealError("size", f"quality: got {quality}, must be from 1 to 100")
        self._officers = officers
        self._threshold = threshold
        self._segment_ns = round(segment_s * SECOND_NS)
        self._quality = quality
        self._lock = threading.Lock()
        # Begun here, so that a wrong folder or threshold is known at once.
        self._open = self._begin(0)

    def seal(self, packet: bytes, stamp_ns: int, image: np.ndarray, cells: np.ndarray) -> bytes:
        """Seal the pixels under the painted cells of one image.

        Args:
            packet: what the painted image became; the sealed part opens under it alone.
            stamp_ns: of the image, nanoseconds.
            image: uint8 ``[H, W, 3]`` RGB, the original at the coded size.
            cells: bool ``[ceil(H / 8), ceil(W / 8)]``, True where it was painted over.

        Returns:
            The sealed part, see ``format.py``.

        Raises:
            SealError: ``"image"``, or as from :func:`load_officers` where a segment begins.
        """
        check_image(image, cells)
        code = code_pixels(image, cells, self._quality)
        segment, cipher, number = self._next(stamp_ns)
        size = (image.shape[1], image.shape[0])
        digest = hashlib.sha256(packet).digest()
        bare = Frame(segment.id, number, stamp_ns, digest, size, pack_cells(cells), b"")
        associated = bare.associated_data(len(code) + TAG_BYTES)
        pixels = cipher.encrypt(frame_nonce(number), code, associated)
        return pack_part(segment, replace(bare, pixels=pixels))

    def _next(self, stamp_ns: int) -> tuple[Segment, AESGCM, int]:
        """The segment for this stamp, its cipher, and a frame number that nobody else gets."""
        with self._lock:
            now = self._open
            late = not 0 <= stamp_ns - now.first_stamp_ns < self._segment_ns
            if late or now.frames >= MAX_FRAMES or now.process != os.getpid():
                self._open = now = self._begin(stamp_ns)
            number = now.frames
            now.frames += 1
            return now.segment, now.cipher, number

    def _begin(self, stamp_ns: int) -> _Open:
        """Another segment, with a new key."""
        officers = load_officers(self._officers)
        segment, content_key = new_segment(officers, self._threshold, time.time_ns())
        return _Open(segment, AESGCM(frame_key(content_key)), stamp_ns, os.getpid())


def frame_nonce(number: int) -> bytes:
    """The nonce of a frame, 12 bytes."""
    return number.to_bytes(12, "big")


def send_both(
    packet: bytes,
    seal: Callable[[], bytes],
    send_packet: Callable[[bytes], None],
    send_sealed: Callable[[bytes], None],
) -> Exception | None:
    """Send a packet, then its sealed part: never a sealed part without its packet.

    The packet goes out first and does not wait for the seal. If the seal fails, the packet has gone
    without.

    Args:
        packet: whose hiding has succeeded.
        seal: makes the sealed part.
        send_packet: sends the packet; if it fails, nothing is sealed.
        send_sealed: sends the sealed part.

    Returns:
        What was wrong with the sealed part, to be reported; None if it was sent.

    Raises:
        Exception: of ``send_packet``.
    """
    send_packet(packet)
    try:
        send_sealed(seal())
    except Exception as error:  # any at all: the camera goes on without the sealed part
        return error
    return None
