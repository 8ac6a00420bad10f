"""The second look: whether what the head map calls a head is one, each by itself, from close by.

The map answers for every cell of an image, so it must be small. Of the few places that it names,
most people and all false ones can be told apart by a network that sees nothing else than the place
and, coarsely, what is around it: a body under a head. It says no to false ones alone: nothing is
hidden that the map did not name. And it says whether a head wears a helmet, for sites that look for
helmets.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from roi_anon_ros.codec.image import resize

#: Pixels on a side of what it looks at, and how many sides of the head that shows: first the head
#: itself, then what it stands on.
SIDE = 32
REACHES = (2.5, 7.0)
#: Stride of each convolution for each reach, see ``networks.second_look``.
STRIDES = ((2, 2, 1, 2, 1), (2, 2, 2))
#: How the network's tensors are called in a model.
PREFIX = "second_look."


class SecondLook:
    """The network, see :class:`~roi_anon_ros.codec.networks.SecondLook`, by numpy alone.

    Args:
        tensors: of a model, by name; those that begin with ``second_look.`` are used.

    Raises:
        KeyError: a tensor is missing.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        def read(name: str) -> np.ndarray:
            return tensors[PREFIX + name].astype(np.float32)

        self._branches = []
        for reach, strides in enumerate(STRIDES):
            layers = []
            for index, stride in enumerate(strides):
                name = f"branches.{reach}.{index}"
                weight = read(f"{name}.weight")
                matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))
                layers.append((matrix, read(f"{name}.bias"), weight.shape[2], stride))
            self._branches.append(layers)
        self._hidden = read("hidden.weight").T, read("hidden.bias")
        self._last = read("last.weight").T, read("last.bias")

    def __call__(self, crops: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """Look at places.

        Args:
            crops: uint8 ``[n, 2, 32, 32, 3]`` RGB, of :func:`crop_heads`.
            evidence: float32 ``[n, 3]``, of :func:`weigh`.

        Returns:
            float32 ``[n, 2]``, the logits of "this is a head" and "it wears a helmet".
        """
        if not len(crops):
            return np.zeros((0, 2), np.float32)
        flat = []
        for reach, layers in enumerate(self._branches):
            x = crops[:, reach].astype(np.float32) / 255 - 0.5
            for matrix, bias, kernel, stride in layers:
                x = np.maximum(_convolve(x, matrix, kernel, stride) + bias, 0)
            # As torch flattens it: channels first.
            flat.append(x.transpose(0, 3, 1, 2).reshape(len(x), -1))
        weight, bias = self._hidden
        hidden = np.maximum(np.concatenate(flat, axis=1) @ weight + bias, 0)
        weight, bias = self._last
        return np.concatenate([hidden, evidence], axis=1) @ weight + bias


def _convolve(x: np.ndarray, matrix: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """A convolution of ``[n, h, w, c]`` whose padding is half the kernel."""
    margin = kernel // 2
    count, height, width, channels = x.shape
    padded = np.zeros((count, height + 2 * margin, width + 2 * margin, channels), np.float32)
    padded[:, margin : margin + height, margin : margin + width] = x
    # NumPy 1's stub knows one axis only.
    every = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))  # type: ignore[call-overload]
    windows = every[:, ::stride, ::stride]
    rows, columns = windows.shape[1:3]
    # [n, rows, columns, c, k, k] to one row for each place: k, k, c.
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(count * rows * columns, -1)
    return (patches @ matrix).reshape(count, rows, columns, -1)


def crop_heads(image: np.ndarray, heads: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Cut heads out of an image, each with what is around it.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        heads: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        side: of the crops, pixels; as many heads wide as :data:`REACHES` says for :data:`SIDE`,
            wider for more.

    Returns:
        uint8 ``[n, 2, side, side, 3]``, one for each reach; outside the image its edge.
    """
    crops = np.empty((len(heads), len(REACHES), side, side, 3), np.uint8)
    halves = [image]
    for pair, (x, y, head) in zip(crops, heads[:, :3].astype(float), strict=True):
        for crop, reach in zip(pair, REACHES, strict=True):
            scale = SIDE / (reach * head)
            # Halved beforehand: bilinear sampling alone would alias.
            step = 0
            while scale < 0.5 and min(halves[step].shape[:2]) > 1:
                scale *= 2
                step += 1
                if step == len(halves):
                    height, width = halves[-1].shape[:2]
                    halves.append(resize(halves[-1], max(width // 2, 1), max(height // 2, 1)))
            centre = (np.array([x, y]) + 0.5) / 2**step - 0.5
            shift = (side - 1) / 2 - scale * centre
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            cv2.warpAffine(
                halves[step], matrix, (side, side), crop, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
            )
    return crops


def weigh(heads: np.ndarray) -> np.ndarray:
    """What the map itself says of heads, as the network takes it.

    Args:
        heads: ``[n, 5]``, see :func:`~roi_anon_ros.codec.headmap.merge_heads`.

    Returns:
        float32 ``[n, 3]``: the logit of the probability, four times the probability on another
        level, and the octave of the side above 16 pixels.
    """
    probability = np.clip(heads[:, 3], 1e-3, 1 - 1e-3)
    logit = np.log(probability / (1 - probability))
    octave = np.log2(np.maximum(heads[:, 2], 1) / 16)
    return np.stack([logit, 4 * heads[:, 4], octave], axis=1).astype(np.float32)
