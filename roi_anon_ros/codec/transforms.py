"""The networks: analysis transform, factorized prior, synthesis transform.

Two architectures share one interface, CompressAI's ``CompressionModel``:

* :class:`PaperCodec`, the network of arXiv 2406.05726 for any width ``N`` and depth ``M``;
* :class:`FastCodec`, a network for cameras: a twelfth of the operations of ``PaperCodec(128, 2)`` and a
  receptive field wide enough for a head that fills most of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck
from compressai.layers import GDN1
from compressai.models import CompressionModel
from compressai.models.utils import conv, deconv
from compressai.registry import register_model
from torch import Tensor, nn

from roi_anon_ros.codec.entropy import EntropyTables
from roi_anon_ros.codec.picture import MAX_SIZE, MIN_SIZE

# Above this many pixels a picture goes through the networks in horizontal strips, to bound the memory.
STRIP_PIXELS = 4 * 1024 * 1024

# oneDNN orders its sums by the number of threads it has. Analysis with a fixed number, whatever the caller set,
# makes the bytes of a picture independent of that setting.
ANALYSIS_THREADS = 2


class AnonymizingCodec(CompressionModel):
    """Base of the networks: ``g_a`` → factorized prior (Ballé 2018) → ``g_s``.

    .. code-block:: none

              ┌───┐  y   ┌───┐  symbols  ┌────┐        ┌────┐        ┌───┐
        x ──►─┤g_a├──►──┤ Q ├────►─────┤ EC ├─►bytes─►┤ ED ├─►y_hat─►┤g_s├──►── x_hat
              └───┘      └───┘           └────┘        └────┘        └───┘

    ``x`` and ``x_hat`` are float tensors of shape ``[B, 3, H, W]`` in [0, 1], RGB, with sides from 16 to 8192.
    A picture whose sides are not multiples of :attr:`downsampling_factor` is padded at its right and bottom by
    repeating the edge; the padding is cut off again.
    """

    architecture: str
    downsampling_factor: int
    #: Rows of context that a strip needs above and below, at least half the receptive field, in pixels.
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
            ``{"x_hat": [B, 3, H, W], "y_hat": [B, N, h, w], "likelihoods": {"y": [B, N, h, w]}}``; quantisation
            is additive uniform noise in training mode and rounding in evaluation mode.
        """
        height, width = x.shape[-2:]
        y = self.g_a(pad_to_multiple(x, self.downsampling_factor))
        # The prior's cumulative functions lose their tails in bfloat16: keep them in float32.
        with torch.autocast(x.device.type, enabled=False):
            y_hat, likelihoods = self.entropy_bottleneck(y.float())
        x_hat = self.g_s(y_hat)[..., :height, :width]
        return {"x_hat": x_hat, "y_hat": y_hat, "likelihoods": {"y": likelihoods}}

    @torch.inference_mode()
    def symbols(self, x: Tensor) -> Tensor:
        """Quantised latent of each picture, as integers around the prior's medians.

        Pictures go through the analysis transform one at a time: the bytes of a picture do not depend on
        what else is in its batch.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1].

        Returns:
            int32 ``[B, N, ceil(H / downsampling_factor), ceil(W / downsampling_factor)]``.

        Raises:
            ValueError: a side is out of bounds, or the latent is not finite.
        """
        check_size(x)
        medians = self.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)
        out = []
        for picture in pad_to_multiple(x, self.downsampling_factor).split(1):
            with _threads(ANALYSIS_THREADS):
                y = self._in_strips(self.g_a, picture, self.downsampling_factor, 1)
            symbols = torch.round(y.float() - medians)
            if not bool(torch.isfinite(symbols).all()):
                raise ValueError("latent: not finite")
            out.append(symbols.clamp_(-(2**30), 2**30).int())
        return torch.cat(out)

    @torch.inference_mode()
    def reconstruct(self, symbols: Tensor) -> Tensor:
        """Pictures from quantised latents, one at a time; the inverse of :meth:`symbols`.

        Args:
            symbols: int32 ``[B, N, h, w]``.

        Returns:
            ``[B, 3, h * downsampling_factor, w * downsampling_factor]`` in [0, 1].
        """
        pictures = [
            self._in_strips(self.g_s, latent, 1, self.downsampling_factor)
            for latent in self.dequantise(symbols).split(1)
        ]
        return torch.cat(pictures).float().clamp_(0, 1)

    def dequantise(self, symbols: Tensor) -> Tensor:
        """What the synthesis transform gets: symbols, int32 ``[B, N, h, w]``, as float32 of that shape."""
        return symbols.float() + self.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Entropy-code the latents of ``x`` (``[B, 3, H, W]`` in [0, 1], any size from 16 to 8192 a side).

        Returns:
            ``{"strings": [[bytes, ...]], "shape": (h, w), "size": (H, W)}``, CompressAI's layout with the size
            that :meth:`decompress` cuts the padding off to. On one machine the bytes do not depend on the
            batch nor on ``torch.set_num_threads``. Another device or library version may round a latent that
            lies on the edge between two symbols to the other one; whatever was encoded is decoded to the same
            symbols everywhere, for neither side computes a probability.

        Raises:
            ValueError: a side is out of bounds, or the latent is not finite.
        """
        symbols = self.symbols(x).cpu().numpy()
        return {
            "strings": [[self.tables.encode(latent) for latent in symbols]],
            "shape": tuple(symbols.shape[-2:]),
            "size": tuple(x.shape[-2:]),
        }

    def decompress(
        self, strings: list[list[bytes]], shape: tuple[int, int], size: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """Decode what :meth:`compress` returned.

        Args:
            strings: one list with one byte string for each picture.
            shape: ``(h, w)`` of the latent.
            size: ``(H, W)`` of the pictures; without it the padding stays on.

        Returns:
            ``{"x_hat": [B, 3, H, W]}`` in [0, 1].

        Raises:
            PacketError: a string does not decode to a latent of that shape.
        """
        device = self.entropy_bottleneck.quantiles.device
        latents = [torch.from_numpy(self.tables.decode(string, *shape)) for string in strings[0]]
        x_hat = self.reconstruct(torch.stack(latents).to(device))
        if size is not None:
            x_hat = x_hat[..., : size[0], : size[1]]
        return {"x_hat": x_hat}

    def _in_strips(self, transform: nn.Module, x: Tensor, down: int, up: int) -> Tensor:
        """Apply ``transform`` to ``x`` (``[1, C, H, W]``), in strips with context where it is large."""
        factor = self.downsampling_factor
        scale = factor // down  # pixels in a row of x
        height, width = x.shape[-2] * scale, x.shape[-1] * scale
        if height * width <= STRIP_PIXELS:
            return transform(x)
        rows = max(STRIP_PIXELS // width // factor, 1) * factor // scale
        halo = -(-self.halo // factor) * factor // scale
        strips = []
        for top in range(0, x.shape[-2], rows):
            first, last = max(top - halo, 0), min(top + rows + halo, x.shape[-2])
            strip = transform(x[..., first:last, :])
            keep = min(rows, x.shape[-2] - top) * up // down
            skip = (top - first) * up // down
            strips.append(strip[..., skip : skip + keep, :])
        return torch.cat(strips, dim=-2)

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> AnonymizingCodec:
        """Build the network that a state dict belongs to and load it."""
        raise NotImplementedError


@register_model("roi-anon-paper")
class PaperCodec(AnonymizingCodec):
    """The network of arXiv 2406.05726: width ``N``, ``M`` hidden layers.

    .. code-block:: none

        analysis    conv(3→N) GDN1 │ M × [ conv(N→N) GDN1 ] │ conv(N→N)
        synthesis   deconv(N→N) IGDN1 │ M × [ deconv(N→N) IGDN1 ] │ deconv(N→3) sigmoid

    Every convolution is 5×5 with stride 2, so the latent is ``[N, H / 2^(M+2), W / 2^(M+2)]``. The paper's
    configurations are (128, 2), (256, 2) and (256, 1).

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
        self.N, self.M = int(N), int(M)
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
        """Build from a state dict in this class's layout: ``N`` and ``M`` follow from its shapes."""
        last = max(int(key.split(".")[1]) for key in state_dict if key.startswith("g_a."))
        net = cls(N=state_dict["g_a.0.weight"].shape[0], M=last // 2 - 1)
        net.load_state_dict(state_dict)
        return net

    @classmethod
    def from_paper_checkpoint(cls, checkpoint: dict[str, Any]) -> PaperCodec:
        """Load a checkpoint in the layout of the paper's released files.

        Args:
            checkpoint: ``{"state_dict": {"<prefix>._encoder.encoder.0.weight": ..., "<prefix>._bottleneck.*",
                "<prefix>._decoder.decoder.*"}, "N": int, "M": int}`` with any prefix, or none.

        Raises:
            ValueError: a field is missing, or a tensor does not fit the network of ``N`` and ``M``.
        """
        missing = [field for field in ("state_dict", "N", "M") if field not in checkpoint]
        if missing:
            raise ValueError(f"checkpoint: no field {', '.join(missing)}")
        rooms = {"_encoder.encoder.": "g_a.", "_bottleneck.": "entropy_bottleneck.", "_decoder.decoder.": "g_s."}
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
    """1×1 convolution that passes nothing where it sees a head, ``[B, C, H, W]`` to ``[B, N, H, W]``.

    With p the probability of a head that ``heads``, two small convolutions, finds in the same features f:

        y = b + g · W f,    g = 2 − 8p, at least 0 and at most 1

    Where p is a quarter or more, every channel is its bias b, whatever the picture shows there; where it is an eighth
    or less, the gate is wide open.
    """

    def __init__(self, channels: int, N: int) -> None:
        super().__init__(channels, N, 1)
        self.heads = nn.Sequential(nn.Conv2d(channels, 64, 1), nn.ReLU(), nn.Conv2d(64, 1, 3, padding=1))
        nn.init.constant_(self.heads[-1].bias, -3.0)  # open, until it has learned what a head is

    @staticmethod
    def opening(heads: Tensor) -> Tensor:
        """g of what ``heads`` gives, the logit of p: 0 where the gate is closed, 1 where it is wide open."""
        return (2 - 8 * torch.sigmoid(heads)).clamp(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features to latent."""
        return F.conv2d(x, self.weight) * self.opening(self.heads(x)) + self.bias[:, None, None]


@register_model("roi-anon-fast")
class FastCodec(AnonymizingCodec):
    """A network for cameras: most of the work happens at an eighth and a sixteenth of the resolution.

    .. code-block:: none

        analysis    conv12(3→64, stride 8) GDN1 │ 2 × block │ conv3(64→192, stride 2)
                    │ 4 × block, dilation 1 2 4 8 │ conv1(192→N) × gate
        synthesis   conv1(N→192) │ 4 × block, dilation 8 4 2 1 │ deconv2(192→96, stride 2)
                    │ 2 × block │ IGDN1 conv3(96→192) shuffle 8 │ sigmoid

    A block is a residual bottleneck. The gate is a map of heads, where it lets nothing into the latent, see
    :class:`GatedConv`. The latent is ``[N, H / 16, W / 16]``. The analysis costs 3,362 multiply-adds a pixel,
    ``PaperCodec(128, 2)`` 41,376; it sees 588 × 588 pixels around each latent, against 61. The synthesis costs 5,928.

    Args:
        N: number of channels of the latent, at least 1.
    """

    architecture = "fast"
    downsampling_factor = 16
    halo = 320

    def __init__(self, N: int = 128) -> None:
        super().__init__()
        if N < 1:
            raise ValueError(f"N: {N}, must be at least 1")
        self.N = int(N)
        seen, shown, sixteenth = 64, 96, 192
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


#: What a model file may name as its architecture.
ARCHITECTURES: dict[str, type[AnonymizingCodec]] = {cls.architecture: cls for cls in (PaperCodec, FastCodec)}

#: The paper's configurations and ours, by name: (architecture, hyperparameters).
CONFIGURATIONS: dict[str, tuple[str, dict[str, int]]] = {
    "roi-128-2": ("paper", {"N": 128, "M": 2}),
    "roi-256-2": ("paper", {"N": 256, "M": 2}),
    "roi-256-1": ("paper", {"N": 256, "M": 1}),
    "fast": ("fast", {"N": 128}),
}


def build(configuration: str) -> AnonymizingCodec:
    """A freshly initialised network of one of the named :data:`CONFIGURATIONS`.

    Raises:
        ValueError: no such configuration.
    """
    if configuration not in CONFIGURATIONS:
        raise ValueError(f"configuration: {configuration!r}, must be one of {', '.join(CONFIGURATIONS)}")
    architecture, hyperparameters = CONFIGURATIONS[configuration]
    return ARCHITECTURES[architecture](**hyperparameters)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch compute with ``number`` threads, in the thread that asks for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Pad ``[B, C, H, W]`` at the right and the bottom to multiples of ``factor`` by repeating the edge."""
    height, width = x.shape[-2:]
    right, bottom = -width % factor, -height % factor
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def check_size(x: Tensor) -> None:
    """Raise a ValueError that names the side of ``[B, 3, H, W]`` that is out of bounds."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"x: shape {tuple(x.shape)}, must be [B, 3, H, W]")
    for name, side in zip(("height", "width"), x.shape[-2:], strict=True):
        if not MIN_SIZE <= side <= MAX_SIZE:
            raise ValueError(f"{name}: {side} pixels, must be from {MIN_SIZE} to {MAX_SIZE}")
