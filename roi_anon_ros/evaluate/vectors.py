"""Arrays that are kept from one run to the next."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from roi_anon_ros.storage import write_bytes


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an ``.npy`` file, whole or not at all."""
    stream = io.BytesIO()
    np.save(stream, array)
    write_bytes(path, stream.getvalue())


def keep_rows(path: Path, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield rows, and keep them once all have been made; those of a former run where it did.

    Args:
        path: ``.npy`` file whose name tells these rows from others.
        rows: of one shape; none is made where the file is there.
    """
    if path.is_file():
        yield from np.load(path)
        return
    made = []
    for row in rows:
        made.append(row)
        yield row
    write_array(path, np.array(made))
