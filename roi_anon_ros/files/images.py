"""Images in files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as 8-bit RGB.

    Grey becomes RGB, 16 bits become 8, alpha is dropped, and the orientation in EXIF is applied.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ValueError: no picture, or a damaged or truncated one.
        OSError: the file cannot be read.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        # From memory: cv2.imread takes a truncated JPEG and fills the rest with grey.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ValueError(f"not a readable picture: {error.err}") from error
    if image is None:
        raise ValueError("not a readable picture: damaged, truncated or of another format")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def png(image: np.ndarray) -> bytes:
    """PNG of a uint8 ``[H, W, 3]`` RGB picture."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_image(image: np.ndarray, kind: str, **options: Any) -> bytes:
    """An image, uint8 ``[H, W, 3]`` RGB, in one of Pillow's formats, such as ``"JPEG"`` or
    ``"AVIF"``.
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """The image, uint8 ``[H, W, 3]`` RGB, in bytes of one of Pillow's formats."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
