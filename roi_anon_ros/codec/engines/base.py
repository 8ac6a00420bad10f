"""What every engine does."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from roi_anon_ros.codec.engines.halves import Half


class Engine(Protocol):
    """What runs a model; may be called from several threads.

    Attributes:
        name: of the engine.
        package: that it runs with.
        halves: those that it runs in a way of its own.
    """

    name: str
    package: str
    halves: tuple[Half, ...]

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """Symbols of a picture.

        Args:
            picture: uint8 ``[H, W, 3]`` RGB, sides of 16 to 8192 pixels; it is padded by repeating
                its edge.

        Returns:
            int32 ``[N, h, w]``.

        Raises:
            ValueError: a latent is not finite.
            EngineError: the engine is not what the reference is.
        """

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """Picture of symbols.

        Args:
            symbols: int32 ``[N, h, w]``.

        Returns:
            uint8 ``[h · factor, w · factor, 3]`` RGB, with the padding.

        Raises:
            EngineError: the engine is not what the reference is.
        """

    def runs(self, half: Half) -> str:
        """What a half runs on, and why where that was a choice."""
