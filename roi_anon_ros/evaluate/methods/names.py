"""The names of methods, taken apart: the one parser for evaluation and latency."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from roi_anon_ros.codec.engines import ENGINES
from roi_anon_ros.evaluate.methods.method import ORIGINAL

#: The still codecs: Pillow's name of each.
STILL_CODECS = {"jpeg": "JPEG", "avif": "AVIF", "webp": "WEBP"}
ATTACK = "attack:"
#: The paper's network the paper's own way, and the same network through this package's codec.
PAPER = "paper"
PAPER_HERE = "paper-here"


class Kind(Enum):
    """What a name stands for."""

    ORIGINAL = "original"
    ATTACK = "attack"
    STILL = "still codec"
    PAPER = "the paper's way"
    PAPER_HERE = "the paper's network here"
    MODEL = "model"


@dataclass(frozen=True)
class Name:
    """A name, taken apart.

    Attributes:
        kind: what it stands for.
        subject: the file of an attack, the still codec, or the model; empty for others.
        quality: of a still codec, 0 to 100.
        anonymizer: what treats an image before a still codec; empty for none.
        engine: what runs the networks of a model.
    """

    kind: Kind
    subject: str = ""
    quality: int = 0
    anonymizer: str = ""
    engine: str = "torch"


def parse_name(text: str) -> Name:
    """Take the name of a method apart.

    Args:
        text: ``original``; ``jpeg:Q``, ``avif:Q`` or ``webp:Q``; the same after an anonymizer's
            name and ``+``, such as ``blur+avif:10``; ``attack:FILE``; ``paper``, ``paper:MODEL``,
            ``paper-here`` or ``paper-here@ENGINE``; else a model, by its name or its file, and
            after it perhaps ``@`` and an engine.

    Raises:
        ValueError: a still codec without a quality from 0 to 100.
    """
    if text == ORIGINAL:
        return Name(Kind.ORIGINAL)
    if text.startswith(ATTACK):
        return Name(Kind.ATTACK, text.removeprefix(ATTACK))
    if text == PAPER or text.startswith(f"{PAPER}:"):
        return Name(Kind.PAPER, text.partition(":")[2])
    anonymizer, _, still = text.rpartition("+")
    codec, _, quality = still.partition(":")
    if codec in STILL_CODECS:
        if not quality.isdigit() or int(quality) > 100:
            raise ValueError(f"{text}: quality {quality!r}, must be from 0 to 100")
        return Name(Kind.STILL, codec, int(quality), anonymizer)
    model, _, engine = text.rpartition("@")
    if engine not in ENGINES:
        model, engine = text, "torch"
    if model == PAPER_HERE:
        return Name(Kind.PAPER_HERE, engine=engine)
    return Name(Kind.MODEL, model, engine=engine)
