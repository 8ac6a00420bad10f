"""The reference."""

from __future__ import annotations

import numpy as np
import torch

from roi_anon_ros.codec.engines.halves import HALVES, Half
from roi_anon_ros.codec.modelfile import Model


class TorchEngine:
    """The reference: torch in float32 on the processor, any size, in strips where a picture is
    large.
    """

    name = package = "torch"
    halves = HALVES

    def __init__(self, model: Model) -> None:
        self._net = model.codec.to(memory_format=torch.channels_last)

    def analyse(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        # Channels last, as the picture is: no transposition in memory.
        x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float().div_(255)
        return self._net.symbols(x)[0].numpy()

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        x_hat = self._net.reconstruct(torch.from_numpy(symbols)[None])
        return x_hat[0].mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    def runs(self, half: Half) -> str:
        """See :meth:`Engine.runs`."""
        return self.name
