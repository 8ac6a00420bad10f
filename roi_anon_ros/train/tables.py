"""Integer tables for a codec of every rate, counted on images after the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from roi_anon_ros.codec.contexts import A_VALUES, B_VALUES, ContextTables
from roi_anon_ros.codec.entropy import CODER_TOTAL
from roi_anon_ros.codec.latents import GainedLatents

if TYPE_CHECKING:  # torch takes seconds
    from roi_anon_ros.codec.networks import GainedCodec

#: Upper ends of the buckets of a and of b, see ``codec.contexts``.
A_ENDS = (0, 1, 2, 3, 4, 6, 9, 14, 22, 38)
B_ENDS = (0, 2, 5, 9, 14, 20, 28, 40, 58, 86, 130, 200)
#: Magnitudes that tables have entries for.
RADIUS = 30
#: Shared tables of a model.
TABLES = 96
#: Rounds of moving contexts between tables.
ROUNDS = 12
#: A symbol that was never seen counts as this share of one.
UNSEEN = 0.02


def make_buckets(ends: tuple[int, ...], values: int) -> np.ndarray:
    """Bucket of each value from 0, uint8 ``[values]``; the last bucket is open."""
    return np.searchsorted(np.array(ends), np.arange(values)).astype(np.uint8)


def blank_tables(levels: int, channels: int) -> ContextTables:
    """Tables with the buckets of this module that code anything, badly: to count contexts with."""
    a_buckets = make_buckets(A_ENDS, A_VALUES)
    b_buckets = make_buckets(B_ENDS, B_VALUES)
    contexts = (len(A_ENDS) + 1) * (len(B_ENDS) + 1)
    lookup = np.zeros((levels, channels, contexts), np.uint8)
    cumulative = to_cumulative(np.ones((1, 2 * RADIUS + 2)))
    return ContextTables(lookup, cumulative, a_buckets, b_buckets)


class Counter:
    """Counts the symbols of each level, channel and context.

    Args:
        gain: float32 ``[Q, N]``, logarithms, as of the model.
        inverse_gain: likewise.
        dead_zone: see :class:`~roi_anon_ros.codec.latents.GainedLatents`.
    """

    def __init__(self, gain: np.ndarray, inverse_gain: np.ndarray, dead_zone: float) -> None:
        self.levels = gain.shape[0]
        self.channels = gain.shape[1]
        self._blank = blank_tables(self.levels, self.channels)
        self._latents = GainedLatents(gain, inverse_gain, self._blank, dead_zone)
        contexts = self._blank.lookup.shape[2]
        # Entries for -R..R, and one for all that lies outside.
        self.counts = np.zeros((self.levels, self.channels, contexts, 2 * RADIUS + 2), np.int64)

    def add(self, latent: np.ndarray) -> None:
        """Count one image's latent, float32 ``[N, h, w]``, at every level."""
        for level in range(self.levels):
            symbols = self._latents.quantise(latent, level + 1.0)
            context = self._blank.contexts(symbols).astype(np.int64)
            entry = np.where(np.abs(symbols) <= RADIUS, symbols + RADIUS, 2 * RADIUS + 1)
            channel = np.arange(self.channels)[:, None, None]
            place = (channel * self.counts.shape[2] + context) * self.counts.shape[3] + entry
            flat = self.counts[level].reshape(-1)
            flat += np.bincount(place.ravel(), minlength=flat.size)

    def tables(self) -> ContextTables:
        """The tables that code what was counted in the fewest bits, nearly."""
        lookup, cumulative = fit_tables(self.counts)
        return ContextTables(lookup, cumulative, self._blank.a_buckets, self._blank.b_buckets)


def fit_tables(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group contexts whose symbols are distributed alike (k-means; distance is the code length).

    Args:
        counts: int64 ``[Q, N, contexts, 2R + 2]``.

    Returns:
        ``lookup`` uint8 ``[Q, N, contexts]`` and ``cumulative`` uint32 ``[T, 2R + 3]``.
    """
    levels, channels, contexts, entries = counts.shape
    rows = counts.reshape(-1, entries).astype(np.float64)
    total = rows.sum(axis=1)
    seen = total > 0
    # What was seen little leans on its channel's whole.
    channel = counts.sum(axis=2, keepdims=True).astype(np.float64) + UNSEEN
    channel = channel / channel.sum(axis=3, keepdims=True)
    prior = np.broadcast_to(channel, counts.shape).reshape(-1, entries)
    smooth = rows + 4.0 * prior
    spread = (smooth * np.abs(np.arange(entries) - (entries - 2) / 2)).sum(axis=1)
    order = np.argsort(spread / smooth.sum(axis=1))
    # Begin with groups of equal weight along the spread.
    weight = np.cumsum((total + 1)[order] ** 0.5)
    group = np.empty(len(rows), np.int64)
    group[order] = np.minimum((weight / weight[-1] * TABLES).astype(np.int64), TABLES - 1)
    for _ in range(ROUNDS):
        tables = np.zeros((TABLES, entries))
        np.add.at(tables, group, smooth)
        tables += UNSEEN * 0.1
        probability = tables / tables.sum(axis=1, keepdims=True)
        lengths = -np.log2(probability)
        for start in range(0, len(rows), 8192):
            part = smooth[start : start + 8192]
            group[start : start + 8192] = np.argmin(part @ lengths.T, axis=1)
    tables = np.zeros((TABLES, entries))
    np.add.at(tables, group[seen], rows[seen])
    tables += UNSEEN
    lookup = group.reshape(levels, channels, contexts).astype(np.uint8)
    return lookup, to_cumulative(tables)


def to_cumulative(weights: np.ndarray) -> np.ndarray:
    """Cumulative integers, uint32 ``[T, n + 1]`` from 0 to 2^24, of weights ``[T, n]`` above 0."""
    share = weights / weights.sum(axis=1, keepdims=True)
    entries = weights.shape[1]
    # Every entry gets one unit, the rest is shared out.
    exact = np.cumsum(share, axis=1) * (CODER_TOTAL - entries)
    cumulative = np.zeros((len(weights), entries + 1), np.int64)
    cumulative[:, 1:] = np.rint(exact).astype(np.int64) + np.arange(1, entries + 1)
    cumulative[:, -1] = CODER_TOTAL
    return cumulative.astype(np.uint32)


def count_tables(
    codec: GainedCodec, images: Iterable[np.ndarray], dead_zone: float
) -> ContextTables:
    """Count the tables of a trained codec.

    Args:
        codec: gets the tables, too.
        images: uint8 ``[H, W, 3]`` RGB, as they are coded: painted. At least one.
        dead_zone: see :class:`~roi_anon_ros.codec.latents.GainedLatents`.

    Returns:
        The tables.

    Raises:
        ValueError: no image.
    """
    import torch

    gain = codec.gain.detach().cpu().numpy()
    counter = Counter(gain, codec.inverse_gain.detach().cpu().numpy(), dead_zone)
    number = 0
    for image in images:
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        counter.add(codec.analyse(x)[0].cpu().numpy())
        number += 1
    if number == 0:
        raise ValueError("images: got none, must be at least 1")
    tables = counter.tables()
    codec.set_tables(tables, dead_zone)
    return tables
