"""How many threads networks run on, and whether there is a GPU, without the import of torch."""

from __future__ import annotations

import ctypes
import os
import sys

_threads = 0


def use_threads(count: int) -> None:
    """Have networks that are loaded from now on run on this many threads of the processor."""
    global _threads
    _threads = count
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def adopt_threads() -> None:
    """Give torch, which was imported since, what :func:`use_threads` was told."""
    if _threads:
        sys.modules["torch"].set_num_threads(_threads)


def count_threads() -> int:
    """Threads for a network: as :func:`use_threads` or torch has it, else ``OMP_NUM_THREADS``, else
    one for each processor that this process may use.
    """
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return _threads or (int(asked) if asked.isdecimal() else 0) or len(os.sched_getaffinity(0))


def has_gpu() -> bool:
    """Whether NVIDIA's driver is here and finds a GPU."""
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False
