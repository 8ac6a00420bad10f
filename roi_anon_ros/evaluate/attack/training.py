"""The attacker's training."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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


def train(
    pairs: list[Pair],
    method: Method,
    out: Path,
    steps: int = 2000,
    seed: int = 0,
    batch: int = 8,
    save_every: float = 60.0,
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
        "batch": batch,
        "seed": seed,
        "pictures": len(pairs),
        "heads": sum(len(p.heads) for p in pairs),
        "data": _digest(pairs),
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
        terms = _losses(net, [windows[step * batch + i] for i in range(batch)])
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
        elif time.monotonic() - tick >= save_every:
            _write_checkpoint(checkpoint, net, optimizer, history, about)
            tick = time.monotonic()
        yield history[-1]["loss"]


def _losses(net: Attacker, windows: list[tuple[Any, ...]]) -> dict[str, Tensor]:
    """:func:`attack_loss` on these :class:`Windows`."""
    received, latents, images, boxes = zip(*windows, strict=True)
    with torch.autocast("cpu", torch.bfloat16):
        recovered = net(
            to_tensor(list(received)), to_tensor(list(latents)) if net.channels else None
        )
    return attack_loss(recovered, to_tensor(list(images)), Regions.stack(list(boxes)))


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
