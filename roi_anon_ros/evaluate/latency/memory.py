"""The peak memory of a method."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from roi_anon_ros.evaluate.latency.machine import count_cores, use_threads
from roi_anon_ros.evaluate.latency.ways import make_timed


def peak_memory(name: str, image: np.ndarray, threads: int | None = None) -> float:
    """Memory that a method takes at most, MiB: of a separate process that encodes and decodes an
    image three times.

    What the process had before it made the method, Python and the libraries, is not in it; the
    method's weights are.

    Args:
        name: as :func:`make_timed` takes it.
        image: uint8 ``[H, W, 3]`` RGB.
        threads: as in :func:`run`.

    Raises:
        RuntimeError: the process ended without an answer.
    """
    spawn = multiprocessing.get_context("spawn")
    answer, question = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_grow, args=(name, image, threads or count_cores(), question))
    process.start()
    question.close()
    try:
        return answer.recv() / 2**20
    except EOFError:
        raise RuntimeError(f"{name}: the process that was to measure its memory ended") from None
    finally:
        process.join()


def _grow(name: str, image: np.ndarray, threads: int, answer: Connection) -> None:
    """Send by how many bytes this process grows."""
    with use_threads(threads):
        before = _memory("VmRSS")
        method = make_timed(name, image)
        for _ in range(3):
            method.decode(method.encode(image)[0])
        answer.send(_memory("VmHWM") - before)


def _memory(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS, the present memory, or VmHWM, the highest so
    far.
    """
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return 1024 * int(line.split()[1])
