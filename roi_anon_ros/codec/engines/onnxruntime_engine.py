"""ONNX Runtime, with the fastest provider that it was built with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.codec.engines.graph_engine import GraphEngine
from roi_anon_ros.codec.engines.stages import MARK, Stage, stages_of
from roi_anon_ros.codec.engines.trial import HALF_TOLERANCE, Tolerance
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model

log = logging.getLogger(__name__)

TENSORRT = "TensorrtExecutionProvider"


class OnnxRuntimeEngine(GraphEngine):
    """ONNX Runtime with the first of TensorRT, CUDA and the processor that it was built with."""

    name = package = "onnxruntime"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        for stage in stages_of(model):
            if not onnx_file(model, stage).is_file():
                raise EngineError(
                    f"engine {self.name}: {onnx_file(model, stage)}: no such file; roi-anon export "
                    "writes it"
                )

    def _build(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = stage.threads
        options.log_severity_level = 3
        # Threads that wait in a loop take as much of the processors as the work itself, and what
        # else runs on the machine waits for them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # plans memory for each size of images: 30 MB more
        wanted: dict[str, dict[str, Any]] = {
            TENSORRT: {
                "trt_fp16_enable": True,
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(self._tensorrt_folder(stage)),
            },
            "CUDAExecutionProvider": {
                "use_tf32": 0
            },  # 10 bits of mantissa would not pass for the reference
            "CPUExecutionProvider": {},
        }
        there = onnxruntime.get_available_providers()
        path = onnx_file(self._model, stage)
        if TENSORRT in there:
            self._make_tensorrt_folder(stage)
        try:
            session = onnxruntime.InferenceSession(
                path, options, [w for w in wanted.items() if w[0] in there]
            )
        except Exception as error:  # its exceptions have no common base but this
            raise EngineError(f"engine {self.name}: {path}: {error}") from error
        self._check_mark(
            session.get_modelmeta().custom_metadata_map.get(MARK), path, "roi-anon export"
        )
        self._on[stage] = session.get_providers()[0].removesuffix("ExecutionProvider")
        (name,) = (entry.name for entry in session.get_inputs())
        return lambda batch: session.run(None, {name: batch})[0]

    def _tolerance(self, stage: Stage) -> Tolerance:
        tensorrt = self._on[stage] == TENSORRT.removesuffix("ExecutionProvider")
        return HALF_TOLERANCE if tensorrt else super()._tolerance(stage)

    def _tensorrt_folder(self, stage: Stage) -> Path:
        return cache_dir() / "tensorrt" / f"{self._model.fingerprint.hex()}-{stage}"

    def _make_tensorrt_folder(self, stage: Stage) -> None:
        """Make the folder where TensorRT keeps what it builds, and say so where it is yet to build:
        it builds for this very GPU, and for each size of images.
        """
        folder = self._tensorrt_folder(stage)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            built = any(folder.iterdir())
        except OSError as error:  # a read-only home costs the minutes at each start
            log.warning("%s: %s", folder, error)
            built = False
        if not built:
            log.warning(
                "TensorRT builds the %s for this GPU, which takes minutes; it is kept in %s",
                stage,
                folder,
            )


def onnx_file(model: Model, stage: Stage) -> Path:
    """Where the ONNX file of a stage lies: beside the model's file."""
    return model.path.with_name(f"{model.path.stem}-{stage}.onnx")
