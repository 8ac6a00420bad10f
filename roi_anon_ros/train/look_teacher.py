"""A teacher for the second look: a person detector's own maps of a place, and a classifier on them.

A detector that has seen all of COCO knows heads and people far better than the few heads that a
training set draws. It is much too slow for an edge. Its opinion of each training place teaches the
small network more than yes or no does (distillation, arXiv 1503.02531, and hints, 1412.6550).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from roi_anon_ros.codec.second_look import crop_heads
from roi_anon_ros.detect.budget import Yolov8Guide

#: Layers of the detector whose maps describe a place: strides 8 (twice), 16 and 32.
LAYERS = (4, 15, 18, 21)
#: Pixels on a side of what it sees of a place, and how many sides of the head that shows.
SIDE = 128
REACH = 4.0
#: Places that the detector looks at in one go.
TOGETHER = 32
#: Parts that the images are divided into: what is said of a place comes from the others.
FOLDS = 4
#: The classifier: hidden values, steps, places a step, the highest learning rate.
WIDTHS = (384, 64)
STEPS = 2500
BATCH = 512
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
#: Shares of the description and of the hidden values that a step leaves out.
DROPPED = (0.3, 0.4)
#: How far from 0 and 1 its targets are.
DOUBT = 0.01
#: Numbers of a hint, how far from 0 they may be, and places that their axes are computed from.
HINTS = 64
LARGEST_HINT = 3.0
HINT_PLACES = 30_000


class Describer:
    """Describes places by a detector's maps.

    Args:
        weights: of a YOLOv8, see :class:`~roi_anon_ros.detect.budget.Yolov8Guide`, which says what
            is raised.
        half: whether it computes in bfloat16.
    """

    def __init__(self, weights: str | Path, half: bool) -> None:
        self._guide = Yolov8Guide(weights, layers=LAYERS)
        self._half = half

    @torch.no_grad()
    def __call__(self, image: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Describe places.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, upright.
            places: ``[n, 3]`` or wider: centre x, centre y, side, pixels.

        Returns:
            float16 ``[n, d]``: of each map the four cells in the middle (of the coarsest their
            mean), the mean of left and right: a mirrored place is described the same.
        """
        crops = crop_heads(image, places, SIDE, (REACH,))[:, 0]
        described = []
        for first in range(0, len(crops), TOGETHER):
            batch = torch.from_numpy(crops[first : first + TOGETHER]).permute(0, 3, 1, 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
                maps = self._guide.features(batch.float() / 255)
            described.append(torch.cat([_middle(one.float()) for one in maps], dim=1))
        return torch.cat(described).half().numpy()


def _middle(one: Tensor) -> Tensor:
    """The cells in the middle of a map ``[n, C, s, s]`` of a place, ``[n, C or 2 C]``."""
    side = one.shape[-1]
    reach = max(side // 8, 1)
    near = slice(side // 2 - reach, side // 2 + reach)
    rows = 1 if side <= SIDE // 32 else 2
    return F.adaptive_avg_pool2d(one[:, :, near, near], (rows, 1)).flatten(1)


def ask_teacher(
    descriptions: np.ndarray, heads: np.ndarray, images: np.ndarray, weights: np.ndarray, seed: int
) -> np.ndarray:
    """Say of places how likely each is a head, having learned from other images alone.

    Args:
        descriptions: float16 ``[n, d]``, of a :class:`Describer`.
        heads: int8 ``[n]``: 1 a head, 0 none, -1 not known.
        images: int64 ``[n]``, the number of each place's image.
        weights: float64 ``[n]``, how likely each place is drawn.
        seed: of the division and of the classifier.

    Returns:
        float32 ``[n]``, 0 to 1.

    Raises:
        ValueError: the images that are learned from for a part of them show no head, or nothing
            but heads.
    """
    rng = np.random.default_rng(seed)
    folds = rng.permutation(int(images.max()) + 1)[images] % FOLDS
    answers = np.empty(len(heads), np.float32)
    for fold in range(FOLDS):
        rank_zero_info(f"teacher: part {fold + 1} of {FOLDS}")
        others = np.flatnonzero((folds != fold) & (heads >= 0))
        if len(np.unique(heads[others])) < 2:
            raise ValueError("train: too few images with and without heads for a teacher")
        network = _learn(descriptions, heads, others, weights, rng)
        own = np.flatnonzero(folds == fold)
        with torch.no_grad():
            for some in np.array_split(own, max(len(own) // 4096, 1)):
                described = torch.from_numpy(descriptions[some]).float()
                answers[some] = network(described)[:, 0].sigmoid().numpy()
    return answers


@torch.enable_grad()  # the caller has switched it off
def _learn(
    descriptions: np.ndarray,
    heads: np.ndarray,
    places: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
) -> nn.Module:
    """A classifier of descriptions, from these places, in evaluation mode."""
    torch.manual_seed(int(rng.integers(2**31)))
    first, second = WIDTHS
    network = nn.Sequential(
        nn.BatchNorm1d(descriptions.shape[1], affine=False),
        nn.Dropout(DROPPED[0]),
        nn.Linear(descriptions.shape[1], first),
        nn.ReLU(),
        nn.Dropout(DROPPED[1]),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
    likely = weights[places] / weights[places].sum()
    for _ in range(STEPS):
        drawn = rng.choice(places, BATCH, p=likely)
        targets = torch.from_numpy(heads[drawn]).float() * (1 - 2 * DOUBT) + DOUBT
        logits = network(torch.from_numpy(descriptions[drawn]).float())[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def make_hints(descriptions: np.ndarray, seed: int) -> np.ndarray:
    """Descriptions along the axes on which places differ most, each with a variance of 1.

    Args:
        descriptions: float16 ``[n, d]``, of a :class:`Describer`.
        seed: of the places that the axes are computed from.

    Returns:
        float32 ``[n, h]`` from -3 to 3; h is 64, or d where that is less.
    """
    rng = np.random.default_rng(seed)
    count = len(descriptions)
    some = descriptions[rng.permutation(count)[:HINT_PLACES]].astype(np.float32)
    mean = some.mean(axis=0)
    scale = some.std(axis=0) + 1e-3
    some = (some - mean) / scale
    variances, axes = np.linalg.eigh(some.T @ some / len(some))
    # The largest come last.
    axes = axes[:, ::-1][:, :HINTS]
    deviations = np.sqrt(np.maximum(variances[::-1][:HINTS], 1e-6))
    hints = np.empty((count, axes.shape[1]), np.float32)
    for part in _parts(count):
        along = (descriptions[part].astype(np.float32) - mean) / scale @ axes
        hints[part] = np.clip(along / deviations, -LARGEST_HINT, LARGEST_HINT)
    return hints


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, 8192):
        yield slice(first, first + 8192)
