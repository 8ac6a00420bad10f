"""Which engine: by its name, or the fastest, measured once for each model and size."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.codec.engines.base import Engine
from roi_anon_ros.codec.engines.machine import processor, version_of
from roi_anon_ros.codec.engines.onnxruntime_engine import OnnxRuntimeEngine
from roi_anon_ros.codec.engines.openvino_engine import OpenVinoEngine, OpenVinoInt8Engine
from roi_anon_ros.codec.engines.stages import ANALYSIS, HEADS, STAGES, SYNTHESIS, Stage
from roi_anon_ros.codec.engines.timing import Timing, choose, is_settled
from roi_anon_ros.codec.engines.torch_engine import TorchEngine
from roi_anon_ros.codec.engines.trial import TRIAL
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.storage import write_bytes

log = logging.getLogger(__name__)

AUTO = "auto"

#: Runs of each engine that ``auto`` compares, after one that does not count.
ROUNDS = 5
#: How many runs there are at most, where they differ much.
MOST_ROUNDS = 15

#: Where ``auto`` remembers, in the cache folder.
MEMORY = "engines.json"


class AutoEngine:
    """The fastest of the engines that are installed, for each stage, found at the first image.

    It is remembered, unless the machine was so busy meanwhile that the figures say little. The
    reference is taken where no other engine works.
    """

    name = AUTO
    package = "torch"
    stages = STAGES

    def __init__(self, model: Model) -> None:
        self._model = model
        self._engines: dict[Stage, Engine] = {}
        self._choosing = threading.Lock()
        self._why: dict[Stage, str] = {}

    def analyse(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        return self._engine(ANALYSIS, image.shape[1], image.shape[0]).analyse(image)

    def map_heads(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.map_heads`."""
        return self._engine(HEADS, image.shape[1], image.shape[0]).map_heads(image)

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        factor = self._model.downsampling_factor
        height, width = (factor * side for side in symbols.shape[1:])
        return self._engine(SYNTHESIS, width, height).synthesise(symbols)

    def runs(self, stage: Stage) -> str:
        """See :meth:`Engine.runs`."""
        return self._why.get(stage, "not chosen before its first image")

    def _engine(self, stage: Stage, width: int, height: int) -> Engine:
        with self._choosing:
            if stage not in self._engines:
                self._engines[stage], self._why[stage] = self._choose(stage, width, height)
            return self._engines[stage]

    def _choose(self, stage: Stage, width: int, height: int) -> tuple[Engine, str]:
        """The engine of one stage, and why."""
        size = f"{width}x{height}"
        engines = self._engines_for(stage)
        versions = ", ".join(f"{engine.name} {version_of(engine.package)}" for engine in engines)
        mark = self._model.fingerprint.hex()
        key = f"{mark} {stage} {size} {stage.threads} threads, {processor()}, {versions}"
        remembered = _remembered().get(key, {})
        for engine in engines:
            if engine.name == remembered.get("engine") and remembered.get("settled"):
                try:
                    self._run(engine, stage, TRIAL[0], TRIAL[1])
                    return engine, f"{remembered['why']}, as measured before"
                except (
                    Exception
                ) as error:  # what worked may have been uninstalled in part: measure anew
                    log.warning("engine %s: %s", engine.name, error)
        timings, faults = self._measure(engines, stage, width, height)
        if not timings:
            return self._fall_back(stage, width, height, faults)
        name = choose(timings)
        (best,) = (engine for engine in engines if engine.name == name)
        times = ", ".join(
            f"{name} {1e3 * timing.fastest:.1f} ms"
            for name, timing in sorted(timings.items(), key=lambda item: item[1].fastest)
        )
        why = f"{best.runs(stage)}, for {size}: {times}"
        settled = is_settled(timings)
        if not settled:
            why += ", on a busy machine: measured again at the next start"
        if not faults:
            _remember(key, {"engine": best.name, "why": why, "settled": settled})
        return best, why

    def _engines_for(self, stage: Stage) -> list[Engine]:
        """Those that may be the fastest: all that are here but the reference, which computes on the
        processor as well, and whose import alone costs seconds and 600 MB.
        """
        engines: list[Engine] = []
        for name, make in ENGINES.items():
            if name == TorchEngine.name:
                continue
            try:
                engine = make(self._model)
            except EngineError as error:
                log.debug("%s", error)
            else:
                engines += [engine] if stage in engine.stages else []
        return engines

    def _measure(
        self, engines: list[Engine], stage: Stage, width: int, height: int
    ) -> tuple[dict[str, Timing], list[str]]:
        """Timings of those that work, by name, and what is wrong with the others.

        They take turns: whatever else the machine does hits them alike. There are more rounds where
        the first ones differ.
        """
        timings: dict[str, Timing] = {}
        faults: list[str] = []
        working = list(engines)
        for turn in range(1 + MOST_ROUNDS):
            for engine in list(working):
                try:
                    wall, busy = self._run(engine, stage, width, height)
                except Exception as error:  # whatever is wrong with it, the others may do
                    log.warning("engine %s is left out: %s", engine.name, error)
                    faults.append(f"{engine.name}: {error}")
                    timings.pop(engine.name, None)
                    working.remove(engine)
                    continue
                if turn:  # the first run does not count
                    timing = timings.setdefault(engine.name, Timing())
                    timing.wall.append(wall)
                    timing.processor.append(busy)
            alone = len(working) <= 1 and turn > 0  # nothing to compare
            if alone or (turn >= ROUNDS and is_settled(timings)):
                break
        return timings, faults

    def _fall_back(
        self, stage: Stage, width: int, height: int, faults: list[str]
    ) -> tuple[Engine, str]:
        """The reference, where no other engine works.

        Raises:
            EngineError: it is not there either.
        """
        none = f"engine {AUTO}: none does the {stage}: "
        if TorchEngine.name not in ENGINES:
            raise EngineError(none + "; ".join(faults))
        try:
            engine = ENGINES[TorchEngine.name](self._model)
        except EngineError as error:
            raise EngineError(none + "; ".join([*faults, str(error)])) from error
        self._run(engine, stage, width, height)
        return engine, f"{engine.runs(stage)}, for no other engine is here or works"

    def _run(self, engine: Engine, stage: Stage, width: int, height: int) -> tuple[float, float]:
        """Seconds that one stage takes for an image of this size, and of all processors."""
        data = stage.example(self._model, width, height)
        work = stage.run(engine)
        begin = time.perf_counter()
        busy = time.process_time()
        work(data)
        return time.perf_counter() - begin, time.process_time() - busy


#: The engines by name, but ``auto``.
ENGINES: dict[str, Callable[[Model], Engine]] = {
    engine.name: engine
    for engine in (TorchEngine, OpenVinoEngine, OpenVinoInt8Engine, OnnxRuntimeEngine)
}


def make_engine(name: str, model: Model) -> Engine:
    """An engine by its name.

    Args:
        name: ``torch``, ``openvino``, ``openvino-int8``, ``onnxruntime`` or ``auto``.
        model: that it runs.

    Raises:
        ValueError: no such engine.
        EngineError: what it needs is not here; from its first image also: it is not what the
            reference is.
    """
    if name == AUTO:
        return AutoEngine(model)
    if name not in ENGINES:
        raise ValueError(f"engine: {name!r}, must be one of {', '.join([*ENGINES, AUTO])}")
    return ENGINES[name](model)


def _remembered() -> dict[str, Any]:
    """What was measured on this machine, by key; nothing where the file is unreadable."""
    try:
        found = json.loads((cache_dir() / MEMORY).read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _remember(key: str, choice: dict[str, Any]) -> None:
    path = cache_dir() / MEMORY
    try:
        write_bytes(path, json.dumps(_remembered() | {key: choice}, indent=1).encode())
    except (
        OSError
    ) as error:  # a read-only home costs the measurement at each start, and nothing else
        log.warning("%s: %s", path, error)
