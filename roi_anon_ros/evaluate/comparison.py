"""One run over several sets: figures of each method on each kind of images, the worst first."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from roi_anon_ros.codec.image import check_image
from roi_anon_ros.datasets import Record, read_set, spread
from roi_anon_ros.detect import Detector
from roi_anon_ros.evaluate.measure import Cache, Seen, environment, measure
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.evaluate.report.sheet import pick, save_sheet
from roi_anon_ros.evaluate.summary import summary
from roi_anon_ros.evaluate.views import View
from roi_anon_ros.files import read_pixels

T = TypeVar("T")


class Track(Protocol):
    """Shows how far something is."""

    def __call__(self, items: Iterable[T], total: int | None, name: str) -> Iterator[T]:
        """Yield the items."""


class Report(Protocol):
    """Takes what is wrong with a file."""

    def __call__(self, source: Path, error: object) -> None:
        """Say it; the run goes on."""


@dataclass(frozen=True)
class Kind:
    """The images of one kind.

    Attributes:
        records: that are measured.
        annotated: how many there are in the sets.
    """

    records: list[Record]
    annotated: int


def read_kinds(
    sets: list[Path], folders: list[Path], view: View, limit: int, fail: Report
) -> dict[str, Kind]:
    """Read sets, and divide their images by kind: :attr:`Record.collection`, else the set's name.

    Args:
        sets: annotations.
        folders: of the images, one for each set, or none.
        view: only images in which it sees something are taken.
        limit: images of each kind, at most, spread over it; 0: all.
        fail: takes images that cannot be read.

    Raises:
        ValueError: a set cannot be read, or there are not as many folders as sets, or no images.
    """
    if folders and len(folders) != len(sets):
        raise ValueError(f"images: got {len(folders)} folders, must be {len(sets)} or none")
    found: dict[str, list[Record]] = {}
    for number, path in enumerate(sets):
        reading = read_set(path, folders[number] if folders else None)
        for problem in reading.problems:
            fail(path, problem)
        for record in reading.records:
            found.setdefault(record.collection or path.stem, []).append(record)
    kinds = {}
    for name, records in found.items():
        seen = [record for record in records if view.takes(record)]
        chosen = spread(seen, limit) if limit else seen
        readable = [record for record in chosen if _is_readable(record, fail)]
        if readable:
            kinds[name] = Kind(readable, len(records))
    if not kinds:
        raise ValueError(f"{', '.join(map(str, sets))}: no images")
    return kinds


def _is_readable(record: Record, fail: Report) -> bool:
    """Whether every method can take an image; what one cannot take is left out of all of them."""
    try:
        check_image(read_pixels(record.path))
    except (OSError, ValueError) as error:
        fail(record.path, error)
        return False
    return True


def compare(
    kinds: Mapping[str, Kind],
    methods: list[Method],
    detectors: Mapping[str, Detector],
    weights: list[str],
    view: tuple[str, View],
    out: Path,
    track: Track,
) -> dict[str, Any]:
    """Measure every method on every kind of images.

    Args:
        kinds: by name.
        methods: the original first, the one that the order of the kinds goes by second.
        detectors: by name.
        weights: what tells the weights of the detectors from others.
        view: how the cameras look at the scenes, with its name.
        out: folder of caches and sheets.
        track: shows how far it is.

    Returns:
        By name of the kind, in the order of :func:`order_kinds`: ``images`` and
        ``annotated_images``, their numbers; ``methods``, ``summary`` by the method's name;
        ``sheet``.
    """
    records = [record for kind in kinds.values() for record in kind.records]
    figures: dict[str, dict[str, Any]] = {name: {} for name in kinds}
    base: list[tuple[Record, Seen]] = []
    for method in methods:
        key = json.dumps([method.key, weights, environment(), view[0]])
        with Cache(out / "cache", method.name, key) as cache:
            steps = measure(records, method, detectors, cache, view[1])
            pairs = list(track(steps, len(records), method.name))
        base = base or pairs
        begin = 0
        for name, kind in kinds.items():
            own = slice(begin, begin + len(kind.records))
            figures[name][method.name] = summary(pairs[own], base[own])
            begin = own.stop
    ordered = order_kinds(figures, methods[min(1, len(methods) - 1)].name)
    results = {}
    for name in track(ordered, len(ordered), "sheets"):
        shown = pick(kinds[name].records)
        results[name] = {
            "images": len(kinds[name].records),
            "annotated_images": kinds[name].annotated,
            "methods": figures[name],
            "sheet": save_sheet(out / "sheet" / name, methods, shown, view[1]),
        }
    return results


def order_kinds(figures: Mapping[str, Mapping[str, Any]], claim: str) -> list[str]:
    """Names of the kinds, the one first of which a method leaves the least of the persons.

    Args:
        figures: ``summary`` by method, by kind.
        claim: the method's name.
    """

    def left(kind: str) -> float:
        ratio = figures[kind][claim]["persons_ratio"]
        return math.inf if math.isnan(ratio) else ratio

    return sorted(figures, key=left)
