"""The halves of a model as ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from roi_anon_ros.codec.engines.halves import HALVES, MARK, Half
from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.onnxruntime_engine import onnx_file
from roi_anon_ros.codec.modelfile import Model


def export(model: Model) -> dict[Half, Path]:
    """Write the two halves of a model as ONNX beside its file, for pictures of any size.

    Each holds the whole way between a picture's bytes and its symbols, see :class:`Analysis` and
    :class:`Synthesis`, and the model's fingerprint in its metadata.

    Args:
        model: to export; the folder of its ``path`` is made.

    Returns:
        The file of each half.

    Raises:
        EngineError: the packages for it are missing.
    """
    require("onnxscript", "export")
    written = {half: onnx_file(model, half) for half in HALVES}
    model.path.parent.mkdir(parents=True, exist_ok=True)
    for half, path in written.items():
        onnx = torch.onnx.export(
            half.program(model.codec),
            dynamo=True,
            verbose=False,
            input_names=[half.takes],
            output_names=[half.gives],
        )
        onnx.model.metadata_props[MARK] = model.fingerprint.hex()
        beside = path.with_suffix(".part")
        onnx.save(beside, external_data=False)
        os.replace(beside, path)
    return written
