"""An attacker of its own for every row: how much of the heads is left in what is sent?

A codec's encoder and decoder are trained together, so that a clean decoded picture proves nothing about what its
packets still carry. Whoever has the encoder can send pictures of his own and train another network from what was sent
back to the pictures, with all its weight on heads. This is that network, its training, and the row that it makes:
what it recovers is judged by the same detectors as any other row. It begins with the picture that every receiver sees
and learns what to change in it; from a model it gets the latent as well. Every row gets the same network behind its
entry, the same number of steps and the same crops in the same order.

A picture is thought of as a grid of cells of 16 pixels. A crop is 8 × 8 cells, and what was sent of it comes with 4
more cells on each side.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from roi_anon_ros.codec.modelfile import fingerprint
from roi_anon_ros.codec.networks import Bottleneck
from roi_anon_ros.datasets import Record, at_least, clip_boxes, spread
from roi_anon_ros.evaluate.rows import ATTACKED, Row, make_row
from roi_anon_ros.files import read_picture, write_bytes
from roi_anon_ros.train.losses import Regions, outside, region_weights

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
#: Side of a crop and of what is sent beyond each of its edges, pixels; multiples of every network's grid.
CROP, CONTEXT = 128, 64
#: What reaches less than this many pixels into a crop is no head: nobody is known by it.
SMALLEST = 8
#: Share of the crops that are made around a head.
AROUND_HEADS = 0.8
#: Head sizes in octaves, log2 of pixels; smaller and larger ones count as the first and the last.
OCTAVES = 3, 7
#: Original pictures that are kept in memory, bytes; what was sent of them takes as much again, or less as a rule.
MEMORY = 1 << 30
#: Pixels in a row that one value of a latent may stand for.
FACTORS = (1, 2, 4, 8, 16, 32, 64)
#: Weights of the loss.
EDGES, REST = 1.0, 0.1
LEARNING_RATE = 1e-3
#: Share of the steps over which the learning rate grows.
WARMUP = 0.05
#: Least standard deviation by which a channel is divided; of a latent, a symbol is 1.
LEAST_DEVIATION = 0.1
#: Steps at the end over which the losses in a file are averaged.
LAST = 100


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture of the attacker's own, and what is sent of it.

    Attributes:
        picture: uint8 ``[H, W, 3]`` RGB.
        received: uint8 ``[3, H, W]``, what every receiver sees.
        latent: float16 ``[N, h, w]`` of a model, None of other rows.
        heads: float32 ``[n, 4]``, x1 y1 x2 y2 in pixels.
    """

    picture: np.ndarray
    received: np.ndarray
    latent: np.ndarray | None
    heads: np.ndarray


def choose(records: list[Record], pictures: int = 600) -> list[Record]:
    """The pictures to train on: with a head and no side below 128 pixels, spread over the list.

    Args:
        records: a set, none of whose pictures the attack is evaluated on.
        pictures: at most so many, and no more than a gigabyte when decoded.

    Raises:
        ValueError: there is none.
    """
    fit = [r for r in records if len(r.heads.xyxy) and min(r.width, r.height) >= CROP]
    if not fit:
        raise ValueError(f"records: none of {len(records)} has a head and sides of at least {CROP} pixels")
    mean = sum(3 * r.width * r.height for r in fit) / len(fit)
    return spread(fit, max(min(pictures, int(MEMORY / mean)), 1))


def gather(records: list[Record], row: Row) -> Iterator[Pair]:
    """Yield each picture with what the row sends of it; one that cannot be read or sent is named in a warning."""
    for record in records:
        try:
            picture = read_picture(record.path)
            received, latent = _received(row, row.encode(picture))
        except (OSError, ValueError) as error:
            log.warning("%s: left out: %s", record.path, error)
            continue
        yield Pair(picture, received, latent, record.heads.xyxy)


def _received(row: Row, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """What whoever receives ``data`` has, as in :class:`Pair`."""
    picture = np.ascontiguousarray(row.decode(data).transpose(2, 0, 1))
    if row.latent is None:
        return picture, None
    # float16 tells symbols apart up to 2048; the networks see them in bfloat16 anyway.
    return picture, row.latent(data).numpy().clip(-6e4, 6e4).astype(np.float16)


class Attacker(nn.Module):
    """From what is received to the picture.

    .. code-block:: none

        received picture, pixels of a cell shuffled into channels │ conv1(→192)  (+ latent │ conv1(→192))
            │ 5 × block, dilation 1 2 4 2 1 │ cut the context off
            │ shuffle 2, 128 channels + picture at an eighth  │ 2 × block
            │ shuffle 2, 64 channels + picture at a quarter   │ 2 × block
            │ shuffle 2, 32 channels + picture at a half      │ 2 × block
            │ conv3(32→12) shuffle 2 │ + received picture

    A block is the codec's residual bottleneck. The last layer begins at 0: the first thing to come out is the
    received picture.

    Args:
        channels: of the latent; 0: there is none.
        factor: pixels in a row for each value of the latent, a power of two up to 64.

    Raises:
        ValueError: names the argument and its bounds.
    """

    def __init__(self, channels: int = 0, factor: int = 16) -> None:
        super().__init__()
        if channels < 0 or factor not in FACTORS:
            raise ValueError(f"channels {channels}, factor {factor}: must be at least 0, and one of {FACTORS}")
        self.channels, self.factor = channels, factor
        #: Pixels of a cell, in a row.
        self.grid = max(16, factor)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))
        width = 192
        self.enter = nn.Conv2d(3 * self.grid**2, width, 1)
        if channels:
            self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
            self.register_buffer("latent_deviation", torch.ones(channels, 1, 1))
            self.enter_latent = nn.Conv2d(channels * (self.grid // factor) ** 2, width, 1)
        self.trunk = nn.Sequential(*[Bottleneck(width, dilation) for dilation in (1, 2, 4, 2, 1)])
        self.scales = [2**i for i in range(self.grid.bit_length() - 2, 0, -1)]
        self.up, self.skip, self.blocks = nn.ModuleList(), nn.ModuleDict(), nn.ModuleList()
        for scale in self.scales:
            inner = min(16 * scale, 192)
            self.up.append(nn.Conv2d(width, 4 * inner, 1))
            self.skip[str(scale)] = nn.Conv2d(3 * scale**2, inner, 1)
            self.blocks.append(nn.Sequential(Bottleneck(inner, 1), Bottleneck(inner, 1)))
            width = inner
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, received: Tensor, latent: Tensor | None = None) -> Tensor:
        """Recover pictures.

        Args:
            received: float32 ``[B, 3, H, W]`` in [0, 1], whole cells with 64 pixels of context on each side.
            latent: float32 ``[B, N, h, w]`` of the same place.

        Returns:
            float32 ``[B, 3, H, W]`` without the context, around [0, 1].
        """
        x = (received - self.mean) / self.deviation
        y = self.enter(F.pixel_unshuffle(x, self.grid))
        if self.channels:
            z = (latent - self.latent_mean) / self.latent_deviation
            y = y + self.enter_latent(F.pixel_unshuffle(z, self.grid // self.factor))
        y, x, received = _cut(self.trunk(y), CONTEXT // self.grid), _cut(x, CONTEXT), _cut(received, CONTEXT)
        for scale, up, blocks in zip(self.scales, self.up, self.blocks, strict=True):
            y = F.pixel_shuffle(up(y), 2)
            y = blocks(y + self.skip[str(scale)](F.pixel_unshuffle(x, scale)))
        return received + F.pixel_shuffle(self.last(y), 2).float()

    @torch.inference_mode()
    def recover(self, received: np.ndarray, latent: np.ndarray | None) -> np.ndarray:
        """A whole picture, at once.

        Args:
            received: as in :class:`Pair`.
            latent: likewise.

        Returns:
            uint8 ``[H, W, 3]`` RGB.
        """
        height, width = received.shape[1:]
        cells = -(-height // self.grid), -(-width // self.grid)
        windows = self.windows(received, latent, (0, 0), cells)
        picture = self(*(None if w is None else _tensor([w]) for w in windows))[0, :, :height, :width]
        return picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def windows(
        self, received: np.ndarray, latent: np.ndarray | None, corner: tuple[int, int], cells: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Cut cells with their context out of what is received; beyond its edges it repeats.

        Args:
            received: ``[3, H, W]``.
            latent: ``[N, h, w]``.
            corner: row and column of the first cell.
            cells: rows and columns of cells.

        Returns:
            The same two, ``[3, H', W']`` and ``[N, h', w']``.
        """

        def cut(values: np.ndarray, factor: int) -> np.ndarray:
            unit, margin = self.grid // factor, CONTEXT // factor
            rows, columns = (
                np.arange(first * unit - margin, (first + count) * unit + margin).clip(0, side - 1)
                for first, count, side in zip(corner, cells, values.shape[1:], strict=True)
            )
            return values[:, rows[:, None], columns]

        return cut(received, 1), None if latent is None else cut(latent, self.factor)


def _cut(x: Tensor, margin: int) -> Tensor:
    return x[..., margin:-margin, margin:-margin]


def _tensor(arrays: list[np.ndarray]) -> Tensor:
    """Stack ``[C, h, w]`` to float32 ``[B, C, h, w]``; what has 8 bits goes to [0, 1]."""
    tensor = torch.from_numpy(np.stack(arrays))
    tensor = tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()
    return tensor.contiguous(memory_format=torch.channels_last)


def build(pairs: list[Pair], seed: int = 0) -> Attacker:
    """A fresh attacker for what is received in these pairs, with its mean and deviation.

    Raises:
        ValueError: there is no pair, or the latent does not cover the pictures.
    """
    if not pairs:
        raise ValueError("pairs: none, must be at least 1")
    channels, factor = 0, 16
    if pairs[0].latent is not None:

        def covers(factor: int) -> bool:
            return all(p.latent.shape[1:] == tuple(-(-side // factor) for side in p.picture.shape[:2]) for p in pairs)

        channels, factor = len(pairs[0].latent), next(filter(covers, FACTORS), None)
        if factor is None:
            sizes = f"{pairs[0].latent.shape[1:]} of {pairs[0].picture.shape[:2]}"
            raise ValueError(f"latent: {sizes}, must be the picture's size over a power of two up to 64")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Attacker(channels, factor)
    _normalise([p.received for p in pairs], net.mean, net.deviation)
    if channels:
        _normalise([p.latent for p in pairs], net.latent_mean, net.latent_deviation)
    return net.to(memory_format=torch.channels_last)


def _normalise(arrays: list[np.ndarray], mean: Tensor, deviation: Tensor) -> None:
    """Set the mean and deviation of each channel, over pictures that count the same."""
    # In float64, where the order of the sums does not show.
    values = [_tensor([array])[0].double().flatten(1) for array in arrays]
    means = torch.stack([v.mean(1) for v in values]).mean(0)
    variance = torch.stack([v.square().mean(1) for v in values]).mean(0) - means.square()
    mean.copy_(means[:, None, None])
    deviation.copy_(variance.clamp(min=LEAST_DEVIATION**2).sqrt()[:, None, None])


class Windows:
    """Crops of pictures with what was sent of them; crop ``i`` is the same in every run with the same seed.

    Four of five lie around a head. Heads are drawn evenly over the octaves of their size, for large ones are those
    that somebody is known by; but an octave with few heads counts as one with a twentieth of them all, lest they be
    learned by heart. Crops lie on the grid, and inside their picture.

    Args:
        pairs: pictures of at least 128 pixels a side.
        net: that they are for.
        seed: of everything random.

    Raises:
        ValueError: there is no head of 8 pixels or more, or a picture is too small.
    """

    def __init__(self, pairs: list[Pair], net: Attacker, seed: int) -> None:
        self.pairs, self.net, self.seed = pairs, net, seed
        if min(min(p.picture.shape[:2]) for p in pairs) < CROP:
            raise ValueError(f"pairs: a picture is smaller than {CROP} pixels")
        self._owner = np.repeat(np.arange(len(pairs)), [len(p.heads) for p in pairs])
        self._heads = np.concatenate([p.heads for p in pairs]).reshape(-1, 4)
        large = at_least(self._heads, SMALLEST)
        if not large.any():
            raise ValueError(f"pairs: no head of at least {SMALLEST} pixels")
        self._owner, self._heads = self._owner[large], self._heads[large]
        sides = (self._heads[:, 2:] - self._heads[:, :2]).max(axis=1)
        octave = np.floor(np.log2(sides)).clip(*OCTAVES).astype(int)
        counts = np.bincount(octave)[octave]
        weights = 1 / np.maximum(counts, len(counts) / 20)
        self.chances = weights / weights.sum()

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Tensor]:
        """Crop ``number``: what was received of it, its latent, uint8 ``[3, 128, 128]``, its heads int64 ``[n, 4]``."""
        rng = np.random.default_rng((self.seed, number))
        grid = self.net.grid
        if rng.random() < AROUND_HEADS:
            chosen = rng.choice(len(self.chances), p=self.chances)
            pair, head = self.pairs[self._owner[chosen]], self._heads[chosen]
            reach = np.maximum(head[2:] - head[:2], CROP / 2)
            wanted = (head[:2] + head[2:] - CROP) / 2 + rng.uniform(-0.5, 0.5, 2) * reach
        else:
            pair = self.pairs[rng.integers(len(self.pairs))]
            wanted = rng.uniform(0, 1, 2) * pair.picture.shape[1::-1] - CROP / 2
        last = (np.array(pair.picture.shape[1::-1]) - CROP) // grid
        column, row = (int(v) for v in np.rint(wanted / grid).clip(0, last))
        left, top = column * grid, row * grid
        windows = self.net.windows(pair.received, pair.latent, (row, column), (CROP // grid, CROP // grid))
        picture = pair.picture[top : top + CROP, left : left + CROP].transpose(2, 0, 1)
        heads = pair.heads - np.array([left, top, left, top], np.float32)
        heads = clip_boxes(np.concatenate([np.floor(heads[:, :2]), np.ceil(heads[:, 2:])], axis=1), CROP, CROP)
        return *windows, picture, torch.from_numpy(heads[at_least(heads, SMALLEST)].astype(np.int64))


def attack_loss(recovered: Tensor, picture: Tensor, heads: Regions) -> dict[str, Tensor]:
    """How far the recovered heads are from the true ones.

    With the error e = recovered − picture, its differences ∂ between neighbours in a row or a column, and the mean
    over a crop's heads, then over the crops (one without heads counts as 0):

        L = mean over heads of (mean |e|) + 1 · mean over heads of (mean |∂x e| + mean |∂y e|) + 0.1 · rest

    where the rest is the mean |e| of all pixels outside the heads. A difference belongs to the pixel at its right or
    lower end; a crop's first row or column has none, and counts as 0.

    Args:
        recovered: ``[B, 3, H, W]``.
        picture: ``[B, 3, H, W]``.
        heads: the boxes in these crops.

    Returns:
        Scalars ``loss``, ``heads``, ``edges``, ``rest``, the last three before their weights.
    """
    error = recovered - picture
    weights, keep = region_weights(heads, picture), outside(heads, picture)
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
    row: Row,
    out: Path,
    steps: int = 2000,
    seed: int = 0,
    batch: int = 8,
    save_every: float = 60.0,
) -> Iterator[float]:
    """Train an attacker on one row; an interrupted training goes on where it was last saved.

    On one machine with one number of threads, the same arguments give the same weights, interrupted or not.

    Args:
        pairs: what :func:`gather` made of the row.
        row: the one that is attacked.
        out: the file to write, for :func:`load_attack`; ``<out>.ckpt`` beside it exists until then.
        steps: of the optimiser; the same for rows that are compared.
        seed: of weights and crops.
        batch: crops a step.
        save_every: seconds between two checkpoints.

    Yields:
        The loss of each step, with those of the interrupted training; ``out`` is there when the last one comes.

    Raises:
        ValueError: the pairs cannot be used, or the checkpoint is damaged or of another training.
        RuntimeError: a loss is not finite.
    """
    net = build(pairs, seed)
    windows = Windows(pairs, net, seed)
    about = {
        "format_version": FORMAT_VERSION,
        "row": row.name,
        "row_key": row.key,
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
        received, latents, pictures, boxes = zip(*(windows[step * batch + i] for i in range(batch)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            recovered = net(_tensor(list(received)), _tensor(list(latents)) if net.channels else None)
        terms = attack_loss(recovered, _tensor(list(pictures)), Regions.stack(list(boxes)))
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"{row.name}: the attack's loss is not finite at step {step}")
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _pace(step, steps)
        optimizer.zero_grad()
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in terms.items()})
        if step + 1 == steps:
            _write(out, net, about, history)
            checkpoint.unlink(missing_ok=True)
        elif time.monotonic() - tick >= save_every:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "about": about}
            stream = io.BytesIO()
            torch.save(state, stream)
            write_bytes(checkpoint, stream.getvalue())
            tick = time.monotonic()
        yield history[-1]["loss"]


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then a cosine to 0."""
    return min(1.0, (step + 1) / (WARMUP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _digest(pairs: list[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        for array in (pair.picture, pair.received, pair.latent, pair.heads):
            if array is None:
                continue
            digest.update(f"{array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _read_checkpoint(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    try:
        saved = torch.load(path, weights_only=True)
        found = dict(saved["about"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: damaged, or no checkpoint of an attack: {error}") from error
    for name, value in about.items():
        if found.get(name) != value:
            raise ValueError(f"{path}: of another training: {name} {found.get(name)!r}, now {value!r}; remove it")
    return saved


def _write(path: Path, net: Attacker, about: dict[str, Any], history: list[dict[str, float]]) -> None:
    tensors = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    last = history[-LAST:]
    losses = {name: sum(terms[name] for terms in last) / len(last) for name in last[0]}
    metadata = about | {"losses": losses, "fingerprint": fingerprint(tensors).hex()}
    write_bytes(path, save(tensors, metadata={"roi_anon_attack": json.dumps(metadata)}))


def read_attack(path: Path) -> tuple[Attacker, dict[str, Any]]:
    """Read an attack's file.

    Returns:
        The network, and what the file says of itself: ``row``, ``row_key``, ``channels``, ``factor``,
        ``steps``, ``batch``, ``seed``, ``pictures``, ``heads``, ``data`` (a digest of the pairs) and ``losses``
        (means over the last 100 steps).

    Raises:
        ValueError: there is no such file, or it is damaged, foreign, or of another format; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("roi_anon_attack", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path}: a safetensors file of something else: no metadata 'roi_anon_attack'")
    if about.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {about.get('format_version')}, this release reads {FORMAT_VERSION}")
    if about.get("fingerprint") != fingerprint(tensors).hex():
        raise ValueError(f"{path}: damaged: its weights do not match their fingerprint")
    try:
        net = Attacker(about["channels"], about["factor"])
        net.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: does not fit its network: {error}") from error
    return net.to(memory_format=torch.channels_last).eval(), about


def load_attack(path: Path) -> Row:
    """The row of what an attacker recovers: the same bytes as the row that it attacks, seen through its network.

    Args:
        path: that :func:`train` wrote.

    Raises:
        ValueError: the file cannot be read, or its row cannot be made or is no longer the one that was attacked; the
            message names file and field.
    """
    path = Path(path)
    net, about = read_attack(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    try:
        row = make_row(about["row"])
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: row: {error}") from error
    if about.get("row_key") != row.key:
        raise ValueError(f"{path}: row_key {about.get('row_key')!r}, {row.name} now has {row.key!r}: attack it again")

    def decode(data: bytes) -> np.ndarray:
        return net.recover(*_received(row, data))

    budget = {name: about[name] for name in ("steps", "batch", "seed", "pictures")}
    return Row(row.name + ATTACKED, f"{row.key} attacked {digest}", row.encode, decode, attack=budget)
