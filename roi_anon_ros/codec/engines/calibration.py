"""The analysis in integers of 8 bits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.openvino_engine import int8_file, write_graph
from roi_anon_ros.codec.engines.stages import ANALYSIS, MARK, to_batch
from roi_anon_ros.codec.modelfile import Model


def calibrate(model: Model, images: Iterable[np.ndarray]) -> Path:
    """Write the analysis in int8 beside the model's file, for the engine ``openvino-int8``.

    NNCF rounds the weights of each convolution, and what goes into it, to 255 steps over the range
    that is seen in these images.

    Args:
        model: to calibrate; the folder of its ``path`` is made.
        images: uint8 ``[H, W, 3]`` RGB, as the cameras code them; some dozens.

    Returns:
        The file.

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
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # its progress
        graph = nncf.quantize(
            openvino.convert_model(ANALYSIS.program(model)),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            # Processors without VNNI add products of bytes in 16 bits: weights of 7 bits fit.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE
            ),
        )
    graph.set_rt_info(model.fingerprint.hex(), MARK)
    write_graph(graph, int8_file(model))
    return int8_file(model)
