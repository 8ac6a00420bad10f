"""What the readers of all formats share.

An image with a damaged annotation is left out as a whole: the head that the damaged box marked
would be taught to stay visible. What was left out is said in :attr:`Reading.problems`, and the
reading goes on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.datasets.records import KINDS, Boxes, Record, heads_of

#: What a class is, by its name in lower case, letters only, without the plural's s. "hat" is
#: missing on purpose: the set that has it calls bare heads "person".
KIND_OF = {
    **dict.fromkeys(("person", "people", "pedestrian", "human"), "person"),
    **dict.fromkeys(("head", "nohelmet", "nohardhat", "withouthelmet"), "head"),
    **dict.fromkeys(("helmet", "hardhat", "safetyhelmet", "withhelmet"), "head"),
    "face": "face",
}

#: Those of them that are heads only where something is worn: alone, they leave bare heads without a
#: box.
COVERED = {"helmet", "hardhat", "safetyhelmet", "withhelmet"}
#: Those that are heads without a helmet.
BARE = {"nohelmet", "nohardhat", "withouthelmet"}


class Problems(Protocol):
    """Whatever notes what is wrong with a set."""

    problems: list[str]


@dataclass
class Reading:
    """What was read of a set.

    Attributes:
        records: an image each, in the order of the set.
        problems: a line for each image, line or file that was left out, naming it.
        clipped: boxes that reached more than half a pixel out of their image.
        dropped: boxes of which less than a pixel in width or height was inside their image.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clipped: int = 0
    dropped: int = 0


def add_record(
    reading: Reading,
    path: Path,
    size: tuple[int, int],
    rows: Mapping[str, Sequence[tuple[float, ...]]],
    annotated: frozenset[str],
    by_detector: frozenset[str] = frozenset(),
    complete: frozenset[str] | None = None,
    collection: str = "",
) -> None:
    """Take up an image with its boxes by kind: x1 y1 x2 y2 ignored, and of heads what
    :func:`tell_helmet` says; where that is missing, nothing is known.

    Without ``complete``, all that is annotated and was not found by a detector is.
    """
    if complete is None:
        complete = annotated - by_detector
    boxes = {}
    for kind in KINDS:
        given_rows = rows.get(kind, ())
        table = np.array([row[:5] for row in given_rows], np.float32).reshape(-1, 5)
        xyxy = clip_boxes(table[:, :4], *size)
        kept = at_least(xyxy, 1)
        moved = np.abs(xyxy - table[:, :4]).max(axis=1, initial=0) > 0.5
        reading.clipped += int((moved & kept).sum())
        reading.dropped += int((~kept).sum())
        boxes[kind] = Boxes(xyxy[kept], table[kept, 4] > 0)
        if kind == "head":
            worn = [row[5] if len(row) > 5 else -1 for row in given_rows]
            helmets = np.array(worn, np.int8)[kept]
    if "face" in annotated and "head" not in annotated:
        given = boxes["head"]
        grown = heads_of(boxes["face"], *size)
        pairs = ((given.xyxy, grown.xyxy), (given.ignore, grown.ignore))
        boxes["head"] = Boxes(*(np.concatenate(pair) for pair in pairs))
        helmets = np.concatenate([helmets, np.full(len(grown.ignore), -1, np.int8)])
        annotated |= {"head"}
    reading.records.append(
        Record(
            path,
            size[0],
            size[1],
            boxes["person"],
            boxes["head"],
            boxes["face"],
            annotated,
            by_detector,
            complete,
            collection,
            helmets,
        )
    )


def check_readable(name: Path, reading: Reading) -> Reading:
    """Return what was read, or raise a ValueError that says why that is nothing."""
    if not reading.records:
        raise ValueError(
            f"{name}: no image can be read; {(reading.problems or ['there is none in it'])[0]}"
        )
    return reading


@contextmanager
def reports(reading: Problems, name: object) -> Iterator[None]:
    """Note what is damaged, and go on after it."""
    try:
        with located(name):
            yield
    except ValueError as error:
        reading.problems.append(str(error))


@contextmanager
def located(name: object) -> Iterator[None]:
    """Whatever a damaged annotation leads to is a ValueError that says where."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{name}: lacks {error}") from error
    except (
        AttributeError,
        IndexError,
        OSError,
        OverflowError,
        TypeError,
        ValueError,
        ElementTree.ParseError,
    ) as error:
        raise ValueError(f"{name}: {error}") from error


def read_content(file: Path) -> bytes:
    """The bytes of a file; where it cannot be read, a ValueError says why."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error


def read_size(path: Path, width: int | None = None, height: int | None = None) -> tuple[int, int]:
    """Upright width and height by the image's header; what an annotation says of them must not
    differ.
    """
    try:
        with Image.open(path) as image:
            size = image.size
            if image.format != "TIFF" and _lies_on_its_side(image):  # Pillow turns TIFF itself
                size = size[::-1]
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (ImportError, OSError, ValueError, Image.DecompressionBombError) as error:
        # ImportError: an import of ultralytics by the caller makes Pillow look for a plugin for
        # what it does not know.
        raise ValueError("not a readable image") from error
    if width and height and (width, height) != size:
        raise ValueError(f"has {size[0]}x{size[1]} pixels, its annotation says {width}x{height}")
    return size


def _lies_on_its_side(image: Image.Image) -> bool:
    try:
        return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # Pillow raises many kinds; a decoder takes a damaged EXIF block for none
        return False


def first_file(candidates: Iterable[Path]) -> Path:
    """The first that exists, else the first."""
    paths = list(candidates)
    return next((path for path in paths if path.is_file()), paths[0])


def plain_name(name: str) -> str:
    """The name of a class in lower case, letters only, without the plural's s."""
    return re.sub("[^a-z]", "", name.lower()).removesuffix("s")


def tell_helmet(name: str, names: Collection[str]) -> int:
    """Whether a class of heads wears a helmet: 1, not: 0, or nothing is known: -1.

    Args:
        name: of the class, plain.
        names: of all classes of the set; where one is of helmets and none of heads without,
            "head" is a head without.
    """
    if name in COVERED:
        return 1
    told = not BARE.isdisjoint(names)
    return 0 if name in BARE or (not told and not COVERED.isdisjoint(names)) else -1


def find_kinds(names: Iterable[str], where: str) -> frozenset[str]:
    """The kinds that are annotated in a set with classes of these plain names."""
    names = set(names)
    kinds = {KIND_OF[name] for name in names if name in KIND_OF}
    if not kinds:
        raise ValueError(f"{where}: none is a person, head or face: {', '.join(sorted(names))}")
    bare = {name for name in names - COVERED if KIND_OF.get(name) == "head"}
    return frozenset(kinds if bare else kinds - {"head"})


def finite_box(values: Iterable[Any]) -> list[float]:
    """Four finite numbers, or a ValueError."""
    numbers = [float(value) for value in values]
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"box: {numbers}, must be four finite numbers")
    return numbers


def to_corners(box: Iterable[Any]) -> tuple[float, float, float, float]:
    """From x, y, width, height.

    Raises:
        ValueError: width or height is not above 0.
    """
    x, y, w, h = finite_box(box)
    check_order(x, y, x + w, y + h)
    return x, y, x + w, y + h


def check_order(x1: float, y1: float, x2: float, y2: float) -> None:
    """Raise a ValueError for a box that is empty or has its corners exchanged: it is damaged."""
    if not (x1 < x2 and y1 < y2):
        raise ValueError(
            f"box: got x from {x1:g} to {x2:g} and y from {y1:g} to {y2:g}, both must rise"
        )


def read_flag(value: Any) -> bool:
    """Whether a number, or a string with one in it, is not 0; None counts as 0."""
    return float(value or 0) != 0
