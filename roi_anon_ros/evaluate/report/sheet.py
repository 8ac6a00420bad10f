"""Some images of an evaluation as each method leaves them, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.codec.image import coded_size, resize
from roi_anon_ros.datasets import Record, spread
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.evaluate.views import VIEWS, View
from roi_anon_ros.files import png
from roi_anon_ros.storage import write_bytes

#: Images shown, and their longest side in pixels.
IMAGES = 4
SIDE = 384


def pick(records: list[Record], count: int = IMAGES) -> list[Record]:
    """Images spread over those with the largest heads: where a person could be recognised, if
    anywhere.
    """

    def largest(record: Record) -> float:
        heads = record.heads.xyxy
        return float((heads[:, 2:] - heads[:, :2]).max(initial=0))

    by_size = sorted(records, key=largest, reverse=True)
    return spread(by_size[: max(count, len(by_size) // 5)], count)


def save_sheet(
    folder: Path,
    methods: Iterable[Method],
    records: list[Record],
    view: View = VIEWS["upright"],
) -> list[dict[str, Any]]:
    """Send images by each method, and write what arrives as PNGs.

    Returns:
        For each image ``name`` and ``methods``: the PNG's name in the folder by the method's name.
    """
    images = [view.send(view.see(record)[0]) for record in records]
    sheet: list[dict[str, Any]] = [{"name": record.path.name, "methods": {}} for record in records]
    for number, method in enumerate(methods):
        for index, (image, entry) in enumerate(zip(images, sheet, strict=True)):
            seen: np.ndarray = view.undo(method.decode(method.encode(image)))
            size = coded_size(seen.shape[1], seen.shape[0], SIDE)
            file = f"{index}-{number}.png"
            write_bytes(folder / file, png(resize(seen, *size)))
            entry["methods"][method.name] = file
    return sheet
