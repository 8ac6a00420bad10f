"""Engines: what runs the two networks, and the little around them, between a picture's bytes and its symbols.

``torch`` is the reference and always there. ``openvino`` runs the same networks on x86 processors in bfloat16 where
the processor multiplies in it, ``openvino-int8`` the analysis in integers of 8 bits, as :func:`calibrate` found them.
``onnxruntime`` runs the files that :func:`export` wrote with the fastest provider that it was built with (TensorRT,
CUDA, CPU). ``auto`` measures those that are installed, once for each model and size, and remembers the fastest.

An engine need not find every symbol as the reference does, for it may sum in another order and at another precision:
:data:`TOLERANCE` says how far it may be off, and one that is further off is refused when it is loaded. What it encodes
every other engine decodes: symbols are integers, and no engine computes a probability.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..cache import cache_dir
from .errors import EngineError
from .modelfile import Model
from .picture import MAX_SIZE
from .transforms import ANALYSIS_THREADS, STRIP_PIXELS, AnonymizingCodec

log = logging.getLogger(__name__)

#: How far an engine may be off: (share of the symbols that differ; by how much any of them may, beside a 64th of
#: itself; mean difference of a decoded byte of the same symbols). bfloat16 has 8 bits of mantissa: where every channel
#: is busy it finds one symbol in fifty on the other side of a rounding, with the default model one in two thousand;
#: 8-bit integers find one in five there, and one in two hundred.
TOLERANCE: dict[str, tuple[float, int, float]] = {
    "torch": (0.0, 0, 0.0),
    "openvino": (0.03, 1, 0.5),
    "openvino-int8": (0.3, 4, 0.5),
    "onnxruntime": (0.0005, 1, 0.02),
}
AUTO = "auto"
#: Size ``(width, height)`` of the picture on which an engine is compared with the reference.
TRIAL = (192, 128)
#: Runs of each engine that ``auto`` compares, after one that does not count.
RUNS = 5

#: Where ``auto`` remembers, in the cache folder.
MEMORY = "engines.json"
#: Under which name an exported network carries its model's fingerprint.
MARK = "fingerprint"

#: The two halves of a codec's work.
PARTS = ("analysis", "synthesis")


class Analysis(nn.Module):
    """Picture to symbols: uint8 ``[1, H, W, 3]`` RGB, sides multiples of the factor, to int32 ``[1, N, h, w]``."""

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_a = copy.deepcopy(codec.g_a)
        with torch.no_grad():
            self.g_a[0].weight.div_(
                255
            )  # bytes go in: bfloat16 holds each of them, and no layer has to divide
        self.register_buffer(
            "medians", codec.entropy_bottleneck._get_medians().detach().reshape(1, -1, 1, 1).clone()
        )

    def forward(self, picture: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.symbols`."""
        symbols = torch.round(self.g_a(picture.permute(0, 3, 1, 2).float()) - self.medians)
        # What is not finite becomes a symbol that the entropy coder refuses, whatever the device makes of it.
        return torch.nan_to_num(symbols, nan=2.0**30).clamp(-(2.0**30), 2.0**30).int()


class Synthesis(nn.Module):
    """Symbols to picture: int32 ``[1, N, h, w]`` to uint8 ``[1, H, W, 3]`` RGB."""

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_s = codec.g_s
        self.register_buffer(
            "medians", codec.entropy_bottleneck._get_medians().detach().reshape(1, -1, 1, 1).clone()
        )

    def forward(self, symbols: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.reconstruct`."""
        x_hat = self.g_s(symbols.float() + self.medians)
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def program(codec: AnonymizingCodec, part: str) -> torch.export.ExportedProgram:
    """The graph of one of the :data:`PARTS`, for pictures of any size."""
    factor = codec.downsampling_factor
    rows, columns = (
        torch.export.Dim(name, min=2, max=MAX_SIZE // factor) for name in ("rows", "columns")
    )
    if part == "analysis":
        module: nn.Module = Analysis(codec)
        example = torch.zeros(1, 4 * factor, 6 * factor, 3, dtype=torch.uint8)
        shape = {1: factor * rows, 2: factor * columns}
    else:
        module = Synthesis(codec)
        channels = codec.entropy_bottleneck.channels
        example = torch.zeros(1, channels, 4, 6, dtype=torch.int32)
        shape = {2: rows, 3: columns}
    return torch.export.export(module.eval(), (example,), dynamic_shapes=(shape,))


class Engine(Protocol):
    """What runs a model; may be called from several threads.

    Attributes:
        name: of the engine.
        package: that it runs with.
        parts: the halves that it runs in a way of its own.
    """

    name: str
    package: str
    parts: tuple[str, ...]

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """Symbols of a picture.

        Args:
            picture: uint8 ``[H, W, 3]`` RGB, sides of 16 to 8192 pixels; it is padded by repeating its edge.

        Returns:
            int32 ``[N, h, w]``.

        Raises:
            ValueError: a latent is not finite.
            EngineError: the engine is not what the reference is.
        """

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """Picture of symbols.

        Args:
            symbols: int32 ``[N, h, w]``.

        Returns:
            uint8 ``[h · factor, w · factor, 3]`` RGB, with the padding.

        Raises:
            EngineError: the engine is not what the reference is.
        """

    def runs(self, part: str) -> str:
        """What one of the :data:`PARTS` runs on, and why where that was a choice."""


class TorchEngine:
    """The reference: torch in float32 on the processor, any size, in strips where a picture is large."""

    name = package = "torch"
    parts = PARTS

    def __init__(self, model: Model) -> None:
        self._net = model.codec.to(memory_format=torch.channels_last)

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        # Channels last, as the picture is: no transposition in memory.
        x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float().div_(255)
        return self._net.symbols(x)[0].numpy()

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        x_hat = self._net.reconstruct(torch.from_numpy(symbols)[None])
        return x_hat[0].mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    def runs(self, part: str) -> str:
        """See :meth:`Engine.runs`."""
        return self.name


class _GraphEngine:
    """What the engines that run :func:`program` share. Each half is built when it is first used, and tried then.

    Attributes:
        off: how far each half that is built is from the reference, as in :data:`TOLERANCE`.
    """

    name: str
    package: str
    parts = PARTS

    def __init__(self, model: Model) -> None:
        _need(self.package)
        self._model, self._reference = model, TorchEngine(model)
        self._runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        self.off: dict[str, float] = {}
        self._on: dict[str, str] = {}  # what each half runs on, or in, for whoever asks
        self._building = threading.Lock()

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        height, width = picture.shape[:2]
        if height * width > STRIP_PIXELS:  # the reference bounds its memory
            return self._reference.analyse(picture)
        return self._part("analysis")(_batch(picture, self._model.codec.downsampling_factor))[0]

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        if (
            symbols.shape[1] * symbols.shape[2] * self._model.codec.downsampling_factor**2
            > STRIP_PIXELS
        ):
            return self._reference.synthesise(symbols)
        return self._part("synthesis")(symbols[None])[0]

    def runs(self, part: str) -> str:
        """See :meth:`Engine.runs`."""
        return f"{self.name} ({self._on[part]})" if part in self._on else self.name

    def _part(self, part: str) -> Callable[[np.ndarray], np.ndarray]:
        with self._building:
            if part not in self._runs:
                try:
                    run = self._build(part)
                    self.off[part] = self._compare(part, run)
                except ValueError:
                    raise
                except Exception as error:  # whatever a foreign library raises, here it means that it cannot be used
                    raise EngineError(f"engine {self.name}: {part}: {error}") from error
                self._runs[part] = run
            return self._runs[part]

    def _build(self, part: str) -> Callable[[np.ndarray], np.ndarray]:
        """What runs one half: a batch of one as :class:`Analysis` and :class:`Synthesis` take it."""
        raise NotImplementedError

    def _check_mark(self, mark: str | None, path: Path, command: str) -> None:
        """Refuse an exported network that carries another model's fingerprint, or none."""
        if mark != self._model.fingerprint.hex():
            raise EngineError(
                f"engine {self.name}: {path}: of model {mark}, must be of {self._model.fingerprint.hex()}; "
                f"{command} writes it anew"
            )

    def _compare(self, part: str, run: Callable[[np.ndarray], np.ndarray]) -> float:
        """How far a half is from the reference; refuse it where that is too far."""
        picture = trial_picture(*TRIAL)
        symbols = self._reference.analyse(picture)
        most, step, shades = TOLERANCE[self.name]
        if part == "analysis":
            off, far = differences(run(picture[None])[0], symbols, step)
            if off > most or far:
                raise EngineError(
                    f"engine {self.name}: {off:.2%} of the symbols differ from the reference's, {far} of them by more "
                    f"than {step}; must be at most {most:.2%}, and none"
                )
        else:
            shown = run(symbols[None])[0]
            off = float(np.abs(shown.astype(int) - self._reference.synthesise(symbols)).mean())
            if off > shades:
                raise EngineError(
                    f"engine {self.name}: decoded bytes differ from the reference's by {off:.2f} on average, must be "
                    f"at most {shades}"
                )
        return off


class OpenVinoEngine(_GraphEngine):
    """OpenVINO on the processor, in bfloat16 where it has instructions for that."""

    name = package = "openvino"

    def _build(self, part: str) -> Callable[[np.ndarray], np.ndarray]:
        import openvino

        core = openvino.Core()
        can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._on[part] = "bfloat16" if "BF16" in can else "float32"
        compiled = core.compile_model(
            self._graph(part),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if "BF16" in can else "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": _threads(part),
                "ENABLE_CPU_PINNING": False,  # every process would sit on the first cores
            },
        )
        mine = threading.local()  # a request serves one thread at a time

        def run(batch: np.ndarray) -> np.ndarray:
            if not hasattr(mine, "request"):
                mine.request = compiled.create_infer_request()
            return mine.request.infer({0: batch}, share_inputs=True)[0]

        return run

    def _graph(self, part: str) -> Any:
        """OpenVINO's form of one half, kept in the cache folder: making it takes seconds."""
        import openvino

        kept = (
            cache_dir()
            / f"{self._model.fingerprint.hex()}-{part}-openvino-{version_of('openvino')}.xml"
        )
        if not _intact(kept):
            graph = openvino.convert_model(program(self._model.codec, part))
            try:
                _write(graph, kept)
            except (
                OSError,
                RuntimeError,
            ) as error:  # a read-only home costs the seconds at each start
                log.warning("%s: %s", kept, error)
                return graph
        # Read also where it was just written: what is read sums in another order than what was converted.
        return openvino.Core().read_model(kept)


class OpenVinoInt8Engine(OpenVinoEngine):
    """The same with the analysis in int8, from the files that :func:`calibrate` wrote beside the model."""

    name = "openvino-int8"
    parts = ("analysis",)  # the synthesis in int8 misses every byte by 11 of 255

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        if not int8_file(model).is_file():
            raise EngineError(
                f"engine {self.name}: {int8_file(model)}: no such file; roi-anon export --int8 writes it"
            )

    def _build(self, part: str) -> Callable[[np.ndarray], np.ndarray]:
        run = super()._build(part)
        if part in self.parts:
            # Another calibration finds other symbols: whoever keeps results keeps them under this.
            self._on[part] = f"int8 {int8_file(self._model).with_suffix('.sha256').read_text()[:8]}"
        return run

    def _graph(self, part: str) -> Any:
        if part not in self.parts:
            return super()._graph(part)
        import openvino

        kept = int8_file(self._model)
        if not _intact(kept):
            raise EngineError(
                f"engine {self.name}: {kept}: damaged; roi-anon export --int8 writes it anew"
            )
        graph = openvino.Core().read_model(kept)
        mark = graph.get_rt_info(MARK).astype(str) if graph.has_rt_info(MARK) else None
        self._check_mark(mark, kept, "roi-anon export --int8")
        return graph


def _batch(picture: np.ndarray, factor: int) -> np.ndarray:
    """What an analysis takes: a batch of one picture, its edge repeated until the sides are multiples of ``factor``."""
    bottom, right = (-side % factor for side in picture.shape[:2])
    if bottom or right:
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(picture)[None]


def _write(graph: Any, path: Path) -> None:
    """Write a graph of OpenVINO's: ``path`` (.xml), its weights (.bin), and last the checksum of both (.sha256)."""
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        openvino.save_model(graph, made, compress_to_fp16=False)
        made.with_suffix(".sha256").write_text(_digest(made))
        for suffix in (".bin", ".xml", ".sha256"):
            os.replace(made.with_suffix(suffix), path.with_suffix(suffix))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in (path, path.with_suffix(".bin")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _intact(path: Path) -> bool:
    """Whether a graph's files are what was written: OpenVINO's parsers may crash on anything else."""
    try:
        return path.with_suffix(".sha256").read_text() == _digest(path)
    except OSError:
        return False


class OnnxRuntimeEngine(_GraphEngine):
    """ONNX Runtime with the first of TensorRT, CUDA and the processor that it was built with."""

    name = package = "onnxruntime"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        for part in PARTS:
            if not onnx_file(model, part).is_file():
                raise EngineError(
                    f"engine {self.name}: {onnx_file(model, part)}: no such file; roi-anon export writes it"
                )

    def _build(self, part: str) -> Callable[[np.ndarray], np.ndarray]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads(part)
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
        path = onnx_file(self._model, part)
        try:
            session = onnxruntime.InferenceSession(
                path, options, [w for w in wanted.items() if w[0] in there]
            )
        except Exception as error:  # its exceptions have no common base but this
            raise EngineError(f"engine {self.name}: {path}: {error}") from error
        self._check_mark(
            session.get_modelmeta().custom_metadata_map.get(MARK), path, "roi-anon export"
        )
        self._on[part] = session.get_providers()[0].removesuffix("ExecutionProvider")
        (name,) = (entry.name for entry in session.get_inputs())
        return lambda batch: session.run(None, {name: batch})[0]


class AutoEngine:
    """The fastest of the engines that are installed, for each half, found at the first picture and remembered."""

    name, package, parts = AUTO, "torch", PARTS

    def __init__(self, model: Model) -> None:
        self._model = model
        self._engines: dict[str, Engine] = {}
        self._choosing = threading.Lock()
        self._why: dict[str, str] = {}

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        return self._engine("analysis", picture.shape[1], picture.shape[0]).analyse(picture)

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        factor = self._model.codec.downsampling_factor
        height, width = (factor * side for side in symbols.shape[1:])
        return self._engine("synthesis", width, height).synthesise(symbols)

    def runs(self, part: str) -> str:
        """See :meth:`Engine.runs`."""
        return self._why.get(part, "not chosen before its first picture")

    def _engine(self, part: str, width: int, height: int) -> Engine:
        with self._choosing:
            if part not in self._engines:
                self._engines[part], self._why[part] = self._choose(part, width, height)
            return self._engines[part]

    def _choose(self, part: str, width: int, height: int) -> tuple[Engine, str]:
        """The engine of one half, and why."""
        size = f"{width}x{height}"
        engines: list[Engine] = []
        for name in ENGINES:
            try:
                engine = ENGINES[name](self._model)
            except EngineError as error:
                log.debug("%s", error)
            else:
                engines += [engine] if part in engine.parts else []
        versions = ", ".join(f"{engine.name} {version_of(engine.package)}" for engine in engines)
        key = f"{self._model.fingerprint.hex()} {part} {size} {_threads(part)} threads, {processor()}, {versions}"
        remembered = _remembered().get(key, {})
        for engine in engines:
            if engine.name == remembered.get("engine"):
                try:
                    self._run(engine, part, TRIAL[0], TRIAL[1])
                    return engine, f"{remembered['why']}, as measured before"
                except (
                    Exception
                ) as error:  # what worked may have been uninstalled in part: measure anew
                    log.warning("engine %s: %s", engine.name, error)
        seconds: dict[str, float] = {}
        for turn in range(
            1 + RUNS
        ):  # they take turns: whatever else the machine does hits them alike
            for engine in [engine for engine in engines if turn == 0 or engine.name in seconds]:
                try:
                    taken = self._run(engine, part, width, height)
                except Exception as error:  # whatever is wrong with it, the others may do
                    if engine.name == TorchEngine.name:
                        raise
                    log.warning("engine %s is left out: %s", engine.name, error)
                    seconds.pop(engine.name, None)
                else:  # the first run does not count
                    seconds[engine.name] = min(taken, seconds[engine.name]) if turn > 1 else taken
        best = min(
            (engine for engine in engines if engine.name in seconds),
            key=lambda engine: seconds[engine.name],
        )
        times = ", ".join(
            f"{name} {1e3 * taken:.1f} ms"
            for name, taken in sorted(seconds.items(), key=lambda s: s[1])
        )
        why = f"{best.runs(part)}, for {size}: {times}"
        if len(seconds) == len(engines):
            _remember(key, {"engine": best.name, "why": why})
        return best, why

    def _run(self, engine: Engine, part: str, width: int, height: int) -> float:
        """Seconds that one half takes for a picture of this size."""
        if part == "analysis":
            work: Callable[[np.ndarray], np.ndarray] = engine.analyse
            data = trial_picture(width, height)
        else:
            factor = self._model.codec.downsampling_factor
            work = engine.synthesise
            shape = (
                self._model.codec.entropy_bottleneck.channels,
                -(-height // factor),
                -(-width // factor),
            )
            data = np.zeros(shape, np.int32)
        begin = time.perf_counter()
        work(data)
        return time.perf_counter() - begin


#: The engines by name, but ``auto``.
ENGINES: dict[str, Callable[[Model], Engine]] = {
    engine.name: engine
    for engine in (TorchEngine, OpenVinoEngine, OpenVinoInt8Engine, OnnxRuntimeEngine)
}


def make_engine(name: str, model: Model) -> Engine:
    """An engine by its name.

    Args:
        name: ``torch``, ``openvino``, ``openvino-int8``, ``onnxruntime`` or ``auto``.
        model: that it runs.

    Raises:
        ValueError: no such engine.
        EngineError: what it needs is not here; from its first picture also: it is not what the reference is.
    """
    if name == AUTO:
        return AutoEngine(model)
    if name not in ENGINES:
        raise ValueError(f"engine: {name!r}, must be one of {', '.join([*ENGINES, AUTO])}")
    return ENGINES[name](model)


def onnx_file(model: Model, part: str) -> Path:
    """Where the ONNX file of one of the :data:`PARTS` lies: beside the model's file."""
    return model.path.with_name(f"{model.path.stem}-{part}.onnx")


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
    _need("onnxscript", "export")
    written = {part: onnx_file(model, part) for part in PARTS}
    model.path.parent.mkdir(parents=True, exist_ok=True)
    for part, path in written.items():
        names = ["picture", "symbols"] if part == "analysis" else ["symbols", "picture"]
        onnx = torch.onnx.export(
            program(model.codec, part),
            dynamo=True,
            verbose=False,
            input_names=names[:1],
            output_names=names[1:],
        )
        onnx.model.metadata_props[MARK] = model.fingerprint.hex()
        beside = path.with_suffix(".part")
        onnx.save(beside, external_data=False)
        os.replace(beside, path)
    return written


def int8_file(model: Model) -> Path:
    """Where the analysis in int8 lies: beside the model's file, with its weights (.bin) and a checksum (.sha256)."""
    return model.path.with_name(f"{model.path.stem}-analysis-int8.xml")


def calibrate(model: Model, pictures: Iterable[np.ndarray]) -> Path:
    """Write the analysis in int8 beside the model's file, for the engine ``openvino-int8``.

    NNCF rounds the weights of each convolution, and what goes into it, to 255 steps over the range that is seen in
    these pictures.

    Args:
        model: to calibrate; the folder of its ``path`` is made.
        pictures: uint8 ``[H, W, 3]`` RGB, as the cameras code them; some dozens.

    Returns:
        The file.

    Raises:
        ValueError: there are no pictures.
        EngineError: the packages for it are missing.
    """
    batches = [_batch(picture, model.codec.downsampling_factor) for picture in pictures]
    if not batches:
        raise ValueError("pictures: none, must be 1 at least")
    for package in ("openvino", "nncf"):
        _need(package, "export")
    logging.getLogger("torch.utils.cpp_extension").setLevel(
        logging.ERROR
    )  # nncf's import asks it for a GPU
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # its progress
        graph = nncf.quantize(
            openvino.convert_model(program(model.codec, "analysis")),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
        )
    graph.set_rt_info(model.fingerprint.hex(), MARK)
    _write(graph, int8_file(model))
    return int8_file(model)


def trial_picture(width: int, height: int) -> np.ndarray:
    """A drawn head before coloured noise with the spectrum of photos, about; the same every time.

    Args:
        width: pixels.
        height: pixels.

    Returns:
        uint8 ``[height, width, 3]`` RGB.
    """
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 128, np.float32)
    for side in (4, 8, 16, 32, 64, 128):
        coarse = rng.normal(0, 22, (max(height // side, 1), max(width // side, 1), 3)).astype(
            np.float32
        )
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = image.clip(0, 255).astype(np.uint8)
    # An engine whose gate does not close is refused only where the gate of the reference does.
    x, y, r = width // 3, height // 2, min(width, height) // 5
    cv2.ellipse(
        image, (x, y + 4 * r), (2 * r, 5 * r // 2), 0, 0, 360, (40, 50, 90), -1, cv2.LINE_AA
    )
    cv2.ellipse(image, (x, y - r // 4), (r, 5 * r // 4), 0, 0, 360, (60, 40, 30), -1, cv2.LINE_AA)
    cv2.ellipse(
        image, (x, y), (7 * r // 8, 9 * r // 8), 0, 0, 360, (205, 150, 125), -1, cv2.LINE_AA
    )
    for side in (-1, 1):
        cv2.ellipse(
            image,
            (x + side * 3 * r // 8, y - r // 6),
            (r // 6, r // 10),
            0,
            0,
            360,
            (50, 35, 30),
            -1,
        )
    cv2.ellipse(image, (x, y + r // 4), (r // 8, r // 5), 0, 0, 360, (180, 120, 100), -1)
    cv2.ellipse(image, (x, y + 5 * r // 8), (r // 3, r // 10), 0, 0, 360, (150, 70, 70), -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def differences(symbols: np.ndarray, reference: np.ndarray, step: int = 1) -> tuple[float, int]:
    """Share of the symbols that differ from the reference's, and how many do by more than ``step`` and a 64th of it."""
    apart = np.abs(symbols.astype(np.int64) - reference)
    return float((apart > 0).mean()), int((apart > step + np.abs(reference) / 64).sum())


def _threads(part: str) -> int:
    """Threads of one half: the analysis' number is fixed, so that the bytes do not depend on settings."""
    return ANALYSIS_THREADS if part == "analysis" else torch.get_num_threads()


def _need(package: str, extra: str = "edge") -> None:
    if find_spec(package) is None:
        raise EngineError(f"{package} is not installed: pip install 'roi_anon_ros[{extra}]'")


def processor(proc: Path = Path("/proc")) -> str:
    """What this machine calls its processor; an ARM board, which has no name for it, is named itself."""
    cpu = proc / "cpuinfo"
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    board = proc / "device-tree" / "model"
    if not models and board.is_file():
        models = [board.read_text().rstrip("\0")]
    numbers = [
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith(("CPU implementer", "CPU part"))
    ]
    arm = " ".join(dict.fromkeys(numbers))
    return models[0] if models else arm or platform.processor() or platform.machine()


def version_of(package: str) -> str:
    """Of a package that is there, perhaps under another distribution's name, such as onnxruntime-gpu."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _remembered() -> dict[str, Any]:
    """What was measured on this machine, by key; nothing where the file is unreadable."""
    try:
        found = json.loads((cache_dir() / MEMORY).read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _remember(key: str, choice: dict[str, str]) -> None:
    path = cache_dir() / MEMORY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / MEMORY
            part.write_text(json.dumps(_remembered() | {key: choice}, indent=1))
            os.replace(part, path)
    except (
        OSError
    ) as error:  # a read-only home costs the measurement at each start, and nothing else
        log.warning("%s: %s", path, error)
