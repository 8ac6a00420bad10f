"""Entropy coding of a quantised latent with integer tables, by asymmetric numeral systems.

Payload of one image::

    channel map    ceil(C / 8) bytes; bit c (least significant first) is set where channel c holds
                   a symbol other than 0; the other channels cost nothing more
    words          little-endian uint32, the stack of ``_ans.h``: for each channel of the map in
                   order, h·w symbols in rows, then its escaped symbols in order

A symbol outside its channel's table is coded as the table's last entry (the tail) and follows as an
escaped symbol, 16 bits, uniformly distributed. Decoding is memory-safe for any bytes and ends after
h·w·C symbols: every string of words is the code of some symbols, and one that holds more than it
should is refused.
"""

from __future__ import annotations

import numpy as np

from . import _ans
from .errors import PacketError

#: The tables count in 1/65536, CompressAI's precision.
TOTAL = 1 << 16
#: The coder counts in 1/2^24.
CODER_TOTAL = 1 << 24
ESCAPE_MIN = -(1 << 15)
ESCAPE_MAX = (1 << 15) - 1


class EntropyTables:
    """The prior of a trained model as integers: one cumulative table for each channel.

    Args:
        cdf: int32 ``[C, L]``; row c holds a table from 0 to 65536, increasing, then filling.
        length: int32 ``[C]``, entries of each row that count: its symbols, the tail, and one.
        offset: int32 ``[C]``, the symbol that a row's first entry stands for, at most 0.

    Raises:
        ValueError: names the table and the channel that break these bounds.
    """

    def __init__(self, cdf: np.ndarray, length: np.ndarray, offset: np.ndarray) -> None:
        self.cdf = np.ascontiguousarray(cdf, np.int32)
        self.length = np.ascontiguousarray(length, np.int32)
        self.offset = np.ascontiguousarray(offset, np.int32)
        self.channels = len(self.cdf)
        shapes = (self.cdf.shape, self.length.shape, self.offset.shape)
        if self.cdf.ndim != 2 or shapes[1:] != ((self.channels,), (self.channels,)):
            raise ValueError(
                f"tables: shapes {shapes[0]}, {shapes[1]}, {shapes[2]}, must be [C, L], [C], [C]"
            )
        cumulative = np.zeros(self.cdf.shape, np.uint32)
        for channel in range(self.channels):
            self._check(channel)
            size = self.length[channel]
            cumulative[channel, :size] = refine(self.cdf[channel, :size])
        self._tables = (cumulative, self.length, self.offset)

    def _check(self, channel: int) -> None:
        size = int(self.length[channel])
        if not 3 <= size <= self.cdf.shape[1]:
            raise ValueError(f"length[{channel}]: {size}, must be from 3 to {self.cdf.shape[1]}")
        offset = int(self.offset[channel])
        if not -(size - 3) <= offset <= 0:
            raise ValueError(f"offset[{channel}]: {offset}, must be from {-(size - 3)} to 0")
        table = self.cdf[channel, :size]
        if table[0] != 0 or table[-1] != TOTAL or np.diff(table).min() < 1:
            raise ValueError(f"cdf[{channel}]: must increase strictly from 0 to {TOTAL}")

    def encode(self, symbols: np.ndarray) -> bytes:
        """Code one latent.

        Args:
            symbols: int32 ``[C, h, w]``, each from -32768 to 32767.

        Returns:
            The payload.

        Raises:
            ValueError: the shape or a symbol is out of bounds.
        """
        if symbols.ndim != 3 or len(symbols) != self.channels:
            raise ValueError(f"symbols: shape {symbols.shape}, must be [{self.channels}, h, w]")
        if symbols.min() < ESCAPE_MIN or symbols.max() > ESCAPE_MAX:
            raise ValueError(f"symbols: out of bounds, must be from {ESCAPE_MIN} to {ESCAPE_MAX}")
        rows = np.ascontiguousarray(symbols, np.int32).reshape(self.channels, -1)
        coded = rows.any(axis=1)
        words = _ans.encode_channels(rows, coded, *self._tables)
        return np.packbits(coded, bitorder="little").tobytes() + words

    def decode(self, payload: bytes | memoryview, height: int, width: int) -> np.ndarray:
        """Decode one latent.

        Args:
            payload: what :meth:`encode` returned.
            height: rows of the latent.
            width: columns of the latent.

        Returns:
            int32 ``[C, height, width]``.

        Raises:
            PacketError: reason ``"payload"``; these bytes are not the code of such a latent.
        """
        map_size = -(-self.channels // 8)
        if len(payload) < map_size or (len(payload) - map_size) % 4:
            raise PacketError(
                "payload", f"{len(payload)} bytes, must be {map_size} and a multiple of 4"
            )
        bits = np.frombuffer(payload, np.uint8, map_size)
        coded = np.unpackbits(bits, bitorder="little")
        if coded[self.channels :].any():
            raise PacketError("payload", f"channel map names a channel above {self.channels - 1}")
        words = memoryview(payload)[map_size:]
        check_last_word(words)
        symbols = np.zeros((self.channels, height, width), np.int32)
        left = _ans.decode_channels(words, coded[: self.channels], *self._tables, symbols)
        if left:
            raise PacketError("payload", f"{left} words left over")
        return symbols


def refine(table: np.ndarray) -> np.ndarray:
    """A table of the model in the coder's precision.

    Each of the n entries gets ``count · (2^24 - n) >> 16`` and one, so that none is empty.

    Args:
        table: ``[n + 1]``, increasing strictly from 0 to 65536.

    Returns:
        int64 ``[n + 1]``, increasing strictly from 0 to 2^24.
    """
    entries = len(table) - 1
    return (table.astype(np.int64) * (CODER_TOTAL - entries) >> 16) + np.arange(entries + 1)


def check_last_word(words: memoryview) -> None:
    """Refuse a stack that no encoder leaves.

    Args:
        words: a multiple of 4 bytes.

    Raises:
        PacketError: reason ``"payload"``; the last word is 0.
    """
    if len(words) and not any(words[-4:]):
        raise PacketError("payload", "last word is 0")
