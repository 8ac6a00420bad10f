"""What cameras do to colours, at random: each function changes a uint8 ``[H, W, 3]`` RGB image."""

from __future__ import annotations

import cv2
import numpy as np


def permute_channels(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Channels in a random order, as a driver that mistakes RGB for BGR gives them."""
    return np.ascontiguousarray(image[..., rng.permutation(3)])


def tint(image: np.ndarray, rng: np.random.Generator, most: float, octaves: float) -> np.ndarray:
    """Fade or strengthen the colours, and change the colour of the light.

    Args:
        image: to be changed.
        rng: what is drawn from.
        most: the strongest colours, in times of the present ones; 0 is grey.
        octaves: how far each channel is scaled up or down.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    strength = np.exp2(rng.uniform(-octaves, octaves, 3))
    tinted = (grey + (image - grey) * rng.uniform(0, most)) * strength
    return np.clip(tinted, 0, 255).astype(np.uint8)


def expose(
    image: np.ndarray, rng: np.random.Generator, octaves: float, gains: tuple[float, float]
) -> np.ndarray:
    """Change exposure and contrast: ``255 · gain · (x / 255)^gamma``.

    Args:
        image: to be changed.
        rng: what is drawn from.
        octaves: of gamma, up or down.
        gains: the smallest and the largest.
    """
    gamma = np.exp2(rng.uniform(-octaves, octaves))
    gain = rng.uniform(*gains)
    table = np.clip((np.arange(256) / 255) ** gamma * gain * 255, 0, 255)
    return cv2.LUT(image, table.astype(np.uint8))


def blur(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Blur with a Gaussian of a deviation of 0.4 to ``most`` pixels."""
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, most)))


def add_noise(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Add noise of a sensor, of a deviation of 1 to ``most`` levels."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, most))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def compress(image: np.ndarray, rng: np.random.Generator, qualities: tuple[int, int]) -> np.ndarray:
    """Send the image through JPEG, of a quality from the first up to the second, excluded."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*qualities))]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line above
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
