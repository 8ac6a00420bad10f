"""The painted cells' pixels as bytes.

The cells stand side by side, row by row, in a mosaic about as wide as high, and the mosaic is a
baseline JPEG without subsampling of colour. Its blocks are 8 x 8 pixels, as the cells are: nothing
of a cell runs into another one, and no pixel outside the painted cells is in the mosaic.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import CELL, MAX_SIDE, MIN_SIDE, cells_shape

#: The last two bytes of a JPEG.
END_OF_IMAGE = b"\xff\xd9"


def check_image(image: np.ndarray, cells: np.ndarray) -> None:
    """Refuse an image and a mask that do not fit each other.

    Args:
        image: uint8 ``[H, W, 3]`` with sides from 16 to 8192.
        cells: bool ``[ceil(H / 8), ceil(W / 8)]``.

    Raises:
        SealError: ``"image"``; names the field.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = getattr(image, "dtype", type(image).__name__)
        raise SealError("image", f"dtype: got {got}, must be uint8")
    if image.ndim != 3 or image.shape[2] != 3:
        raise SealError("image", f"shape: got {image.shape}, must be [H, W, 3]")
    height, width = image.shape[:2]
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        bounds = f"sides must be from {MIN_SIDE} to {MAX_SIDE}"
        raise SealError("image", f"size: got {width} x {height}, {bounds}")
    expected = cells_shape((width, height))
    if not isinstance(cells, np.ndarray) or cells.dtype != bool or cells.shape != expected:
        got = f"{getattr(cells, 'dtype', type(cells).__name__)} {getattr(cells, 'shape', '')}"
        raise SealError("image", f"cells: got {got}, must be bool {expected}")


def code_pixels(image: np.ndarray, cells: np.ndarray, quality: int) -> bytes:
    """Code the pixels under the painted cells.

    Args:
        image: uint8 ``[H, W, 3]`` RGB, the original at the coded size.
        cells: bool ``[ceil(H / 8), ceil(W / 8)]``, True where it is painted over.
        quality: of the JPEG, 1 to 100.

    Returns:
        The JPEG; no bytes where no cell is painted.
    """
    pixels = _split_cells(image)[cells]
    if not len(pixels):
        return b""
    rows, columns = _mosaic_shape(len(pixels))
    mosaic = np.zeros((rows * columns, CELL, CELL, 3), np.uint8)
    mosaic[: len(pixels)] = pixels
    output = io.BytesIO()
    whole = Image.fromarray(_join_cells(mosaic.reshape(rows, columns, CELL, CELL, 3)))
    whole.save(output, "JPEG", quality=quality, subsampling=0)
    return output.getvalue()


def decode_pixels(code: bytes, count: int) -> np.ndarray:
    """Decode the pixels of ``count`` cells, uint8 ``[count, 8, 8, 3]`` RGB.

    Raises:
        SealError: ``"image"``; the code is not one of this number of cells.
    """
    if not count:
        if code:
            raise SealError("image", f"pixels: got {len(code)} bytes, must be 0 without cells")
        return np.zeros((0, CELL, CELL, 3), np.uint8)
    # Pillow may have been told, by any library in the process, to take what was cut off.
    if not code.endswith(END_OF_IMAGE):
        raise SealError("image", "pixels: not readable: the JPEG has no end")
    rows, columns = _mosaic_shape(count)
    expected = (columns * CELL, rows * CELL)
    try:
        with Image.open(io.BytesIO(code), formats=["JPEG"]) as mosaic:
            if mosaic.size != expected or mosaic.mode != "RGB":
                got = f"{mosaic.mode} {mosaic.size}"
                raise SealError("image", f"mosaic: got {got}, must be RGB {expected}")
            pixels = np.asarray(mosaic)
    except (OSError, SyntaxError) as error:  # Pillow's errors about damaged files
        raise SealError("image", f"pixels: not readable: {error}") from error
    return _split_cells(pixels).reshape(-1, CELL, CELL, 3)[:count]


def paste_pixels(image: np.ndarray, cells: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Put pixels into an image where its cells are painted, and nowhere else.

    Args:
        image: uint8 ``[H, W, 3]`` RGB, the decoded one at the coded size.
        cells: bool ``[ceil(H / 8), ceil(W / 8)]``.
        pixels: uint8 ``[n, 8, 8, 3]``, of the n painted cells, row by row.

    Returns:
        A new image, uint8 ``[H, W, 3]`` RGB.
    """
    height, width = image.shape[:2]
    split = _split_cells(image).copy()
    split[cells] = pixels
    return np.ascontiguousarray(_join_cells(split)[:height, :width])


def _mosaic_shape(count: int) -> tuple[int, int]:
    """Rows and columns of the mosaic of some cells; both at most 1024, as those of an image."""
    columns = math.isqrt(count - 1) + 1
    return -(-count // columns), columns


def _split_cells(image: np.ndarray) -> np.ndarray:
    """See an image, uint8 ``[H, W, 3]``, as cells, ``[rows, columns, 8, 8, 3]``.

    Where a side is no multiple of 8, the last pixels are repeated.
    """
    height, width = image.shape[:2]
    rows, columns = cells_shape((width, height))
    missing = ((0, rows * CELL - height), (0, columns * CELL - width), (0, 0))
    whole = np.pad(image, missing, "edge") if (height % CELL or width % CELL) else image
    return whole.reshape(rows, CELL, columns, CELL, 3).swapaxes(1, 2)


def _join_cells(cells: np.ndarray) -> np.ndarray:
    """Lay cells, ``[rows, columns, 8, 8, 3]``, into an image, ``[rows * 8, columns * 8, 3]``."""
    rows, columns = cells.shape[:2]
    return cells.swapaxes(1, 2).reshape(rows * CELL, columns * CELL, 3)
