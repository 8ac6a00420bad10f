"""The two halves of a codec's work, and their graphs for other libraries than torch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from roi_anon_ros.codec.engines.trial import trial_picture
from roi_anon_ros.codec.networks import ANALYSIS_THREADS, AnonymizingCodec
from roi_anon_ros.codec.picture import MAX_SIZE

if TYPE_CHECKING:
    from roi_anon_ros.codec.engines.base import Engine

#: Under which name an exported network carries its model's fingerprint.
MARK = "fingerprint"


class AnalysisGraph(nn.Module):
    """Picture to symbols: uint8 ``[1, H, W, 3]`` RGB, sides multiples of the factor, to int32 ``[1,
    N, h, w]``.
    """

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_a = copy.deepcopy(codec.g_a)
        with torch.no_grad():
            self.g_a[0].weight.div_(
                255
            )  # bytes go in: bfloat16 holds each of them, and no layer has to divide
        self.register_buffer("medians", codec.medians.detach().clone())

    def forward(self, picture: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.symbols`."""
        symbols = torch.round(self.g_a(picture.permute(0, 3, 1, 2).float()) - self.medians)
        # What is not finite becomes a symbol that the entropy coder refuses, whatever the device
        # makes of it.
        return torch.nan_to_num(symbols, nan=2.0**30).clamp(-(2.0**30), 2.0**30).int()


class SynthesisGraph(nn.Module):
    """Symbols to picture: int32 ``[1, N, h, w]`` to uint8 ``[1, H, W, 3]`` RGB."""

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_s = codec.g_s
        self.register_buffer("medians", codec.medians.detach().clone())

    def forward(self, symbols: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.reconstruct`."""
        x_hat = self.g_s(symbols.float() + self.medians)
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class Half(ABC):
    """One of the two halves of a codec's work.

    Attributes:
        name: in messages and in the names of files.
        takes: what goes in, by name.
        gives: what comes out.
    """

    name: str
    takes: str
    gives: str

    def __str__(self) -> str:
        return self.name

    @property
    @abstractmethod
    def threads(self) -> int:
        """How many threads of the processor it runs on."""

    @abstractmethod
    def module(self, codec: AnonymizingCodec) -> nn.Module:
        """Its graph, from a batch of one to a batch of one."""

    @abstractmethod
    def example(self, codec: AnonymizingCodec, width: int, height: int) -> np.ndarray:
        """What goes in for an image of this size in pixels, always the same."""

    @abstractmethod
    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        """The axes of its input that differ between images.

        Args:
            factor: pixels in a row for each value of the latent.
            rows: of the latent.
            columns: of the latent.
        """

    @abstractmethod
    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        """How an engine does it."""

    def program(self, codec: AnonymizingCodec) -> torch.export.ExportedProgram:
        """Its graph for images of any size."""
        factor = codec.downsampling_factor
        rows, columns = (
            torch.export.Dim(name, min=2, max=MAX_SIZE // factor) for name in ("rows", "columns")
        )
        example = torch.from_numpy(self.example(codec, 6 * factor, 4 * factor))[None]
        shape = self.dynamic_shape(factor, rows, columns)
        return torch.export.export(self.module(codec).eval(), (example,), dynamic_shapes=(shape,))


class _Analysis(Half):
    name, takes, gives = "analysis", "picture", "symbols"
    threads = ANALYSIS_THREADS  # fixed, so that the bytes do not depend on settings

    def module(self, codec: AnonymizingCodec) -> nn.Module:
        return AnalysisGraph(codec)

    def example(self, codec: AnonymizingCodec, width: int, height: int) -> np.ndarray:
        return trial_picture(width, height)

    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        return {1: factor * rows, 2: factor * columns}

    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        return engine.analyse


class _Synthesis(Half):
    name, takes, gives = "synthesis", "symbols", "picture"

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    def module(self, codec: AnonymizingCodec) -> nn.Module:
        return SynthesisGraph(codec)

    def example(self, codec: AnonymizingCodec, width: int, height: int) -> np.ndarray:
        factor = codec.downsampling_factor
        shape = codec.entropy_bottleneck.channels, -(-height // factor), -(-width // factor)
        return np.zeros(shape, np.int32)

    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        return {2: rows, 3: columns}

    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        return engine.synthesise


ANALYSIS, SYNTHESIS = _Analysis(), _Synthesis()
HALVES: tuple[Half, ...] = (ANALYSIS, SYNTHESIS)
