"""Two remedies for content that does not fit its scene: histogram matching, two ways.

Directly, and by changing the latent of a generator.

Both match saturation and brightness (S and V of HSV); the hue stays, or a face before a hedge would
turn green. See "How Does Image Anonymization Impact Computer Vision Performance?" (arXiv
2306.05135).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Of the optimisation of a latent: step of Adam, steps at most, and the distance at which it ends.
STEP = 1e-3
STEPS = 100
NEAR = 0.02


def match_histogram(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Values whose distribution is that of a reference and whose order is their own.

    Args:
        values: uint8 of any shape.
        reference: uint8 of any shape, at least one value.

    Returns:
        uint8, shaped as the values.
    """
    counts = np.bincount(values.ravel(), minlength=256)
    wanted = np.bincount(reference.ravel(), minlength=256)
    below = (np.cumsum(counts) - counts / 2) / values.size
    wanted_below = (np.cumsum(wanted) - wanted / 2) / reference.size
    there = wanted > 0
    levels = np.interp(below, wanted_below[there], np.flatnonzero(there))
    return levels.round().astype(np.uint8)[values]


def match_colours(patch: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A patch, uint8 ``[h, w, 3]`` RGB, with the saturation and brightness of a reference.

    Args:
        patch: uint8 ``[h, w, 3]`` RGB.
        reference: uint8 ``[n, 3]`` RGB; without any the patch stays.
    """
    if not len(reference):
        return patch
    hsv = cv2.cvtColor(patch, cv2.COLOR_RGB2HSV)
    wanted = cv2.cvtColor(reference[None], cv2.COLOR_RGB2HSV)[0]
    for channel in (1, 2):
        hsv[..., channel] = match_histogram(hsv[..., channel], wanted[:, channel])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def match_latent(network: nn.Module, latent: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Change a generator's latent until its image has the colours of reference pixels.

    Adam on the Wasserstein distance between the distributions of S, and of V: in one dimension the
    mean distance of their quantiles, which has a gradient, where counts in bins have none.

    Args:
        network: a torch module from ``[1, n, 1, 1]`` to ``[1, 3, H, W]`` in -1 to 1.
        latent: float32 ``[n]``.
        reference: uint8 ``[m, 3]`` RGB, m at least 1.

    Returns:
        float32 ``[3, H, W]`` in -1 to 1.
    """
    import torch

    point = torch.from_numpy(latent.copy())[None, :, None, None].requires_grad_(True)
    optimiser = torch.optim.Adam([point], lr=STEP)
    wanted = torch.from_numpy(reference.astype(np.float32) / 255).T
    for _ in range(STEPS):
        image = network(point)[0]
        distance = colour_distance((image * 0.5 + 0.5).flatten(1), wanted)
        if distance <= NEAR:
            break
        optimiser.zero_grad()
        distance.backward()
        optimiser.step()
    with torch.inference_mode():
        return network(point)[0].numpy()


def colour_distance(pixels: Tensor, reference: Tensor) -> Tensor:
    """Wasserstein distance of saturation plus that of brightness.

    Args:
        pixels: torch tensor ``[3, n]`` in 0 to 1.
        reference: torch tensor ``[3, m]`` in 0 to 1.
    """
    total = pixels.new_zeros(())
    for values, wanted in zip(_saturation_value(pixels), _saturation_value(reference), strict=True):
        total = total + _wasserstein(values, wanted)
    return total


def _saturation_value(pixels: Tensor) -> tuple[Tensor, Tensor]:
    largest = pixels.amax(0)
    smallest = pixels.amin(0)
    return (largest - smallest) / largest.clamp(min=1e-3), largest


def _wasserstein(values: Tensor, wanted: Tensor) -> Tensor:
    import torch

    ordered = values.sort().values
    ranks = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    quantiles = torch.quantile(wanted, ranks)
    return (ordered - quantiles).abs().mean()
