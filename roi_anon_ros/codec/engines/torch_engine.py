"""The reference."""

from __future__ import annotations

import numpy as np

from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.engines.stages import HEADS_MULTIPLE, STAGES, Stage, to_batch
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.processors import adopt_threads


class TorchEngine:
    """The reference: torch in float32 on the processor, any size, in strips where an image is
    large.
    """

    name = package = "torch"
    stages = STAGES

    def __init__(self, model: Model) -> None:
        require("torch", "train")
        import torch

        adopt_threads()
        self._torch = torch
        self._net = model.codec.to(memory_format=torch.channels_last)

    def analyse(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.analyse`."""
        # Channels last, as the image is: no transposition in memory.
        x = (
            self._torch.from_numpy(np.ascontiguousarray(image))
            .permute(2, 0, 1)[None]
            .float()
            .div_(255)
        )
        return self._net.analyse(x)[0].numpy()

    def map_heads(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.map_heads`."""
        batch = self._torch.from_numpy(to_batch(image, HEADS_MULTIPLE, 2 * HEADS_MULTIPLE))
        return self._net.map_heads(batch)[0].numpy()

    def synthesise(self, symbols: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.synthesise`."""
        x_hat = self._net.synthesise(self._torch.from_numpy(symbols)[None])
        return (
            x_hat[0].mul(255).round_().to(self._torch.uint8).permute(1, 2, 0).contiguous().numpy()
        )

    def runs(self, stage: Stage) -> str:
        """See :meth:`Engine.runs`."""
        return self.name
