"""Which images are for what."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from roi_anon_ros.datasets.records import Record

T = TypeVar("T")


class Sourced(Protocol):
    """What was made from something: an image's record, or a clip."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def source(self) -> str:
        """What it was made from."""


S = TypeVar("S", bound=Sourced)

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def for_training(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Leave out the images whose heads were not annotated: they would teach the codec to keep
    heads.

    Returns:
        The other images, and a line for each reason to leave some out, with their number.
    """
    kept = [record for record in records if "head" in record.annotated]
    left = len(records) - len(kept)
    return kept, [
        f"{left} of {len(records)} images left out: heads are not annotated on them"
    ] if left else []


def split(
    records: list[S], shares: Mapping[str, float] = SHARES, seed: int = 0
) -> dict[str, list[S]]:
    """Divide images, or clips, by a hash of their source: copies of an image, and clips that were
    cut from one video, stay together.

    Where one goes depends on its source, the shares and the seed alone, not on the others.

    Args:
        records: the images, or clips.
        shares: name and share of each split; they sum to 1.
        seed: another one divides differently.

    Raises:
        ValueError: the shares are negative, or do not sum to 1.
    """
    if min(shares.values()) < 0 or not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"shares: {dict(shares)}, must be 0 or more and sum to 1")
    bounds = np.cumsum(list(shares.values()))[:-1]
    splits: dict[str, list[S]] = {name: [] for name in shares}
    for record in records:
        digest = hashlib.sha256(f"{seed}/{record.source}".encode(errors="surrogateescape")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        splits[list(shares)[int(np.searchsorted(bounds, place, "right"))]].append(record)
    return splits


def spread(records: list[T], count: int) -> list[T]:
    """At most ``count`` images, at equal distances over the whole list."""
    return (
        [records[i * len(records) // count] for i in range(count)]
        if count < len(records)
        else records
    )


def write_split(
    path: Path,
    splits: Mapping[str, Sequence[Sourced]],
    shares: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> None:
    """Write which image is in which split as JSON.

    Args:
        path: the file; its folder exists.
        splits: names and images; they are written relative to the folder that all of them have in
            common.
        shares: that :func:`split` was given, None where it did not make the splits.
        seed: likewise.
    """
    files: dict[str, list[str]] = {}
    for name, records in splits.items():
        files[name] = [os.path.abspath(record.path) for record in records]
    folders = [os.path.dirname(file) for paths in files.values() for file in paths]
    common = Path(os.path.commonpath(folders)) if folders else Path()
    images: dict[str, list[str]] = {}
    for name, paths in files.items():
        images[name] = sorted(Path(file).relative_to(common).as_posix() for file in paths)
    path.write_text(
        json.dumps({"shares": shares and dict(shares), "seed": seed, "pictures": images}, indent=1)
    )


def without_overlap(train: list[S], *others: Sequence[Sourced]) -> tuple[list[S], list[str]]:
    """Leave out the images, or clips, of ``train`` that have their source in common with one of
    the others.

    Returns:
        The rest, and the paths of those left out.
    """
    taken = {record.source for other in others for record in other}
    kept = [record for record in train if record.source not in taken]
    return kept, [str(record.path) for record in train if record.source in taken]
