"""The images that a configuration names, to train on and to validate on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from roi_anon_ros.boxes import clip_boxes
from roi_anon_ros.datasets import (
    Boxes,
    Record,
    for_training,
    read_set,
    split,
    spread,
    without_overlap,
    write_split,
)
from roi_anon_ros.train.numbers import check_number

#: Share of the images that are kept apart where the configuration names no validation set.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class ImageSet:
    """One entry of a configuration's ``train`` or ``validation``.

    Attributes:
        annotations: file or folder, see :func:`~roi_anon_ros.datasets.read_set`; of clips their
            folder, see :func:`~roi_anon_ros.datasets.read_clips`, and the other fields mean
            nothing.
        images: folder; empty where the set's own layout says it.
        collection: take only the images of this collection, see
            :attr:`~roi_anon_ros.datasets.Record.collection`; empty: all.
        share: of the crops that are made of this set, in proportion to the other sets' shares. With
            0 everywhere, every image is as likely as any other.
        head_size: factor on the sides of the head boxes, where a set draws them too large.
        background: weight of a place without a head in the training of the head map, 0 to 1: lower
            where heads may be missing in the annotation.
    """

    annotations: str
    images: str = ""
    collection: str = ""
    share: float = 0.0
    head_size: float = 1.0
    background: float = 1.0

    def __post_init__(self) -> None:
        for name, least in {"share": 0, "head_size": 0.1, "background": 0}.items():
            check_number(name, getattr(self, name), least)


def parse_sets(name: str, sets: Any) -> list[ImageSet]:
    """The sets of a configuration's list.

    Raises:
        ValueError: names the list, and what is wrong with it.
    """
    known = {field.name for field in fields(ImageSet)}
    if not isinstance(sets, list) or not all(
        isinstance(one, dict) and "annotations" in one for one in sets
    ):
        raise ValueError(f"{name}: must be a list of sets, each with annotations")
    parsed = []
    for one in sets:
        if not one.keys() <= known:
            unknown = ", ".join(sorted(one.keys() - known))
            raise ValueError(f"{name}: {unknown}: must be one of {', '.join(sorted(known))}")
        try:
            parsed.append(ImageSet(**one))
        except ValueError as error:
            raise ValueError(f"{name}: {one['annotations']}: {error}") from error
    shares = {one.share > 0 for one in parsed}
    if len(shares) > 1:
        raise ValueError(f"{name}: share: must be above 0 in every set, or left out in all")
    return parsed


@dataclass(frozen=True)
class TrainingImages:
    """The images to train on.

    Attributes:
        records: n of them.
        weights: float64 ``[n]``, how likely each is drawn; None: all alike.
        backgrounds: float64 ``[n]``, see :attr:`ImageSet.background`.
    """

    records: list[Record]
    weights: np.ndarray | None
    backgrounds: np.ndarray

    def count(self) -> dict[str, int]:
        """What a model tells of them."""
        return {
            "pictures": len(self.records),
            "heads": sum(len(one.heads.xyxy) for one in self.records),
            "persons": sum(len(one.persons.xyxy) for one in self.records),
        }


def read_one_set(one: ImageSet, hidden_only: bool) -> list[Record]:
    """Read a set; what is broken in it, or must not be trained on, is reported and left out.

    Args:
        one: the set.
        hidden_only: leave out the images on which heads are not annotated.

    Raises:
        ValueError, OSError: it is not readable at all, or has no such collection.
    """
    reading = read_set(Path(one.annotations), Path(one.images) if one.images else None)
    records = [record for record in reading.records if one.collection in ("", record.collection)]
    if not records:
        raise ValueError(f"{one.annotations}: collection: {one.collection!r} has no image")
    reasons: list[str] = []
    if hidden_only:
        records, reasons = for_training(records)
    for problem in [*reading.problems, *reasons]:
        rank_zero_info(problem)
    rank_zero_info(
        f"{one.annotations}{' ' * bool(one.collection)}{one.collection}: {len(records)} images; "
        f"{len(reading.problems)} broken entries skipped, {reading.clipped} boxes clipped, "
        f"{reading.dropped} dropped"
    )
    if one.head_size != 1:
        records = [scale_heads(record, one.head_size) for record in records]
    return records


def scale_heads(record: Record, factor: float) -> Record:
    """The record with head boxes of ``factor`` times their sides, around their centres."""
    xyxy = record.heads.xyxy
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    half = (xyxy[:, 2:] - xyxy[:, :2]) / 2 * np.float32(factor)
    scaled = np.concatenate([centre - half, centre + half], axis=1)
    scaled = clip_boxes(scaled, record.width, record.height).astype(np.float32)
    return replace(record, heads=Boxes(scaled, record.heads.ignore))


def read_images(
    train: list[ImageSet],
    validation: list[ImageSet],
    validation_images: int,
    seed: int,
    out: Path,
    hidden_only: bool,
) -> tuple[TrainingImages, list[Record]]:
    """The images to train on and to validate on, no image or copy of one in both; written to
    ``split.json``.

    Args:
        train: sets to train on.
        validation: sets to validate on; none: a tenth of the others.
        validation_images: how many of them, spread over the sets.
        seed: of the division.
        out: folder of ``split.json``.
        hidden_only: leave out the images on which heads are not annotated.

    Raises:
        ValueError, OSError: there are none, or a set is not readable at all.
    """
    parts = [read_one_set(one, hidden_only) for one in train]
    shares = None
    kept_apart: list[Record] = []
    if validation:
        for one in validation:
            kept_apart += read_one_set(one, hidden_only)
    else:
        shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
        divided = [split(part, shares, seed) for part in parts]
        parts = [part["train"] for part in divided]
        for part in divided:
            kept_apart += part["validation"]
    remaining = [without_overlap(part, kept_apart) for part in parts]
    parts = [part for part, _ in remaining]
    dropped = sum(len(names) for _, names in remaining)
    if dropped:
        rank_zero_info(f"{dropped} training images left out, which the validation set has too")
    records = [record for part in parts for record in part]
    if not records or not kept_apart:
        raise ValueError(
            f"{len(records)} images to train on, {len(kept_apart)} to validate on, must be 1 each"
        )
    write_split(out / "split.json", {"train": records, "validation": kept_apart}, shares, seed)
    sizes = [len(part) for part in parts]
    weights = None
    if train[0].share > 0:
        each = [one.share / max(size, 1) for one, size in zip(train, sizes, strict=True)]
        weights = np.repeat(each, sizes) / sum(one.share for one in train)
    backgrounds = np.repeat([float(one.background) for one in train], sizes)
    return (
        TrainingImages(records, weights, backgrounds),
        spread(kept_apart, validation_images),
    )
