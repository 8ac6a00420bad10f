"""A network for cameras: a twelfth of the operations of ``PaperCodec(128, 2)``, and a wide
receptive field.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.codec.networks.base import AnonymizingCodec
from roi_anon_ros.codec.networks.quick_compressai import GDN1, EntropyBottleneck, register_model


class Bottleneck(nn.Module):
    """Residual bottleneck, 1×1 → 3×3 with dilation → 1×1, ``[B, C, H, W]`` to the same shape."""

    def __init__(self, channels: int, dilation: int) -> None:
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


class GatedConv(nn.Conv2d):
    """1×1 convolution that passes nothing where it sees a head, ``[B, C, H, W]`` to ``[B, N, H,
    W]``.

    With p the probability of a head that ``heads``, two small convolutions, finds in the same
    features f:

        y = b + g · W f,    g = 2 − 8p, at least 0 and at most 1

    Where p is a quarter or more, every channel is its bias b, whatever the image shows there;
    where it is an eighth or less, the gate is wide open.
    """

    def __init__(self, channels: int, N: int) -> None:
        super().__init__(channels, N, 1)
        self.heads = nn.Sequential(
            nn.Conv2d(channels, 64, 1), nn.ReLU(), nn.Conv2d(64, 1, 3, padding=1)
        )
        # Open, until it has learned what a head is.
        nn.init.constant_(self.heads.get_parameter("2.bias"), -3.0)

    @staticmethod
    def opening(heads: Tensor) -> Tensor:
        """g of what ``heads`` gives, the logit of p: 0 where the gate is closed, 1 where it is wide
        open.
        """
        return (2 - 8 * torch.sigmoid(heads)).clamp(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features to latent."""
        assert self.bias is not None
        gated = F.conv2d(x, self.weight) * self.opening(self.heads(x))
        return gated + self.bias[:, None, None]


@register_model("roi-anon-fast")
class FastCodec(AnonymizingCodec):
    """A network for cameras: most of the work happens at an eighth and a sixteenth of the
    resolution.

    .. code-block:: none

        analysis    conv12(3→64, stride 8) GDN1 │ 2 × block │ conv3(64→192, stride 2)
                    │ 4 × block, dilation 1 2 4 8 │ conv1(192→N) × gate
        synthesis   conv1(N→192) │ 4 × block, dilation 8 4 2 1 │ deconv2(192→96, stride 2)
                    │ 2 × block │ IGDN1 conv3(96→192) shuffle 8 │ sigmoid

    A block is a residual bottleneck. The gate is a map of heads, where it lets nothing into the
    latent, see
    :class:`GatedConv`. The latent is ``[N, H / 16, W / 16]``. The analysis costs 3,362
    multiply-adds a pixel, ``PaperCodec(128, 2)`` 41,376; it sees 588 × 588 pixels around each
    latent, against 61. The synthesis costs 5,928.

    Args:
        N: number of channels of the latent, at least 1.
    """

    architecture = "fast"
    downsampling_factor = 16
    halo = 320
    g_a: nn.Sequential

    def __init__(self, N: int = 128) -> None:
        super().__init__()
        if N < 1:
            raise ValueError(f"N: {N}, must be at least 1")
        self.N = int(N)
        seen = 64
        shown = 96
        sixteenth = 192
        self.g_a = nn.Sequential(
            nn.Conv2d(3, seen, 12, stride=8, padding=2),
            GDN1(seen),
            Bottleneck(seen, 1),
            Bottleneck(seen, 2),
            nn.Conv2d(seen, sixteenth, 3, stride=2, padding=1),
            *[Bottleneck(sixteenth, dilation) for dilation in (1, 2, 4, 8)],
            GatedConv(sixteenth, N),
        )
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.g_s = nn.Sequential(
            nn.Conv2d(N, sixteenth, 1),
            *[Bottleneck(sixteenth, dilation) for dilation in (8, 4, 2, 1)],
            nn.ConvTranspose2d(sixteenth, shown, 2, stride=2),
            Bottleneck(shown, 2),
            Bottleneck(shown, 1),
            GDN1(shown, inverse=True),
            nn.Conv2d(shown, 3 * 64, 3, padding=1),
            nn.PixelShuffle(8),
            nn.Sigmoid(),
        )

    @property
    def hyperparameters(self) -> dict[str, int]:
        """``{"N": ...}``."""
        return {"N": self.N}

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> FastCodec:
        """Build from a state dict in this class's layout: ``N`` follows from its shapes."""
        net = cls(N=state_dict["g_s.0.weight"].shape[1])
        net.load_state_dict(state_dict)
        return net
