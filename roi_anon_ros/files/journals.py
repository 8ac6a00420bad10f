"""Journals: what a run did so far, a line each, for the run that goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

S = TypeVar("S")


class JsonLines:
    """A file of JSON lines that grows by one at a time, below a first one that says what they are.

    What a kill left of the last line is dropped. Use it as a context manager.

    Args:
        path: of the file; its folders are made.
        head: the first line; a file with another one, or a torn one, is begun anew.

    Attributes:
        entries: the lines that were there, without the first.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        end = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or (end == 0 and entry != head):
                break
            if end:
                self.entries.append(entry)
            end += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(end)
        if not end:
            self.write(head)

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; it is in the file when this returns."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
