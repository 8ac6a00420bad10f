"""Sets of annotated pictures as they are published: CrowdHuman, COCO, YOLO and Pascal VOC.

A picture with a damaged annotation is left out as a whole: the head that the damaged box marked would be taught to
stay visible. What was left out is said in :attr:`Reading.problems`, and the reading goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image

KINDS = ("person", "head", "face")

#: What a class is, by its name in lower case, letters only, without the plural's s. "hat" is missing on purpose: the
#: set that has it calls bare heads "person".
KIND_OF = {
    **dict.fromkeys(("person", "people", "pedestrian", "human"), "person"),
    **dict.fromkeys(("head", "nohelmet", "nohardhat", "withouthelmet"), "head"),
    **dict.fromkeys(("helmet", "hardhat", "safetyhelmet", "withhelmet"), "head"),
    "face": "face",
}
#: Those of them that are heads only where something is worn: alone, they leave bare heads without a box.
COVERED = {"helmet", "hardhat", "safetyhelmet", "withhelmet"}

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one kind on a picture.

    Attributes:
        xyxy: float32 ``[n, 4]``, left, top, right, bottom in pixels, inside the picture.
        ignore: bool ``[n]``, whether the source calls a box invalid, a crowd, or not to be counted.
    """

    xyxy: np.ndarray
    ignore: np.ndarray


@dataclass(frozen=True, eq=False)
class Record:
    """One annotated picture.

    Attributes:
        path: of the picture.
        width: upright, pixels.
        height: upright, pixels.
        persons: boxes of whole persons.
        heads: boxes of heads, with what is worn on them.
        faces: boxes of faces.
        annotated: those of "person", "head" and "face" that were looked for on this picture; with one of them and
            no box, there is none of the kind. Heads that were grown from faces count.
        by_detector: those of them with boxes on this picture that a detector found and nobody drew.
    """

    path: Path
    width: int
    height: int
    persons: Boxes
    heads: Boxes
    faces: Boxes
    annotated: frozenset[str]
    by_detector: frozenset[str] = frozenset()

    @property
    def source(self) -> str:
        """Name of the picture that this file was made from, without folder and suffix.

        Roboflow exports ``a.jpg`` as several ``a_jpg.rf.<hash>.jpg``: copies that differ in colour, angle or crop.
        """
        return re.sub(r"(_(jpe?g|png|bmp|webp|tiff?))?\.rf\.\w+$", "", self.path.stem, flags=re.I)

    @property
    def face_truth(self) -> Boxes | None:
        """What detected faces are judged by: faces, heads where no faces are annotated, None without either."""
        if "face" in self.annotated:
            return self.faces
        return self.heads if "head" in self.annotated else None


@dataclass
class Reading:
    """What was read of a set.

    Attributes:
        records: a picture each, in the order of the set.
        problems: a line for each picture, line or file that was left out, naming it.
        clipped: boxes that reached more than half a pixel out of their picture.
        dropped: boxes of which less than a pixel in width or height was inside their picture.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clipped: int = 0
    dropped: int = 0


def read_set(annotations: Path, images: Path | None = None) -> Reading:
    """Read a set in whichever of the formats it is.

    Args:
        annotations: ``.odgt`` (CrowdHuman), ``.json`` (COCO), ``data.yaml`` or the folder it lies in (YOLO), a folder
            of ``.xml`` files or the folder above it (Pascal VOC).
        images: the pictures' folder, where the set's own layout does not say it; of a YOLO set, only pictures in it
            are read.

    Raises:
        ValueError: names the set, of which nothing can be read, and says why.
    """
    path = Path(annotations)
    suffix = path.suffix.lower()
    if suffix == ".odgt":
        return read_crowdhuman(path, images)
    if suffix == ".json":
        return read_coco(path, images)
    if suffix in (".yaml", ".yml") or _yolo_file(path):
        return read_yolo(path, images)
    if _xml_files(path):
        return read_voc(path, images)
    raise ValueError(f"{path}: neither .odgt, .json, .yaml, nor a folder with data.yaml or .xml files")


def read_crowdhuman(annotations: Path, images: Path | None = None) -> Reading:
    """Read CrowdHuman: a JSON object on each line.

    Persons are the visible boxes; ``mask`` entries are crowds, reflections and statues: persons to be ignored.

    Args:
        annotations: ``annotation_train.odgt`` or ``annotation_val.odgt``.
        images: folder of the pictures, by default the file's own. They lie in it, in ``Images`` in it, or in
            ``*/Images`` in it, as the parts of the published archive are unpacked.

    Raises:
        ValueError: nothing can be read.
    """
    file, reading = Path(annotations), Reading()
    base = Path(images or file.parent)
    folders = [base / "Images", base, *sorted(base.glob("*/Images"))]
    for number, line in enumerate(_content(file).splitlines(), 1):
        if not line.strip():
            continue
        with _reports(reading, f"{file}: line {number}"):
            entry = json.loads(line)
            path = _first_file(folder / f"{entry['ID']}.jpg" for folder in folders)
            with _reports(reading, path):
                boxes = defaultdict(list)
                for one in entry["gtboxes"]:
                    ignored = one["tag"] != "person" or bool(one.get("extra", {}).get("ignore"))
                    boxes["person"].append((*_corners(one["vbox"]), ignored))
                    if one["tag"] == "person" and "hbox" in one:
                        ignored |= bool(one.get("head_attr", {}).get("ignore"))
                        boxes["head"].append((*_corners(one["hbox"]), ignored))
                _take(reading, path, _size(path), boxes, frozenset(("person", "head")))
    return _readable(file, reading)


def read_coco(annotations: Path, images: Path | None = None) -> Reading:
    """Read a COCO JSON; categories are told by their names, see :data:`KIND_OF`.

    Every picture counts as annotated with the kinds of all categories, unless it has a list ``annotated``: then with
    those, and with the kinds of which it has boxes, be they found by a detector or derived from another kind.
    Boxes with ``ignore`` or ``iscrowd`` are ignored.

    Args:
        annotations: the JSON file.
        images: folder that ``file_name`` is relative to; by default the one beside the file with its name
            (``train/`` for ``train.json``), else the file's own.

    Raises:
        ValueError: nothing can be read, or no category is known.
    """
    file, reading = Path(annotations), Reading()
    try:
        coco = json.loads(_content(file))
        names = {c["id"]: _plain(c["name"]) for c in coco["categories"]}
        pictures, listed = list(coco["images"]), list(coco["annotations"])
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: no COCO JSON: {error!r}") from error
    kinds = _kinds(names.values(), f"{file}: categories")
    folder = Path(images or (file.with_suffix("") if file.with_suffix("").is_dir() else file.parent))
    of_picture: dict[Any, list[dict]] = defaultdict(list)
    for number, one in enumerate(listed):
        with _reports(reading, f"{file}: annotations[{number}]"):
            of_picture[one["image_id"]].append(one)
    for number, image in enumerate(pictures):
        with _reports(reading, f"{file}: images[{number}]"):
            path, of_this = folder / image["file_name"], of_picture.pop(image["id"], [])
            with _reports(reading, path):
                boxes, found = defaultdict(list), set()
                for one in of_this:
                    kind = KIND_OF.get(names[one["category_id"]])
                    if kind:
                        if one.get("origin") == "pseudo":
                            found.add(kind)
                        ignored = bool(one.get("ignore") or one.get("iscrowd"))
                        boxes[kind].append((*_corners(one["bbox"]), ignored))
                annotated = kinds
                if "annotated" in image:
                    annotated = kinds & boxes.keys() | set(KINDS).intersection(image["annotated"])
                size = _size(path, image.get("width"), image.get("height"))
                _take(reading, path, size, boxes, frozenset(annotated), frozenset(found))
    reading.problems += [f"{file}: annotations of image_id {number}, which is not in it" for number in of_picture]
    return _readable(file, reading)


def read_yolo(annotations: Path, images: Path | None = None) -> Reading:
    """Read a YOLO set; classes are told by their names, see :data:`KIND_OF`.

    The labels of ``…/images/…/a.jpg`` are ``…/labels/…/a.txt``, or ``a.txt`` beside it where no folder is called
    ``images``: boxes, or polygons, of which the surrounding box is taken. A picture without that file counts as not
    annotated, one with an empty file as annotated and empty.

    Args:
        annotations: the YAML file with ``names``, or the folder in which it lies as ``data.yaml`` or ``dataset.yaml``.
        images: read only the pictures in this folder; by default all that ``train``, ``val`` and ``test`` name
            (folders, or lists of files), else those in ``images`` beside the YAML file.

    Raises:
        ValueError: nothing can be read, or no class is known.
    """
    file, reading = _yolo_file(Path(annotations)) or Path(annotations), Reading()
    try:
        told = yaml.safe_load(_content(file))
        names = told["names"]
        names = {int(k): _plain(str(v)) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}
        pictures = list(_yolo_pictures(file, told, images, reading))
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: no YOLO set: {error!r}") from error
    kinds = _kinds(names.values(), f"{file}: names")
    for path in dict.fromkeys(pictures):
        with _reports(reading, path):
            size = _size(path)
            labels = _labels_of(path)
            boxes = defaultdict(list)
            for number, line in enumerate(labels.read_text().splitlines() if labels.is_file() else (), 1):
                if line.strip():
                    with _where(f"{labels}: line {number}"):
                        name, box = _yolo_box(line, names, size)
                        if name in KIND_OF:
                            boxes[KIND_OF[name]].append((*box, False))
            _take(reading, path, size, boxes, kinds if labels.is_file() else frozenset())
    return _readable(file, reading)


def read_voc(annotations: Path, images: Path | None = None) -> Reading:
    """Read a Pascal VOC set; classes are told by their names, see :data:`KIND_OF`.

    Pixels count from 1, the last one included. ``difficult`` objects are ignored. Every picture counts as annotated
    with the kinds of all names in the set.

    Args:
        annotations: folder of ``.xml`` files, one for each picture, or the folder above ``Annotations``.
        images: folder of the pictures, by default that folder above, or the one of the files; they lie in it, or in
            ``JPEGImages`` or ``images`` in it.

    Raises:
        ValueError: nothing can be read, or no class is known.
    """
    folder, reading = Path(annotations), Reading()
    base = Path(images or (folder.parent if folder.name.lower() == "annotations" else folder))
    bases = [base / name for name in ("JPEGImages", "images", "")]
    trees = []
    for file in _xml_files(folder):
        with _reports(reading, file):
            trees.append((file, ElementTree.fromstring(_content(file))))
    names = {_plain(name.text or "") for _, root in trees for name in root.iterfind("object/name")}
    kinds = _kinds(names, f"{folder}: objects")
    for file, root in trees:
        with _reports(reading, file):
            named = Path(root.findtext("filename") or file.name).name
            path = _first_file(b / name for name in (named, *(file.stem + s for s in SUFFIXES)) for b in bases)
            boxes = defaultdict(list)
            for one in root.iterfind("object"):
                kind = KIND_OF.get(_plain(one.findtext("name")))
                if kind:
                    x1, y1, x2, y2 = _finite([one.findtext(f"bndbox/{s}") for s in ("xmin", "ymin", "xmax", "ymax")])
                    boxes[kind].append((x1 - 1, y1 - 1, x2, y2, one.findtext("difficult", "0").strip() == "1"))
            stated = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
            with _where(path):
                _take(reading, path, _size(path, *stated), boxes, kinds)
    return _readable(folder, reading)


def clip_boxes(xyxy: np.ndarray, width: int, height: int) -> np.ndarray:
    """Clip float32 ``[n, 4]`` to the picture."""
    return np.clip(xyxy, 0, np.array([width, height, width, height], np.float32))


def at_least(xyxy: np.ndarray, side: float) -> np.ndarray:
    """Bool ``[n]``, whether a box is at least ``side`` pixels wide and high."""
    return (xyxy[:, 2:] - xyxy[:, :2] >= side).all(axis=1)


def heads_of(faces: Boxes, width: int, height: int) -> Boxes:
    """Heads grown from faces: 1.3 times as wide, 1.45 times as high, most of it upwards, clipped to the picture."""
    sides = faces.xyxy[:, [2, 3, 2, 3]] - faces.xyxy[:, [0, 1, 0, 1]]
    grown = faces.xyxy + sides * np.array([-0.15, -0.35, 0.15, 0.1], np.float32)
    return Boxes(clip_boxes(grown, width, height), faces.ignore)


def for_training(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Leave out the pictures whose heads were not annotated: they would teach the codec to keep heads.

    Returns:
        The other pictures, and a line for each reason to leave some out, with their number.
    """
    kept = [record for record in records if "head" in record.annotated]
    left = len(records) - len(kept)
    return kept, [f"{left} of {len(records)} pictures left out: heads are not annotated on them"] if left else []


def split(records: list[Record], shares: Mapping[str, float] = SHARES, seed: int = 0) -> dict[str, list[Record]]:
    """Divide pictures by a hash of :attr:`Record.source`: copies of a picture stay together.

    Where a picture goes depends on its source, the shares and the seed alone, not on the other pictures.

    Args:
        records: the pictures.
        shares: name and share of each part; they sum to 1.
        seed: another one divides differently.

    Raises:
        ValueError: the shares are negative, or do not sum to 1.
    """
    if min(shares.values()) < 0 or not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"shares: {dict(shares)}, must be 0 or more and sum to 1")
    bounds = np.cumsum(list(shares.values()))[:-1]
    parts: dict[str, list[Record]] = {name: [] for name in shares}
    for record in records:
        digest = hashlib.sha256(f"{seed}/{record.source}".encode(errors="surrogateescape")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        parts[list(shares)[int(np.searchsorted(bounds, place, "right"))]].append(record)
    return parts


def spread(records: list[Record], count: int) -> list[Record]:
    """At most ``count`` pictures, at equal distances over the whole list."""
    return [records[i * len(records) // count] for i in range(count)] if count < len(records) else records


def write_split(
    path: Path, parts: Mapping[str, list[Record]], shares: Mapping[str, float] | None = None, seed: int | None = None
) -> None:
    """Write which picture is in which part as JSON.

    Args:
        path: the file; its folder exists.
        parts: names and pictures; they are written relative to the folder that all of them have in common.
        shares: that :func:`split` was given, None where it did not make the parts.
        seed: likewise.
    """
    files = {name: [os.path.abspath(record.path) for record in part] for name, part in parts.items()}
    folders = [os.path.dirname(file) for part in files.values() for file in part]
    common = Path(os.path.commonpath(folders)) if folders else Path()
    pictures = {
        name: sorted(Path(file).relative_to(common).as_posix() for file in part) for name, part in files.items()
    }
    path.write_text(json.dumps({"shares": shares and dict(shares), "seed": seed, "pictures": pictures}, indent=1))


def without_overlap(train: list[Record], *others: list[Record]) -> tuple[list[Record], list[str]]:
    """Leave out the pictures of ``train`` that have their source in common with one of the others.

    Returns:
        The rest, and the paths of those left out.
    """
    taken = {record.source for other in others for record in other}
    kept = [record for record in train if record.source not in taken]
    return kept, [str(record.path) for record in train if record.source in taken]


def _take(
    reading: Reading,
    path: Path,
    size: tuple[int, int],
    rows: Mapping[str, list[tuple[float, float, float, float, bool]]],
    annotated: frozenset[str],
    by_detector: frozenset[str] = frozenset(),
) -> None:
    """Take up a picture with its boxes, x1 y1 x2 y2 ignored, by kind."""
    boxes = {}
    for kind in KINDS:
        table = np.array(rows.get(kind, ()), np.float32).reshape(-1, 5)
        xyxy = clip_boxes(table[:, :4], *size)
        kept = at_least(xyxy, 1)
        moved = np.abs(xyxy - table[:, :4]).max(axis=1, initial=0) > 0.5
        reading.clipped += int((moved & kept).sum())
        reading.dropped += int((~kept).sum())
        boxes[kind] = Boxes(xyxy[kept], table[kept, 4] > 0)
    if "face" in annotated and "head" not in annotated:
        given, grown = boxes["head"], heads_of(boxes["face"], *size)
        pairs = ((given.xyxy, grown.xyxy), (given.ignore, grown.ignore))
        boxes["head"] = Boxes(*(np.concatenate(pair) for pair in pairs))
        annotated |= {"head"}
    reading.records.append(Record(path, *size, *(boxes[kind] for kind in KINDS), annotated, by_detector))


def _readable(name: Path, reading: Reading) -> Reading:
    if not reading.records:
        raise ValueError(f"{name}: no picture can be read; {(reading.problems or ['there is none in it'])[0]}")
    return reading


@contextmanager
def _reports(reading: Reading, name: object) -> Iterator[None]:
    """Note what is damaged, and go on behind it."""
    try:
        with _where(name):
            yield
    except ValueError as error:
        reading.problems.append(str(error))


@contextmanager
def _where(name: object) -> Iterator[None]:
    """Whatever a damaged annotation leads to is a ValueError that says where."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{name}: lacks {error}") from error
    except (AttributeError, IndexError, OSError, TypeError, ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{name}: {error}") from error


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error


def _size(path: Path, width: int | None = None, height: int | None = None) -> tuple[int, int]:
    """Upright width and height by the picture's header; what an annotation says of them must not differ."""
    try:
        with Image.open(path) as image:
            size, exif = image.size, image.info.get("exif", b"")
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (ImportError, OSError, ValueError, Image.DecompressionBombError) as error:
        # ImportError: whoever imports ultralytics by himself makes Pillow look for a plugin for what it does not know.
        raise ValueError("not a readable picture") from error
    if _lies_on_its_side(exif):
        size = size[::-1]
    if width and height and (width, height) != size:
        raise ValueError(f"has {size[0]}x{size[1]} pixels, its annotation says {width}x{height}")
    return size


def _lies_on_its_side(exif: bytes) -> bool:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return tags.get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # Pillow raises many kinds; a decoder takes a damaged EXIF block for none
        return False


def _first_file(candidates: Iterable[Path]) -> Path:
    """The first that exists, else the first."""
    paths = list(candidates)
    return next((path for path in paths if path.is_file()), paths[0])


def _plain(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower()).removesuffix("s")


def _kinds(names: Iterable[str], where: str) -> frozenset[str]:
    """The kinds that are annotated in a set with classes of these plain names."""
    names = set(names)
    kinds = {KIND_OF[name] for name in names if name in KIND_OF}
    if not kinds:
        raise ValueError(f"{where}: none is a person, head or face: {', '.join(sorted(names))}")
    bare = {name for name in names - COVERED if KIND_OF.get(name) == "head"}
    return frozenset(kinds if bare else kinds - {"head"})


def _finite(values: Iterable[Any]) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"box: {numbers}, must be four finite numbers")
    return numbers


def _corners(box: Iterable[Any]) -> tuple[float, float, float, float]:
    """From x, y, width, height."""
    x, y, w, h = _finite(box)
    return x, y, x + w, y + h


def _xml_files(folder: Path) -> list[Path]:
    patterns = ("*.xml", "Annotations/*.xml", "annotations/*.xml")
    return next((files for pattern in patterns if (files := sorted(folder.glob(pattern)))), [])


def _yolo_file(path: Path) -> Path | None:
    return next((file for name in ("data.yaml", "dataset.yaml") if (file := path / name).is_file()), None)


def _yolo_pictures(file: Path, told: dict[str, Any], images: Path | None, reading: Reading) -> Iterator[Path]:
    """The pictures that a YAML file, or the caller, names."""
    # The root that its maker wrote may be a place on another machine.
    root = file.parent / str(told.get("path") or "")
    root = root if root.is_dir() else file.parent
    entries = [told.get(part) or () for part in ("train", "val", "test")]
    places = [place for entry in entries for place in ([entry] if isinstance(entry, str) else entry)]
    if images is not None:
        places = [Path(images).absolute()]
    for place in places or ["images"]:
        # Roboflow writes ../train/images for what lies in train/images.
        named = [root / place, root / str(place).removeprefix("../")]
        found = next((path for path in named if path.exists()), None)
        if found is None:
            reading.problems.append(f"{file}: {place}: no such file or folder")
        elif found.is_dir():
            yield from sorted(path for path in found.rglob("*") if path.suffix.lower() in SUFFIXES)
        else:
            lines = filter(None, map(str.strip, _content(found).decode().splitlines()))
            yield from (_first_file((found.parent / line, root / line)) for line in lines)


def _labels_of(picture: Path) -> Path:
    parts = list(picture.parts)
    above = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    if above:
        parts[above[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _yolo_box(line: str, names: dict[int, str], size: tuple[int, int]) -> tuple[str, list[float]]:
    """Plain class name, and x1 y1 x2 y2 in pixels."""
    number, *values = (float(value) for value in line.split())
    if not all(-0.01 <= value <= 1.01 for value in values):
        raise ValueError(f"{line.strip()!r}: must be within 0 to 1")
    if len(values) == 4:
        x, y, w, h = values
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        box = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    else:
        raise ValueError(f"{line.strip()!r}: must be a class and 4 numbers, or a polygon of 3 points or more")
    if number not in names:
        raise ValueError(f"{line.strip()!r}: no class has this number")
    return names[int(number)], [value * side for value, side in zip(box, size * 2, strict=True)]
