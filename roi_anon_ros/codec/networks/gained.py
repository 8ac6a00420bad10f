"""A network for every rate: gains per quality level, and a prior that reads its contexts from decoded neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN1
from torch import Tensor, nn

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


class Bottleneck(nn.Module):
    """Residual bottleneck, 1×1 → 3×3 with dilation → 1×1, ``[B, C, H, W]`` to the same shape."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        inner = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` plus its branch."""
        return x + self.branch(x)


def round_through(x: Tensor) -> Tensor:
    """Round to integers; the gradient passes as if nothing had happened (straight-through estimator)."""
    return x + (x.round() - x).detach()


def measure_contexts(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """What is known of a symbol when it is coded, channel by channel and in rows.

    Args:
        symbols: ``[B, N, h, w]``, integers as floats.

    Returns:
        ``a`` and ``b``, both ``[B, N, h, w]``: ``a = 2|W| + 2|N| + |NW| + |NE|`` in the same channel, and
        ``b = 2e + e_N + e_S + e_W + e_E`` with e the sum of magnitudes of all channels before; 0 outside the latent.
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

    It guides the training; what codes afterwards are integer tables that were counted, see ``codec.contexts``.

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
    """Analysis, gains, rounding, inverse gains, synthesis: one network for :data:`LEVELS` quality levels.

    .. code-block:: none

        analysis   conv8(3→96, stride 4) GDN1 │ conv3(96→160, stride 2) │ 2 × block │ conv3(160→256, stride 2)
                   │ 3 × block, dilation 1 2 4 │ conv1(256→N)
        synthesis  conv1(N→256) │ 3 × block, dilation 4 2 1 │ conv1(256→640) shuffle 2 │ 2 × block
                   │ conv1(160→384) shuffle 2 │ block │ IGDN1 │ conv3(96→48) shuffle 4

    With x in [0, 1], gains g and g' for each level and channel:

        y = 8 · exp(g) · g_a(x − ½),    x̂ = ½ + g_s(exp(g') · round(y) / 8)

    The latent is ``[N, H / 16, W / 16]``. Gains after G-VAE (arXiv 2003.02012); straight-through rounding for the
    distortion and noise for the rate after arXiv 2007.08739.

    Args:
        N: channels of the latent, at least 1.
    """

    architecture = "gained"
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

    @property
    def hyperparameters(self) -> dict[str, int]:
        """``{"N": ...}``."""
        return {"N": self.N}

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        """Latent before the rounding, float32 ``[B, N, h, w]``, of ``[B, 3, H, W]`` in [0, 1]."""
        gain = torch.exp(self.gain[level])[:, :, None, None]
        return self.g_a(x - 0.5).float() * (LATENT_SCALE * gain)

    def synthesise(self, symbols: Tensor, level: Tensor) -> Tensor:
        """Image, ``[B, 3, H, W]`` around [0, 1], of rounded latents ``[B, N, h, w]``."""
        gain = torch.exp(self.inverse_gain[level])[:, :, None, None]
        return self.g_s(symbols * (gain / LATENT_SCALE)).float() + 0.5

    def forward(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One pass for the training.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], sides multiples of 16.
            level: int64 ``[B]``, 0 to 7.

        Returns:
            ``x_hat [B, 3, H, W]``, ``bits [B]`` of each image and the rounded latent ``[B, N, h, w]``.
        """
        y = self.analyse(x, level)
        with torch.autocast(x.device.type, enabled=False):
            rounded = round_through(y)
            seen = y + torch.rand_like(y) - 0.5 if self.training else rounded
            likelihoods = self.prior(seen, rounded, level)
            bits = -likelihoods.log2().sum((1, 2, 3))
        return self.synthesise(rounded, level), bits, rounded
