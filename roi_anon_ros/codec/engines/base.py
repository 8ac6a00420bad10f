"""What every engine does."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from roi_anon_ros.codec.engines.stages import Stage


class Engine(Protocol):
    """What runs a model; may be called from several threads.

    Attributes:
        name: of the engine.
        package: that it runs with.
        stages: those that it runs in its own way.
    """

    name: str
    package: str
    stages: tuple[Stage, ...]

    def analyse(self, image: np.ndarray) -> np.ndarray:
        """Symbols of an image.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, sides of 16 to 8192 pixels; it is padded by repeating
                its edge.

        Returns:
            int32 ``[N, h, w]``.

        Raises:
            ValueError: a latent is not finite.
            EngineError: the engine is not what the reference is.
        """

    def map_heads(self, image: np.ndarray) -> np.ndarray:
        """The head map's answer for an image, see ``codec.headmap``.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, sides of 8 to 8192 pixels; it is padded by repeating
                its edge.

        Returns:
            float32 ``[4, rows, columns]``, with the padding.

        Raises:
            EngineError: the engine is not what the reference is.
        """

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """Image of symbols.

        Args:
            symbols: int32 ``[N, h, w]``.

        Returns:
            uint8 ``[h · factor, w · factor, 3]`` RGB, with the padding.

        Raises:
            EngineError: the engine is not what the reference is.
        """

    def runs(self, stage: Stage) -> str:
        """What a stage runs on, and why where that was a choice."""
