"""The network of arXiv 2406.05726, for any width and depth."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from roi_anon_ros.codec.networks.base import AnonymizingCodec
from roi_anon_ros.codec.networks.quick_compressai import (
    GDN1,
    EntropyBottleneck,
    conv,
    deconv,
    register_model,
)


@register_model("roi-anon-paper")
class PaperCodec(AnonymizingCodec):
    """The network of arXiv 2406.05726: width ``N``, ``M`` hidden layers.

    .. code-block:: none

        analysis    conv(3→N) GDN1 │ M × [ conv(N→N) GDN1 ] │ conv(N→N)
        synthesis   deconv(N→N) IGDN1 │ M × [ deconv(N→N) IGDN1 ] │ deconv(N→3) sigmoid

    Every convolution is 5×5 with stride 2, so the latent is ``[N, H / 2^(M+2), W / 2^(M+2)]``. The
    paper's configurations are (128, 2), (256, 2) and (256, 1).

    Args:
        N: number of channels of every layer and of the latent, at least 1.
        M: number of hidden layers, 0 to 4.
    """

    architecture = "paper"

    def __init__(self, N: int = 128, M: int = 2) -> None:
        super().__init__()
        if N < 1:
            raise ValueError(f"N: {N}, must be at least 1")
        if not 0 <= M <= 4:
            raise ValueError(f"M: {M}, must be from 0 to 4")
        self.N = int(N)
        self.M = int(M)
        self.downsampling_factor = 2 ** (M + 2)
        # A 5×5 convolution at stride 2^i reaches 2 · 2^i pixels further.
        self.halo = 2 * self.downsampling_factor
        analysis: list[nn.Module] = [conv(3, N), GDN1(N)]
        synthesis: list[nn.Module] = [deconv(N, N), GDN1(N, inverse=True)]
        for _ in range(M):
            analysis += [conv(N, N), GDN1(N)]
            synthesis += [deconv(N, N), GDN1(N, inverse=True)]
        self.g_a = nn.Sequential(*analysis, conv(N, N))
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.g_s = nn.Sequential(*synthesis, deconv(N, 3), nn.Sigmoid())

    @property
    def hyperparameters(self) -> dict[str, int]:
        """``{"N": ..., "M": ...}``."""
        return {"N": self.N, "M": self.M}

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> PaperCodec:
        """Build from a state dict of this class: ``N`` and ``M`` follow from its shapes."""
        last = max(int(key.split(".")[1]) for key in state_dict if key.startswith("g_a."))
        net = cls(N=state_dict["g_a.0.weight"].shape[0], M=last // 2 - 1)
        net.load_state_dict(state_dict)
        return net

    @classmethod
    def from_paper_checkpoint(cls, checkpoint: dict[str, Any]) -> PaperCodec:
        """Load a checkpoint in the layout of the paper's released files.

        Args:
            checkpoint: ``{"state_dict": {"<prefix>._encoder.encoder.0.weight": ...,
                "<prefix>._bottleneck.*", "<prefix>._decoder.decoder.*"}, "N": int, "M": int}`` with
                any prefix, or none.

        Raises:
            ValueError: a field is missing, or a tensor does not fit the network of ``N`` and ``M``.
        """
        missing = [field for field in ("state_dict", "N", "M") if field not in checkpoint]
        if missing:
            raise ValueError(f"checkpoint: no field {', '.join(missing)}")
        rooms = {
            "_encoder.encoder.": "g_a.",
            "_bottleneck.": "entropy_bottleneck.",
            "_decoder.decoder.": "g_s.",
        }
        state_dict = {}
        for key, value in checkpoint["state_dict"].items():
            for theirs, ours in rooms.items():
                prefix, found, rest = f".{key}".partition(f".{theirs}")
                if found:
                    state_dict[ours + rest] = value
        net = cls(N=checkpoint["N"], M=checkpoint["M"])
        try:
            net.load_state_dict(state_dict)
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"checkpoint: does not fit N={net.N}, M={net.M}: {error}") from error
        if net.entropy_bottleneck._quantized_cdf.numel() == 0:
            net.update()
        return net
