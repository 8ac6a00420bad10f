"""Methods by their names: the one place where they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from roi_anon_ros.anonymize import (
    TREATMENTS,
    Anonymizer,
    anonymizer,
    make_source,
    make_treatment,
)
from roi_anon_ros.codec import DEFAULT_MODEL, MAX_SIDE, Codec, find_painted
from roi_anon_ros.codec.engines import stages_of, version_of
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.latents import (
    DEFAULT_QUALITY,
    SMALL_QUALITY,
    SMALL_SIDE,
    check_quality,
)
from roi_anon_ros.codec.regions import paint
from roi_anon_ros.evaluate.attack.storage import read_attack
from roi_anon_ros.evaluate.methods.method import ATTACKED, ORIGINAL, Method
from roi_anon_ros.evaluate.methods.names import (
    PIXELS,
    STILL_CODECS,
    Kind,
    Name,
    parse_name,
)
from roi_anon_ros.evaluate.methods.opened import make_opened
from roi_anon_ros.evaluate.methods.reversible import make_reversible
from roi_anon_ros.files import decode_image, encode_image
from roi_anon_ros.storage import digest


@dataclass(frozen=True)
class Hider:
    """What hides people in an image before a still codec.

    Attributes:
        hide: from an image, uint8 ``[H, W, 3]`` RGB, to another of its size.
        key: all that its result depends on besides the image and its name.
    """

    hide: Callable[[np.ndarray], np.ndarray]
    key: str


#: What the name of the hider begins with that paints the heads which a model's map finds.
STAMPS = "stamps"
#: The regions that a name may say before its treatment; faces where it says none.
REGIONS = ("face", "head", "person")
#: Decides who becomes which face or colour: the same in every run.
KEY = b"roi-anon evaluate"


def make_hider(name: str) -> Hider:
    """A hider by its name.

    Args:
        name: empty for none; ``stamps`` or ``stamps:MODEL``; a treatment of faces, such as
            ``blur``; of another region, such as ``head.blur`` or ``person.mask:0``.

    Raises:
        ValueError: there is none of this name.
        ModelFileError: its model cannot be loaded.
        ImportError, OSError, WeightsError: what it needs is not here.
    """
    if not name:
        return Hider(np.asarray, "")
    kind, _, model = name.partition(":")
    if kind == STAMPS:
        return make_stamps(model or DEFAULT_MODEL)
    region, treatment = _split_name(name)
    if treatment.partition(":")[0] not in TREATMENTS:
        known = ", ".join([*TREATMENTS, STAMPS])
        raise ValueError(
            f"anonymizer {name!r}, must be one of {known}, but for the last one perhaps after "
            f"{', '.join(f'{one}.' for one in REGIONS)}"
        )
    hide = Anonymizer([make_source(region)], make_treatment(treatment), key=KEY)
    return Hider(hide, f" anonymize {anonymizer.VERSION}")


def is_hidden_by_mtcnn(name: str) -> bool:
    """Whether a method, by its name, hides the faces that MTCNN finds."""
    hider = name.rpartition("+")[0]
    region, treatment = _split_name(hider)
    return region == "face" and treatment.partition(":")[0] in TREATMENTS


def _split_name(name: str) -> tuple[str, str]:
    """The region and the treatment that a hider's name says."""
    region, _, treatment = name.partition(".")
    return (region, treatment) if region in REGIONS else ("face", name)


def make_stamps(model: str) -> Hider:
    """What a model does to an image before it codes it: heads found and painted over.

    Args:
        model: its name or its file.

    Raises:
        ModelFileError: the model cannot be loaded.
        ValueError: it has no head map.
    """
    codec = Codec.load(model)
    if not codec.model.latents.has_quality:
        raise ValueError(f"model {model}: has no head map; name one that has: {STAMPS}:MODEL+...")

    def hide(image: np.ndarray) -> np.ndarray:
        _, hidden = Hiding().find(codec.find_heads, image, [], (1.0, 1.0))
        return paint(image, hidden.regions)

    return Hider(hide, f" {codec.fingerprint}")


def make_method(text: str) -> Method:
    """A method by its name.

    Args:
        text: as :func:`parse_name` takes it. Still codecs are Pillow's encoders with their other
            defaults; ``blur+`` and the other treatments of ``anonymize/`` hide the faces that MTCNN
            finds first, after ``head.`` the heads of the head map, after ``person.`` whole persons;
            ``stamps+`` paints the heads that the map of a model finds; a model codes an image at
            the image's own size; ``attack:FILE`` is what an attacker recovers, see ``attack/``;
            ``opened:MODEL`` is what a holder of a key sees, see ``opened.py``;
            ``reversible:FILE`` is a learned anonymizer, see ``reversible.py``; ``pixels:FILE`` is
            what a network makes of every pixel, see ``anonymize/pixels.py``.

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
            raise ValueError(f"methods: two are called {method.name!r}; compare them in two runs")
    return methods


def _make_original(text: str, name: Name) -> Method:
    return Method(text, text, lambda image: encode_image(image, "PPM"), decode_image)


def _make_still(text: str, name: Name) -> Method:
    try:
        hider = make_hider(name.anonymizer)
    except (ValueError, ImportError, OSError) as error:
        raise ValueError(f"{text}: {error}") from error

    def encode(image: np.ndarray) -> bytes:
        hidden = hider.hide(image)
        return encode_image(hidden, STILL_CODECS[name.subject], quality=int(name.quality))

    return Method(text, f"{text} Pillow {PIL.__version__}{hider.key}", encode, decode_image)


def _make_pixels(text: str, name: Name) -> Method:
    from roi_anon_ros.anonymize.pixels import PixelAnonymizer

    hide = PixelAnonymizer(Path(name.subject))
    key = f"{PIXELS}{digest(Path(name.subject))}"
    return Method(text, key, lambda image: encode_image(hide(image), "PNG"), decode_image)


def _make_model(text: str, name: Name) -> Method:
    codec = load_codec(name)
    key = codec.fingerprint
    quality = check_quality(name.quality)
    if codec.model.latents.has_quality:
        key += f" quality {quality or (DEFAULT_QUALITY, SMALL_QUALITY, SMALL_SIDE)}"
    elif name.quality:
        raise ValueError(f"{text}: model {codec.name} has one rate, its name takes no quality")
    for stage in stages_of(codec.model) if name.engine != "torch" else ():
        # An engine is tried when it is first used: refused now, not at some image.
        codec.warm_up(stage)
        key += f" {codec.engine.runs(stage)} {version_of(codec.engine.package)}"
    return Method(
        text,
        key,
        lambda image: codec.encode(image, 0, quality).packet,
        lambda packet: codec.decode(packet, MAX_SIDE**2).at_source_size(),
        lambda packet: codec.latent(packet, MAX_SIDE**2),
        find_painted if codec.model.latents.has_quality else None,
        fingerprint=codec.fingerprint,
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
    said = method.name
    if about["steps"] < about.get("planned", 0):
        said += f", {about['steps']} steps"
    if about.get("identity"):
        said += ", identity"
    return Method(
        said + ATTACKED,
        f"{method.key} attacked {mark}",
        method.encode,
        decode,
        painted=method.painted,
        attack=budget,
        fingerprint=method.fingerprint,
    )


_MAKERS: dict[Kind, Callable[[str, Name], Method]] = {
    Kind.ORIGINAL: _make_original,
    Kind.STILL: _make_still,
    Kind.MODEL: _make_model,
    Kind.ATTACK: lambda text, name: load_attack(Path(name.subject)),
    Kind.PIXELS: _make_pixels,
    Kind.OPENED: lambda text, name: make_opened(name.subject),
    Kind.REVERSIBLE: lambda text, name: make_reversible(name.subject),
}
