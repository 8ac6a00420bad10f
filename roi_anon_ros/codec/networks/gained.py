"""A network for every rate: gains per quality level, a prior with decoded contexts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.codec.contexts import ContextTables
from roi_anon_ros.codec.engines.stages import ANALYSIS_THREADS
from roi_anon_ros.codec.latents import Latents, read_latents
from roi_anon_ros.codec.networks.base import (
    apply_in_strips,
    check_size,
    fixed_threads,
    pad_to_multiple,
)
from roi_anon_ros.codec.networks.fast import Bottleneck
from roi_anon_ros.codec.networks.headmap import HeadMap
from roi_anon_ros.codec.networks.quick_compressai import GDN1
from roi_anon_ros.codec.networks.second_look import SecondLook

#: Buffers of a model that code its latent.
TABLES = ("lookup", "cumulative", "a_buckets", "b_buckets", "dead_zone")
#: Quality levels of one model, 1 (fewest bits) to 8.
LEVELS = 8
#: The latent is scaled by this before the gains, so that gains begin near 1.
LATENT_SCALE = 8.0
#: Weights of a symbol's neighbours in the same channel: north-west, north, north-east; west.
SPATIAL_KERNEL = ((1.0, 2.0, 1.0), (2.0, 0.0, 0.0), (0.0, 0.0, 0.0))
#: Weights of a place and its neighbours in the channels before.
CHANNEL_KERNEL = ((0.0, 1.0, 0.0), (1.0, 2.0, 1.0), (0.0, 1.0, 0.0))
#: A symbol counts in a context with at most this magnitude.
CONTEXT_CLAMP = 63.0
#: The smallest likelihood: 30 bits for a symbol.
SMALLEST_LIKELIHOOD = 2.0**-30


def round_through(x: Tensor) -> Tensor:
    """Round to integers; the gradient passes unchanged (straight-through estimator)."""
    return x + (x.round() - x).detach()


def measure_contexts(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """What is known of a symbol when it is coded, channel by channel and in rows.

    Args:
        symbols: ``[B, N, h, w]``, integers as floats.

    Returns:
        ``a`` and ``b``, both ``[B, N, h, w]``: ``a = 2|W| + 2|N| + |NW| + |NE|`` in the same
        channel, and ``b = 2e + e_N + e_S + e_W + e_E`` with e the sum of magnitudes of all channels
        before; 0 outside the latent.
    """
    channels = symbols.shape[1]
    magnitude = symbols.abs().clamp(max=CONTEXT_CLAMP)
    spatial = symbols.new_tensor(SPATIAL_KERNEL).expand(channels, 1, 3, 3)
    a = F.conv2d(magnitude, spatial, padding=1, groups=channels)
    before = magnitude.cumsum(1) - magnitude
    across = symbols.new_tensor(CHANNEL_KERNEL).expand(channels, 1, 3, 3)
    b = F.conv2d(before, across, padding=1, groups=channels)
    return a, b


class ContextPrior(nn.Module):
    """Scale of each symbol's logistic distribution, from its channel, level and contexts.

    .. code-block:: none

        log σ = s[level, channel] + u[channel] · log(1 + a) + v[channel] · log(1 + b)

    It guides the training; what codes afterwards are integer tables that were counted, see
    ``codec.contexts``.

    Args:
        channels: N of the latent.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((LEVELS, channels), -1.0))
        self.spatial = nn.Parameter(torch.full((channels,), 0.3))
        self.across = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, y: Tensor, symbols: Tensor, level: Tensor) -> Tensor:
        """Likelihood of each latent.

        Args:
            y: ``[B, N, h, w]``, with uniform noise in training, rounded in evaluation.
            symbols: ``[B, N, h, w]``, rounded; their contexts count, no gradient passes.
            level: int64 ``[B]``, 0 to 7.

        Returns:
            ``[B, N, h, w]``, from 2⁻³⁰ to 1.
        """
        a, b = measure_contexts(symbols.detach())
        log_scale = self.scale[level][:, :, None, None]
        log_scale = log_scale + self.spatial[:, None, None] * torch.log1p(a)
        log_scale = log_scale + self.across[:, None, None] * torch.log1p(b)
        inverse = torch.exp(-log_scale.clamp(-4, 6))
        magnitude = y.abs()
        upper = torch.sigmoid((0.5 - magnitude) * inverse)
        lower = torch.sigmoid((-0.5 - magnitude) * inverse)
        return (upper - lower).clamp(min=SMALLEST_LIKELIHOOD)


class GainedCodec(nn.Module):
    """Analysis, gains, rounding, inverse gains, synthesis: one network for :data:`LEVELS` levels.

    .. code-block:: none

        analysis   conv8(3→96, stride 4) GDN1 │ conv3(96→160, stride 2) │ 2 × block
                   │ conv3(160→256, stride 2) │ 3 × block, dilation 1 2 4 │ conv1(256→N)
        synthesis  conv1(N→256) │ 3 × block, dilation 4 2 1 │ conv1(256→640) shuffle 2 │ 2 × block
                   │ conv1(160→384) shuffle 2 │ block │ IGDN1 │ conv3(96→48) shuffle 4

    With x in [0, 1], gains g and g' for each level and channel:

        y = 8 · exp(g) · g_a(x − ½),    x̂ = ½ + g_s(exp(g') · round(y) / 8)

    The latent is ``[N, H / 16, W / 16]``. Gains after G-VAE (arXiv 2003.02012); straight-through
    rounding for the distortion and noise for the rate after arXiv 2007.08739.

    Args:
        N: channels of the latent, at least 1.
    """

    architecture = "gained"
    has_head_map = True
    downsampling_factor = 16
    halo = 320

    def __init__(self, N: int = 128) -> None:
        super().__init__()
        if N < 1:
            raise ValueError(f"N: got {N}, must be at least 1")
        self.N = int(N)
        self.g_a = nn.Sequential(
            nn.Conv2d(3, 96, 8, stride=4, padding=2),
            GDN1(96),
            nn.Conv2d(96, 160, 3, stride=2, padding=1),
            Bottleneck(160, 1),
            Bottleneck(160, 2),
            nn.Conv2d(160, 256, 3, stride=2, padding=1),
            Bottleneck(256, 1),
            Bottleneck(256, 2),
            Bottleneck(256, 4),
            nn.Conv2d(256, N, 1),
        )
        self.g_s = nn.Sequential(
            nn.Conv2d(N, 256, 1),
            Bottleneck(256, 4),
            Bottleneck(256, 2),
            Bottleneck(256, 1),
            nn.Conv2d(256, 640, 1),
            nn.PixelShuffle(2),
            Bottleneck(160, 2),
            Bottleneck(160, 1),
            nn.Conv2d(160, 384, 1),
            nn.PixelShuffle(2),
            Bottleneck(96, 1),
            GDN1(96, inverse=True),
            nn.Conv2d(96, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        ladder = torch.linspace(-1.6, 1.6, LEVELS)[:, None].repeat(1, N)
        self.gain = nn.Parameter(ladder.clone())
        self.inverse_gain = nn.Parameter(-ladder)
        self.prior = ContextPrior(N)
        self.head_map = HeadMap()
        self.second_look = SecondLook()
        for name in TABLES:
            self.register_buffer(name, torch.zeros(0))

    @property
    def hyperparameters(self) -> dict[str, int]:
        """``{"N": ...}``."""
        return {"N": self.N}

    @property
    def latents(self) -> Latents:
        """What turns the latent into a payload.

        Raises:
            RuntimeError: the tables do not exist yet, see ``train.tables``.
        """
        if self.lookup.numel() == 0:
            raise RuntimeError("the model has no tables: count them after the training")
        names = (*TABLES, "gain", "inverse_gain")
        return read_latents({name: getattr(self, name).detach().cpu().numpy() for name in names})

    def set_tables(self, tables: ContextTables, dead_zone: float) -> None:
        """Store what codes the latent, see :class:`~roi_anon_ros.codec.latents.GainedLatents`."""
        self.lookup = torch.from_numpy(tables.lookup.copy())
        self.cumulative = torch.from_numpy(tables.cumulative.astype(np.int32))
        self.a_buckets = torch.from_numpy(tables.a_buckets.copy())
        self.b_buckets = torch.from_numpy(tables.b_buckets.copy())
        self.dead_zone = torch.tensor(dead_zone)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights and tables of any number; see ``torch.nn.Module.load_state_dict``."""
        for name in TABLES:
            if name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[name]))
        return super().load_state_dict(state_dict, strict, assign)

    @torch.inference_mode()
    def analyse(self, x: Tensor) -> Tensor:
        """Latent before gains and rounding, float32 ``[B, N, h, w]``, one image at a time.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], sides from 16 to 8192.

        Raises:
            ValueError: a side is out of bounds.
        """
        check_size(x)
        latents = []
        for image in pad_to_multiple(x, self.downsampling_factor).split(1):
            with fixed_threads(ANALYSIS_THREADS):
                latents.append(apply_in_strips(self, self.g_a, image - 0.5, 16, 1).float())
        return LATENT_SCALE * torch.cat(latents)

    @torch.inference_mode()
    def synthesise(self, latent: Tensor) -> Tensor:
        """Images ``[B, 3, 16 h, 16 w]`` in [0, 1] of scaled latents ``[B, N, h, w]``."""
        images = []
        for one in latent.split(1):
            images.append(apply_in_strips(self, self.g_s, one / LATENT_SCALE, 1, 16))
        return (torch.cat(images).float() + 0.5).clamp_(0, 1)

    @torch.inference_mode()
    def map_heads(self, images: Tensor) -> Tensor:
        """The head map's answer, ``[B, 4, H / 8, W / 8]``, to uint8 ``[B, H, W, 3]``."""
        with fixed_threads(ANALYSIS_THREADS):
            return self.head_map(images.permute(0, 3, 1, 2).float() / 255)

    def analysis_graph(self) -> nn.Module:
        """See :meth:`AnonymizingCodec.analysis_graph`; the latent is float32."""
        return _AnalysisGraph(self.g_a)

    def synthesis_graph(self) -> nn.Module:
        """See :meth:`AnonymizingCodec.synthesis_graph`; the latent is float32."""
        return _SynthesisGraph(self.g_s)

    def heads_graph(self) -> nn.Module:
        """uint8 ``[1, H, W, 3]``, sides multiples of 128, to float32 ``[1, 4, H / 8, W / 8]``."""
        return _HeadsGraph(self.head_map)

    def forward(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One pass for the training.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], sides multiples of 16.
            level: int64 ``[B]``, 0 to 7.

        Returns:
            ``x_hat [B, 3, H, W]``, ``bits [B]`` of each image and the rounded latent
            ``[B, N, h, w]``.
        """
        gain = torch.exp(self.gain[level])[:, :, None, None]
        y = self.g_a(x - 0.5).float() * (LATENT_SCALE * gain)
        with torch.autocast(x.device.type, enabled=False):
            rounded = round_through(y)
            seen = y + torch.rand_like(y) - 0.5 if self.training else rounded
            likelihoods = self.prior(seen, rounded, level)
            bits = -likelihoods.log2().sum((1, 2, 3))
        inverse = torch.exp(self.inverse_gain[level])[:, :, None, None]
        x_hat = self.g_s(rounded * (inverse / LATENT_SCALE)).float() + 0.5
        return x_hat, bits, rounded


class _AnalysisGraph(nn.Module):
    def __init__(self, g_a: nn.Module) -> None:
        super().__init__()
        self.g_a = copy.deepcopy(g_a)
        with torch.no_grad():
            # Bytes go in, around 0: bfloat16 holds each of them.
            self.g_a.get_parameter("0.weight").div_(255)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).float() - 127.5
        return self.g_a(x) * LATENT_SCALE


class _SynthesisGraph(nn.Module):
    def __init__(self, g_s: nn.Module) -> None:
        super().__init__()
        self.g_s = g_s

    def forward(self, latent: Tensor) -> Tensor:
        x_hat = self.g_s(latent / LATENT_SCALE) + 0.5
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class _HeadsGraph(nn.Module):
    def __init__(self, head_map: nn.Module) -> None:
        super().__init__()
        self.head_map = head_map

    def forward(self, image: Tensor) -> Tensor:
        return self.head_map(image.permute(0, 3, 1, 2).float() / 255)
