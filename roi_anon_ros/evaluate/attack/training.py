"""The attacker's training."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.detect.recogniser_torch import TorchRecogniser
from roi_anon_ros.evaluate.attack.network import FACTORS, Attacker, to_tensor
from roi_anon_ros.evaluate.attack.pairs import Pair, Windows
from roi_anon_ros.evaluate.attack.storage import FORMAT_VERSION, write_attack
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.storage import write_bytes
from roi_anon_ros.train.losses import Regions, outside, region_weights

#: Weight of ``edges`` in the loss.
EDGES = 1.0
#: Weight of ``rest`` in the loss.
REST = 0.1
#: Weight of the identity in the loss.
IDENTITY = 0.2
#: Heads that a recogniser looks at in a step, the largest; those below 32 pixels tell it nothing.
FACES = 4
SMALLEST_FACE = 32

LEARNING_RATE = 1e-3

#: Share of the steps over which the learning rate grows.
WARMUP = 0.05

#: Least standard deviation by which a channel is divided; of a latent, a symbol is 1.
LEAST_DEVIATION = 0.1


def build(pairs: list[Pair], seed: int = 0) -> Attacker:
    """A fresh attacker for what is received in these pairs, with its mean and deviation.

    Raises:
        ValueError: there is no pair, or the latent does not cover the images.
    """
    if not pairs:
        raise ValueError("pairs: none, must be at least 1")
    channels = 0
    factor = 16
    if pairs[0].latent is not None:

        def covers(factor: int) -> bool:
            for pair in pairs:
                rows_columns = tuple(-(-side // factor) for side in pair.image.shape[:2])
                if pair.latent is None or pair.latent.shape[1:] != rows_columns:
                    return False
            return True

        channels = len(pairs[0].latent)
        fitting = next(filter(covers, FACTORS), None)
        if fitting is None:
            sizes = f"{pairs[0].latent.shape[1:]} of {pairs[0].image.shape[:2]}"
            raise ValueError(
                f"latent: {sizes}, must be the image's size over a power of two up to 64"
            )
        factor = fitting
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Attacker(channels, factor)
    _normalise([p.received for p in pairs], net.mean, net.deviation)
    if channels:
        latents = [p.latent for p in pairs if p.latent is not None]
        _normalise(latents, net.latent_mean, net.latent_deviation)
    return net.to(memory_format=torch.channels_last)


def _normalise(arrays: list[np.ndarray], mean: Tensor, deviation: Tensor) -> None:
    """Set the mean and deviation of each channel, over images that count the same."""
    # In float64, where the order of the sums does not show.
    values = [to_tensor([array])[0].double().flatten(1) for array in arrays]
    means = torch.stack([v.mean(1) for v in values]).mean(0)
    variance = torch.stack([v.square().mean(1) for v in values]).mean(0) - means.square()
    mean.copy_(means[:, None, None])
    deviation.copy_(variance.clamp(min=LEAST_DEVIATION**2).sqrt()[:, None, None])


def attack_loss(recovered: Tensor, image: Tensor, heads: Regions) -> dict[str, Tensor]:
    """How far the recovered heads are from the true ones.

    With the error e = recovered − image, its differences ∂ between neighbours in a row or a
    column, and the mean over a crop's heads, then over the crops (one without heads counts as 0):

        L = mean over heads of (mean |e|) + 1 · mean over heads of (mean |∂x e| + mean |∂y e|) + 0.1
        · rest

    where the rest is the mean |e| of all pixels outside the heads. A difference belongs to the
    pixel at its right or lower end; a crop's first row or column has none, and counts as 0.

    Args:
        recovered: ``[B, 3, H, W]``.
        image: ``[B, 3, H, W]``.
        heads: the boxes in these crops.

    Returns:
        Scalars ``loss``, ``heads``, ``edges``, ``rest``, the last three before their weights.
    """
    error = recovered - image
    weights = region_weights(heads, image)
    keep = outside(heads, image)
    size = error.abs().mean(1, keepdim=True)
    across, down = (error.diff(dim=axis).abs().mean(1, keepdim=True) for axis in (3, 2))
    terms = {
        "heads": (size * weights).sum(),
        "edges": (across * weights[..., 1:]).sum() + (down * weights[..., 1:, :]).sum(),
        "rest": (size * keep).sum() / keep.sum().clamp(min=1),
    }
    return {"loss": terms["heads"] + EDGES * terms["edges"] + REST * terms["rest"], **terms}


def identity_loss(
    recovered: Tensor, image: Tensor, heads: Regions, recogniser: nn.Module
) -> Tensor:
    """How far a recogniser takes the recovered heads for other people: the mean of 1 − cosine.

    A face is looked for in the lower 0.85 of a head's box, as high as wide.

    Args:
        recovered: ``[B, 3, H, W]``.
        image: ``[B, 3, H, W]``.
        heads: the boxes in these crops.
        recogniser: from faces ``[n, 3, 112, 112]`` in [0, 1] to vectors of length 1.

    Returns:
        A scalar, 0 to 2; 0 where no head is large enough.
    """
    heights = heads.boxes[:, 3] - heads.boxes[:, 1]
    order = torch.argsort(heights, descending=True, stable=True)[:FACES]
    order = order[heights[order] >= SMALLEST_FACE]
    if not len(order):
        return recovered.new_zeros(())
    boxes = heads.boxes[order].float()
    side = 0.85 * heights[order].float()
    size = torch.tensor([image.shape[3], image.shape[2]])
    centre = torch.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3] - side / 2], 1)
    transform = torch.zeros(len(order), 2, 3)
    # From -1 to 1 is the face in the grid, and the whole crop where it samples.
    transform[:, 0, 0] = side / size[0]
    transform[:, 1, 1] = side / size[1]
    transform[:, :, 2] = 2 * centre / size - 1
    grid = F.affine_grid(transform, [len(order), 3, 112, 112], align_corners=False)
    owner = heads.image[order]
    seen, true = (
        recogniser(F.grid_sample(of[owner], grid, padding_mode="border", align_corners=False))
        for of in (recovered, image)
    )
    return (1 - (seen * true.detach()).sum(1)).mean()


def train(
    pairs: list[Pair],
    method: Method,
    out: Path,
    steps: int = 2000,
    seed: int = 0,
    batch: int = 8,
    save_every: float = 60.0,
    keep_at: Collection[int] = (),
    recogniser: TorchRecogniser | None = None,
) -> Iterator[float]:
    """Train an attacker on one method; an interrupted training goes on where it was last saved.

    On one machine with one number of threads, the same arguments give the same weights, interrupted
    or not.

    Args:
        pairs: what :func:`gather` made of the method.
        method: the one that is attacked.
        out: the file to write, for :func:`read_attack`; ``<out>.ckpt`` beside it exists until then.
        steps: of the optimiser; the same for methods that are compared.
        seed: of weights and crops.
        batch: crops a step.
        save_every: seconds between two checkpoints.
        keep_at: steps after which the network so far is written as well, see :func:`kept_file`; its
            learning rate has not fallen to 0 yet.
        recogniser: adds :func:`identity_loss` to the loss; None: there is none.

    Yields:
        The loss of each step, with those of the interrupted training; ``out`` is there when the
        last one comes.

    Raises:
        ValueError: the pairs cannot be used, or the checkpoint is damaged or of another training.
        RuntimeError: a loss is not finite.
    """
    net = build(pairs, seed)
    windows = Windows(pairs, net, seed)
    about = {
        "format_version": FORMAT_VERSION,
        "row": method.name,
        "row_key": method.key,
        "channels": net.channels,
        "factor": net.factor,
        "steps": steps,
        "planned": steps,
        "batch": batch,
        "seed": seed,
        "pictures": len(pairs),
        "heads": sum(len(p.heads) for p in pairs),
        "data": _digest(pairs),
        "identity": recogniser.fingerprint if recogniser else "",
    }
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    history: list[dict[str, float]] = []
    checkpoint = out.with_name(out.name + ".ckpt")
    if checkpoint.is_file():
        saved = _read_checkpoint(checkpoint, about)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        history = saved["history"]
        yield from (terms["loss"] for terms in history)
    tick = time.monotonic()
    for step in range(len(history), steps):
        terms = _losses(net, [windows[step * batch + i] for i in range(batch)], recogniser)
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"{method.name}: the attack's loss is not finite at step {step}")
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _pace(step, steps)
        optimizer.zero_grad()
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in terms.items()})
        if step + 1 == steps:
            write_attack(out, net, about, history)
            checkpoint.unlink(missing_ok=True)
        elif step + 1 in keep_at:
            so_far = about | {"steps": step + 1}
            write_attack(kept_file(out, step + 1), net, so_far, history)
        if step + 1 < steps and time.monotonic() - tick >= save_every:
            _write_checkpoint(checkpoint, net, optimizer, history, about)
            tick = time.monotonic()
        yield history[-1]["loss"]


def kept_file(out: Path, step: int) -> Path:
    """Where the network of a step before the last is: beside ``out``, its number in the name."""
    return out.with_name(f"{out.stem}-{step}{out.suffix}")


def _losses(
    net: Attacker, windows: list[tuple[Any, ...]], recogniser: nn.Module | None
) -> dict[str, Tensor]:
    """:func:`attack_loss` on these :class:`Windows`, with :func:`identity_loss` if there is a
    recogniser.
    """
    received, latents, images, boxes = zip(*windows, strict=True)
    # Where the processor has no bfloat16, a step in it takes ten times as long.
    with torch.autocast("cpu", torch.bfloat16, torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        recovered = net(
            to_tensor(list(received)), to_tensor(list(latents)) if net.channels else None
        )
    image = to_tensor(list(images))
    heads = Regions.stack(list(boxes))
    terms = attack_loss(recovered, image, heads)
    if recogniser is not None:
        terms["identity"] = identity_loss(recovered, image, heads, recogniser)
        terms["loss"] = terms["loss"] + IDENTITY * terms["identity"]
    return terms


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then a cosine to 0."""
    return min(1.0, (step + 1) / (WARMUP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _digest(pairs: list[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        for array in (pair.image, pair.received, pair.latent, pair.heads):
            if array is None:
                continue
            digest.update(f"{array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _write_checkpoint(
    path: Path,
    net: Attacker,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    about: dict[str, Any],
) -> None:
    state = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "about": about,
    }
    stream = io.BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def _read_checkpoint(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    try:
        saved = torch.load(path, weights_only=True)
        found = dict(saved["about"])
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(f"{path}: damaged, or no checkpoint of an attack: {error}") from error
    for name, value in about.items():
        if found.get(name) != value:
            raise ValueError(
                f"{path}: of another training: {name} {found.get(name)!r}, now {value!r}; remove it"
            )
    return saved
