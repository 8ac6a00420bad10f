"""ONNX Runtime, with the fastest provider that it was built with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.codec.engines.graph_engine import GraphEngine
from roi_anon_ros.codec.engines.stages import MARK, Stage, stages_of
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model


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
        wanted: dict[str, dict[str, Any]] = {
            "TensorrtExecutionProvider": {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(cache_dir()),
            },
            "CUDAExecutionProvider": {
                "use_tf32": 0
            },  # 10 bits of mantissa would not pass for the reference
            "CPUExecutionProvider": {},
        }
        there = onnxruntime.get_available_providers()
        path = onnx_file(self._model, stage)
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


def onnx_file(model: Model, stage: Stage) -> Path:
    """Where the ONNX file of a stage lies: beside the model's file."""
    return model.path.with_name(f"{model.path.stem}-{stage}.onnx")
