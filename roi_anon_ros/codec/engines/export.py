"""The stages of a model as ONNX files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.onnxruntime_engine import onnx_file
from roi_anon_ros.codec.engines.stages import MARK, Stage, stages_of
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.storage import draft_of


def export(model: Model) -> dict[Stage, Path]:
    """Write the stages of a model as ONNX beside its file, for images of any size.

    Each holds the whole way between an image's bytes and its symbols, see :class:`Analysis` and
    :class:`Synthesis`, and the model's fingerprint in its metadata.

    Args:
        model: to export; the folder of its ``path`` is made.

    Returns:
        The file of each stage.

    Raises:
        EngineError: the packages for it are missing.
    """
    require("onnxscript", "export")
    written = {stage: onnx_file(model, stage) for stage in stages_of(model)}
    model.path.parent.mkdir(parents=True, exist_ok=True)
    for stage, path in written.items():
        metadata = {MARK: model.fingerprint.hex()}
        write_onnx(stage.program(model), path, metadata, [stage.takes], [stage.gives])
    return written


def write_onnx(
    program: Any,
    path: Path,
    metadata: Mapping[str, str],
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> None:
    """Write a network as an ONNX file, in place of what was there only when it is whole.

    Args:
        program: torch's ``ExportedProgram``.
        path: the file.
        metadata: of the file; nothing else in it says where it was made.
        inputs: names; None: as the program has them.
        outputs: the same.
    """
    import torch

    onnx = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs
    )
    assert onnx is not None  # which it is with dynamo
    # Where each node came from: files and lines of the machine that exports.
    onnx.model.graph.metadata_props.clear()
    for node in onnx.model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    onnx.model.metadata_props.update(metadata)
    draft = draft_of(path)
    onnx.save(draft, external_data=False)
    os.replace(draft, path)
