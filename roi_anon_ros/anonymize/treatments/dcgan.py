"""A generator of faces that belong to nobody: DCGAN, 64 x 64 pixels, from a file that the user has.

The network is that of Radford et al. (arXiv 1511.06434): five transposed convolutions from 100
normal numbers to an image. Weights that were trained on rendered people, DigiFace-1M, come with the
package gan-face-generate (MIT).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from roi_anon_ros.anonymize.treatments.histograms import match_latent

if TYPE_CHECKING:
    from torch import nn

#: Numbers that a face is made of, and its side in pixels.
LATENT = 100
SIDE = 64
_WIDTHS = (LATENT, 512, 256, 128, 64)


class Dcgan:
    """Makes faces.

    Args:
        path: an ``.onnx`` file, from ``[1, 100, 1, 1]`` to ``[1, 3, 64, 64]`` in -1 to 1, which
            OpenCV runs; or a checkpoint of torch with the weights under ``netG_state_dict``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such network.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"generator: there is no file {path}")
        self._onnx: cv2.dnn.Net | None = None
        self._torch: nn.Module | None = None
        if path.suffix.lower() == ".onnx":
            try:
                self._onnx = cv2.dnn.readNetFromONNX(str(path))
                self(np.zeros(LATENT, np.float32))
            except cv2.error as error:
                raise ValueError(f"generator: {path} is no such network: {error.err}") from error
        else:
            self._torch = _load(path)

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        """A face, uint8 ``[64, 64, 3]`` RGB, of normal numbers, float32 ``[100]``."""
        if self._onnx is not None:
            self._onnx.setInput(latent.reshape(1, LATENT, 1, 1))
            output = self._onnx.forward()
            if output.shape != (1, 3, SIDE, SIDE):
                raise ValueError(
                    f"generator: gives {list(output.shape)}, must give [1, 3, {SIDE}, {SIDE}]"
                )
            return _to_image(output[0])
        import torch

        assert self._torch is not None
        with torch.inference_mode():
            return _to_image(self._torch(torch.from_numpy(latent)[None, :, None, None])[0].numpy())

    def matched(self, latent: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """A face whose latent was changed until its saturation and brightness are those of a
        reference.

        Args:
            latent: where to begin, float32 ``[100]``.
            reference: uint8 ``[n, 3]`` RGB pixels.

        Raises:
            ValueError: the file is ONNX, through which nothing can be optimised.
        """
        if self._torch is None:
            raise ValueError("match: latent needs a generator in torch, not an .onnx file")
        return _to_image(match_latent(self._torch, latent, reference))


def _to_image(output: np.ndarray) -> np.ndarray:
    return ((output.transpose(1, 2, 0) * 0.5 + 0.5).clip(0, 1) * 255).round().astype(np.uint8)


def _load(path: Path) -> nn.Module:
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(zip(_WIDTHS, _WIDTHS[1:], strict=False)):
        stride = 2 if index else 1
        layers += [nn.ConvTranspose2d(before, after, 4, stride, stride - 1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.ConvTranspose2d(_WIDTHS[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
    network = nn.Sequential(*layers)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = content["netG_state_dict"]
        network.load_state_dict(
            {name.removeprefix("main."): value for name, value in weights.items()}
        )
    except (
        RuntimeError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(f"generator: {path} is no checkpoint of this DCGAN") from error
    return network.eval().requires_grad_(False)
