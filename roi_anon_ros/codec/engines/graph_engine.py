"""What the engines share that run a graph of each stage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from roi_anon_ros.codec.engines.base import Engine
from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.stages import (
    ANALYSIS,
    HEADS,
    HEADS_MULTIPLE,
    STAGES,
    STRIP_PIXELS,
    SYNTHESIS,
    Stage,
    to_batch,
)
from roi_anon_ros.codec.engines.trial import (
    HEADS_TOLERANCE,
    TOLERANCE,
    TRIAL,
    Tolerance,
    differences,
    trial_image,
)
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.codec.packet import MAX_QUALITY


class GraphEngine:
    """What the engines that run the graph of a stage share. Each stage is built when it is first
    used, and tried then.

    Attributes:
        off: how far each stage that is built is from the reference, as in :data:`TOLERANCE`.
    """

    name: str
    package: str
    stages = STAGES

    def __init__(self, model: Model) -> None:
        require(self.package)
        self._model = model
        self._runs: dict[Stage, Callable[[np.ndarray], np.ndarray]] = {}
        self.off: dict[Stage, float] = {}
        self._on: dict[Stage, str] = {}  # what each stage runs on, or in
        self._building = threading.Lock()

    @cached_property
    def _reference(self) -> Engine:
        """Torch, for what the model's file does not say, and for very large images.

        Raises:
            EngineError: it is not installed.
        """
        require("torch", "train")
        from roi_anon_ros.codec.engines.torch_engine import TorchEngine

        return TorchEngine(self._model)

    def analyse(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        height, width = image.shape[:2]
        if height * width > STRIP_PIXELS:  # the reference bounds its memory
            return self._reference.analyse(image)
        return self._built(ANALYSIS)(to_batch(image, self._model.downsampling_factor))[0]

    def map_heads(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.map_heads`."""
        return self._built(HEADS)(to_batch(image, HEADS_MULTIPLE, 2 * HEADS_MULTIPLE))[0]

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        if symbols.shape[1] * symbols.shape[2] * self._model.downsampling_factor**2 > STRIP_PIXELS:
            return self._reference.synthesise(symbols)
        return self._built(SYNTHESIS)(symbols[None])[0]

    def runs(self, stage: Stage) -> str:
        """See :meth:`Engine.runs`."""
        return f"{self.name} ({self._on[stage]})" if stage in self._on else self.name

    def _built(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        with self._building:
            if stage not in self._runs:
                try:
                    run = self._build(stage)
                    self.off[stage] = self._compare(stage, run)
                except ValueError:
                    raise
                except Exception as error:  # whatever a foreign library raises: it cannot be used
                    raise EngineError(f"engine {self.name}: {stage}: {error}") from error
                self._runs[stage] = run
            return self._runs[stage]

    def _build(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        """What runs one stage: a batch of one as its :meth:`Stage.module` takes it."""
        raise NotImplementedError

    def _tolerance(self, stage: Stage) -> Tolerance:
        """How far a stage, which is built, may be from the reference."""
        return TOLERANCE[self.name]

    def _check_mark(self, mark: str | None, path: Path, command: str) -> None:
        """Refuse an exported network that carries another model's fingerprint, or none."""
        if mark != self._model.fingerprint.hex():
            raise EngineError(
                f"engine {self.name}: {path}: of model {mark}, must be of "
                f"{self._model.fingerprint.hex()}; "
                f"{command} writes it anew"
            )

    def _compare(self, stage: Stage, run: Callable[[np.ndarray], np.ndarray]) -> float:
        """How far a stage is from the reference; refuse it where that is too far."""
        image = trial_image(*TRIAL)
        symbols, heads, decoded = self._expect(stage, image)
        latents = self._model.latents
        tolerance = self._tolerance(stage)
        if stage is HEADS:
            found = run(to_batch(image, HEADS_MULTIPLE, 2 * HEADS_MULTIPLE))[0]
            off = float(np.abs(found - heads).max())
            if off > HEADS_TOLERANCE:
                raise EngineError(
                    f"engine {self.name}: the head map differs from the reference's by {off:.2f}, "
                    f"must be at most {HEADS_TOLERANCE}"
                )
        elif stage is ANALYSIS:
            found = latents.quantise(run(image[None])[0], MAX_QUALITY)
            off, far = differences(found, symbols, tolerance.max_step)
            if off > tolerance.changed_share or far:
                raise EngineError(
                    f"engine {self.name}: {off:.2%} of the symbols differ from the reference's, "
                    f"{far} of them by more than {tolerance.max_step}; must be at most "
                    f"{tolerance.changed_share:.2%}, and none"
                )
        else:
            shown = run(latents.dequantise(symbols, MAX_QUALITY)[None])[0]
            off = float(np.abs(shown.astype(int) - decoded).mean())
            if off > tolerance.mean_byte_error:
                raise EngineError(
                    f"engine {self.name}: decoded bytes differ from the reference's by {off:.2f} "
                    "on average, must be at most "
                    f"{tolerance.mean_byte_error}"
                )
        return off

    def _expect(
        self, stage: Stage, image: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """What the reference finds on the trial image: symbols, head map and image, where the stage
        needs them; from the model's file, or by torch.
        """
        trial = self._model.trial
        if trial is not None:
            symbols = trial["trial_symbols"].astype(np.int32)
            return symbols, trial["trial_map"], trial["trial_image"]
        latents = self._model.latents
        symbols = latents.quantise(self._reference.analyse(image), MAX_QUALITY)
        decoded = None
        if stage is SYNTHESIS:
            decoded = self._reference.synthesise(latents.dequantise(symbols, MAX_QUALITY))
        heads = self._reference.map_heads(image) if stage is HEADS else None
        return symbols, heads, decoded
