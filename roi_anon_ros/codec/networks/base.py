"""What all networks share: analysis transform, factorized prior, synthesis transform."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.codec.engines.stages import ANALYSIS_THREADS, STRIP_PIXELS
from roi_anon_ros.codec.entropy import EntropyTables
from roi_anon_ros.codec.image import check_sides
from roi_anon_ros.codec.latents import FactorizedLatents
from roi_anon_ros.codec.networks.quick_compressai import CompressionModel, EntropyBottleneck


class AnonymizingCodec(CompressionModel):
    """Base of the networks: ``g_a`` → factorized prior (Ballé 2018) → ``g_s``.

    .. code-block:: none

              ┌───┐  y   ┌───┐  symbols  ┌────┐        ┌────┐        ┌───┐
        x ──►─┤g_a├──►──┤ Q ├────►─────┤ EC ├─►bytes─►┤ ED ├─►y_hat─►┤g_s├──►── x_hat
              └───┘      └───┘           └────┘        └────┘        └───┘

    ``x`` and ``x_hat`` are float tensors of shape ``[B, 3, H, W]`` in [0, 1], RGB, with sides from
    16 to 8192. An image whose sides are not multiples of :attr:`downsampling_factor` is padded at
    its right and bottom by repeating the edge; the padding is cut off again.
    """

    architecture: str
    downsampling_factor: int
    #: Rows of context that a strip needs above and below, at least half the receptive field, in
    #: pixels.
    halo: int

    g_a: nn.Module
    g_s: nn.Module
    entropy_bottleneck: EntropyBottleneck

    def __init__(self) -> None:
        super().__init__()
        self._tables: EntropyTables | None = None

    @property
    def hyperparameters(self) -> dict[str, int]:
        """The constructor's arguments: what a model file stores to rebuild the network."""
        raise NotImplementedError

    #: Whether the network finds heads itself, see ``networks.headmap``.
    has_head_map = False

    @property
    def latents(self) -> FactorizedLatents:
        """What turns the latent into a payload."""
        return FactorizedLatents(self.tables)

    def analysis_graph(self) -> nn.Module:
        """Image to symbols, for export: uint8 ``[1, H, W, 3]`` RGB, sides multiples of the factor,
        to int32 ``[1, N, h, w]``.
        """
        return AnalysisGraph(self)

    def synthesis_graph(self) -> nn.Module:
        """Symbols to image, for export: int32 ``[1, N, h, w]`` to uint8 ``[1, H, W, 3]`` RGB."""
        return SynthesisGraph(self)

    @property
    def tables(self) -> EntropyTables:
        """The integer tables of the entropy coder.

        Raises:
            RuntimeError: the tables do not exist yet; call ``update()`` once after the training.
        """
        if self._tables is None:
            bottleneck = self.entropy_bottleneck
            if bottleneck._quantized_cdf.numel() == 0:
                raise RuntimeError("the model has no CDF tables: call update() after the training")
            self._tables = EntropyTables(
                cdf=bottleneck._quantized_cdf.cpu().numpy(),
                length=bottleneck._cdf_length.cpu().numpy().reshape(-1),
                offset=bottleneck._offset.cpu().numpy().reshape(-1),
            )
        return self._tables

    @property
    def medians(self) -> Tensor:
        """Of the prior, ``[1, N, 1, 1]``: what a symbol of 0 stands for."""
        return self.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)

    def update(self, *args: Any, **kwargs: Any) -> bool:
        """Compute the integer CDF tables from the prior (once, after the training)."""
        self._tables = None
        return super().update(*args, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True) -> Any:
        """Load weights and tables; see ``torch.nn.Module.load_state_dict``."""
        self._tables = None
        return super().load_state_dict(state_dict, strict=strict)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """One pass for the training.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1].

        Returns:
            ``{"x_hat": [B, 3, H, W], "y_hat": [B, N, h, w], "likelihoods": {"y": [B, N, h, w]}}``;
            quantisation is additive uniform noise in training mode and rounding in evaluation mode.
        """
        height, width = x.shape[-2:]
        y = self.g_a(pad_to_multiple(x, self.downsampling_factor))
        # The prior's cumulative functions lose their tails in bfloat16: keep them in float32.
        with torch.autocast(x.device.type, enabled=False):
            y_hat, likelihoods = self.entropy_bottleneck(y.float())
        x_hat = self.g_s(y_hat)[..., :height, :width]
        return {"x_hat": x_hat, "y_hat": y_hat, "likelihoods": {"y": likelihoods}}

    @torch.inference_mode()
    def analyse(self, x: Tensor) -> Tensor:
        """Quantised latent of each image, as integers around the prior's medians.

        Images go through the analysis transform one at a time: the bytes of an image do not
        depend on what else is in its batch.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1].

        Returns:
            int32 ``[B, N, ceil(H / downsampling_factor), ceil(W / downsampling_factor)]``.

        Raises:
            ValueError: a side is out of bounds, or the latent is not finite.
        """
        check_size(x)
        out = []
        for image in pad_to_multiple(x, self.downsampling_factor).split(1):
            with fixed_threads(ANALYSIS_THREADS):
                y = apply_in_strips(self, self.g_a, image, self.downsampling_factor, 1)
            symbols = torch.round(y.float() - self.medians)
            if not bool(torch.isfinite(symbols).all()):
                raise ValueError("latent: not finite")
            out.append(symbols.clamp_(-(2**30), 2**30).int())
        return torch.cat(out)

    @torch.inference_mode()
    def synthesise(self, symbols: Tensor) -> Tensor:
        """Images from quantised latents, one at a time; the inverse of :meth:`analyse`.

        Args:
            symbols: int32 ``[B, N, h, w]``.

        Returns:
            ``[B, 3, h * downsampling_factor, w * downsampling_factor]`` in [0, 1].
        """
        images = [
            apply_in_strips(self, self.g_s, latent, 1, self.downsampling_factor)
            for latent in self.dequantise(symbols).split(1)
        ]
        return torch.cat(images).float().clamp_(0, 1)

    def dequantise(self, symbols: Tensor) -> Tensor:
        """What the synthesis transform gets: symbols, int32 ``[B, N, h, w]``, as float32 of that
        shape.
        """
        return symbols.float() + self.medians

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Entropy-code the latents of ``x`` (``[B, 3, H, W]`` in [0, 1], any size from 16 to 8192 a
        side).

        Returns:
            ``{"strings": [[bytes, ...]], "shape": (h, w), "size": (H, W)}``, CompressAI's layout
            with the size that :meth:`decompress` cuts the padding off to. On one machine the bytes
            do not depend on the batch nor on ``torch.set_num_threads``. Another device or library
            version may round a latent that lies on the edge between two symbols to the other one;
            whatever was encoded is decoded to the same symbols everywhere, for neither side
            computes a probability.

        Raises:
            ValueError: a side is out of bounds, or the latent is not finite.
        """
        symbols = self.analyse(x).cpu().numpy()
        return {
            "strings": [[self.tables.encode(latent) for latent in symbols]],
            "shape": tuple(symbols.shape[-2:]),
            "size": tuple(x.shape[-2:]),
        }

    def decompress(
        self,
        strings: list[list[bytes]],
        shape: tuple[int, int],
        size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Decode what :meth:`compress` returned.

        Args:
            strings: one list with one byte string for each image.
            shape: ``(h, w)`` of the latent.
            size: ``(H, W)`` of the images; without it the padding stays on.

        Returns:
            ``{"x_hat": [B, 3, H, W]}`` in [0, 1].

        Raises:
            PacketError: a string does not decode to a latent of that shape.
        """
        device = self.entropy_bottleneck.quantiles.device
        latents = [torch.from_numpy(self.tables.decode(string, *shape)) for string in strings[0]]
        x_hat = self.synthesise(torch.stack(latents).to(device))
        if size is not None:
            x_hat = x_hat[..., : size[0], : size[1]]
        return {"x_hat": x_hat}

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> AnonymizingCodec:
        """Build the network that a state dict belongs to and load it."""
        raise NotImplementedError


class AnalysisGraph(nn.Module):
    """Image to symbols: uint8 ``[1, H, W, 3]`` RGB, sides multiples of the factor, to int32 ``[1,
    N, h, w]``.
    """

    medians: Tensor

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_a = copy.deepcopy(codec.g_a)
        with torch.no_grad():
            # Bytes go in: bfloat16 holds each of them, and no layer has to divide.
            self.g_a.get_parameter("0.weight").div_(255)
        self.register_buffer("medians", codec.medians.detach().clone())

    def forward(self, image: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.analyse`."""
        symbols = torch.round(self.g_a(image.permute(0, 3, 1, 2).float()) - self.medians)
        # What is not finite becomes a symbol that the entropy coder refuses, whatever the device
        # makes of it.
        return torch.nan_to_num(symbols, nan=2.0**30).clamp(-(2.0**30), 2.0**30).int()


class SynthesisGraph(nn.Module):
    """Symbols to image: int32 ``[1, N, h, w]`` to uint8 ``[1, H, W, 3]`` RGB."""

    medians: Tensor

    def __init__(self, codec: AnonymizingCodec) -> None:
        super().__init__()
        self.g_s = codec.g_s
        self.register_buffer("medians", codec.medians.detach().clone())

    def forward(self, symbols: Tensor) -> Tensor:
        """See :meth:`AnonymizingCodec.synthesise`."""
        x_hat = self.g_s(symbols.float() + self.medians)
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def apply_in_strips(net: Any, transform: nn.Module, x: Tensor, down: int, up: int) -> Tensor:
    """Apply a transform of a network to one image or latent; in strips where it is large.

    Args:
        net: whose ``downsampling_factor`` and ``halo`` count.
        transform: its analysis or synthesis.
        x: ``[1, C, H, W]``.
        down: by what the transform divides sides.
        up: by what it multiplies them.
    """
    factor = net.downsampling_factor
    scale = factor // down  # pixels in a row of x
    height = x.shape[-2] * scale
    width = x.shape[-1] * scale
    if height * width <= STRIP_PIXELS:
        return transform(x)
    rows = max(STRIP_PIXELS // width // factor, 1) * factor // scale
    halo = -(-net.halo // factor) * factor // scale
    strips = []
    for top in range(0, x.shape[-2], rows):
        first = max(top - halo, 0)
        last = min(top + rows + halo, x.shape[-2])
        strip = transform(x[..., first:last, :])
        keep = min(rows, x.shape[-2] - top) * up // down
        skip = (top - first) * up // down
        strips.append(strip[..., skip : skip + keep, :])
    return torch.cat(strips, dim=-2)


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """Let torch compute with ``number`` threads, in the thread that asks for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Pad ``[B, C, H, W]`` at the right and the bottom to multiples of ``factor`` by repeating the
    edge.
    """
    height, width = x.shape[-2:]
    right = -width % factor
    bottom = -height % factor
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def check_size(x: Tensor) -> None:
    """Raise a ValueError that names the side of ``[B, 3, H, W]`` that is out of bounds."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"x: shape {tuple(x.shape)}, must be [B, 3, H, W]")
    check_sides(width=x.shape[-1], height=x.shape[-2])
