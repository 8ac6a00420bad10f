"""How long encoding and decoding take: all rows take turns in one run, memory to memory.

A picture is an array in memory before the clock starts, and what is sent is bytes in memory. In each round every row
encodes and decodes once, in a new order, so that whatever else the machine does hits all of them alike: quote the
ratios to the reference row, and the milliseconds only with the machine they were measured on.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import compressai
import cv2
import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import AvifImagePlugin, features
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from roi_anon_ros.codec import MAX_SIZE, MIN_SIZE, Codec
from roi_anon_ros.codec.engines import processor, version_of
from roi_anon_ros.codec.modelfile import Model, fingerprint
from roi_anon_ros.codec.networks import ANALYSIS_THREADS, AnonymizingCodec, PaperCodec, pad_to_multiple
from roi_anon_ros.codec.picture import check_picture, resize
from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.evaluate.precision import bootstrap
from roi_anon_ros.evaluate.rows import ORIGINAL, STILL, load_codec, make_row
from roi_anon_ros.evaluate.tables import Table
from roi_anon_ros.files import read_picture

#: The paper's network the paper's own way, and the same network through this package's codec.
PAPER, PAPER_HERE = "paper", "paper-here"
#: Stages of a model, in their order.
STAGES = {"encode": ("fit", "analysis", "entropy", "pack"), "decode": ("unpack", "entropy", "synthesis")}
#: Channels that carry something in a latent that nobody trained, of 128.
ALIVE = 24
#: Side of the square matrices whose products measure the machine, and products in each round: short ones, of which
#: some get through between whatever else runs.
PRODUCT_SIDE, PRODUCTS = 1024, 4

_SIZE = struct.Struct("<HH")


@dataclass(frozen=True)
class Timed:
    """One row of a benchmark.

    Attributes:
        name: in the tables.
        encode: a picture, uint8 ``[H, W, 3]`` RGB, to what is sent, and the seconds of its stages (may be none).
        decode: what was sent to a picture of the same size, and the seconds of its stages.
        note: what a reader of the table has to know.
        multiply_adds: of the analysis transform, for each pixel of the picture; 0: no analysis.
    """

    name: str
    encode: Callable[[np.ndarray], tuple[bytes, dict[str, float]]]
    decode: Callable[[bytes], tuple[np.ndarray, dict[str, float]]]
    note: str = ""
    multiply_adds: float = 0.0


def make_timed(name: str, picture: np.ndarray) -> Timed:
    """A row by its name.

    Args:
        name: as :func:`rows.make_row` takes it; ``paper``: the paper's network (128, 2) that nobody trained, the
            paper's own way (:func:`paper_way`); ``paper:MODEL``: the network of a model that way; ``paper-here``: the
            network of ``paper`` through this package's codec.
        picture: uint8 ``[H, W, 3]`` RGB, by which :func:`paper_network` sets its rate.

    Raises:
        ValueError: no row has this name.
        ModelFileError: the model cannot be loaded.
    """
    if name.startswith(f"{PAPER}:"):
        return paper_way(Codec.load(name.partition(":")[2]).model.codec, name)
    what, _, engine = name.partition("@")
    if name == PAPER or what == PAPER_HERE:
        net = paper_network(picture)
        note = f"not trained: scaled to a realistic rate, {ALIVE} of 128 channels carry it; its pictures show nothing"
        if name == PAPER:
            return paper_way(net, name, note)
        model = Model(net, fingerprint(net.state_dict()), {"name": name})
        return codec_way(Codec(model, engine or "torch"), name, note)
    if name == ORIGINAL or name.rpartition("+")[2].partition(":")[0] in STILL:
        row = make_row(name)
        note = "" if name == ORIGINAL else "Pillow's encoder with its other defaults"
        return Timed(name, lambda image: (row.encode(image), {}), lambda data: (row.decode(data), {}), note)
    return codec_way(load_codec(name), name)


def codec_way(codec: Codec, name: str, note: str = "") -> Timed:
    """A model as the nodes run it: pictures to packets at their own size, and back."""

    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        encoded = codec.encode(image, 0)
        return encoded.packet, encoded.seconds

    def decode(packet: bytes) -> tuple[np.ndarray, dict[str, float]]:
        decoded = codec.decode(packet, MAX_SIZE**2)
        return decoded.at_source_size(), decoded.seconds

    note = "; ".join(filter(None, [f"analysis with {ANALYSIS_THREADS} threads, whatever is set", note]))
    return Timed(name, encode, decode, note, _multiply_adds(codec.model.codec))


def paper_way(net: AnonymizingCodec, name: str = PAPER, note: str = "") -> Timed:
    """A network the way the paper runs it: plain torch in float32, and CompressAI's entropy coder.

    The steps are those of ``compress`` and ``decompress`` of CompressAI's ``FactorizedPrior``; what is sent is its
    string behind the picture's size, 4 bytes.

    Args:
        net: with tables (``update()`` was called); it is copied to the device where it stands.
        name: of the row.
        note: of the row.
    """
    note = "; ".join(filter(None, ["plain torch, CompressAI's entropy coder", note]))
    device = net.entropy_bottleneck.quantiles.device
    # A copy, for Codec keeps the weights of its network channels last.
    net = type(net).from_state_dict(net.state_dict()).to(device).eval()
    factor = net.downsampling_factor

    @torch.inference_mode()
    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        clock = _Clock()
        x = pad_to_multiple(_to_tensor(image).to(device), factor)
        clock.lap("fit")
        y = net.g_a(x)
        clock.lap("analysis")
        string = net.entropy_bottleneck.compress(y)[0]
        clock.lap("entropy")
        data = _SIZE.pack(*image.shape[:2]) + string
        clock.lap("pack")
        return data, clock.seconds

    @torch.inference_mode()
    def decode(data: bytes) -> tuple[np.ndarray, dict[str, float]]:
        clock = _Clock()
        height, width = _SIZE.unpack_from(data)
        string = data[_SIZE.size :]
        clock.lap("unpack")
        y_hat = net.entropy_bottleneck.decompress([string], (-(-height // factor), -(-width // factor)))
        clock.lap("entropy")
        x_hat = net.g_s(y_hat).clamp_(0, 1)[0, :, :height, :width]
        image = x_hat.mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
        clock.lap("synthesis")
        return image, clock.seconds

    return Timed(name, encode, decode, note, _multiply_adds(net))


@torch.no_grad()
def paper_network(picture: np.ndarray, bits_per_pixel: float = 0.25, seed: int = 0) -> PaperCodec:
    """The paper's network (128, 2) with weights that nobody trained: for its time, not for its pictures.

    What an entropy coder takes depends on the latent, and a fresh network's costs nothing like a trained one's. So
    the last convolution and the prior are scaled until the latent of this picture costs ``bits_per_pixel``, evenly
    over 24 of the 128 channels; the others are 0 everywhere. That is how trained latents look (the model ``fast``
    uses 12 of 128 channels for half the rate), and it is an assumption: a coder that skips empty channels gains by it.

    Args:
        picture: uint8 ``[H, W, 3]`` RGB; another picture or size costs a little more or less.
        bits_per_pixel: 0.05 to 0.6.
        seed: of the weights.

    Raises:
        ValueError: names the field and the bound.
    """
    check_picture(picture)
    if not 0.05 <= bits_per_pixel <= 0.6:
        raise ValueError(f"bits_per_pixel: {bits_per_pixel}, must be from 0.05 to 0.6")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PaperCodec(128, 2).eval()
    last, prior = net.g_a[-1], net.entropy_bottleneck
    y = net.g_a(pad_to_multiple(_to_tensor(picture), net.downsampling_factor))
    sd, mean = torch.std_mean(y, (0, 2, 3))
    unit = ((y - mean[:, None, None]) / sd[:, None, None])[:, :ALIVE]
    to_scale = math.sqrt(3) / math.pi  # of a logistic distribution, from its standard deviation

    def rate(spread: float) -> float:
        far, scale = (unit * spread).round().abs(), spread * to_scale
        likelihood = torch.sigmoid((0.5 - far) / scale) - torch.sigmoid((-0.5 - far) / scale)
        return -float(likelihood.clamp_min(1e-9).log2().sum()) * 3 / picture.size

    low, high = 0.1, 100.0
    for _ in range(16):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rate(middle) < bits_per_pixel else (low, middle)
    spread = torch.full_like(sd, 0.01)
    spread[:ALIVE] = low
    last.weight.mul_((spread / sd)[:, None, None, None])
    last.bias.sub_(mean).mul_(spread / sd)
    # A fresh prior is logistic, with the scale init_scale and a median anywhere: now with these scales, around 0.
    scale = (spread * to_scale)[:, None, None]
    for bias in prior.biases:
        bias.zero_()
    slope = F.softplus(prior.matrices[0]) * prior.init_scale / scale
    prior.matrices[0].copy_(slope + torch.log(-torch.expm1(-slope)))
    prior.quantiles.copy_(scale * prior.target)
    net.update()
    return net


def default_picture() -> tuple[np.ndarray, str]:
    """A picture to encode, uint8 ``[H, W, 3]`` RGB, and what it is: a photo that comes with ultralytics, or drawn."""
    if photo := example_photo("bus.jpg"):
        return read_picture(photo), "bus.jpg of ultralytics"
    return synthetic_picture(), "synthetic"


def synthetic_picture() -> np.ndarray:
    """Discs that hide each other, ``[1024, 1024, 3]``: with edges, and about the spectrum of photos."""
    rng = np.random.default_rng(0)
    image = np.full((1024, 1024, 3), 128, np.uint8)
    # As many of a radius as its power -3, as in a scene with things at all distances.
    for radius in (6 / np.sqrt(rng.uniform(0.0005, 1, 4000))).round().astype(int).tolist():
        colour = np.clip(rng.uniform(0, 255) + rng.normal(0, 20, 3), 0, 255).tolist()
        cv2.circle(image, rng.integers(0, 1024, 2).tolist(), radius, colour, -1, cv2.LINE_AA)
    return image


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Sizes ``(width, height)`` in pixels from a list such as ``640x480,1280x720``.

    Raises:
        ValueError: names what is no size, or the side that is out of bounds.
    """
    sizes = []
    for size in text.split(","):
        width, _, height = size.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise ValueError(f"size: {size!r}, must be WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    _check_sizes(sizes)
    return list(dict.fromkeys(sizes))


def run(
    rows: Sequence[Timed],
    picture: np.ndarray,
    sizes: Sequence[tuple[int, int]] = ((512, 512),),
    rounds: int = 30,
    warmup: int = 3,
    seed: int = 0,
    threads: int | None = None,
    reference: str | None = None,
    source: str = "a picture of the caller",
    memory: bool = False,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Time all rows.

    Args:
        rows: to compare; their names differ.
        picture: uint8 ``[H, W, 3]`` RGB, resized to each size.
        sizes: ``(width, height)``, 16 to 8192 pixels.
        rounds: that count for each size, at least 2.
        warmup: rounds before them that do not count, at least 1.
        seed: of the order of the rows in each round.
        threads: of torch, OpenCV and Pillow's AVIF, at least 1; None: as many as cores. Other encoders have one.
        reference: name of the row that the others are compared with; None: the first.
        source: what the picture is, for the results.
        memory: also take the :func:`peak_memory` of each row, which is made anew for it by its name.
        track: yields what it is given, one step for each round of each size: for a bar of progress.

    Returns:
        What can be written as JSON. ``sizes`` holds for each size and row ``bits_per_pixel``, and for ``encode`` and
        ``decode`` the ``seconds`` of all rounds, their ``min``, ``mean``, ``median`` and ``sd``, the ``ratio`` of the
        median to the reference's with its 95 % ``ratio_interval`` (rounds drawn with replacement, both rows' together),
        and the ``stages`` with ``min``, ``mean``, ``median``, ``sd`` each, in seconds; ``memory`` in MiB. With
        ``multiply_adds`` also ``analysis``: GFLOP/s, and its share of the ``peak`` of float32 and bfloat16 matrix
        products with all threads, taken in every round; each at its fastest, which on a busy machine are not equally
        fast. The rest says what
        was run, and where.

    Raises:
        ValueError: names the argument and the bound, or the row that decodes to another size.
    """
    check_picture(picture)
    _check_sizes(sizes)
    names = [row.name for row in rows]
    reference = names[0] if reference is None and names else reference
    threads = _cores() if threads is None else threads
    for name, value, least in (("rounds", rounds, 2), ("warmup", warmup, 1), ("threads", threads, 1)):
        if value < least:
            raise ValueError(f"{name}: {value}, must be at least {least}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"rows: {', '.join(names) or 'none'}, must be at least one, each once")
    if reference not in names:
        raise ValueError(f"reference: {reference!r}, must be one of {', '.join(names)}")
    environment = _environment(threads)
    order = random.Random(seed)
    # A copy: of its own memory, writable and contiguous.
    pictures = {f"{w}x{h}": np.array(resize(picture, w, h), order="C") for w, h in sizes}
    taken: dict[str, dict[str, list[dict[str, Any]]]] = {size: {name: [] for name in names} for size in pictures}
    products: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with _threads(threads):
        for size, number in track([(size, number) for size in pictures for number in range(warmup + rounds)]):
            for row in order.sample(list(rows), len(rows)):
                once = _once(row, pictures[size])
                if number >= warmup:
                    taken[size][row.name].append(once)
            for dtype, seconds in products.items():
                seconds += [_product(dtype) for _ in range(PRODUCTS)]
    peak = {str(dtype)[6:]: 2e-9 * PRODUCT_SIDE**3 / min(seconds) for dtype, seconds in products.items()}
    results: dict[str, Any] = {"picture": source, "reference": reference}
    results |= {"rounds": rounds, "warmup": warmup, "seed": seed}
    results |= {"notes": {row.name: row.note for row in rows}, "environment": environment, "peak": peak, "sizes": {}}
    for size, all_rounds in taken.items():
        pixels = pictures[size].size // 3
        results["sizes"][size] = {
            row.name: _summary(row, all_rounds[row.name], all_rounds[reference], pixels, peak) for row in rows
        }
        if memory:
            for row in rows:
                try:
                    results["sizes"][size][row.name]["memory"] = peak_memory(row.name, pictures[size], threads)
                except RuntimeError as error:  # the times are not lost for it
                    results["notes"][row.name] = "; ".join(filter(None, [row.note, str(error)]))
    return results


def peak_memory(name: str, picture: np.ndarray, threads: int | None = None) -> float:
    """Memory that a row takes at most, MiB: of a process of its own that encodes and decodes a picture three times.

    What the process had before it made the row, Python and the libraries, is not in it; the row's weights are.

    Args:
        name: as :func:`make_timed` takes it.
        picture: uint8 ``[H, W, 3]`` RGB.
        threads: as in :func:`run`.

    Raises:
        RuntimeError: the process ended without an answer.
    """
    spawn = multiprocessing.get_context("spawn")
    answer, question = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_grow, args=(name, picture, threads or _cores(), question))
    process.start()
    question.close()
    try:
        return answer.recv() / 2**20
    except EOFError:
        raise RuntimeError(f"{name}: the process that was to measure its memory ended") from None
    finally:
        process.join()


def _grow(name: str, picture: np.ndarray, threads: int, answer: Connection) -> None:
    """Send by how many bytes this process grows."""
    with _threads(threads):
        before = _memory("VmRSS")
        row = make_timed(name, picture)
        for _ in range(3):
            row.decode(row.encode(picture)[0])
        answer.send(_memory("VmHWM") - before)


def _memory(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS, the present memory, or VmHWM, the highest so far."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def tables(results: dict[str, Any]) -> list[Table]:
    """The rows in a table for each size, ratios first.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, rows in results["sizes"].items():
        lines = [[size, *(f"{what}, of {results['reference']}'s (95 %)" for what in STAGES), "bits per pixel"]]
        lines[0] += [f"{what}, ms: median (min, mean ± sd)" for what in STAGES]
        lines[0] += ["peak memory, MiB"] * any("memory" in row for row in rows.values())
        for name, row in rows.items():
            ratios = (map("{:#.3g}".format, [row[w]["ratio"], *row[w]["ratio_interval"]]) for w in STAGES)
            lines.append([name, *("{} ({} to {})".format(*ratio) for ratio in ratios), f"{row['bits_per_pixel']:.3f}"])
            for what in STAGES:
                median, least, mean, sd = (1e3 * row[what][key] for key in ("median", "min", "mean", "sd"))
                lines[-1].append(f"{median:.2f} ({least:.2f}, {mean:.2f} ± {sd:.2f})")
            if "memory" in row:
                lines[-1].append(f"{row['memory']:.0f}")
        made.append(lines)
    return made


def stage_tables(results: dict[str, Any]) -> list[Table]:
    """The stages of the rows that have some, for each size: medians, and how near the analysis comes to the peak.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, rows in results["sizes"].items():
        lines = [[f"{size}, ms", *(f"{what}: {stage}" for what, names in STAGES.items() for stage in names)]]
        lines[0] += ["analysis, GFLOP/s", *(f"of {value:.0f}, {dtype}" for dtype, value in results["peak"].items())]
        for name, row in rows.items():
            if not row["encode"]["stages"]:
                continue
            taken = [row[what]["stages"].get(stage) for what, names in STAGES.items() for stage in names]
            lines.append([name, *("–" if stage is None else f"{1e3 * stage['median']:.2f}" for stage in taken)])
            if "analysis" in row:
                shares = row["analysis"]["share"].values()
                lines[-1] += [f"{row['analysis']['gflops']:.1f}", *(f"{share:.0%}" for share in shares)]
            else:
                lines[-1] += ["–"] * (1 + len(results["peak"]))
        made.append(lines)
    return made


def notes(results: dict[str, Any]) -> list[str]:
    """What belongs below the tables: the rows' notes, and the machine.

    Args:
        results: of :func:`run`.
    """
    machine = ", ".join(f"{key} {value}" for key, value in results["environment"].items())
    lines = [f"{name}: {note}" for name, note in results["notes"].items() if note]
    rounds = f"{results['rounds']} rounds after {results['warmup']} to warm up"
    return [*lines, f"{results['picture']}, {rounds}, on {machine}"]


def _once(row: Timed, image: np.ndarray) -> dict[str, Any]:
    """Seconds of one encode and one decode of what it made, with their stages."""
    begin = _now()
    data, encode = row.encode(image)
    middle = _now()
    decoded, decode = row.decode(data)
    end = _now()
    if decoded.shape != image.shape:
        raise ValueError(f"{row.name}: decoded to {decoded.shape}, must be {image.shape}")
    return {"bytes": len(data), "encode": (middle - begin, encode), "decode": (end - middle, decode)}


def _summary(
    row: Timed, rounds: list[dict[str, Any]], base: list[dict[str, Any]], pixels: int, peak: dict[str, float]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"bits_per_pixel": 8 * float(np.mean([once["bytes"] for once in rounds])) / pixels}
    for what in STAGES:
        pairs = [(mine[what][0], theirs[what][0]) for mine, theirs in zip(rounds, base, strict=True)]
        seconds = [mine for mine, _ in pairs]
        figures[what] = {"seconds": seconds, **_statistics(seconds), "ratio": _ratio(pairs)}
        figures[what]["ratio_interval"] = list(bootstrap(pairs, _ratio))
        laps = [once[what][1] for once in rounds]
        figures[what]["stages"] = {stage: _statistics([lap[stage] for lap in laps]) for stage in laps[0]}
    if row.multiply_adds and "analysis" in figures["encode"]["stages"]:
        gflops = 2e-9 * row.multiply_adds * pixels / figures["encode"]["stages"]["analysis"]["min"]
        figures["analysis"] = {"gflops": gflops, "share": {dtype: gflops / value for dtype, value in peak.items()}}
    return figures


def _statistics(seconds: list[float]) -> dict[str, float]:
    values = np.array(seconds)
    figures = {"min": values.min(), "mean": values.mean(), "median": np.median(values), "sd": values.std(ddof=1)}
    return {name: float(value) for name, value in figures.items()}


def _ratio(pairs: list[tuple[float, float]]) -> float:
    mine, theirs = np.median(pairs, axis=0)
    return float(mine / theirs)


def _product(dtype: torch.dtype) -> float:
    """Seconds of one product of square matrices."""
    matrix = torch.full((PRODUCT_SIDE, PRODUCT_SIDE), 0.5, dtype=dtype)
    out = matrix.clone()  # memory that is there
    begin = _now()
    torch.mm(matrix, matrix, out=out)
    return _now() - begin


def _multiply_adds(net: AnonymizingCodec) -> float:
    """Of the analysis transform, for each pixel of the picture."""
    side = 4 * net.downsampling_factor
    x = torch.zeros(1, 3, side, side, device=net.entropy_bottleneck.quantiles.device)
    with FlopCounterMode(display=False) as counter:
        net.g_a(x)
    return counter.get_total_flops() / 2 / side**2


def _environment(threads: int) -> dict[str, Any]:
    return {
        "cpu": processor(),
        "cores": _cores(),
        "threads": threads,
        "load average before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{package: version_of(package) for package in ("openvino", "onnxruntime") if find_spec(package)},
        "compressai": compressai.__version__,
        "pillow": PIL.__version__,
        **{f"lib{name}": features.version(name) for name in ("avif", "webp", "jpg")},
    }


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads(), AvifImagePlugin.DEFAULT_MAX_THREADS
    try:
        torch.set_num_threads(number)
        cv2.setNumThreads(number)
        AvifImagePlugin.DEFAULT_MAX_THREADS = number  # Pillow has no other way to tell its decoder
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        AvifImagePlugin.DEFAULT_MAX_THREADS = before[2]


def _check_sizes(sizes: Sequence[tuple[int, int]]) -> None:
    if not sizes:
        raise ValueError("sizes: none, must be at least one")
    for size in sizes:
        for name, side in zip(("width", "height"), size, strict=True):
            if not MIN_SIZE <= side <= MAX_SIZE:
                raise ValueError(f"{name}: {side} pixels, must be from {MIN_SIZE} to {MAX_SIZE}")


def _now() -> float:
    """Seconds, once accelerators have done what they were asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return perf_counter()


class _Clock:
    """Seconds of each stage since the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = _now()

    def lap(self, stage: str) -> None:
        now = _now()
        self.seconds[stage] = now - self._last
        self._last = now


def _to_tensor(image: np.ndarray) -> Tensor:
    """uint8 ``[H, W, 3]`` to float32 ``[1, 3, H, W]`` in [0, 1], channels first in memory, as torchvision does it."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()[None].float().div_(255)
