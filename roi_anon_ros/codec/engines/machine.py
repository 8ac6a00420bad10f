"""What this machine is, and what is installed on it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from roi_anon_ros.codec.errors import EngineError


def require(package: str, extra: str = "edge") -> None:
    """Raise an EngineError that says what to install, unless this package is there."""
    if find_spec(package) is None:
        raise EngineError(f"{package} is not installed: pip install 'roi_anon_ros[{extra}]'")


def processor(proc: Path = Path("/proc")) -> str:
    """What this machine calls its processor; an ARM board, which has no name for it, is named
    itself.
    """
    cpu = proc / "cpuinfo"
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    models = read_values(lines, "model name")
    board = proc / "device-tree" / "model"
    if not models and board.is_file():
        models = [board.read_text().rstrip("\0")]
    arm = " ".join(dict.fromkeys(read_values(lines, "CPU implementer", "CPU part")))
    return models[0] if models else arm or platform.processor() or platform.machine()


def read_values(lines: list[str], *names: str) -> list[str]:
    """Values of the lines ``name : value`` with one of these names."""
    return [line.partition(":")[2].strip() for line in lines if line.startswith(names)]


def version_of(package: str) -> str:
    """Of a package that is there, perhaps under another distribution's name, such as
    onnxruntime-gpu.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
