"""Methods with the seconds of their stages, and the paper's own way."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from roi_anon_ros.codec import MAX_SIDE, Codec
from roi_anon_ros.codec.engines.stages import ANALYSIS_THREADS
from roi_anon_ros.codec.image import check_image
from roi_anon_ros.codec.latents import AUTO_QUALITY
from roi_anon_ros.codec.modelfile import model_of
from roi_anon_ros.codec.networks import (
    AnonymizingCodec,
    GainedCodec,
    PaperCodec,
    pad_to_multiple,
)
from roi_anon_ros.evaluate.methods import Kind, make_method, parse_name
from roi_anon_ros.evaluate.methods.making import load_codec
from roi_anon_ros.evaluate.methods.names import PAPER

#: Channels that carry something in a latent that nobody trained, of 128.
ALIVE = 24

_SIZE = struct.Struct("<HH")


@dataclass(frozen=True)
class Timed:
    """One method of a benchmark.

    Attributes:
        name: in the tables.
        encode: an image, uint8 ``[H, W, 3]`` RGB, to what is sent, and the seconds of its stages
            (may be none).
        decode: what was sent to an image of the same size, and the seconds of its stages.
        note: what a reader of the table has to know.
        multiply_adds: of the analysis transform, for each pixel of the image; 0: no analysis.
    """

    name: str
    encode: Callable[[np.ndarray], tuple[bytes, dict[str, float]]]
    decode: Callable[[bytes], tuple[np.ndarray, dict[str, float]]]
    note: str = ""
    multiply_adds: float = 0.0


def make_timed(name: str, sample: np.ndarray) -> Timed:
    """A method by its name.

    Args:
        name: as :func:`~roi_anon_ros.evaluate.methods.make_method` takes it; ``paper``: the paper's
            network (128, 2) that nobody trained, the paper's own way (:func:`paper_way`);
            ``paper:MODEL``: the network of a model that way; ``paper-here``: the network of
            ``paper`` through this package's codec.
        sample: uint8 ``[H, W, 3]`` RGB, by which :func:`paper_network` sets its rate.

    Raises:
        ValueError: no method has this name.
        ModelFileError: the model cannot be loaded.
    """
    parsed = parse_name(name)
    if parsed.kind is Kind.PAPER and parsed.subject:
        network = Codec.load(parsed.subject).model.codec
        if not isinstance(network, AnonymizingCodec):
            raise ValueError(f"{name}: has no factorized prior, the paper's way needs one")
        return paper_way(network, name)
    if parsed.kind in (Kind.PAPER, Kind.PAPER_HERE):
        net = paper_network(sample)
        note = (
            f"not trained: scaled to a realistic rate, {ALIVE} of 128 channels carry it; "
            "its images show nothing"
        )
        if parsed.kind is Kind.PAPER:
            return paper_way(net, name, note)
        model = model_of(net, name)
        return codec_way(Codec(model, parsed.engine), name, note)
    if parsed.kind is Kind.MODEL:
        return codec_way(load_codec(parsed), name, quality=parsed.quality)
    method = make_method(name)
    note = "Pillow's encoder with its other defaults" if parsed.kind is Kind.STILL else ""
    return Timed(
        name, lambda image: (method.encode(image), {}), lambda data: (method.decode(data), {}), note
    )


def codec_way(codec: Codec, name: str, note: str = "", quality: float = AUTO_QUALITY) -> Timed:
    """A model as the nodes run it: images to packets at their own size, and back."""

    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        encoded = codec.encode(image, 0, quality)
        return encoded.packet, encoded.seconds

    def decode(packet: bytes) -> tuple[np.ndarray, dict[str, float]]:
        decoded = codec.decode(packet, MAX_SIDE**2)
        return decoded.at_source_size(), decoded.seconds

    note = "; ".join(
        filter(None, [f"analysis with {ANALYSIS_THREADS} threads, whatever is set", note])
    )
    return Timed(name, encode, decode, note, _multiply_adds(codec.model.codec))


def paper_way(net: AnonymizingCodec, name: str = PAPER, note: str = "") -> Timed:
    """A network the way the paper runs it: plain torch in float32, and CompressAI's entropy coder.

    The steps are those of ``compress`` and ``decompress`` of CompressAI's ``FactorizedPrior``; what
    is sent is its string after the image's size, 4 bytes.

    Args:
        net: with tables (``update()`` was called); it is copied to the device where it stands.
        name: of the method.
        note: of the method.
    """
    note = "; ".join(filter(None, ["plain torch, CompressAI's entropy coder", note]))
    device = net.entropy_bottleneck.quantiles.device
    # A copy, for Codec keeps the weights of its network channels last.
    net = type(net).from_state_dict(net.state_dict()).to(device).eval()
    factor = net.downsampling_factor

    @torch.inference_mode()
    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        clock = _Clock()
        x = pad_to_multiple(_to_tensor(image).to(device), factor)
        clock.lap("fit")
        y = net.g_a(x)
        clock.lap("analysis")
        string = net.entropy_bottleneck.compress(y)[0]
        clock.lap("entropy")
        data = _SIZE.pack(*image.shape[:2]) + string
        clock.lap("pack")
        return data, clock.seconds

    @torch.inference_mode()
    def decode(data: bytes) -> tuple[np.ndarray, dict[str, float]]:
        clock = _Clock()
        height, width = _SIZE.unpack_from(data)
        string = data[_SIZE.size :]
        clock.lap("unpack")
        y_hat = net.entropy_bottleneck.decompress(
            [string], (-(-height // factor), -(-width // factor))
        )
        clock.lap("entropy")
        x_hat = net.g_s(y_hat).clamp_(0, 1)[0, :, :height, :width]
        image = x_hat.mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
        clock.lap("synthesis")
        return image, clock.seconds

    return Timed(name, encode, decode, note, _multiply_adds(net))


@torch.no_grad()
def paper_network(image: np.ndarray, bits_per_pixel: float = 0.25, seed: int = 0) -> PaperCodec:
    """The paper's network (128, 2) with weights that nobody trained: for its time, not for its
    images.

    What an entropy coder takes depends on the latent, and a fresh network's costs nothing like a
    trained one's. So the last convolution and the prior are scaled until the latent of this image
    costs ``bits_per_pixel``, evenly over 24 of the 128 channels; the others are 0 everywhere. That
    is how trained latents look (the model ``fast`` uses 12 of 128 channels for half the rate), and
    it is an assumption: a coder that skips empty channels gains by it.

    Args:
        image: uint8 ``[H, W, 3]`` RGB; another image or size costs a little more or less.
        bits_per_pixel: 0.05 to 0.6.
        seed: of the weights.

    Raises:
        ValueError: names the field and the bound.
    """
    check_image(image)
    if not 0.05 <= bits_per_pixel <= 0.6:
        raise ValueError(f"bits_per_pixel: {bits_per_pixel}, must be from 0.05 to 0.6")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PaperCodec(128, 2).eval()
    last = net.g_a[-1]
    prior = net.entropy_bottleneck
    y = net.g_a(pad_to_multiple(_to_tensor(image), net.downsampling_factor))
    sd, mean = torch.std_mean(y, (0, 2, 3))
    unit = ((y - mean[:, None, None]) / sd[:, None, None])[:, :ALIVE]
    to_scale = math.sqrt(3) / math.pi  # of a logistic distribution, from its standard deviation

    def rate(spread: float) -> float:
        far = (unit * spread).round().abs()
        scale = spread * to_scale
        likelihood = torch.sigmoid((0.5 - far) / scale) - torch.sigmoid((-0.5 - far) / scale)
        return -float(likelihood.clamp_min(1e-9).log2().sum()) * 3 / image.size

    low = 0.1
    high = 100.0
    for _ in range(16):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rate(middle) < bits_per_pixel else (low, middle)
    spread = torch.full_like(sd, 0.01)
    spread[:ALIVE] = low
    last.weight.mul_((spread / sd)[:, None, None, None])
    last.bias.sub_(mean).mul_(spread / sd)
    # A fresh prior is logistic, with the scale init_scale and a median anywhere: now with these
    # scales, around 0.
    scale = (spread * to_scale)[:, None, None]
    for bias in prior.biases:
        bias.zero_()
    slope = F.softplus(prior.matrices[0]) * prior.init_scale / scale
    prior.matrices[0].copy_(slope + torch.log(-torch.expm1(-slope)))
    prior.quantiles.copy_(scale * prior.target)
    net.update()
    return net


def _multiply_adds(net: AnonymizingCodec | GainedCodec) -> float:
    """Of the analysis transform, for each pixel of the image."""
    side = 4 * net.downsampling_factor
    x = torch.zeros(1, 3, side, side, device=next(net.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        net.g_a(x)
    return counter.get_total_flops() / 2 / side**2


def now() -> float:
    """Seconds, once accelerators have done what they were asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return perf_counter()


class _Clock:
    """Seconds of each stage since the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = now()

    def lap(self, stage: str) -> None:
        moment = now()
        self.seconds[stage] = moment - self._last
        self._last = moment


def _to_tensor(image: np.ndarray) -> Tensor:
    """uint8 ``[H, W, 3]`` to float32 ``[1, 3, H, W]`` in [0, 1], channels first in memory, as
    torchvision does it.
    """
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()[None].float().div_(255)
