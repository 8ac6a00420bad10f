"""Methods by their names: the one place where they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from roi_anon_ros.anonymize import FaceAnonymizer
from roi_anon_ros.anonymize.faces import BLUR, GROW, HIDE, TILES
from roi_anon_ros.codec import MAX_SIZE, Codec
from roi_anon_ros.codec.engines import STAGES, version_of
from roi_anon_ros.detect import MtcnnFaces
from roi_anon_ros.evaluate.attack.storage import read_attack
from roi_anon_ros.evaluate.methods.method import ATTACKED, ORIGINAL, Method
from roi_anon_ros.evaluate.methods.names import STILL_CODECS, Kind, Name, parse_name
from roi_anon_ros.files import decode_image, encode_image
from roi_anon_ros.storage import digest


@dataclass(frozen=True)
class Anonymizer:
    """What treats an image before a still codec.

    Attributes:
        make: makes the treatment: from an image, uint8 ``[H, W, 3]`` RGB, to another of its size.
        key: all that its result depends on besides the image.
    """

    make: Callable[[], Callable[[np.ndarray], np.ndarray]]
    key: Callable[[], str]


def _face_anonymizer(hide: str) -> Anonymizer:
    return Anonymizer(lambda: FaceAnonymizer(hide, MtcnnFaces()), lambda: f" {GROW} {BLUR} {TILES}")


#: Anonymizers by name.
ANONYMIZERS: dict[str, Anonymizer] = {
    "": Anonymizer(lambda: np.asarray, lambda: ""),
    **{hide: _face_anonymizer(hide) for hide in HIDE},
}


def make_method(text: str) -> Method:
    """A method by its name.

    Args:
        text: as :func:`parse_name` takes it. Still codecs are Pillow's encoders with their other
            defaults; ``blur+``, ``pixelate+`` and ``mask+`` treat the faces that MTCNN finds first,
            see ``anonymize/``; a model codes an image at the image's own size; ``attack:FILE`` is
            what an attacker recovers, see ``attack/``.

    Raises:
        ValueError: no method has this name, or an attack's file cannot be used.
        ModelFileError: the model cannot be loaded.
        EngineError: the engine cannot be used.
    """
    name = parse_name(text)
    if name.kind in (Kind.PAPER, Kind.PAPER_HERE):
        raise ValueError(f"{text}: nobody trained it, only its time can be measured")
    return _MAKERS[name.kind](text, name)


def load_codec(name: Name) -> Codec:
    """The codec of a model's name.

    Raises:
        ModelFileError, EngineError: the model, or the engine, cannot be used.
    """
    return Codec.load(name.subject, name.engine)


def make_methods(names: str) -> list[Method]:
    """The methods of a comparison: the original, and those named in a list with commas.

    Raises:
        ValueError: as :func:`make_method`, or two methods would stand under one name.
        ModelFileError: a model cannot be loaded.
    """
    listed = [ORIGINAL, *(name.strip() for name in names.split(",") if name.strip())]
    methods = [make_method(name) for name in dict.fromkeys(listed)]
    for method in methods:
        if sum(method.name == other.name for other in methods) > 1:
            raise ValueError(f"rows: two are called {method.name!r}; compare them in two runs")
    return methods


def _make_original(text: str, name: Name) -> Method:
    return Method(text, text, lambda image: encode_image(image, "PPM"), decode_image)


def _make_still(text: str, name: Name) -> Method:
    if name.anonymizer not in ANONYMIZERS:
        known = ", ".join(filter(None, ANONYMIZERS))
        raise ValueError(f"{text}: anonymizer {name.anonymizer!r}, must be one of {known}")
    anonymizer = ANONYMIZERS[name.anonymizer]
    hide = anonymizer.make()

    def encode(image: np.ndarray) -> bytes:
        return encode_image(hide(image), STILL_CODECS[name.subject], quality=name.quality)

    return Method(text, f"{text} Pillow {PIL.__version__}{anonymizer.key()}", encode, decode_image)


def _make_model(text: str, name: Name) -> Method:
    codec = load_codec(name)
    key = codec.fingerprint
    for stage in STAGES if name.engine != "torch" else ():
        codec.warm_up(
            stage
        )  # an engine is tried when it is first used: refused now, not at some image
        key += f" {codec.engine.runs(stage)} {version_of(codec.engine.package)}"
    return Method(
        text,
        key,
        lambda image: codec.encode(image, 0).packet,
        lambda packet: codec.decode(packet, MAX_SIZE**2).at_source_size(),
        lambda packet: codec.latent(packet, MAX_SIZE**2),
    )


def load_attack(path: Path) -> Method:
    """What an attacker recovers: the same bytes as of the method that it attacks, seen through its
    network.

    Args:
        path: that ``attack.training.train`` wrote.

    Raises:
        ValueError: the file cannot be read, or its method cannot be made or is no longer the one
            that was attacked; the message names file and field.
    """
    net, about = read_attack(path)
    mark = digest(path)
    try:
        method = make_method(about["row"])
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: row: {error}") from error
    if about.get("row_key") != method.key:
        said = f"row_key {about.get('row_key')!r}, {method.name} now has {method.key!r}"
        raise ValueError(f"{path}: {said}: attack it again")

    def decode(data: bytes) -> np.ndarray:
        return net.recover(*method.receive(data))

    budget = {key: about[key] for key in ("steps", "batch", "seed", "pictures")}
    return Method(
        method.name + ATTACKED,
        f"{method.key} attacked {mark}",
        method.encode,
        decode,
        attack=budget,
    )


_MAKERS: dict[Kind, Callable[[str, Name], Method]] = {
    Kind.ORIGINAL: _make_original,
    Kind.STILL: _make_still,
    Kind.MODEL: _make_model,
    Kind.ATTACK: lambda text, name: load_attack(Path(name.subject)),
}
