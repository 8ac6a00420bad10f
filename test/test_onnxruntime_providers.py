"""ONNX Runtime's providers, as far as that goes without a GPU: which are asked for, in what order
and with what, and what is said before minutes of building.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roi_anon_ros.codec import EngineError, find_model, load_model
from roi_anon_ros.codec.engines import ANALYSIS, HEADS, machine, make_engine, trial_image
from roi_anon_ros.codec.engines.stages import MARK
from roi_anon_ros.codec.engines.trial import TRIAL
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.codec.packet import MAX_QUALITY

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_model("roi"))


class Runtime:
    """In the place of the module onnxruntime, built with some providers.

    Attributes:
        there: the providers.
        asked: of each session, the providers and their options.
        off: by how many of a hundred symbols, each by one, the analysis is off.
    """

    def __init__(self, model: Model, there: list[str]) -> None:
        self._model = model
        self.there = there
        self.asked: list[list[tuple[str, dict[str, Any]]]] = []
        self.off = 0
        self.options: list[SimpleNamespace] = []

    def SessionOptions(self) -> SimpleNamespace:
        entries: dict[str, str] = {}
        options = SimpleNamespace(entries=entries, add_session_config_entry=entries.__setitem__)
        self.options.append(options)
        return options

    def get_available_providers(self) -> list[str]:
        return self.there

    def InferenceSession(self, path: Path, options: object, providers: list) -> object:
        self.asked.append(providers)
        metadata = SimpleNamespace(custom_metadata_map={MARK: self._model.fingerprint.hex()})
        return SimpleNamespace(
            get_modelmeta=lambda: metadata,
            get_providers=lambda: [name for name, _ in providers],
            get_inputs=lambda: [SimpleNamespace(name="image")],
            run=self._run,
        )

    def _run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The analysis of the trial image, as the reference finds it, but for some symbols."""
        latents = self._model.latents
        symbols = self._model.trial["trial_symbols"].astype(np.int32)
        wrong = np.arange(symbols.size).reshape(symbols.shape) % 100 < self.off
        symbols = symbols + wrong
        magnitude = np.abs(symbols) + latents.dead_zone  # the middle of what is rounded to it
        gain = latents._factor(latents._gain, MAX_QUALITY)
        return [(np.copysign(magnitude, symbols) / gain).astype(np.float32)[None]]


def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Model, there: list[str]) -> Runtime:
    runtime = Runtime(model, there)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return runtime


@pytest.mark.parametrize(
    ("there", "order"),
    [
        ([CPU, CUDA, TENSORRT], [TENSORRT, CUDA, CPU]),
        ([CUDA, CPU], [CUDA, CPU]),
        (["AzureExecutionProvider", CPU], [CPU]),
    ],
)
def test_the_fastest_provider_comes_first(
    there: list[str],
    order: list[str],
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = use(monkeypatch, tmp_path, model, there)
    engine = make_engine("onnxruntime", model)
    engine.analyse(trial_image(*TRIAL))
    (providers,) = runtime.asked
    assert [name for name, _ in providers] == order
    assert engine.runs(ANALYSIS) == f"onnxruntime ({order[0].removesuffix('ExecutionProvider')})"
    (options,) = runtime.options
    assert options.entries == {"session.intra_op.allow_spinning": "0"}
    assert options.intra_op_num_threads == ANALYSIS.threads and not options.enable_mem_pattern
    if CUDA in there:
        assert dict(providers)[CUDA] == {"use_tf32": 0}


def test_tensorrt_says_minutes_once_and_keeps_what_it_builds(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = use(monkeypatch, tmp_path, model, [TENSORRT, CUDA, CPU])
    with caplog.at_level(logging.WARNING):
        make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))
    options = dict(runtime.asked[0])[TENSORRT]
    folder = Path(options["trt_engine_cache_path"])
    assert options["trt_fp16_enable"] and options["trt_engine_cache_enable"]
    assert folder.is_dir() and tmp_path in folder.parents
    assert model.fingerprint.hex() in folder.name and "analysis" in folder.name
    (said,) = (record.getMessage() for record in caplog.records)
    assert "TensorRT builds the analysis" in said and "minutes" in said and str(folder) in said
    (folder / "built.engine").touch()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))
    assert not caplog.records
    assert HEADS.name not in folder.name, "each stage has its own folder"


def test_float16_may_be_as_far_off_as_bfloat16_and_float32_may_not(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = use(monkeypatch, tmp_path, model, [TENSORRT, CUDA, CPU])
    half.off = 2
    make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))
    half.off = 4
    with pytest.raises(EngineError, match="of the symbols differ"):
        make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))
    whole = use(monkeypatch, tmp_path, model, [CUDA, CPU])
    whole.off = 1
    with pytest.raises(EngineError, match="of the symbols differ"):
        make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))


def test_a_home_that_cannot_be_written_stops_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a file in the folder's place"
    file.touch()
    use(monkeypatch, file, model, [TENSORRT, CPU])
    make_engine("onnxruntime", model).analyse(trial_image(*TRIAL))
