"""What an evaluation compares: every way to send a picture, as a pair of functions to bytes and back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from torch import Tensor

from roi_anon_ros.anonymize import FaceAnonymizer
from roi_anon_ros.anonymize.faces import BLUR, GROW, TILES
from roi_anon_ros.codec import MAX_SIZE, Codec
from roi_anon_ros.codec.engines import ENGINES, HALVES, version_of
from roi_anon_ros.detect import MtcnnFaces

#: The unprotected baseline of every table.
ORIGINAL = "original"
#: What the name of a row ends with that shows what an attacker recovers from another one.
ATTACKED = ", attacked"
STILL = {"jpeg": "JPEG", "avif": "AVIF", "webp": "WEBP"}


@dataclass(frozen=True)
class Row:
    """One way to send a picture.

    Attributes:
        name: as :func:`make_row` takes it.
        key: all that its result depends on beside the picture.
        encode: a picture, uint8 ``[H, W, 3]`` RGB, to what is sent.
        decode: what was sent to the picture that a receiver sees, of the same size.
        latent: of a model, what was sent to the quantised latent, float32 ``[N, h, w]``: all that the receiver has.
        attack: of an attacked row, the attack's ``steps``, ``batch``, ``seed`` and ``pictures``.
    """

    name: str
    key: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]
    latent: Callable[[bytes], Tensor] | None = None
    attack: dict[str, int] | None = None


def make_row(name: str) -> Row:
    """A row by its name.

    Args:
        name: ``original``; ``jpeg:Q``, ``avif:Q`` or ``webp:Q`` with a quality from 0 to 100 (Pillow's encoders and
            their other defaults); the same behind an anonymizer's name, such as ``blur+avif:10`` (the faces that MTCNN
            finds are treated with it first, see ``anonymize/``); the name of an installed model, or its file, which
            codes a picture at the picture's own size, behind it ``@`` and an engine other than torch; or
            ``attack:FILE``, what an attacker recovers (``attack.py``).

    Raises:
        ValueError: no row has this name, or an attack's file cannot be used.
        ModelFileError: the model cannot be loaded.
    """
    if name == ORIGINAL:
        return Row(name, name, lambda image: _encode(image, "PPM"), _decode)
    if name.startswith("attack:"):
        from roi_anon_ros.evaluate.attack import load_attack

        return load_attack(Path(name.removeprefix("attack:")))
    anonymizer, _, still = name.rpartition("+")
    kind, _, quality = still.partition(":")
    if kind in STILL:
        if not quality.isdigit() or int(quality) > 100:
            raise ValueError(f"{name}: quality {quality!r}, must be from 0 to 100")
        hide = FaceAnonymizer(anonymizer, MtcnnFaces()) if anonymizer else np.asarray

        def encode(image: np.ndarray) -> bytes:
            return _encode(hide(image), STILL[kind], quality=int(quality))

        treated = f" {GROW} {BLUR} {TILES}" if anonymizer else ""
        return Row(name, f"{name} Pillow {PIL.__version__}{treated}", encode, _decode)
    codec, key = load_codec(name), ""
    for half in HALVES if codec.engine.name != "torch" else ():
        codec.warm_up(half)  # an engine is tried when it is first used: refused now, not at some picture
        key += f" {codec.engine.runs(half)} {version_of(codec.engine.package)}"
    return Row(
        name,
        codec.fingerprint + key,
        lambda image: codec.encode(image, 0).packet,
        lambda packet: codec.decode(packet, MAX_SIZE**2).at_source_size(),
        lambda packet: codec.latent(packet, MAX_SIZE**2),
    )


def load_codec(name: str) -> Codec:
    """A model by its name or its file, behind it ``@`` and the engine that runs it: ``fast@openvino``.

    Raises:
        ModelFileError, EngineError: the model, or the engine, cannot be used.
    """
    model, _, engine = name.rpartition("@")
    return Codec.load(model, engine) if engine in ENGINES else Codec.load(name)


def make_rows(names: str) -> list[Row]:
    """The rows of a comparison: the original, and those named in a list with commas.

    Raises:
        ValueError: as :func:`make_row`, or two rows would stand under one name.
        ModelFileError: a model cannot be loaded.
    """
    listed = [ORIGINAL, *(name.strip() for name in names.split(",") if name.strip())]
    rows = [make_row(name) for name in dict.fromkeys(listed)]
    for row in rows:
        if sum(row.name == other.name for other in rows) > 1:
            raise ValueError(f"rows: two are called {row.name!r}; compare them in two runs")
    return rows


def slug(name: str) -> str:
    """A row's name as part of a file's name."""
    path, at, engine = name.partition("@")
    return re.sub(r"[^a-z0-9]+", "-", f"{Path(path).stem}{at}{engine}".lower()).strip("-")


def _encode(image: np.ndarray, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def _decode(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
