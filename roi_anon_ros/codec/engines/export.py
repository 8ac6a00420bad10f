"""The halves of a model as ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from roi_anon_ros.codec.engines.graphs import MARK, PARTS, program
from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.onnxruntime_engine import onnx_file
from roi_anon_ros.codec.modelfile import Model


def export(model: Model) -> dict[str, Path]:
    """Write the two halves of a model as ONNX beside its file, for pictures of any size.

    Each holds the whole way between a picture's bytes and its symbols, see :class:`Analysis` and :class:`Synthesis`,
    and the model's fingerprint in its metadata.

    Args:
        model: to export; the folder of its ``path`` is made.

    Returns:
        The file of each part.

    Raises:
        EngineError: the packages for it are missing.
    """
    require("onnxscript", "export")
    written = {part: onnx_file(model, part) for part in PARTS}
    model.path.parent.mkdir(parents=True, exist_ok=True)
    for part, path in written.items():
        names = ["picture", "symbols"] if part == "analysis" else ["symbols", "picture"]
        onnx = torch.onnx.export(
            program(model.codec, part), dynamo=True, verbose=False, input_names=names[:1], output_names=names[1:]
        )
        onnx.model.metadata_props[MARK] = model.fingerprint.hex()
        beside = path.with_suffix(".part")
        onnx.save(beside, external_data=False)
        os.replace(beside, path)
    return written
