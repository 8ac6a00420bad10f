"""The engine ``auto``: what it takes on a quiet and on a busy machine, and what it remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from roi_anon_ros.codec import EngineError, find_model, load_model
from roi_anon_ros.codec.engines import ANALYSIS, STAGES, AutoEngine, Stage, choice
from roi_anon_ros.codec.engines.choice import MOST_ROUNDS, ROUNDS
from roi_anon_ros.codec.engines.timing import CLEARLY, SPREAD, Timing, choose, is_settled
from roi_anon_ros.codec.modelfile import Model

IMAGE = np.zeros((75, 100, 3), np.uint8)
#: Ways in which runs take longer than the fastest of them: all alike, and waiting for a processor.
QUIET = (1.0, 1.02)
BUSY = (1.0, 3.0, 4.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_model("roi"))


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``auto`` keeps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "roi_anon_ros" / "engines.json"


class Machine:
    """Engines whose runs take the seconds that a test says, and how often each was run.

    Attributes:
        wall: of the fastest run of each engine, by the clock.
        processor: of each run, of all processors.
        slower: how much longer its runs take, in turns.
        runs: names of the engines, in the order of their runs.
        broken: engines whose runs fail.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **wall: float) -> None:
        self.wall = wall
        self.processor = dict(wall)
        self.slower: tuple[float, ...] = QUIET
        self.runs: list[str] = []
        self.broken: set[str] = set()
        machine = self

        def make(engine: str) -> type:
            class Fake:
                name = engine
                package = "numpy"
                stages = STAGES

                def __init__(self, model: Model) -> None:
                    machine.runs += [f"make {engine}"] if engine == "torch" else []

                def analyse(self, image: np.ndarray) -> np.ndarray:
                    return np.array([engine])

                def runs(self, stage: Stage) -> str:
                    return engine

            return Fake

        def run(
            self: AutoEngine, engine: object, stage: Stage, width: int, height: int
        ) -> tuple[float, float]:
            name = engine.name
            machine.runs.append(name)
            if name in machine.broken:
                raise RuntimeError("it does not work")
            turn = machine.runs.count(name)
            longer = machine.slower[turn % len(machine.slower)]
            return machine.wall[name] * longer, machine.processor[name]

        monkeypatch.setattr(choice, "ENGINES", {name: make(name) for name in wall})
        monkeypatch.setattr(AutoEngine, "_run", run)

    def take(self, model: Model) -> tuple[str, str]:
        """Which engine ``auto`` takes, and why."""
        engine = AutoEngine(model)
        (name,) = engine.analyse(IMAGE)
        engine.analyse(IMAGE[:64])
        assert not engine.runs(STAGES[1]).startswith(name), "what is not used is not measured"
        return str(name), engine.runs(ANALYSIS)


def test_what_is_clearly_faster_is_taken_and_remembered(
    model: Model, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, onnxruntime=0.5, openvino=0.25)
    name, why = machine.take(model)
    assert name == "openvino"
    assert why == "openvino, for 100x75: openvino 250.0 ms, onnxruntime 500.0 ms"
    measured = len(machine.runs)
    assert measured == 2 * (1 + ROUNDS), "an image of another size is not measured anew"
    assert machine.take(model) == (name, f"{why}, as measured before")
    assert len(machine.runs) == measured + 1
    (key,) = json.loads(memory.read_text())
    assert model.fingerprint.hex() in key and "analysis 100x75" in key
    memory.write_text("{")
    machine.take(model)
    assert len(machine.runs) == 2 * measured + 1, "what cannot be read is measured anew"


def test_what_is_hardly_faster_is_not_taken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, openvino=0.25 * (CLEARLY + 0.05), onnxruntime=0.25)
    assert machine.take(model)[0] == "onnxruntime"


def test_what_only_waited_less_is_not_taken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, onnxruntime=0.9, openvino=0.3)
    machine.processor = {"onnxruntime": 0.2, "openvino": 0.3}
    assert machine.take(model)[0] == "onnxruntime"


def test_a_gpu_needs_little_of_the_processor(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, onnxruntime=0.9, openvino=0.1)
    machine.processor = {"onnxruntime": 1.8, "openvino": 0.02}
    assert machine.take(model)[0] == "openvino"


def test_on_a_busy_machine_there_are_more_rounds_and_nothing_is_kept(
    model: Model, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, onnxruntime=0.5, openvino=0.25)
    machine.slower = BUSY
    assert "measured again at the next start" in machine.take(model)[1]
    assert len(machine.runs) == 2 * (1 + MOST_ROUNDS)
    (kept,) = json.loads(memory.read_text()).values()
    assert kept["settled"] is False
    machine.slower = QUIET
    machine.wall["openvino"] = 5.0
    machine.processor["openvino"] = 5.0
    assert machine.take(model)[0] == "onnxruntime"
    assert machine.take(model)[1].endswith("as measured before")


def test_rounds_end_when_the_machine_has_become_quiet(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, onnxruntime=0.5, openvino=0.25)
    machine.slower = (*(4.0 for _ in range(ROUNDS)), *(1.0 for _ in range(20)))
    name, why = machine.take(model)
    assert name == "openvino" and "busy" not in why
    assert 2 * (1 + ROUNDS) < len(machine.runs) < 2 * (1 + MOST_ROUNDS)


def test_the_reference_is_not_even_made_where_another_engine_works(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, torch=0.001, openvino=0.5, onnxruntime=0.6)
    assert machine.take(model)[0] == "openvino"
    assert "torch" not in machine.runs and "make torch" not in machine.runs


def test_what_fails_is_left_out_and_the_choice_is_not_kept(
    model: Model, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, torch=0.001, openvino=0.25, onnxruntime=0.5)
    machine.broken = {"openvino"}
    assert machine.take(model)[0] == "onnxruntime" and not memory.exists()
    machine.broken = {"openvino", "onnxruntime"}
    assert machine.take(model) == ("torch", "torch, for no other engine is here or works")
    machine = Machine(monkeypatch, openvino=0.25)
    machine.broken = {"openvino"}
    with pytest.raises(EngineError, match="none does the analysis: openvino: it does not work"):
        machine.take(model)


def timing_of(runs: Iterator[float] | tuple[float, ...], processor: float = 1.0) -> Timing:
    return Timing(list(runs), [processor])


def test_one_slow_run_of_many_does_not_unsettle() -> None:
    quiet = timing_of((1.0, 1.1, 1.2, 9.0, 1.0))
    assert quiet.fastest == 1.0 and quiet.spread == pytest.approx(0.1)
    assert is_settled({"a": quiet})
    assert not is_settled({"a": quiet, "b": timing_of((1.0, 1.01 + SPREAD, 1.01 + SPREAD))})


def test_the_order_decides_between_equals_and_strangers_come_last() -> None:
    equal = {name: timing_of((1.0,)) for name in ("abacus", "torch", "openvino-int8", "openvino")}
    assert choose(equal) == "openvino"
    equal["onnxruntime"] = timing_of((1.0,))
    assert choose(equal) == "onnxruntime"
    del equal["openvino"], equal["onnxruntime"]
    assert choose(equal) == "openvino-int8"
    assert choose({"abacus": timing_of((0.1,)), "torch": timing_of((1.0,))}) == "abacus"
