"""What a holder of a key sees of a model's images: what was painted over, sealed and opened
again.
"""

from __future__ import annotations

import struct
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from roi_anon_ros.codec import MAX_SIDE, Codec
from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.latents import check_quality
from roi_anon_ros.evaluate.methods.method import OPENED, Method
from roi_anon_ros.evaluate.methods.names import Kind, parse_name

#: Bytes of the packet, before it and what is sealed of it.
LENGTH = struct.Struct("<I")


def make_opened(model: str) -> Method:
    """Packets with their sealed parts, seen by one who has the key; both count as sent.

    The key is made here, and is gone with the method.

    Args:
        model: its name, perhaps with an engine and a quality.

    Raises:
        ValueError: it is no model, or one that does not paint.
        ModelFileError, EngineError: it cannot be used.
        ImportError: what seals is not installed.
    """
    text = OPENED + model
    name = parse_name(model)
    if name.kind is not Kind.MODEL:
        raise ValueError(f"{text}: {model} is a {name.kind.value}, must be a model")
    codec = Codec.load(name.subject, name.engine)
    if not codec.model.latents.has_quality:
        raise ValueError(f"{text}: does not paint, nothing to seal")
    from roi_anon_ros.seal import Opener, Sealer
    from roi_anon_ros.seal.keys import PRIVATE_SUFFIX, load_private_key, new_key

    with tempfile.TemporaryDirectory() as folder:
        new_key(Path(folder), "evaluation", None, datetime.now(timezone.utc))
        opener = Opener([load_private_key(Path(folder) / f"evaluation{PRIVATE_SUFFIX}", None)])
        sealer = Sealer(Path(folder))
    quality = check_quality(name.quality)

    def encode(image: np.ndarray) -> bytes:
        found = codec.find(image, 0)
        assert found.hidden is not None  # the model paints
        packet = codec.encode_found(found, quality).packet
        # One stamp for all: the folder of keys is gone, and no other segment can begin.
        sealed = sealer.seal(packet, 0, found.image, found.hidden.regions.cells)
        return LENGTH.pack(len(packet)) + packet + sealed

    def decode(data: bytes) -> np.ndarray:
        (length,) = LENGTH.unpack_from(data)
        packet = data[LENGTH.size : LENGTH.size + length]
        sealed = data[LENGTH.size + length :]
        decoded = codec.decode(packet, MAX_SIDE**2)
        opened = opener.open_part(sealed, packet, 0).paste_into(decoded.image)
        return resize(opened, *decoded.header.source_size)

    key = f"opened {codec.fingerprint} quality {quality} {name.engine}"
    return Method(text, key, encode, decode, fingerprint=codec.fingerprint)
