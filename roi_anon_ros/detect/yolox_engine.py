"""What runs YOLOX-nano: torch, ONNX Runtime, or OpenVINO in float, bfloat16 or int8.

Every engine takes a batch as a camera or a decoder has it, uint8 ``[B, H, W, 3]`` RGB with sides
that are multiples of 32, and gives `YoloxNano.forward`'s rows, float32 ``[B, n, 5 + classes]``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox

log = logging.getLogger(__name__)

Run = Callable[[np.ndarray], np.ndarray]

#: Longest side that an exported network takes, pixels.
MAX_SIDE = 4096
#: Under which name a network in int8 carries the SHA-256 of the weights that it was made of.
MARK = "weights"


class Bytes(nn.Module):
    """The network with what comes before it: bytes to numbers in [0, 1], channels to the front."""

    def __init__(self, network: YoloxNano) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return `YoloxNano.forward`'s rows of uint8 ``[B, H, W, 3]``."""
        return self.network(images.permute(0, 3, 1, 2).float() / 255)


def make_run(weights: Path, engine: str) -> tuple[str, Run]:
    """Load a network into an engine.

    Args:
        weights: a file for `load_yolox`; of the published one, only persons are kept.
        engine: "torch", "onnxruntime", "openvino", "openvino-int8", or "auto": OpenVINO on a
            processor, in int8 where `calibrate` wrote that; torch on a GPU, or without OpenVINO.

    Returns:
        The engine's name, and what runs a batch.

    Raises:
        ImportError: the engine's package is not installed.
        OSError: the weights, or the network in int8, cannot be read; the cache cannot be written.
        ValueError: there is no such engine, or the files hold something else.
    """
    if engine == "auto":
        for name in _candidates(weights):
            try:
                return name, ENGINES[name](weights)
            except Exception as error:  # whatever a foreign library raises, or a read-only cache
                log.warning("the detector goes without %s: %s", name, error)
        engine = "torch"
    if engine not in ENGINES:
        raise ValueError(f"engine: got {engine!r}, must be one of auto, {', '.join(ENGINES)}")
    return engine, ENGINES[engine](weights)


def calibrate(weights: Path, images: Iterable[np.ndarray]) -> Path:
    """Write a network in int8 beside its weights, for the engine "openvino-int8".

    NNCF rounds the weights of every convolution, and what goes into it, to 255 steps over the range
    that is seen in these images. The last convolution of each branch stays in float: boxes are
    exponents and offsets of a few pixels, which 255 steps over a wide range would blur.

    Args:
        weights: a file for `load_yolox`.
        images: uint8 ``[H, W, 3]`` RGB with sides that are multiples of 32: decoded, as the
            detector will see them; some dozens.

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
    graph = openvino.convert_model(_program(weights))
    last = [op.get_friendly_name() for op in graph.get_ops() if _ends_a_branch(op)]
    quantized = nncf.quantize(
        graph,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        ignored_scope=nncf.IgnoredScope(names=last),
    )
    quantized.set_rt_info(_digest(weights), MARK)
    target = int8_file(weights)
    with TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        openvino.save_model(quantized, made, compress_to_fp16=False)
        os.replace(made.with_suffix(".bin"), target.with_suffix(".bin"))
        os.replace(made, target)
    return target


def int8_file(weights: Path) -> Path:
    """Return where the network in int8 lies: beside the weights."""
    return weights.with_name(f"{weights.stem}-int8.xml")


def _candidates(weights: Path) -> list[str]:
    """Return the engines to try before torch, the fastest first."""
    if torch.cuda.is_available() or not find_spec("openvino"):
        return []
    return ["openvino-int8", "openvino"] if int8_file(weights).is_file() else ["openvino"]


def _torch(weights: Path) -> Run:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector = load_yolox(weights, classes=[0]).to(device).to(memory_format=torch.channels_last)
    network = Bytes(detector).eval().requires_grad_(False)

    @torch.inference_mode()
    def run(batch: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(batch).to(device)).cpu().numpy()

    return run


def _onnxruntime(weights: Path) -> Run:
    require("onnxruntime", "server")
    import onnxruntime

    def write(folder: Path) -> None:
        require("onnxscript", "export")
        program = torch.onnx.export(_program(weights), dynamo=True, verbose=False)
        assert program is not None  # which it is with dynamo
        program.save(folder / "network.onnx", external_data=False)

    kept = _keep(f"{_digest(weights)[:16]}-torch-{version('torch')}-onnx", write)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(kept / "network.onnx", options, providers)
    (name,) = (one.name for one in session.get_inputs())
    return lambda batch: session.run(None, {name: batch})[0]


def _openvino(weights: Path) -> Run:
    require("openvino", "server")
    import openvino

    def write(folder: Path) -> None:
        graph = openvino.convert_model(_program(weights))
        openvino.save_model(graph, folder / "network.xml", compress_to_fp16=False)

    kept = _keep(f"{_digest(weights)[:16]}-openvino-{version('openvino')}", write)
    return _compile(openvino.Core().read_model(kept / "network.xml"))


def _openvino_int8(weights: Path) -> Run:
    require("openvino", "server")
    import openvino

    graph = openvino.Core().read_model(int8_file(weights))
    made_of = graph.get_rt_info(MARK).astype(str) if graph.has_rt_info(MARK) else None
    if made_of != _digest(weights):
        raise ValueError(f"{int8_file(weights)}: made of weights {made_of}, must be of {weights}")
    return _compile(graph)


ENGINES: dict[str, Callable[[Path], Run]] = {
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-int8": _openvino_int8,
}


def _compile(graph: Any) -> Run:
    import openvino

    core = openvino.Core()
    bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # every process would sit on the first cores
    }
    compiled = core.compile_model(graph, "CPU", settings)
    mine = threading.local()  # a request serves one thread at a time

    def run(batch: np.ndarray) -> np.ndarray:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        return mine.request.infer({0: batch}, share_inputs=True)[0].copy()

    return run


def _program(weights: Path) -> torch.export.ExportedProgram:
    """Return the graph, for any number of images of any size."""
    batch = torch.export.Dim("batch", max=64)
    rows = torch.export.Dim("rows", max=MAX_SIDE // 32)
    columns = torch.export.Dim("columns", max=MAX_SIDE // 32)
    example = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
    shapes = ({0: batch, 1: 32 * rows, 2: 32 * columns},)
    network = Bytes(load_yolox(weights, classes=[0])).eval()
    return torch.export.export(network, (example,), dynamic_shapes=shapes)


def _ends_a_branch(op: Any) -> bool:
    """Whether a node is a convolution without an activation: box, objectness or class."""
    if op.get_type_name() != "Convolution":
        return False
    (bias,) = (one.get_node() for one in op.output(0).get_target_inputs())
    after = [one.get_node() for one in bias.output(0).get_target_inputs()]
    return not any(one.get_type_name() in ("Swish", "Sigmoid", "Multiply") for one in after)


def _keep(name: str, write: Callable[[Path], None]) -> Path:
    """Return a folder of the cache; what is not there yet is written, whole or not at all."""
    kept = cache_dir() / "weights" / name
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            made = Path(folder) / name
            made.mkdir()
            write(made)
            try:
                os.rename(made, kept)
            except OSError:
                if not kept.is_dir():  # unless another process was faster
                    raise
    return kept


def _digest(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def require(package: str, extra: str) -> None:
    """Raise ImportError, naming what to install, unless a package is there."""
    if find_spec(package) is None:
        raise ImportError(f"{package} is not installed: pip install 'roi_anon_ros[{extra}]'")
