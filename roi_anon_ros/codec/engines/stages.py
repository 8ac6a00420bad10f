"""The stages that networks do of a codec's work, and their graphs for other libraries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from roi_anon_ros.codec.engines.trial import trial_image
from roi_anon_ros.codec.image import MAX_SIDE
from roi_anon_ros.processors import count_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from roi_anon_ros.codec.engines.base import Engine
    from roi_anon_ros.codec.modelfile import Model
    from roi_anon_ros.codec.networks import AnonymizingCodec, GainedCodec

#: Sides of an image that the head map looks at are multiples of this, and at least twice this.
HEADS_MULTIPLE = 128
#: oneDNN orders its sums by the number of threads it has. With a fixed number, whatever the caller
#: set, the bytes of an image are independent of that setting.
ANALYSIS_THREADS = 2
#: Above this many pixels an image goes through the networks in horizontal strips, to bound the
#: memory.
STRIP_PIXELS = 4 * 1024 * 1024
#: Under which name an exported network carries its model's fingerprint.
MARK = "fingerprint"


class Stage(ABC):
    """One of the stages of a codec's work.

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
    def module(self, codec: AnonymizingCodec | GainedCodec) -> nn.Module:
        """Its graph, from a batch of one to a batch of one."""

    @abstractmethod
    def example(self, model: Model, width: int, height: int) -> np.ndarray:
        """What goes in for an image of this size in pixels, always the same."""

    def multiple(self, model: Model) -> int:
        """What the sides of an image that goes in are multiples of, pixels."""
        return model.downsampling_factor

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

    def program(self, model: Model) -> torch.export.ExportedProgram:
        """Its graph for images of any size."""
        import torch

        factor = self.multiple(model)
        rows = torch.export.Dim("rows", min=2, max=MAX_SIDE // factor)
        columns = torch.export.Dim("columns", min=2, max=MAX_SIDE // factor)
        example = torch.from_numpy(self.example(model, 6 * factor, 4 * factor))[None]
        shape = self.dynamic_shape(factor, rows, columns)
        return torch.export.export(
            self.module(model.codec).eval(), (example,), dynamic_shapes=(shape,)
        )


class _Analysis(Stage):
    name = "analysis"
    takes = "picture"
    gives = "symbols"
    threads = ANALYSIS_THREADS  # fixed, so that the bytes do not depend on settings

    def module(self, codec: AnonymizingCodec | GainedCodec) -> nn.Module:
        return codec.analysis_graph()

    def example(self, model: Model, width: int, height: int) -> np.ndarray:
        return trial_image(width, height)

    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        return {1: factor * rows, 2: factor * columns}

    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        return engine.analyse


class _Synthesis(Stage):
    name = "synthesis"
    takes = "symbols"
    gives = "picture"

    @property
    def threads(self) -> int:
        return count_threads()

    def module(self, codec: AnonymizingCodec | GainedCodec) -> nn.Module:
        return codec.synthesis_graph()

    def example(self, model: Model, width: int, height: int) -> np.ndarray:
        factor = model.downsampling_factor
        shape = model.latents.channels, -(-height // factor), -(-width // factor)
        return np.zeros(shape, np.float32 if model.latents.has_quality else np.int32)

    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        return {2: rows, 3: columns}

    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        return engine.synthesise


class _Heads(Stage):
    name = "heads"
    takes = "picture"
    gives = "map"
    threads = ANALYSIS_THREADS  # fixed, so that the regions do not depend on settings

    def module(self, codec: AnonymizingCodec | GainedCodec) -> nn.Module:
        return codec.heads_graph()

    def multiple(self, model: Model) -> int:
        return HEADS_MULTIPLE

    def example(self, model: Model, width: int, height: int) -> np.ndarray:
        return trial_image(width, height)

    def dynamic_shape(
        self, factor: int, rows: torch.export.Dim, columns: torch.export.Dim
    ) -> dict[int, object]:
        return {1: factor * rows, 2: factor * columns}

    def run(self, engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
        return engine.map_heads


ANALYSIS = _Analysis()
SYNTHESIS = _Synthesis()
HEADS = _Heads()
#: Every stage; a network without a head map has no ``HEADS``, see :func:`stages_of`.
STAGES: tuple[Stage, ...] = (ANALYSIS, SYNTHESIS, HEADS)


def stages_of(model: Model) -> tuple[Stage, ...]:
    """The stages that a model has."""
    return STAGES if model.has_head_map else (ANALYSIS, SYNTHESIS)


def to_batch(image: np.ndarray, factor: int, least: int = 0) -> np.ndarray:
    """What a stage takes: a batch of one image, its edge repeated until the sides are multiples
    of ``factor`` and at least ``least``.
    """
    height, width = image.shape[:2]
    bottom = max(height + -height % factor, least) - height
    right = max(width + -width % factor, least) - width
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(image)[None]
