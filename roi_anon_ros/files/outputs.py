"""Outputs: written next to their place, as ``.part``, and put there in one step when they are complete."""

from __future__ import annotations

import os
import time
from pathlib import Path


def part_of(target: Path) -> Path:
    """Where an output stands while it is written."""
    return target.with_name(target.name + ".part")


def put(part: Path, target: Path, modified_ns: int) -> None:
    """Move a complete output to its place, with the modification time of its source.

    A later run tells by this time that the output is of this very source.
    """
    os.utime(part, ns=(modified_ns, modified_ns))
    os.replace(part, target)


def write_bytes(target: Path, data: bytes, modified_ns: int | None = None) -> None:
    """Write a whole file in one step, with this time of modification or, by default, now's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    part.write_bytes(data)
    put(part, target, time.time_ns() if modified_ns is None else modified_ns)
