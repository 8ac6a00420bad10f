"""What an evaluation compares: every codec as a function from a picture to what is left of it, and its bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL
from PIL import Image

#: The unprotected baseline of every table.
ORIGINAL = "original"
STILL = {"jpeg": "JPEG", "avif": "AVIF", "webp": "WEBP"}


@dataclass(frozen=True)
class Row:
    """One way to send a picture.

    Attributes:
        name: as :func:`make_row` takes it.
        key: all that its result depends on beside the picture.
        send: a picture, uint8 ``[H, W, 3]`` RGB, to the picture of the same size that a receiver sees, and the number
            of bytes sent.
    """

    name: str
    key: str
    send: Callable[[np.ndarray], tuple[np.ndarray, int]]


def make_row(name: str) -> Row:
    """A row by its name.

    Args:
        name: ``original``; ``jpeg:Q``, ``avif:Q`` or ``webp:Q`` with a quality from 0 to 100 (Pillow's encoders and
            their other defaults); or the name of an installed model, or its file. A model codes a picture at the
            picture's own size.

    Raises:
        ValueError: no row has this name.
        ModelFileError: the model cannot be loaded.
    """
    if name == ORIGINAL:
        return Row(name, name, lambda image: (image, image.nbytes))
    kind, _, quality = name.partition(":")
    if kind in STILL:
        if not quality.isdigit() or int(quality) > 100:
            raise ValueError(f"{name}: quality {quality!r}, must be from 0 to 100")
        return Row(name, f"{name} Pillow {PIL.__version__}", lambda image: _still(image, STILL[kind], int(quality)))
    from ..codec import Codec

    codec = Codec.load(name)

    def send(image: np.ndarray) -> tuple[np.ndarray, int]:
        packet = codec.encode(image, 0).packet
        return codec.decode(packet).at_source_size(), len(packet)

    return Row(name, codec.fingerprint, send)


def _still(image: np.ndarray, kind: str, quality: int) -> tuple[np.ndarray, int]:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, quality=quality)
    return np.array(Image.open(stream).convert("RGB")), len(stream.getvalue())
