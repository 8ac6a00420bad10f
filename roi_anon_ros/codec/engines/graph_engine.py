"""What the engines share that run a graph of each half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.codec.engines.halves import ANALYSIS, HALVES, SYNTHESIS, Half
from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.torch_engine import TorchEngine
from roi_anon_ros.codec.engines.trial import TOLERANCE, TRIAL, differences, trial_picture
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.codec.networks import STRIP_PIXELS


class GraphEngine:
    """What the engines that run the graph of a half share. Each half is built when it is first
    used, and tried then.

    Attributes:
        off: how far each half that is built is from the reference, as in :data:`TOLERANCE`.
    """

    name: str
    package: str
    halves = HALVES

    def __init__(self, model: Model) -> None:
        require(self.package)
        self._model, self._reference = model, TorchEngine(model)
        self._runs: dict[Half, Callable[[np.ndarray], np.ndarray]] = {}
        self.off: dict[Half, float] = {}
        self._on: dict[Half, str] = {}  # what each half runs on, or in, for whoever asks
        self._building = threading.Lock()

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        height, width = picture.shape[:2]
        if height * width > STRIP_PIXELS:  # the reference bounds its memory
            return self._reference.analyse(picture)
        return self._built(ANALYSIS)(to_batch(picture, self._model.codec.downsampling_factor))[0]

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        if (
            symbols.shape[1] * symbols.shape[2] * self._model.codec.downsampling_factor**2
            > STRIP_PIXELS
        ):
            return self._reference.synthesise(symbols)
        return self._built(SYNTHESIS)(symbols[None])[0]

    def runs(self, half: Half) -> str:
        """See :meth:`Engine.runs`."""
        return f"{self.name} ({self._on[half]})" if half in self._on else self.name

    def _built(self, half: Half) -> Callable[[np.ndarray], np.ndarray]:
        with self._building:
            if half not in self._runs:
                try:
                    run = self._build(half)
                    self.off[half] = self._compare(half, run)
                except ValueError:
                    raise
                except Exception as error:  # whatever a foreign library raises: it cannot be used
                    raise EngineError(f"engine {self.name}: {half}: {error}") from error
                self._runs[half] = run
            return self._runs[half]

    def _build(self, half: Half) -> Callable[[np.ndarray], np.ndarray]:
        """What runs one half: a batch of one as its :meth:`Half.module` takes it."""
        raise NotImplementedError

    def _check_mark(self, mark: str | None, path: Path, command: str) -> None:
        """Refuse an exported network that carries another model's fingerprint, or none."""
        if mark != self._model.fingerprint.hex():
            raise EngineError(
                f"engine {self.name}: {path}: of model {mark}, must be of "
                f"{self._model.fingerprint.hex()}; "
                f"{command} writes it anew"
            )

    def _compare(self, half: Half, run: Callable[[np.ndarray], np.ndarray]) -> float:
        """How far a half is from the reference; refuse it where that is too far."""
        picture = trial_picture(*TRIAL)
        symbols = self._reference.analyse(picture)
        most, step, shades = TOLERANCE[self.name]
        if half is ANALYSIS:
            off, far = differences(run(picture[None])[0], symbols, step)
            if off > most or far:
                raise EngineError(
                    f"engine {self.name}: {off:.2%} of the symbols differ from the reference's, "
                    f"{far} of them by more "
                    f"than {step}; must be at most {most:.2%}, and none"
                )
        else:
            shown = run(symbols[None])[0]
            off = float(np.abs(shown.astype(int) - self._reference.synthesise(symbols)).mean())
            if off > shades:
                raise EngineError(
                    f"engine {self.name}: decoded bytes differ from the reference's by {off:.2f} "
                    "on average, must be "
                    f"at most {shades}"
                )
        return off


def to_batch(picture: np.ndarray, factor: int) -> np.ndarray:
    """What an analysis takes: a batch of one picture, its edge repeated until the sides are
    multiples of ``factor``.
    """
    bottom, right = (-side % factor for side in picture.shape[:2])
    if bottom or right:
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(picture)[None]
