"""OpenVINO: x86 processors, in bfloat16 or with analysis and synthesis in int8."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.codec.engines.graph_engine import GraphEngine
from roi_anon_ros.codec.engines.machine import require, version_of
from roi_anon_ros.codec.engines.onnxruntime_engine import onnx_file
from roi_anon_ros.codec.engines.stages import ANALYSIS, MARK, SYNTHESIS, Stage
from roi_anon_ros.codec.errors import EngineError
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.storage import digest

log = logging.getLogger(__name__)

#: Images are at least this wide, pixels, where they are analysed in bfloat16: of a single column of
#: latents OpenVINO makes noise on processors that multiply it in tiles (AMX).
LEAST_WIDTH = 32
#: The stages that may be in int8.
INT8_STAGES = (ANALYSIS, SYNTHESIS)


class OpenVinoEngine(GraphEngine):
    """OpenVINO on the processor, in bfloat16 where it has instructions for that."""

    name = package = "openvino"

    def _build(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        import openvino

        can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in can:
            self._on[stage] = "float32"
            return self._compile(stage, "f32")
        self._on[stage] = "bfloat16"
        run = self._compile(stage, "bf16")
        if stage is not ANALYSIS:
            return run

        @cache
        def compile_exact() -> Callable[[np.ndarray], np.ndarray]:
            return self._compile(stage, "f32")

        def analyse(batch: np.ndarray) -> np.ndarray:
            narrow = batch.shape[2] < LEAST_WIDTH
            return compile_exact()(batch) if narrow else run(batch)

        return analyse

    def _compile(self, stage: Stage, precision: str) -> Callable[[np.ndarray], np.ndarray]:
        import openvino

        compiled = openvino.Core().compile_model(
            self.graph(stage),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": stage.threads,
                "ENABLE_CPU_PINNING": False,  # every process would sit on the first cores
            },
        )
        mine = threading.local()  # a request serves one thread at a time

        def run(batch: np.ndarray) -> np.ndarray:
            if not hasattr(mine, "request"):
                mine.request = compiled.create_infer_request()
            return mine.request.infer({0: batch}, share_inputs=True)[0]

        return run

    def graph(self, stage: Stage) -> Any:
        """OpenVINO's form of one stage: of the ONNX file beside the model, or else converted by
        torch and kept in the cache folder, for making it takes seconds.
        """
        import openvino

        exported = onnx_file(self._model, stage)
        if carries_mark(exported, self._model):
            return openvino.Core().read_model(exported)
        require("torch", "train")
        kept = (
            cache_dir()
            / f"{self._model.fingerprint.hex()}-{stage}-openvino-{version_of('openvino')}.xml"
        )
        if not is_intact(kept):
            graph = openvino.convert_model(stage.program(self._model))
            try:
                write_graph(graph, kept)
            except (
                OSError,
                RuntimeError,
            ) as error:  # a read-only home costs the seconds at each start
                log.warning("%s: %s", kept, error)
                return graph
        # Read also where it was just written: what is read sums in another order than what was
        # converted.
        return openvino.Core().read_model(kept)


class OpenVinoInt8Engine(OpenVinoEngine):
    """The same with analysis and synthesis in int8, from those files that :func:`calibrate` wrote
    and that lie beside the model.
    """

    name = "openvino-int8"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.stages = tuple(stage for stage in INT8_STAGES if int8_file(model, stage).is_file())
        if not self.stages:
            files = " or ".join(str(int8_file(model, stage)) for stage in INT8_STAGES)
            raise EngineError(
                f"engine {self.name}: {files}: no such file; roi-anon export --int8 writes it"
            )

    def _build(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        run = super()._build(stage)
        if stage in self.stages:
            # Another calibration finds other symbols: results are kept under this name.
            checksum = int8_file(self._model, stage).with_suffix(".sha256").read_text()
            self._on[stage] = f"int8 {checksum[:8]}"
        return run

    def graph(self, stage: Stage) -> Any:
        """Likewise; of a stage in int8 the file that :func:`calibrate` wrote."""
        if stage not in self.stages:
            return super().graph(stage)
        import openvino

        kept = int8_file(self._model, stage)
        if not is_intact(kept):
            raise EngineError(
                f"engine {self.name}: {kept}: damaged; roi-anon export --int8 writes it anew"
            )
        graph = openvino.Core().read_model(kept)
        mark = graph.get_rt_info(MARK).astype(str) if graph.has_rt_info(MARK) else None
        self._check_mark(mark, kept, "roi-anon export --int8")
        return graph


def carries_mark(path: Path, model: Model) -> bool:
    """Whether an ONNX file is there and carries the fingerprint of this model."""
    try:
        # OpenVINO does not read the file's metadata; the fingerprint stands there in plain text.
        return model.fingerprint.hex().encode() in path.read_bytes()
    except OSError:
        return False


def write_graph(graph: Any, path: Path) -> None:
    """Write a graph of OpenVINO's: ``path`` (.xml), its weights (.bin), and last the checksum of
    both (.sha256).
    """
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        openvino.save_model(graph, made, compress_to_fp16=False)
        made.with_suffix(".sha256").write_text(digest(made, made.with_suffix(".bin"), digits=64))
        for suffix in (".bin", ".xml", ".sha256"):
            os.replace(made.with_suffix(suffix), path.with_suffix(suffix))


def is_intact(path: Path) -> bool:
    """Whether a graph's files are what was written: OpenVINO may crash on anything else."""
    try:
        return path.with_suffix(".sha256").read_text() == digest(
            path, path.with_suffix(".bin"), digits=64
        )
    except OSError:
        return False


def int8_file(model: Model, stage: Stage) -> Path:
    """Where a stage in int8 lies: beside the model's file, with its weights (.bin) and a checksum
    (.sha256).
    """
    return model.path.with_name(f"{model.path.stem}-{stage}-int8.xml")
