"""Which heads a model takes for heads with a helmet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from roi_anon_ros.codec import Codec
from roi_anon_ros.datasets import Record
from roi_anon_ros.files import read_pixels

#: A painted head is an annotated one where it is within this share of that one's longer side.
NEAR = 0.5


@dataclass(frozen=True)
class Helmets:
    """Heads that a model paints, of which it is known whether they wear a helmet.

    Attributes:
        worn: heads with a helmet.
        kept: those of them that are painted with one.
        bare: heads without.
        added: those of them that are painted with one.
    """

    worn: int = 0
    kept: int = 0
    bare: int = 0
    added: int = 0

    def __add__(self, other: Helmets) -> Helmets:
        return Helmets(
            self.worn + other.worn,
            self.kept + other.kept,
            self.bare + other.bare,
            self.added + other.added,
        )


def look_at_helmets(records: Iterable[Record], codec: Codec) -> Iterator[Helmets]:
    """Yield what a model says of the helmets in each image.

    Args:
        records: images with their heads.
        codec: of the model.
    """
    for record in records:
        if not (record.helmets >= 0).any():
            yield Helmets()
            continue
        regions, _ = codec.find_heads(read_pixels(record.path), helmets=True)
        yield judge_helmets(record, regions.heads, regions.with_helmet)


def judge_helmets(record: Record, heads: np.ndarray, with_helmet: np.ndarray) -> Helmets:
    """Compare painted heads with annotated ones.

    Args:
        record: of the image.
        heads: that are painted, ``[n, 3]``: centre x, centre y, side, pixels.
        with_helmet: bool ``[n]``, which of them are painted with a helmet.
    """
    if not len(heads):
        return Helmets()
    total = Helmets()
    for (x1, y1, x2, y2), helmet in zip(record.heads.xyxy.tolist(), record.helmets, strict=True):
        distance = np.hypot(heads[:, 0] - (x1 + x2) / 2, heads[:, 1] - (y1 + y2) / 2)
        nearest = int(distance.argmin())
        if helmet < 0 or distance[nearest] > NEAR * max(x2 - x1, y2 - y1):
            continue
        told = int(with_helmet[nearest])
        total += Helmets(worn=1, kept=told) if helmet else Helmets(bare=1, added=told)
    return total
