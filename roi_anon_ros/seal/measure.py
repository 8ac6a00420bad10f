"""What sealing costs, and what other ways to code the pixels would.

``python -m roi_anon_ros.seal.measure IMAGE...`` prints the tables of docs/seal.md. Ellipses as
large as heads cover 5 % and 20 % of each image at 640 x 480. Times are the processor's, of all
threads.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from roi_anon_ros.seal.format import CELL, cells_shape
from roi_anon_ros.seal.grants import new_segment
from roi_anon_ros.seal.keys import load_officers, load_private_key, new_key
from roi_anon_ros.seal.opener import Opener
from roi_anon_ros.seal.pixels import code_pixels, decode_pixels, paste_pixels
from roi_anon_ros.seal.sealer import Sealer

SIZE = (640, 480)
SHARES = (0.05, 0.2)
REPEATS = 10
#: As long as a packet of such an image.
PACKET = bytes(8000)

Box = tuple[int, int, int, int]
OTHER_WAYS = {
    "JPEG": {"format": "JPEG", "quality": 90, "subsampling": 0},
    "WebP": {"format": "WEBP", "quality": 90, "method": 0},
    "AVIF": {"format": "AVIF", "quality": 80, "speed": 10, "max_threads": 1},
}


def draw_heads(share: float, seed: int) -> np.ndarray:
    """Ellipses of 4 to 8 cells until a share of the cells is covered, bool ``[60, 80]``."""
    rng = np.random.default_rng(seed)
    rows, columns = cells_shape(SIZE)
    cells = np.zeros((rows, columns), bool)
    y, x = np.mgrid[:rows, :columns]
    while cells.mean() < share:
        height, width = rng.uniform(4, 8, 2)
        top = rng.uniform(0, rows - height)
        left = rng.uniform(0, columns - width)
        vertical = (y + 0.5 - top - height / 2) / (height / 2)
        horizontal = (x + 0.5 - left - width / 2) / (width / 2)
        cells |= vertical**2 + horizontal**2 <= 1
    return cells


def find_boxes(cells: np.ndarray) -> list[Box]:
    """Left, top, width and height of the connected cells, in pixels."""
    _, _, statistics_, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8))
    boxes: list[Box] = []
    for row in statistics_[1:]:
        left, top, width, height = (int(value) * CELL for value in row[:4])
        boxes.append((left, top, width, height))
    return boxes


def code_boxes(image: np.ndarray, cells: np.ndarray, options: dict) -> list[bytes]:
    """Code the boxes around the painted cells, all other pixels grey."""
    painted = spread_cells(cells)
    codes = []
    for left, top, width, height in find_boxes(cells):
        area = (slice(top, top + height), slice(left, left + width))
        box = np.where(painted[area][..., None], image[area], 128).astype(np.uint8)
        output = io.BytesIO()
        Image.fromarray(box).save(output, **options)
        codes.append(output.getvalue())
    return codes


def decode_boxes(codes: list[bytes], cells: np.ndarray) -> np.ndarray:
    """Lay the boxes into a black image."""
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for code, (left, top, width, height) in zip(codes, find_boxes(cells), strict=True):
        box = np.asarray(Image.open(io.BytesIO(code)).convert("RGB"))
        image[top : top + height, left : left + width] = box
    return image


def spread_cells(cells: np.ndarray) -> np.ndarray:
    """The mask of the pixels under the painted cells, bool ``[480, 640]``."""
    return cells.repeat(CELL, 0).repeat(CELL, 1)


def psnr(image: np.ndarray, other: np.ndarray, cells: np.ndarray) -> float:
    """Peak signal-to-noise ratio under the painted cells, decibels."""
    painted = spread_cells(cells)
    difference = image[painted].astype(float) - other[painted]
    return float(10 * np.log10(255**2 / (difference**2).mean()))


def open_and_paste(opener: Opener, sealed: bytes, image: np.ndarray) -> None:
    """Open what was sealed, and paste it into the image."""
    opener.open_part(sealed, PACKET).paste_into(image)


def time_call(call: Callable[[], object]) -> tuple[float, float]:
    """Median and least of a call's milliseconds of processor time.

    Time in which other processes run does not count, but they empty the caches: where they are
    busy, the least is nearer to what the call costs alone.
    """
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        call()
        times.append(1000 * (time.process_time() - begin))
    return statistics.median(times), min(times)


def print_ways(images: list[np.ndarray]) -> None:
    """Print how the pixels may be coded, mean of the images."""
    print("| painted | way | bytes | PSNR, dB | code, ms (least) |\n|---|---|---|---|---|")
    for share in SHARES:
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for seed, image in enumerate(images):
            cells = draw_heads(share, seed)
            code = code_pixels(image, cells, 90)
            pixels = decode_pixels(code, int(cells.sum()))
            back = paste_pixels(np.zeros_like(image), cells, pixels)
            _, cost = time_call(partial(code_pixels, image, cells, 90))
            rows.setdefault("mosaic, JPEG", []).append((len(code), psnr(image, back, cells), cost))
            for name, options in OTHER_WAYS.items():
                codes = code_boxes(image, cells, options)
                quality = psnr(image, decode_boxes(codes, cells), cells)
                _, cost = time_call(partial(code_boxes, image, cells, options))
                length = sum(len(code) for code in codes)
                rows.setdefault(f"boxes, {name}", []).append((length, quality, cost))
        for name, values in rows.items():
            length, quality, cost = np.mean(values, axis=0)
            print(f"| {share:.0%} | {name} | {length:,.0f} | {quality:.1f} | {cost:.2f} |")


def print_sealing(images: list[np.ndarray], folder: Path) -> None:
    """Print what sealing and opening cost, mean of the images; officers' keys go to a folder."""
    now = datetime.now(timezone.utc)
    for number in range(3):
        new_key(folder, f"officer{number}", None, now)
    keys = [load_private_key(path, None) for path in sorted(folder.glob("*.key"))]
    sealer = Sealer(folder, threshold=2)
    opener = Opener(keys)
    print("| painted | seal, ms | least | open, ms | least | bytes |\n|---|---|---|---|---|---|")
    for share in SHARES:
        rows = []
        for seed, image in enumerate(images):
            cells = draw_heads(share, seed)
            sealed = sealer.seal(PACKET, 0, image, cells)
            sealing = time_call(partial(sealer.seal, PACKET, 0, image, cells))
            opening = time_call(partial(open_and_paste, opener, sealed, image))
            rows.append((*sealing, *opening, len(sealed)))
        *times, length = np.mean(rows, axis=0)
        columns = " | ".join(f"{milliseconds:.2f}" for milliseconds in times)
        print(f"| {share:.0%} | {columns} | {length:,.0f} |")
    officers = load_officers(folder)
    for threshold in (1, 2):
        median, least = time_call(partial(new_segment, officers, threshold, 0))
        costs = f"{median:.2f} ms, least {least:.2f} ms"
        print(f"\nA segment for 3 officers, threshold {threshold}: {costs}")


def print_encoding(images: list[np.ndarray]) -> None:
    """Print what the encoding costs that sealing comes on top of, mean of the images."""
    from roi_anon_ros.codec import (  # torch takes seconds, and only this needs it
        DEFAULT_MODEL,
        Codec,
    )

    codec = Codec.load(DEFAULT_MODEL, "openvino")
    codec.encode(images[0], 0)
    costs = [time_call(partial(codec.encode, image, 0)) for image in images]
    median, least = np.mean(costs, axis=0)
    encoder = f"{DEFAULT_MODEL} and OpenVINO, of all cores"
    print(f"\nEncoding by {encoder}: {median:.2f} ms, least {least:.2f} ms")


def main(paths: list[str]) -> None:
    """Measure on these images."""
    cv2.setNumThreads(1)
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BOX)))
    with tempfile.TemporaryDirectory() as folder:
        print_sealing(images, Path(folder))
    print()
    print_ways(images)
    print_encoding(images)


if __name__ == "__main__":
    main(sys.argv[1:])
