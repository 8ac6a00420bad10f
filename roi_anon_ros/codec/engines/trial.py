"""How far an engine may be from the reference, and the image on which that is tried."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Tolerance(NamedTuple):
    """How far an engine may be from the reference.

    Attributes:
        changed_share: of the symbols, 0 to 1, that differ.
        max_step: by how much any of them may, besides a 64th of itself.
        mean_byte_error: mean difference of a decoded byte of the same symbols, 0 to 255.
    """

    changed_share: float
    max_step: int
    mean_byte_error: float


#: By engine. bfloat16 has 8 bits of mantissa: where every channel is busy it finds one symbol in
#: fifty on the other side of a rounding, with ``fast`` one in two thousand; 8-bit integers
#: find one in five there, and one in two hundred, and decode to within a step of 255 on average.
TOLERANCE: dict[str, Tolerance] = {
    "torch": Tolerance(changed_share=0.0, max_step=0, mean_byte_error=0.0),
    "openvino": Tolerance(changed_share=0.03, max_step=1, mean_byte_error=0.5),
    "openvino-int8": Tolerance(changed_share=0.3, max_step=4, mean_byte_error=2.0),
    "onnxruntime": Tolerance(changed_share=0.0005, max_step=1, mean_byte_error=0.02),
}

#: Of float16 on a GPU, whatever runs it: never tried; what bfloat16 may, which is coarser.
HALF_TOLERANCE = TOLERANCE["openvino"]

#: By how much a value of the head map may be off.
HEADS_TOLERANCE = 0.25

#: Size ``(width, height)`` of the image on which an engine is compared with the reference.
TRIAL = (192, 128)


def trial_image(width: int, height: int) -> np.ndarray:
    """A drawn head before coloured noise with the spectrum of photos, about; the same every time.

    Args:
        width: pixels.
        height: pixels.

    Returns:
        uint8 ``[height, width, 3]`` RGB.
    """
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 128, np.float32)
    for side in (4, 8, 16, 32, 64, 128):
        coarse = rng.normal(0, 22, (max(height // side, 1), max(width // side, 1), 3)).astype(
            np.float32
        )
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = image.clip(0, 255).astype(np.uint8)
    # An engine whose gate does not close is refused only where the gate of the reference does.
    x = width // 3
    y = height // 2
    r = min(width, height) // 5
    cv2.ellipse(
        image, (x, y + 4 * r), (2 * r, 5 * r // 2), 0, 0, 360, (40, 50, 90), -1, cv2.LINE_AA
    )
    cv2.ellipse(image, (x, y - r // 4), (r, 5 * r // 4), 0, 0, 360, (60, 40, 30), -1, cv2.LINE_AA)
    cv2.ellipse(
        image, (x, y), (7 * r // 8, 9 * r // 8), 0, 0, 360, (205, 150, 125), -1, cv2.LINE_AA
    )
    for side in (-1, 1):
        cv2.ellipse(
            image,
            (x + side * 3 * r // 8, y - r // 6),
            (r // 6, r // 10),
            0,
            0,
            360,
            (50, 35, 30),
            -1,
        )
    cv2.ellipse(image, (x, y + r // 4), (r // 8, r // 5), 0, 0, 360, (180, 120, 100), -1)
    cv2.ellipse(image, (x, y + 5 * r // 8), (r // 3, r // 10), 0, 0, 360, (150, 70, 70), -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def differences(symbols: np.ndarray, reference: np.ndarray, step: int = 1) -> tuple[float, int]:
    """Share of the symbols that differ from the reference's, and how many do by more than ``step``
    and a 64th of it.
    """
    apart = np.abs(symbols.astype(np.int64) - reference)
    return float((apart > 0).mean()), int((apart > step + np.abs(reference) / 64).sum())
