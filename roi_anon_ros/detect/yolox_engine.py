"""What runs YOLOX-nano, and its kin on latents: torch, ONNX Runtime, or OpenVINO in float,
bfloat16 or int8.

The exported networks beside the weights run without torch, whose import alone costs seconds and
half a gigabyte.

Every engine takes a batch as a camera or a decoder has it, uint8 ``[B, H, W, 3]`` RGB with sides
that are multiples of 32 from 128 on, and gives `YoloxNano.forward`'s rows, float32
``[B, n, 5 + classes]``. Of weights for latents it takes a batch of them, float32 ``[B, N, h, w]``
with even sides.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.processors import adopt_threads, count_threads, has_gpu
from roi_anon_ros.storage import digest

log = logging.getLogger(__name__)

Run = Callable[[np.ndarray], np.ndarray]

#: Under which name an exported network carries the SHA-256 of the weights that it was made of.
MARK = "weights"
#: Under which name weights for latents carry the mark of these, see `latent_mark`.
LATENT = "latent"


def make_run(weights: Path, engine: str) -> tuple[str, Run]:
    """Load a network into an engine.

    Args:
        weights: a file for `load_yolox`; of the published one, only persons are kept; or one for
            `load_latent`.
        engine: "torch", "onnxruntime", "openvino", "openvino-int8", or "auto": on a processor
            OpenVINO, in int8 where `calibrate` wrote that, then ONNX Runtime, then torch; torch
            first where there is a GPU.

    Returns:
        The engine's name, and what runs a batch.

    Raises:
        ImportError: the engine's package is not installed.
        OSError: the weights, or the exported network, cannot be read; the cache cannot be written.
        ValueError: there is no such engine, or the files hold something else.
    """
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"engine: got {engine!r}, must be one of auto, {', '.join(ENGINES)}")
    names = _candidates(weights) if engine == "auto" else [engine]
    for name in names[:-1]:
        try:
            return name, ENGINES[name](weights)
        except Exception as error:  # whatever a foreign library raises, or a read-only cache
            log.warning("the detector goes without %s: %s", name, error)
    return names[-1], ENGINES[names[-1]](weights)


def int8_file(weights: Path) -> Path:
    """Return where the network in int8 lies: beside the weights."""
    return weights.with_name(f"{weights.stem}-int8.xml")


def onnx_file(weights: Path) -> Path:
    """Return where the network in float lies, for engines without torch: beside the weights."""
    return weights.with_name(f"{weights.stem}-float.onnx")


def read_latent_mark(weights: Path) -> str | None:
    """Return the mark of the latents that weights are for; None: they are for images.

    Args:
        weights: any file.
    """
    if weights.suffix.lower() != ".safetensors" or not weights.is_file():
        return None
    try:
        with safe_open(weights, "np") as file:
            return (file.metadata() or {}).get(LATENT)
    except SafetensorError:
        return None  # who loads it says what is wrong


def _candidates(weights: Path) -> list[str]:
    """Return the engines to try, the fastest first, at least one."""
    there = {name: find_spec(name.partition("-")[0]) is not None for name in ENGINES}
    there["openvino-int8"] &= int8_file(weights).is_file()
    there["onnxruntime"] &= onnx_file(weights).is_file()
    order = ["openvino-int8", "openvino", "onnxruntime", "torch"]
    if has_gpu():
        order = ["torch", "onnxruntime", "openvino-int8", "openvino"]
    return [name for name in order if there[name]] or ["torch"]


def _torch(weights: Path) -> Run:
    require("torch", "server")
    import torch

    from roi_anon_ros.detect.yolox_export import make_network

    adopt_threads()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = make_network(weights).to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(batch: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(batch).to(device)).cpu().numpy()

    return run


def _onnxruntime(weights: Path) -> Run:
    require("onnxruntime", "server")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    # Threads that wait in a loop take as much of the processors as the work itself.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(onnx_file(weights), options, providers)
    made_of = session.get_modelmeta().custom_metadata_map.get(MARK)
    _check_mark(made_of, onnx_file(weights), weights)
    (name,) = (one.name for one in session.get_inputs())
    return lambda batch: session.run(None, {name: batch})[0]


def _openvino(weights: Path) -> Run:
    require("openvino", "server")
    import openvino

    exported = onnx_file(weights)
    # OpenVINO does not read the file's metadata; the mark stands there in plain text.
    if exported.is_file() and digest_of(weights).encode() in exported.read_bytes():
        return _compile(openvino.Core().read_model(exported))

    def write(folder: Path) -> None:
        require("torch", "server")
        from roi_anon_ros.detect.yolox_export import make_program

        graph = openvino.convert_model(make_program(weights))
        openvino.save_model(graph, folder / "network.xml", compress_to_fp16=False)

    kept = _keep(f"{digest_of(weights)[:16]}-openvino-{version('openvino')}", write)
    return _compile(openvino.Core().read_model(kept / "network.xml"))


def _openvino_int8(weights: Path) -> Run:
    require("openvino", "server")
    import openvino

    graph = openvino.Core().read_model(int8_file(weights))
    made_of = graph.get_rt_info(MARK).astype(str) if graph.has_rt_info(MARK) else None
    _check_mark(made_of, int8_file(weights), weights)
    return _compile(graph)


def _check_mark(made_of: str | None, exported: Path, weights: Path) -> None:
    """Refuse an exported network of other weights."""
    if made_of != digest_of(weights):
        raise ValueError(f"{exported}: made of weights {made_of}, must be of {weights}")


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
        "INFERENCE_NUM_THREADS": count_threads(),
        "ENABLE_CPU_PINNING": False,  # every process would sit on the first cores
    }
    compiled = core.compile_model(graph, "CPU", settings)
    mine = threading.local()  # a request serves one thread at a time

    def run(batch: np.ndarray) -> np.ndarray:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        return mine.request.infer({0: batch}, share_inputs=True)[0].copy()

    return run


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


def digest_of(weights: Path) -> str:
    """Return the SHA-256 of weights, with which exported networks are marked."""
    return digest(weights, digits=64)


def require(package: str, extra: str) -> None:
    """Raise ImportError, naming what to install, unless a package is there."""
    if find_spec(package) is None:
        raise ImportError(f"{package} is not installed: pip install 'roi_anon_ros[{extra}]'")
