"""Between a network's latent and a packet's payload: rounding, gains, entropy coding; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from roi_anon_ros.codec.contexts import ContextTables
from roi_anon_ros.codec.entropy import EntropyTables
from roi_anon_ros.codec.packet import MAX_QUALITY, MIN_QUALITY, QUALITY_STEP

#: Stands for the quality that fits an image's size.
AUTO_QUALITY = 0.0
#: That of images whose longer side has more than :data:`SMALL_SIDE` pixels, and that of smaller
#: ones: a small image has a person on few pixels, and each of them counts.
DEFAULT_QUALITY = 4.75
SMALL_QUALITY = 6.0
SMALL_SIDE = 480
#: No latent is larger; what is, is not finite or the work of a broken engine.
LARGEST_SYMBOL = (1 << 15) - 1


class Latents(Protocol):
    """What turns a network's latent into a payload and back.

    Attributes:
        channels: N.
        has_quality: whether the rate can be chosen; where not, every ``quality`` is 0.
    """

    channels: int
    has_quality: bool

    def quantise(self, latent: np.ndarray, quality: float) -> np.ndarray:
        """Symbols int32 ``[N, h, w]`` of what the analysis gave, ``[N, h, w]``.

        Raises:
            ValueError: the latent is not finite.
        """

    def dequantise(self, symbols: np.ndarray, quality: float) -> np.ndarray:
        """What the synthesis takes, ``[N, h, w]``, of symbols int32 ``[N, h, w]``."""

    def encode(self, symbols: np.ndarray, quality: float) -> bytes:
        """The payload of symbols, int32 ``[N, h, w]``."""

    def decode(
        self, payload: bytes | memoryview, quality: float, height: int, width: int
    ) -> np.ndarray:
        """The symbols, int32 ``[N, height, width]``, of a payload.

        Raises:
            PacketError: reason ``"payload"``; these bytes are not the code of such a latent.
        """


class FactorizedLatents:
    """One rate: the analysis gives symbols, each channel has one table.

    Args:
        tables: of the model.
    """

    has_quality = False

    def __init__(self, tables: EntropyTables) -> None:
        self.tables = tables
        self.channels = tables.channels

    def quantise(self, latent: np.ndarray, quality: float) -> np.ndarray:
        """See :meth:`Latents.quantise`."""
        return np.asarray(latent, np.int32)

    def dequantise(self, symbols: np.ndarray, quality: float) -> np.ndarray:
        """See :meth:`Latents.dequantise`."""
        return symbols

    def encode(self, symbols: np.ndarray, quality: float) -> bytes:
        """See :meth:`Latents.encode`."""
        return self.tables.encode(symbols)

    def decode(
        self, payload: bytes | memoryview, quality: float, height: int, width: int
    ) -> np.ndarray:
        """See :meth:`Latents.decode`."""
        return self.tables.decode(payload, height, width)


class GainedLatents:
    """Every rate: gains before the rounding and after it, tables picked by what is decoded already.

    With levels 1 to Q, a quality q between two of them, g and g' the logarithms of the gains,
    interpolated:

        symbols = round(exp(g(q)) · latent),    latent' = exp(g'(q)) · symbols

    Args:
        gain: float32 ``[Q, N]``, g.
        inverse_gain: float32 ``[Q, N]``, g'.
        tables: for Q levels and N channels.
        dead_zone: what the magnitude of a latent loses before it is rounded, 0 to 0.5: symbols of 1
            are rarer than rounding makes them, and cost less.

    Raises:
        ValueError: shapes that do not fit, or a gain or dead zone out of bounds.
    """

    has_quality = True

    def __init__(
        self,
        gain: np.ndarray,
        inverse_gain: np.ndarray,
        tables: ContextTables,
        dead_zone: float = 0.0,
    ) -> None:
        self.tables = tables
        self.channels = tables.channels
        self._gain = np.asarray(gain, np.float32)
        self._inverse_gain = np.asarray(inverse_gain, np.float32)
        for name, array in (("gain", self._gain), ("inverse_gain", self._inverse_gain)):
            if array.shape != (tables.levels, tables.channels):
                raise ValueError(
                    f"{name}: got shape {array.shape}, must be {(tables.levels, tables.channels)}"
                )
            if not np.abs(array).max() <= 20:
                raise ValueError(f"{name}: got {np.abs(array).max()}, must be at most 20")
        if not 0 <= dead_zone < 0.5:
            raise ValueError(f"dead_zone: got {dead_zone}, must be from 0 to 0.5")
        self.dead_zone = np.float32(dead_zone)

    def quantise(self, latent: np.ndarray, quality: float) -> np.ndarray:
        """See :meth:`Latents.quantise`."""
        if not np.isfinite(latent).all():
            raise ValueError("latent: not finite")
        scaled = latent * self._factor(self._gain, quality)
        magnitude = np.abs(scaled) - self.dead_zone
        rounded = np.copysign(np.rint(np.maximum(magnitude, 0)), scaled)
        return np.clip(rounded, -LARGEST_SYMBOL, LARGEST_SYMBOL).astype(np.int32)

    def dequantise(self, symbols: np.ndarray, quality: float) -> np.ndarray:
        """See :meth:`Latents.dequantise`."""
        return symbols.astype(np.float32) * self._factor(self._inverse_gain, quality)

    def encode(self, symbols: np.ndarray, quality: float) -> bytes:
        """See :meth:`Latents.encode`."""
        return self.tables.encode(symbols, self._level(quality))

    def decode(
        self, payload: bytes | memoryview, quality: float, height: int, width: int
    ) -> np.ndarray:
        """See :meth:`Latents.decode`."""
        return self.tables.decode(payload, self._level(quality), height, width)

    def _factor(self, logarithms: np.ndarray, quality: float) -> np.ndarray:
        """Gains between two levels, float32 ``[N, 1, 1]``."""
        place = quality - 1.0
        lower = min(int(place), len(logarithms) - 2)
        share = np.float32(place - lower)
        mixed = logarithms[lower] + share * (logarithms[lower + 1] - logarithms[lower])
        # In float64 and then rounded: machines that differ in the last bit of exp agree.
        return np.exp(mixed.astype(np.float64)).astype(np.float32)[:, None, None]

    def _level(self, quality: float) -> int:
        """The nearest level, whose tables code."""
        return min(int(quality - 0.5), self.tables.levels - 1)


def check_quality(quality: float) -> float:
    """A quality rounded to what a packet can carry; :data:`AUTO_QUALITY` stays as it is.

    Raises:
        ValueError: it is out of bounds.
    """
    if quality == AUTO_QUALITY:
        return quality
    if not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise ValueError(
            f"quality: got {quality}, must be 0 or from {MIN_QUALITY} to {MAX_QUALITY}"
        )
    return round(quality / QUALITY_STEP) * QUALITY_STEP


def choose_quality(quality: float, width: int, height: int) -> float:
    """A quality for an image of this coded size, pixels; 0: the one that fits the size."""
    if quality == AUTO_QUALITY:
        return SMALL_QUALITY if max(width, height) <= SMALL_SIDE else DEFAULT_QUALITY
    return check_quality(quality)


def read_latents(tensors: Mapping[str, np.ndarray]) -> Latents:
    """What turns the latent of a model into a payload.

    Args:
        tensors: of its file.

    Raises:
        KeyError: tensors are missing.
        ValueError: they break their bounds, or were never counted.
    """
    if "lookup" not in tensors:
        return FactorizedLatents(
            EntropyTables(
                cdf=tensors["entropy_bottleneck._quantized_cdf"],
                length=tensors["entropy_bottleneck._cdf_length"].reshape(-1),
                offset=tensors["entropy_bottleneck._offset"].reshape(-1),
            )
        )
    if tensors["lookup"].size == 0:
        raise ValueError("lookup: got none, count the tables after the training")
    tables = ContextTables(
        lookup=tensors["lookup"],
        cumulative=tensors["cumulative"].astype(np.uint32),
        a_buckets=tensors["a_buckets"],
        b_buckets=tensors["b_buckets"],
    )
    dead_zone = float(tensors["dead_zone"])
    return GainedLatents(tensors["gain"], tensors["inverse_gain"], tables, dead_zone)
