"""Entropy coding of a quantised latent with the model's integer tables, by asymmetric numeral
systems.

Payload of one picture::

    channel map    ceil(C / 8) bytes; bit c (least significant first) is set where channel c holds
                   a symbol other than 0; the other channels cost nothing more
    words          little-endian uint32, the stack of ``constriction``'s ``AnsCoder``: for each
                   channel of the map in order, h·w symbols in rows, then its escaped symbols in
                   order

A symbol outside its channel's table is coded as the table's last entry (the tail) and follows as an
escaped symbol, 16 bits, uniformly distributed. Decoding is memory-safe for any bytes and ends after
h·w·C symbols: every string of words is the code of some symbols, and one that holds more than it
should is refused.
"""

from __future__ import annotations

import constriction
import numpy as np

from .errors import PacketError

#: The tables count in 1/65536, CompressAI's precision.
TOTAL = 1 << 16
ESCAPE_MIN, ESCAPE_MAX = -(1 << 15), (1 << 15) - 1

_AnsCoder = constriction.stream.stack.AnsCoder


class EntropyTables:
    """The prior of a trained model as integers: one cumulative table for each channel of the
    latent.

    Args:
        cdf: int32 ``[C, L]``; row c holds a strictly increasing table from 0 to 65536, then
            filling.
        length: int32 ``[C]``, entries of each row that count: the table's symbols, the tail, and
            one.
        offset: int32 ``[C]``, the symbol that a row's first entry stands for, at most 0.

    Raises:
        ValueError: names the table and the channel that break these bounds.
    """

    def __init__(self, cdf: np.ndarray, length: np.ndarray, offset: np.ndarray) -> None:
        self.cdf, self.length, self.offset = (
            np.ascontiguousarray(a, dtype=np.int32) for a in (cdf, length, offset)
        )
        self.channels = len(self.cdf)
        if (
            self.cdf.ndim != 2
            or self.length.shape != (self.channels,)
            or self.offset.shape != (self.channels,)
        ):
            raise ValueError(
                f"tables: shapes {self.cdf.shape}, {self.length.shape}, {self.offset.shape}, must "
                "be [C, L], [C], [C]"
            )
        self._models = []
        for channel in range(self.channels):
            size = int(self.length[channel])
            if not 3 <= size <= self.cdf.shape[1]:
                raise ValueError(
                    f"length[{channel}]: {size}, must be from 3 to {self.cdf.shape[1]}"
                )
            if not -(size - 3) <= self.offset[channel] <= 0:
                raise ValueError(
                    f"offset[{channel}]: {self.offset[channel]}, must be from {-(size - 3)} to 0"
                )
            counts = np.diff(self.cdf[channel, :size])
            if (
                self.cdf[channel, 0] != 0
                or self.cdf[channel, size - 1] != TOTAL
                or counts.min() < 1
            ):
                raise ValueError(f"cdf[{channel}]: must increase strictly from 0 to {TOTAL}")
            # Multiples of 2^-16 are exact in float64: every machine makes the same model of them.
            self._models.append(
                constriction.stream.model.Categorical(counts / TOTAL, perfect=False)
            )
        self._escape = constriction.stream.model.Uniform(TOTAL)

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
        rows = np.ascontiguousarray(symbols, dtype=np.int32).reshape(self.channels, -1)
        coded = rows.any(axis=1)
        indices = rows - self.offset[:, None]
        tails = (self.length - 2)[:, None]
        escaped = (indices < 0) | (indices >= tails)
        has_escapes = escaped.any(axis=1)
        np.copyto(indices, tails, where=escaped)
        coder = _AnsCoder()
        for channel in np.flatnonzero(coded)[::-1]:  # a stack: what is decoded first is pushed last
            if has_escapes[channel]:
                coder.encode_reverse(rows[channel, escaped[channel]] - ESCAPE_MIN, self._escape)
            coder.encode_reverse(indices[channel], self._models[channel])
        return (
            np.packbits(coded, bitorder="little").tobytes()
            + coder.get_compressed().astype("<u4").tobytes()
        )

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
        coded = np.unpackbits(np.frombuffer(payload, np.uint8, map_size), bitorder="little")
        if coded[self.channels :].any():
            raise PacketError("payload", f"channel map names a channel above {self.channels - 1}")
        words = np.frombuffer(payload, "<u4", offset=map_size).astype(np.uint32)
        if len(words) and words[-1] == 0:
            raise PacketError("payload", "last word is 0")
        coder = _AnsCoder(words)
        symbols = np.zeros((self.channels, height * width), np.int32)
        for channel in np.flatnonzero(coded):
            indices = coder.decode(self._models[channel], height * width)
            row = symbols[channel]
            np.add(indices, self.offset[channel], out=row)
            escaped = indices == self.length[channel] - 2
            count = np.count_nonzero(escaped)
            if count:
                row[escaped] = coder.decode(self._escape, count) + ESCAPE_MIN
        if not coder.is_empty():
            raise PacketError("payload", f"{coder.num_words()} words left over")
        return symbols.reshape(self.channels, height, width)
