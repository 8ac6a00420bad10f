"""Images with transparent pixels: what was erased stays erased, in files as in messages."""

from __future__ import annotations

import numpy as np
from PIL import Image

#: What transparent pixels are laid on; RGB, 0 to 255.
BACKGROUND = (0, 0, 0)


def composite(image: Image.Image) -> Image.Image:
    """An image with its transparent pixels laid on :data:`BACKGROUND`; itself without any."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer)


def lay_on_black(image: np.ndarray) -> np.ndarray:
    """The colours of an array with its transparent pixels laid on black, :data:`BACKGROUND`.

    Args:
        image: of unsigned integers, ``[H, W, 4]``; the last channel is alpha, the greatest value of
            the type is opaque.

    Returns:
        ``[H, W, 3]`` of the same type.
    """
    opaque = np.iinfo(image.dtype).max
    if image[..., 3].min() == opaque:  # as most cameras send: no arithmetic for each frame
        return np.ascontiguousarray(image[..., :3])
    opacity = image[..., 3:].astype(np.float64) / opaque
    return np.rint(image[..., :3] * opacity).astype(image.dtype)
