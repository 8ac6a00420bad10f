"""The two halves of a codec as graphs that other libraries run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from roi_anon_ros.codec.networks import ANALYSIS_THREADS, AnonymizingCodec
from roi_anon_ros.codec.picture import MAX_SIZE

#: Under which name an exported network carries its model's fingerprint.
MARK = "fingerprint"

#: The two halves of a codec's work.
PARTS = ("analysis", "synthesis")


class Analysis(nn.Module):
    """Picture to symbols: uint8 ``[1, H, W, 3]`` RGB, sides multiples of the factor, to int32 ``[1, N, h, w]``."""

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_a = copy.deepcopy(codec.g_a)
        with torch.no_grad():
            self.g_a[0].weight.div_(255)  # bytes go in: bfloat16 holds each of them, and no layer has to divide
        self.register_buffer("medians", codec.entropy_bottleneck._get_medians().detach().reshape(1, -1, 1, 1).clone())

    def forward(self, picture: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.symbols`."""
        symbols = torch.round(self.g_a(picture.permute(0, 3, 1, 2).float()) - self.medians)
        # What is not finite becomes a symbol that the entropy coder refuses, whatever the device makes of it.
        return torch.nan_to_num(symbols, nan=2.0**30).clamp(-(2.0**30), 2.0**30).int()


class Synthesis(nn.Module):
    """Symbols to picture: int32 ``[1, N, h, w]`` to uint8 ``[1, H, W, 3]`` RGB."""

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_s = codec.g_s
        self.register_buffer("medians", codec.entropy_bottleneck._get_medians().detach().reshape(1, -1, 1, 1).clone())

    def forward(self, symbols: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.reconstruct`."""
        x_hat = self.g_s(symbols.float() + self.medians)
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def program(codec: AnonymizingCodec, part: str) -> torch.export.ExportedProgram:
    """The graph of one of the :data:`PARTS`, for pictures of any size."""
    factor = codec.downsampling_factor
    rows, columns = (torch.export.Dim(name, min=2, max=MAX_SIZE // factor) for name in ("rows", "columns"))
    if part == "analysis":
        module: nn.Module = Analysis(codec)
        example = torch.zeros(1, 4 * factor, 6 * factor, 3, dtype=torch.uint8)
        shape = {1: factor * rows, 2: factor * columns}
    else:
        module = Synthesis(codec)
        channels = codec.entropy_bottleneck.channels
        example = torch.zeros(1, channels, 4, 6, dtype=torch.int32)
        shape = {2: rows, 3: columns}
    return torch.export.export(module.eval(), (example,), dynamic_shapes=(shape,))


def threads_of(part: str) -> int:
    """Threads of one half: the analysis' number is fixed, so that the bytes do not depend on settings."""
    return ANALYSIS_THREADS if part == "analysis" else torch.get_num_threads()
