"""The key holder's side: a sealed part becomes pixels again, if everything about it is right."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import Frame, Segment, unpack_part
from roi_anon_ros.seal.grants import frame_key, unwrap_key
from roi_anon_ros.seal.keys import PrivateKey
from roi_anon_ros.seal.pixels import check_image, decode_pixels, paste_pixels
from roi_anon_ros.seal.sealer import frame_nonce


@dataclass(frozen=True)
class Opened:
    """What a sealed part held.

    Attributes:
        stamp_ns: of the image, nanoseconds.
        size: ``(width, height)`` of the coded image, pixels.
        cells: bool ``[ceil(height / 8), ceil(width / 8)]``, those that were painted over.
        pixels: uint8 ``[n, 8, 8, 3]`` RGB, of the n painted cells, row by row.
    """

    stamp_ns: int
    size: tuple[int, int]
    cells: np.ndarray
    pixels: np.ndarray

    def paste_into(self, image: np.ndarray) -> np.ndarray:
        """Put the pixels back where the cells are painted, and nowhere else.

        Args:
            image: uint8 ``[height, width, 3]`` RGB, decoded, at the coded size.

        Returns:
            A new image.

        Raises:
            SealError: ``"image"``; it has another size.
        """
        check_image(image, self.cells)
        size = (image.shape[1], image.shape[0])
        if size != self.size:
            raise SealError("image", f"size: got {size}, must be {self.size}")
        return paste_pixels(image, self.cells, self.pixels)


class Opener:
    """Opens sealed parts with the keys of one or more officers.

    Args:
        keys: at least one.

    Attributes:
        officers: whose keys opened something so far.
    """

    def __init__(self, keys: Sequence[PrivateKey]) -> None:
        self._keys = tuple(keys)
        # The last segment's, by all its bytes: one that was changed is looked at anew.
        self._segment: bytes | None = None
        self._cipher: AESGCM | None = None
        self.officers: list[str] = []

    def open_part(self, part: bytes, packet: bytes, stamp_ns: int | None = None) -> Opened:
        """Open the sealed part of a packet.

        Args:
            part: from anywhere.
            packet: that it is said to belong to.
            stamp_ns: of the packet's message, nanoseconds; None where the packet has none, as in
                files.

        Raises:
            SealError: any of its reasons but ``"officers"`` and ``"log"``.
        """
        segment, frame = unpack_part(part)
        return self.open_frame(segment, frame, packet, stamp_ns)

    def open_frame(
        self, segment: Segment, frame: Frame, packet: bytes, stamp_ns: int | None = None
    ) -> Opened:
        """Open a frame of a segment; arguments and errors as of :meth:`open_part`."""
        cipher = self._cipher_of(segment)
        if not belongs_to(frame, packet):
            digest = hashlib.sha256(packet).hexdigest()
            got = f"got one with SHA-256 {digest}, must be {frame.packet_sha256.hex()}"
            raise SealError("packet", got)
        if stamp_ns is not None and stamp_ns != frame.stamp_ns:
            raise SealError("stamp", f"got {stamp_ns}, must be {frame.stamp_ns}")
        associated = frame.associated_data(len(frame.pixels))
        try:
            code = cipher.decrypt(frame_nonce(frame.number), frame.pixels, associated)
        except InvalidTag:
            raise SealError("tampered", f"frame {frame.number} was changed") from None
        cells = frame.cells
        pixels = decode_pixels(code, int(cells.sum()))
        return Opened(frame.stamp_ns, frame.size, cells, pixels)

    def _cipher_of(self, segment: Segment) -> AESGCM:
        """The cipher of a segment's frames."""
        packed = segment.pack()
        if self._cipher is None or packed != self._segment:
            content_key, used = unwrap_key(segment, self._keys)
            self._cipher = AESGCM(frame_key(content_key))
            names = [key.name for key in used]
            self.officers += [name for name in names if name not in self.officers]
            self._segment = packed
        return self._cipher


def belongs_to(frame: Frame, packet: bytes) -> bool:
    """Whether a frame says that it was sealed for this packet."""
    return hmac.compare_digest(hashlib.sha256(packet).digest(), frame.packet_sha256)


def open_sequence(
    packets: Iterable[bytes], frames: Iterator[tuple[Segment, Frame]], opener: Opener
) -> Iterator[tuple[bytes, Opened | None]]:
    """Open the sealed parts of a sequence, packet by packet.

    A packet may have no sealed part: sealing failed, and it went out without. A sealed part without
    its packet is refused, and so are packets in another order than they were sealed in: the last
    sealed part that fits no packet is then left over.

    Yields:
        Each packet, and what was sealed of it or None. All of it holds only when the end was
        reached.

    Raises:
        SealError: as from :meth:`Opener.open_part`.
    """
    waiting = next(frames, None)
    for packet in packets:
        opened = None
        if waiting is not None and belongs_to(waiting[1], packet):
            opened = opener.open_frame(*waiting, packet)
            waiting = next(frames, None)
        yield packet, opened
    if waiting is not None:
        name = f"frame {waiting[1].number} of segment {waiting[1].segment_id.hex()}"
        raise SealError("packet", f"{name}: its packet is missing, changed or stands elsewhere")
