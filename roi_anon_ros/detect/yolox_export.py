"""YOLOX-nano, and its kin on latents, as files that engines run without torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roi_anon_ros.codec.engines.export import write_onnx
from roi_anon_ros.detect.latent import LatentNano, load_latent
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox
from roi_anon_ros.detect.yolox_engine import (
    MARK,
    digest_of,
    int8_file,
    onnx_file,
    read_latent_mark,
    require,
)

#: Longest side that an exported network takes, pixels.
MAX_SIDE = 4096


class Bytes(nn.Module):
    """The network with what comes before it: bytes to numbers in [0, 1], channels to the front."""

    def __init__(self, network: YoloxNano) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return `YoloxNano.forward`'s rows of uint8 ``[B, H, W, 3]``."""
        return self.network(images.permute(0, 3, 1, 2).float() / 255)


def write_graph(weights: Path) -> Path:
    """Write the network in float as ONNX beside its weights, for engines without torch.

    Args:
        weights: a file for `load_yolox` or `load_latent`.

    Returns:
        The ``.onnx`` file.

    Raises:
        ImportError: onnxscript is not installed.
    """
    require("onnxscript", "export")
    target = onnx_file(weights)
    write_onnx(make_program(weights), target, {MARK: digest_of(weights)})
    return target


def calibrate(weights: Path, images: Iterable[np.ndarray]) -> Path:
    """Write a network in int8 beside its weights, for the engine "openvino-int8".

    NNCF rounds the weights of every convolution, and what goes into it, to 255 steps over the range
    that is seen in these images. The last convolution of each branch stays in float: boxes are
    exponents and offsets of a few pixels, which 255 steps over a wide range would blur.

    Args:
        weights: a file for `load_yolox` or `load_latent`.
        images: uint8 ``[H, W, 3]`` RGB with sides that are multiples of 32: decoded, as the
            detector will see them; or latents, float32 ``[N, h, w]`` with even sides; some dozens.

    Returns:
        The .xml file; a .bin file lies beside it.

    Raises:
        ImportError: openvino or nncf is not installed.
        ValueError: there are no images.
    """
    batches = [image[None] for image in images]
    if not batches:
        raise ValueError("images: got none, must be 1 at least")
    require("openvino", "export")
    require("nncf", "export")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it asks for a GPU
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    graph = openvino.convert_model(make_program(weights))
    last = [op.get_friendly_name() for op in graph.get_ops() if _ends_a_branch(op)]
    quantized = nncf.quantize(
        graph,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        ignored_scope=nncf.IgnoredScope(names=last),
    )
    quantized.set_rt_info(digest_of(weights), MARK)
    target = int8_file(weights)
    with TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        openvino.save_model(quantized, made, compress_to_fp16=False)
        os.replace(made.with_suffix(".bin"), target.with_suffix(".bin"))
        os.replace(made, target)
    return target


def make_network(weights: Path) -> nn.Module:
    """Return what takes a batch as an engine gets it, in evaluation mode.

    Args:
        weights: a file for `load_yolox` or `load_latent`.

    Raises:
        ValueError: the file holds neither network.
    """
    if read_latent_mark(weights) is not None:
        network: nn.Module = load_latent(weights)
    else:
        network = Bytes(load_yolox(weights, classes=[0]))
    return network.eval().requires_grad_(False)


def make_program(weights: Path) -> torch.export.ExportedProgram:
    """Return the graph, for any number of images of any size, or of latents."""
    network = make_network(weights)
    batch = torch.export.Dim("batch", max=64)
    rows = torch.export.Dim("rows", max=MAX_SIDE // 32)
    columns = torch.export.Dim("columns", max=MAX_SIDE // 32)
    if isinstance(network, LatentNano):
        example = torch.zeros(2, network.channels, 6, 8)
        shapes = {0: batch, 2: 2 * rows, 3: 2 * columns}
    else:
        example = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
        shapes = {0: batch, 1: 32 * rows, 2: 32 * columns}
    return torch.export.export(network, (example,), dynamic_shapes=(shapes,))


def _ends_a_branch(op: Any) -> bool:
    """Whether a node is a convolution without an activation: box, objectness or class."""
    if op.get_type_name() != "Convolution":
        return False
    (bias,) = (one.get_node() for one in op.output(0).get_target_inputs())
    after = [one.get_node() for one in bias.output(0).get_target_inputs()]
    return not any(one.get_type_name() in ("Swish", "Sigmoid", "Multiply") for one in after)
