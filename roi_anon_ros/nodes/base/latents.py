"""Latent messages: made of packets, and checked before their packets are decoded."""

from __future__ import annotations

from array import array

import numpy as np
from std_msgs.msg import Header as HeaderMessage

from roi_anon_msgs.msg import CompressedLatent, SealedRegions
from roi_anon_ros.codec import (
    DEFAULT_MAX_SIDE,
    MAX_SIDE,
    MIN_SIDE,
    Codec,
    Decoded,
    Encoded,
    Header,
    Opened,
)
from roi_anon_ros.codec.packet import MAX_PIXELS
from roi_anon_ros.errors import RoiAnonError

#: Coded pixels of the largest packet that an edge sends where nobody sets its max_side.
EDGE_PIXELS = DEFAULT_MAX_SIDE**2
#: Pixels of the largest source that images are published for by default: 4096 x 2160.
SOURCE_PIXELS = MAX_PIXELS
#: Least and greatest bound of pixels.
PIXELS = (MIN_SIDE**2, MAX_SIDE**2)


class ContradictionError(RoiAnonError, ValueError):
    """A message whose fields say something else than its packet."""

    reason = "contradiction"


class TooLargeError(RoiAnonError, ValueError):
    """A message of an image that is larger than this node takes."""

    reason = "size"


def to_message(encoded: Encoded, model: str, header: HeaderMessage) -> CompressedLatent:
    """The message of a packet, with the header of its image."""
    packed = encoded.header
    return CompressedLatent(
        header=header,
        model_name=model,
        fingerprint=np.frombuffer(packed.fingerprint, np.uint8),
        source_width=packed.source_size[0],
        source_height=packed.source_size[1],
        coded_width=packed.coded_size[0],
        coded_height=packed.coded_size[1],
        packet=array("B", encoded.packet),  # bytes would be checked one by one
    )


def to_sealed_message(sealed: bytes, header: HeaderMessage) -> SealedRegions:
    """The message of a sealed part, with the header of its image."""
    return SealedRegions(header=header, sealed=array("B", sealed))


def coded_pixels(message: CompressedLatent) -> int:
    """Pixels that a message says its packet has."""
    return message.coded_width * message.coded_height


def decode(
    codec: Codec, message: CompressedLatent, max_pixels: int, max_source_pixels: int = PIXELS[1]
) -> Decoded:
    """Decode a message whose fields and packet agree.

    Args, Raises: as :func:`open_message`.
    """
    return codec.synthesise(open_message(codec, message, max_pixels, max_source_pixels))


def open_message(
    codec: Codec, message: CompressedLatent, max_pixels: int, max_source_pixels: int = PIXELS[1]
) -> Opened:
    """Open the packet of a message, whose fields and packet agree; no image is made.

    The fields are checked before the packet is touched, and the packet's own before anything is
    decoded.

    Args:
        codec: of the model.
        message: from anywhere.
        max_pixels: coded pixels of the largest packet that is decoded.
        max_source_pixels: pixels of the largest source.

    Raises:
        TooLargeError: it has more pixels than that.
        PacketError: see :meth:`Codec.decode`.
        ContradictionError: the fields say something else than the packet.
    """
    source_pixels = message.source_width * message.source_height
    if source_pixels > max_source_pixels:
        raise TooLargeError(
            f"source {message.source_width}x{message.source_height} pixels, must be at most "
            f"{max_source_pixels}: max_source_pixels"
        )
    if coded_pixels(message) > max_pixels:
        raise TooLargeError(
            f"{message.coded_width}x{message.coded_height} coded pixels, must be at most "
            f"{max_pixels}: max_pixels"
        )
    opened = codec.open(message.packet, max_pixels)
    _check_fields(message, opened.header)
    return opened


def _check_fields(message: CompressedLatent, header: Header) -> None:
    fields = {
        "fingerprint": (bytes(message.fingerprint), header.fingerprint),
        "source size": ((message.source_width, message.source_height), header.source_size),
        "coded size": ((message.coded_width, message.coded_height), header.coded_size),
    }
    for name, (said, packed) in fields.items():
        if said != packed:
            raise ContradictionError(f"{name} {said!r} in the message, {packed!r} in its packet")
