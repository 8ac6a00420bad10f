"""The machine that is measured on: its threads, its peak, and what is installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import cv2
import PIL
import torch
from PIL import AvifImagePlugin, features

from roi_anon_ros.codec.engines import processor, version_of
from roi_anon_ros.evaluate.latency.ways import now

#: Side of the square matrices whose products measure the machine.
PRODUCT_SIDE = 1024
#: Products in each round: short ones, of which some get through between whatever else runs.
PRODUCTS = 4


def time_product(dtype: torch.dtype) -> float:
    """Seconds of one product of square matrices."""
    matrix = torch.full((PRODUCT_SIDE, PRODUCT_SIDE), 0.5, dtype=dtype)
    out = matrix.clone()  # memory that is there
    begin = now()
    torch.mm(matrix, matrix, out=out)
    return now() - begin


def describe_machine(threads: int) -> dict[str, Any]:
    """What the times depend on besides the methods."""
    return {
        "cpu": processor(),
        "cores": count_cores(),
        "threads": threads,
        "load average before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{
            package: version_of(package)
            for package in ("openvino", "onnxruntime")
            if find_spec(package)
        },
        "compressai": version_of("compressai"),
        "pillow": PIL.__version__,
        **{f"lib{name}": features.version(name) for name in ("avif", "webp", "jpg")},
    }


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Let torch, OpenCV and Pillow's AVIF compute with this many threads, for as long as the
    context lasts.
    """
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
