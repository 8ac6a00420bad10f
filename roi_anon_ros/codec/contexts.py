"""Entropy coding with spatial contexts: what is decoded already picks a symbol's table.

Channels are coded one after the other, each in rows. The context of the symbol at channel c, row y,
column x comes from two numbers, where ``|s|`` stands for ``min(|s|, 63)`` and is 0 outside::

    a = min(2 |W| + 2 |N| + |NW| + |NE|, 255)         the neighbours in the same channel
    e[y, x] = sum of |s| at y, x over the channels before c
    b = min(2 e[y, x] + e[y-1, x] + e[y+1, x] + e[y, x-1] + e[y, x+1], 1023)
    context = A[a] · nB + B[b]                        A, B: tables of buckets; nB = max(B) + 1

``lookup[level, c, context]`` names the table that codes the symbol. Tables have entries for -R to
R and a last one, the escape: the symbol follows it at once, 16 bits, uniformly distributed. Nothing
is computed in floats, so that all machines agree. The payload is the stack of ``_ans.h``, uint32
words in little-endian order.
"""

from __future__ import annotations

import numpy as np

from . import _ans
from .entropy import CODER_TOTAL, ESCAPE_MAX, ESCAPE_MIN, check_last_word
from .errors import PacketError

#: How many values a and b have.
A_VALUES = 256
B_VALUES = 1024
#: Rows and columns of a latent.
LARGEST_SIDE = 1 << 16


class ContextTables:
    """The prior of a trained model as integers: shared tables, and which of them codes what.

    Args:
        lookup: uint8 ``[Q, C, nA · nB]``, below T: the table for each quality level, channel and
            context.
        cumulative: uint32 ``[T, 2R + 3]``, rows that increase strictly from 0 to 2^24; T is at most
            256, R at most 32766.
        a_buckets: uint8 ``[256]``, the bucket of each a; the largest is nA - 1.
        b_buckets: uint8 ``[1024]``, the bucket of each b; the largest is nB - 1.

    Attributes:
        levels: Q.
        channels: C.
        radius: R, the largest magnitude that tables have entries for.

    Raises:
        ValueError: names the field and the bound that it breaks.
    """

    def __init__(
        self,
        lookup: np.ndarray,
        cumulative: np.ndarray,
        a_buckets: np.ndarray,
        b_buckets: np.ndarray,
    ) -> None:
        self.lookup = take_array("lookup", lookup, np.uint8, 3)
        self.cumulative = take_array("cumulative", cumulative, np.uint32, 2)
        self.a_buckets = take_array("a_buckets", a_buckets, np.uint8, 1)
        self.b_buckets = take_array("b_buckets", b_buckets, np.uint8, 1)
        self.levels = self.lookup.shape[0]
        self.channels = self.lookup.shape[1]
        self._check_buckets()
        self._check_cumulative()
        self.radius = (self.cumulative.shape[1] - 3) // 2
        highest = int(self.lookup.max())
        if highest >= len(self.cumulative):
            raise ValueError(
                f"lookup: got {highest}, must be below {len(self.cumulative)}, the tables"
            )

    def _check_buckets(self) -> None:
        for name, array, values in (
            ("a_buckets", self.a_buckets, A_VALUES),
            ("b_buckets", self.b_buckets, B_VALUES),
        ):
            if array.shape != (values,):
                raise ValueError(f"{name}: got shape {array.shape}, must be [{values}]")
        contexts = (int(self.a_buckets.max()) + 1) * (int(self.b_buckets.max()) + 1)
        if self.lookup.shape[2] != contexts:
            raise ValueError(
                f"lookup: got {self.lookup.shape[2]} contexts, must be nA · nB = {contexts}"
            )

    def _check_cumulative(self) -> None:
        count = self.cumulative.shape[0]
        columns = self.cumulative.shape[1]
        if count > 256:
            raise ValueError(f"cumulative: got {count} tables, must be at most 256")
        if columns < 3 or columns % 2 == 0 or columns > 2 * ESCAPE_MAX + 1:
            raise ValueError(
                f"cumulative: got {columns} columns, must be 2R + 3 with R from 0 to"
                f" {ESCAPE_MAX - 1}"
            )
        for row, table in enumerate(self.cumulative.astype(np.int64)):
            if table[0] != 0 or table[-1] != CODER_TOTAL or np.diff(table).min() < 1:
                raise ValueError(
                    f"cumulative[{row}]: must increase strictly from 0 to {CODER_TOTAL}"
                )

    def encode(self, symbols: np.ndarray, level: int) -> bytes:
        """Code one latent.

        Args:
            symbols: int32 ``[C, h, w]``, each from -32768 to 32767.
            level: quality level, from 0 to Q - 1.

        Returns:
            The payload.

        Raises:
            ValueError: the level, the shape or a symbol is out of bounds.
        """
        latent = self._take_latent(symbols)
        tables = self._tables(level)
        height, width = latent.shape[1:]
        return _ans.encode_contexts(latent, *tables, self.radius, height, width)

    def decode(
        self, payload: bytes | memoryview, level: int, height: int, width: int
    ) -> np.ndarray:
        """Decode one latent. A payload that is accepted is the very one that :meth:`encode` makes.

        Args:
            payload: what :meth:`encode` returned.
            level: the quality level that it was given, from 0 to Q - 1.
            height: rows of the latent, from 1 to 65536. The caller bounds the area: C · h · w
                symbols of 4 bytes are allocated and decoded.
            width: columns of the latent, likewise.

        Returns:
            int32 ``[C, height, width]``.

        Raises:
            PacketError: reason ``"payload"``; these bytes are not the code of such a latent.
            ValueError: the level or the size is out of bounds.
        """
        tables = self._tables(level)
        if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
            raise ValueError(f"size: got {height} x {width}, must be from 1 to {LARGEST_SIDE}")
        words = memoryview(payload)
        if len(words) % 4:
            raise PacketError("payload", f"{len(words)} bytes, must be a multiple of 4")
        check_last_word(words)
        symbols = np.zeros((self.channels, height, width), np.int32)
        left = _ans.decode_contexts(words, *tables, self.radius, height, width, symbols)
        if left < 0:
            raise PacketError("payload", "an escaped symbol lies within the tables")
        if left:
            raise PacketError("payload", f"{left} words left over")
        return symbols

    def contexts(self, symbols: np.ndarray) -> np.ndarray:
        """Number each symbol's context, for counting tables after a training.

        Args:
            symbols: int32 ``[C, h, w]``, each from -32768 to 32767.

        Returns:
            uint16 ``[C, h, w]``, from 0 to nA · nB - 1.

        Raises:
            ValueError: the shape or a symbol is out of bounds.
        """
        latent = self._take_latent(symbols)
        numbers = np.zeros(latent.shape, np.uint16)
        height, width = latent.shape[1:]
        _ans.number_contexts(latent, self.a_buckets, self.b_buckets, height, width, numbers)
        return numbers

    def _tables(self, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not 0 <= level < self.levels:
            raise ValueError(f"level: got {level}, must be from 0 to {self.levels - 1}")
        return (self.lookup[level], self.cumulative, self.a_buckets, self.b_buckets)

    def _take_latent(self, symbols: np.ndarray) -> np.ndarray:
        shape = symbols.shape
        if (
            len(shape) != 3
            or shape[0] != self.channels
            or 0 in shape
            or max(shape[1:]) > LARGEST_SIDE
        ):
            raise ValueError(
                f"symbols: got shape {shape}, must be [{self.channels}, h, w], each from 1 to"
                f" {LARGEST_SIDE}"
            )
        lowest = int(symbols.min())
        highest = int(symbols.max())
        if lowest < ESCAPE_MIN or highest > ESCAPE_MAX:
            raise ValueError(
                f"symbols: got {lowest} to {highest}, must be from {ESCAPE_MIN} to {ESCAPE_MAX}"
            )
        return np.ascontiguousarray(symbols, np.int32)


def take_array(name: str, array: np.ndarray, dtype: type, dimensions: int) -> np.ndarray:
    """Copy an array of tables, read-only, so that nobody changes it after the check.

    Raises:
        ValueError: the kind of number or of shape is another one, or the array is empty.
    """
    if array.dtype != dtype:
        raise ValueError(f"{name}: got {array.dtype}, must be {np.dtype(dtype)}")
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(
            f"{name}: got shape {array.shape}, must have {dimensions} dimensions, none 0"
        )
    taken: np.ndarray = np.array(array, dtype, order="C")
    taken.flags.writeable = False
    return taken
