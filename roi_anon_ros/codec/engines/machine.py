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


def processor() -> str:
    """What this machine calls its processor."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def version_of(package: str) -> str:
    """Of a package that is there, perhaps under another distribution's name, such as
    onnxruntime-gpu.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
