"""The measurement: rounds, and what they sum up to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from roi_anon_ros.codec.image import check_image, resize
from roi_anon_ros.evaluate.latency.images import check_sizes
from roi_anon_ros.evaluate.latency.machine import (
    PRODUCT_SIDE,
    PRODUCTS,
    count_cores,
    describe_machine,
    time_product,
    use_threads,
)
from roi_anon_ros.evaluate.latency.memory import peak_memory
from roi_anon_ros.evaluate.latency.tables import STAGES
from roi_anon_ros.evaluate.latency.ways import Timed, now
from roi_anon_ros.evaluate.precision import bootstrap


def run(
    methods: Sequence[Timed],
    image: np.ndarray,
    sizes: Sequence[tuple[int, int]] = ((512, 512),),
    rounds: int = 30,
    warmup: int = 3,
    seed: int = 0,
    threads: int | None = None,
    reference: str | None = None,
    source: str = "an image of the caller",
    memory: bool = False,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Time all methods.

    Args:
        methods: to compare; their names differ.
        image: uint8 ``[H, W, 3]`` RGB, resized to each size.
        sizes: ``(width, height)``, 16 to 8192 pixels.
        rounds: that count for each size, at least 2.
        warmup: rounds before them that do not count, at least 1.
        seed: of the order of the methods in each round.
        threads: of torch, OpenCV and Pillow's AVIF, at least 1; None: as many as cores. Other
            encoders have one.
        reference: name of the method that the others are compared with; None: the first.
        source: what the image is, for the results.
        memory: also take the :func:`peak_memory` of each method, which is made anew for it by its
            name.
        track: yields what it is given, one step for each round of each size: for a bar of progress.

    Returns:
        What can be written as JSON. ``sizes`` holds for each size and method ``bits_per_pixel``,
        and for ``encode`` and ``decode`` the ``seconds`` of all rounds, their ``min``, ``mean``,
        ``median`` and ``sd``, the ``ratio`` of the median to the reference's with its 95 %
        ``ratio_interval`` (rounds drawn with replacement, both methods' together), and the
        ``stages`` with ``min``, ``mean``, ``median``, ``sd`` each, in seconds; ``memory`` in MiB.
        With ``multiply_adds`` also ``analysis``: GFLOP/s, and its share of the ``peak`` of float32
        and bfloat16 matrix products with all threads, taken in every round; each at its fastest,
        which on a busy machine are not equally fast. The rest says what was run, and where.

    Raises:
        ValueError: names the argument and the bound, or the method that decodes to another size.
    """
    check_image(image)
    check_sizes(sizes)
    names = [method.name for method in methods]
    reference = names[0] if reference is None and names else reference
    threads = count_cores() if threads is None else threads
    _check_numbers(rounds, warmup, threads)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods: {', '.join(names) or 'none'}, must be at least one, each once")
    if reference not in names:
        raise ValueError(f"reference: {reference!r}, must be one of {', '.join(names)}")
    environment = describe_machine(threads)
    # A copy: separate memory, writable and contiguous.
    images = {f"{w}x{h}": np.array(resize(image, w, h), order="C") for w, h in sizes}
    with use_threads(threads):
        taken, products = _take_rounds(methods, images, rounds, warmup, seed, track)
    peak = {
        str(dtype)[6:]: 2e-9 * PRODUCT_SIDE**3 / min(seconds) for dtype, seconds in products.items()
    }
    results: dict[str, Any] = {"image": source, "reference": reference}
    results |= {"rounds": rounds, "warmup": warmup, "seed": seed}
    results |= {
        "notes": {method.name: method.note for method in methods},
        "environment": environment,
        "peak": peak,
        "sizes": {},
    }
    for size, all_rounds in taken.items():
        pixels = images[size].size // 3
        results["sizes"][size] = {
            method.name: _summary(
                method, all_rounds[method.name], all_rounds[reference], pixels, peak
            )
            for method in methods
        }
        if memory:
            for method in methods:
                try:
                    results["sizes"][size][method.name]["memory"] = peak_memory(
                        method.name, images[size], threads
                    )
                except RuntimeError as error:  # the times are not lost for it
                    results["notes"][method.name] = "; ".join(
                        filter(None, [method.note, str(error)])
                    )
    return results


def _check_numbers(rounds: int, warmup: int, threads: int) -> None:
    for name, value, least in (
        ("rounds", rounds, 2),
        ("warmup", warmup, 1),
        ("threads", threads, 1),
    ):
        if value < least:
            raise ValueError(f"{name}: {value}, must be at least {least}")


def _take_rounds(
    methods: Sequence[Timed],
    images: dict[str, np.ndarray],
    rounds: int,
    warmup: int,
    seed: int,
    track: Callable[[Sequence[Any]], Iterable[Any]],
) -> tuple[dict[str, dict[str, list[dict[str, Any]]]], dict[torch.dtype, list[float]]]:
    """What :func:`_once` gave in each round that counts, by size and method, and the seconds of the
    matrix products that were taken between, by type.
    """
    order = random.Random(seed)
    taken: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for size in images:
        taken[size] = {method.name: [] for method in methods}
    products: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for size, number in track(
        [(size, number) for size in images for number in range(warmup + rounds)]
    ):
        for method in order.sample(list(methods), len(methods)):
            once = _once(method, images[size])
            if number >= warmup:
                taken[size][method.name].append(once)
        for dtype, seconds in products.items():
            seconds += [time_product(dtype) for _ in range(PRODUCTS)]
    return taken, products


def _once(method: Timed, image: np.ndarray) -> dict[str, Any]:
    """Seconds of one encode and one decode of what it made, with their stages."""
    begin = now()
    data, encode = method.encode(image)
    middle = now()
    decoded, decode = method.decode(data)
    end = now()
    if decoded.shape != image.shape:
        raise ValueError(f"{method.name}: decoded to {decoded.shape}, must be {image.shape}")
    return {
        "bytes": len(data),
        "encode": (middle - begin, encode),
        "decode": (end - middle, decode),
    }


def _summary(
    method: Timed,
    rounds: list[dict[str, Any]],
    base: list[dict[str, Any]],
    pixels: int,
    peak: dict[str, float],
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "bits_per_pixel": 8 * float(np.mean([once["bytes"] for once in rounds])) / pixels
    }
    for what in STAGES:
        pairs = [
            (mine[what][0], theirs[what][0]) for mine, theirs in zip(rounds, base, strict=True)
        ]
        seconds = [mine for mine, _ in pairs]
        figures[what] = {"seconds": seconds, **_statistics(seconds), "ratio": _ratio(pairs)}
        figures[what]["ratio_interval"] = list(bootstrap(pairs, _ratio))
        laps = [once[what][1] for once in rounds]
        stages: dict[str, Any] = {}
        for stage in laps[0]:
            stages[stage] = _statistics([lap[stage] for lap in laps])
        figures[what]["stages"] = stages
    if method.multiply_adds and "analysis" in figures["encode"]["stages"]:
        gflops = (
            2e-9 * method.multiply_adds * pixels / figures["encode"]["stages"]["analysis"]["min"]
        )
        figures["analysis"] = {
            "gflops": gflops,
            "share": {dtype: gflops / value for dtype, value in peak.items()},
        }
    return figures


def _statistics(seconds: list[float]) -> dict[str, float]:
    values = np.array(seconds)
    figures = {
        "min": values.min(),
        "mean": values.mean(),
        "median": np.median(values),
        "sd": values.std(ddof=1),
    }
    return {name: float(value) for name, value in figures.items()}


def _ratio(pairs: list[tuple[float, float]]) -> float:
    mine, theirs = np.median(pairs, axis=0)
    return float(mine / theirs)
