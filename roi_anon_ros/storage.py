"""Files: what they are called, written whole or not at all, and what tells two of them apart."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

#: What a file is called that is taken for an image, in lower case.
IMAGE_SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def draft_of(target: Path) -> Path:
    """Where an output stands while it is written, by one process at a time."""
    return target.with_name(target.name + ".part")


def move_into_place(draft: Path, target: Path, modified_ns: int) -> None:
    """Move a complete output to its place, with the modification time of its source.

    A later run tells by this time that the output is of this very source.
    """
    os.utime(draft, ns=(modified_ns, modified_ns))
    os.replace(draft, target)


def write_bytes(target: Path, data: bytes, modified_ns: int | None = None) -> None:
    """Write a whole file in one step; several processes may do that at once.

    Args:
        target: the file; its folders are made.
        data: its content.
        modified_ns: its time of modification; None: now.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        move_into_place(draft, target, time.time_ns() if modified_ns is None else modified_ns)
    finally:
        draft.unlink(missing_ok=True)


def digest(*contents: bytes | Path, digits: int = 16) -> str:
    """The first hex digits of SHA-256 over bytes and the contents of files, one after the other."""
    made = hashlib.sha256()
    for content in contents:
        made.update(content.read_bytes() if isinstance(content, Path) else content)
    return made.hexdigest()[:digits]
