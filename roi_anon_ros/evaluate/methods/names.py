"""The names of methods, taken apart: the one parser for evaluation and latency."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from roi_anon_ros.codec.engines import ENGINES
from roi_anon_ros.codec.latents import AUTO_QUALITY
from roi_anon_ros.evaluate.methods.method import OPENED, ORIGINAL, REVERSIBLE

#: The still codecs: Pillow's name of each.
STILL_CODECS = {"jpeg": "JPEG", "avif": "AVIF", "webp": "WEBP"}
ATTACK = "attack:"
PIXELS = "pixels:"
#: The paper's network the paper's own way, and the same network through this package's codec.
PAPER = "paper"
PAPER_HERE = "paper-here"


class Kind(Enum):
    """What a name stands for."""

    ORIGINAL = "original"
    ATTACK = "attack"
    PIXELS = "pixel anonymizer"
    OPENED = "opened by a key holder"
    REVERSIBLE = "learned reversible anonymizer"
    STILL = "still codec"
    PAPER = "the paper's way"
    PAPER_HERE = "the paper's network here"
    MODEL = "model"


@dataclass(frozen=True)
class Name:
    """A name, taken apart.

    Attributes:
        kind: what it stands for.
        subject: the file of an attack, of a pixel anonymizer or of a reversible one (after it
            perhaps who looks), the still codec, the model, or the name of the model's method that
            is opened; empty for others.
        quality: of a still codec, 0 to 100; of a model that has every rate, 1 to 8; 0: what
            fits the size of the image, or the model has one rate.
        anonymizer: what treats an image before a still codec; empty for none.
        engine: what runs the networks of a model.
    """

    kind: Kind
    subject: str = ""
    quality: float = AUTO_QUALITY
    anonymizer: str = ""
    engine: str = "torch"


def parse_name(text: str) -> Name:
    """Take the name of a method apart.

    Args:
        text: ``original``; ``jpeg:Q``, ``avif:Q`` or ``webp:Q``; the same after an anonymizer's
            name and ``+``, such as ``blur+avif:10`` or ``stamps:MODEL+avif:10``; ``attack:FILE``;
            ``opened:`` and a model's; ``pixels:FILE``; ``reversible:FILE``, after it perhaps
            ``:recovered`` or ``:attacked``; ``paper``, ``paper:MODEL``, ``paper-here`` or
            ``paper-here@ENGINE``; else a model, by its name or its file, after it perhaps ``@`` and
            an engine, then perhaps ``:`` and a quality, such as ``roi:4`` or ``roi@openvino:4.5``.

    Raises:
        ValueError: a still codec without a quality from 0 to 100.
    """
    if text == ORIGINAL:
        return Name(Kind.ORIGINAL)
    if text.startswith(ATTACK):
        return Name(Kind.ATTACK, text.removeprefix(ATTACK))
    if text.startswith(PIXELS):
        return Name(Kind.PIXELS, text.removeprefix(PIXELS))
    if text.startswith(OPENED):
        return Name(Kind.OPENED, text.removeprefix(OPENED))
    if text.startswith(REVERSIBLE):
        return Name(Kind.REVERSIBLE, text.removeprefix(REVERSIBLE))
    if text == PAPER or text.startswith(f"{PAPER}:"):
        return Name(Kind.PAPER, text.partition(":")[2])
    anonymizer, _, still = text.rpartition("+")
    codec, _, quality = still.partition(":")
    if codec in STILL_CODECS:
        if not quality.isdigit() or int(quality) > 100:
            raise ValueError(f"{text}: quality {quality!r}, must be from 0 to 100")
        return Name(Kind.STILL, codec, int(quality), anonymizer)
    return _parse_model(text)


def _parse_model(text: str) -> Name:
    """A model's name, with an engine and a quality where it has them."""
    rated = re.fullmatch(r"(.+):(\d+(?:\.\d+)?)", text)
    rest = rated[1] if rated else text
    quality = float(rated[2]) if rated else AUTO_QUALITY
    model, _, engine = rest.rpartition("@")
    if engine not in ENGINES:
        model = rest
        engine = "torch"
    if model == PAPER_HERE:
        return Name(Kind.PAPER_HERE, engine=engine)
    return Name(Kind.MODEL, model, quality, engine=engine)
