"""Analysis and synthesis in integers of 8 bits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.openvino_engine import (
    INT8_STAGES,
    OpenVinoEngine,
    int8_file,
    write_graph,
)
from roi_anon_ros.codec.engines.stages import ANALYSIS, MARK, SYNTHESIS, Stage, to_batch
from roi_anon_ros.codec.modelfile import Model

#: Qualities whose latents the synthesis is calibrated with, in turns.
QUALITIES = (2.0, 4.75, 7.0)


def calibrate(model: Model, images: Iterable[np.ndarray]) -> dict[Stage, Path]:
    """Write analysis and synthesis in int8 beside the model's file, for the engine
    ``openvino-int8``.

    NNCF rounds the weights of each convolution, and what goes into it, to 255 steps over the range
    that is seen in these images. The first convolution of the synthesis stays in float: a few
    large values of a latent would make the steps of all others coarse.

    Args:
        model: to calibrate; the folder of its ``path`` is made.
        images: uint8 ``[H, W, 3]`` RGB, as the cameras code them; some dozens.

    Returns:
        The file of each stage.

    Raises:
        ValueError: there are no images.
        EngineError: the packages for it are missing.
    """
    batches = [to_batch(image, model.downsampling_factor) for image in images]
    if not batches:
        raise ValueError("images: none, must be 1 at least")
    for package in ("openvino", "nncf"):
        require(package, "export")
    logging.getLogger("torch.utils.cpp_extension").setLevel(
        logging.ERROR
    )  # nncf's import asks it for a GPU
    seen = {ANALYSIS: batches, SYNTHESIS: _latents(model, batches)}
    for stage in INT8_STAGES:
        graph = OpenVinoEngine(model).graph(stage)
        in_float = [_first_convolution(graph)] if stage is SYNTHESIS else []
        quantized = _quantize(graph, seen[stage], in_float)
        quantized.set_rt_info(model.fingerprint.hex(), MARK)
        write_graph(quantized, int8_file(model, stage))
    return {stage: int8_file(model, stage) for stage in INT8_STAGES}


def _latents(model: Model, batches: list[np.ndarray]) -> list[np.ndarray]:
    """What the synthesis takes of these images, at several qualities."""
    from roi_anon_ros.codec.engines.torch_engine import TorchEngine

    reference = TorchEngine(model)
    latents = []
    for number, batch in enumerate(batches):
        quality = QUALITIES[number % len(QUALITIES)]
        symbols = model.latents.quantise(reference.analyse(batch[0]), quality)
        latents.append(model.latents.dequantise(symbols, quality)[None])
    return latents


def _first_convolution(graph: Any) -> str:
    """The name of the convolution that sees the input itself."""
    for op in graph.get_ordered_ops():
        if "Convolution" in op.get_type_name():
            return op.get_friendly_name()
    raise AssertionError("a synthesis without a convolution")


def _quantize(graph: Any, batches: list[np.ndarray], in_float: list[str]) -> Any:
    """A graph with convolutions in int8, but for those of these names."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(
            graph,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=in_float),
            # Processors without VNNI add products of bytes in 16 bits: weights of 7 bits fit.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE
            ),
        )
