"""The one door to CompressAI: without the modules that load torchvision and torch_geometric, which
take longer than torch itself and which no network here needs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = [
    "GDN1",
    "CompressionModel",
    "EntropyBottleneck",
    "conv",
    "deconv",
    "register_model",
]

#: What loads them: imported when somebody asks for it.
LATE = ("compressai.datasets", "compressai.registry.transforms", "compressai.transforms")
#: What the registry takes from there.
LATE_NAMES = ("TRANSFORMS", "register_transform")


def import_compressai() -> ModuleType:
    """Import CompressAI and return it.

    Its datasets and transforms are imported where they are first used, by a separate import or
    as attributes. Where CompressAI was imported before, nothing changes.
    """
    if "compressai" in sys.modules:
        return sys.modules["compressai"]
    for name in LATE:
        stand_in = ModuleType(name)
        stand_in.__dict__.update(dict.fromkeys(LATE_NAMES))
        sys.modules[name] = stand_in
    try:
        compressai = importlib.import_module("compressai")
    finally:
        for name in LATE:
            del sys.modules[name]
    registry = importlib.import_module("compressai.registry")
    for package in (compressai, registry):
        for name in ("datasets", "transforms", *LATE_NAMES):
            package.__dict__.pop(name, None)
    compressai.__dict__["__getattr__"] = _find_module
    registry.__dict__["__getattr__"] = _find_transform
    return compressai


def _find_module(name: str) -> ModuleType:
    """``compressai.NAME``, where CompressAI does not have it yet."""
    if f"compressai.{name}" not in LATE:
        raise AttributeError(f"module 'compressai' has no attribute {name!r}")
    return importlib.import_module(f"compressai.{name}")


def _find_transform(name: str) -> dict[str, Any] | Callable[..., Any]:
    """``compressai.registry.NAME``, where the registry does not have it yet."""
    if name not in LATE_NAMES:
        raise AttributeError(f"module 'compressai.registry' has no attribute {name!r}")
    if name == "TRANSFORMS":
        importlib.import_module("compressai.transforms")  # which enters CompressAI's own
    return getattr(importlib.import_module("compressai.registry.transforms"), name)


import_compressai()

from compressai.entropy_models import EntropyBottleneck  # noqa: E402
from compressai.layers import GDN1  # noqa: E402
from compressai.models import CompressionModel  # noqa: E402
from compressai.models.utils import conv, deconv  # noqa: E402
from compressai.registry import register_model  # noqa: E402
