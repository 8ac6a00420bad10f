"""Training of the second look at what a head map finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from roi_anon_ros.codec import headmap, second_look
from roi_anon_ros.codec.headmap import ask_map, find_heads, merge_heads
from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.codec.networks.second_look import WIDTHS, SecondLook
from roi_anon_ros.codec.regions import Regions
from roi_anon_ros.codec.second_look import PREFIX, crop_heads, weigh
from roi_anon_ros.datasets import Record
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.crops import PreloadedCrops
from roi_anon_ros.train.head_crops import PARTIAL, change_colours
from roi_anon_ros.train.head_targets import HeadLabels, label_heads
from roi_anon_ros.train.heads import HeadsConfig, HeadsTraining, write_codec
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.weights import put_head_map

#: Places of at least this probability are learned from: some more than are painted.
LEAST_PROBABILITY = 0.2
#: Places of one image at most.
MOST_PLACES = 80
#: Share of the images that are turned by a quarter, a half or three quarters.
TURNED = 0.5
#: Share of the images that are grey.
GREY = 0.15
#: Side of what is kept of a place, pixels: crops are turned and moved within.
KEPT = 56
#: A place is a head where it is within this share of the larger one's side and of the head's own,
#: and their sides differ by less than this factor.
NEAR = 0.5
SIMILAR = 2.0
#: Around a head, up to this many half axes and this many pixels more, a place is neither.
AROUND = 1.4
MARGIN = 8
#: Standard deviations of what a crop is scaled, turned (degrees) and moved (pixels) by.
SCALED = 0.12
TILTED = 8.0
MOVED = 1.2
#: Heads with a helmet are few: they are drawn this many times as often.
WITH_HELMET = 4.0
#: Large places are few, and a false one costs a person: they are drawn this many times as often.
OF_LARGE = 2.0
#: Weight of the cross entropy of "it wears a helmet".
HELMET_WEIGHT = 0.3
#: Share of the values before the hidden layer that a step leaves out.
DROPPED = 0.2


@dataclass(frozen=True, kw_only=True)
class SecondLookConfig(HeadsConfig):
    """What a YAML file may set for ``network: second-look``.

    ``codec`` is needed: its head map names the places, and the second look goes into it.
    ``start`` and ``crop`` mean nothing here.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codec:
            raise ValueError("codec: must be a model with a head map")


@dataclass(frozen=True)
class Places:
    """What a head map calls heads, and what they are.

    Attributes:
        crops: uint8 ``[n, 2, 56, 56, 3]``, of each reach.
        evidence: float32 ``[n, 3]``, see :func:`~roi_anon_ros.codec.second_look.weigh`.
        heads: bool ``[n]``, whether each is one.
        helmets: int8 ``[n]``, 1 a head with a helmet, 0 one without, -1 not known, or no head.
        weights: float64 ``[n]``, how likely each is drawn, of sum 1.
    """

    crops: np.ndarray
    evidence: np.ndarray
    heads: np.ndarray
    helmets: np.ndarray
    weights: np.ndarray


def judge_places(labels: HeadLabels, places: np.ndarray, known: bool) -> np.ndarray:
    """Say what the places in an image are.

    Args:
        labels: of the image.
        places: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        known: every person of the image was drawn.

    Returns:
        int8 ``[n]``: 1 a head, 0 none, -1 not known.
    """
    x, y, side = places[:, :3].T
    result = np.full(len(places), 0 if known else -1, np.int8)
    for x1, y1, x2, y2 in labels.unknown:
        result[(x > x1) & (x < x2) & (y > y1) & (y < y2)] = -1
    around = np.zeros(len(places), bool)
    heads = np.zeros(len(places), bool)
    for centre_x, centre_y, width, height in np.concatenate([labels.guessed, labels.heads]):
        across = np.abs(x - centre_x) < AROUND * width / 2 + MARGIN
        around |= across & (np.abs(y - centre_y) < AROUND * height / 2 + MARGIN)
    for centre_x, centre_y, width, height in labels.heads:
        longer = max(width, height)
        distance = np.hypot(x - centre_x, y - centre_y)
        ratio = np.maximum(side / longer, longer / side)
        heads |= (distance < NEAR * np.minimum(np.maximum(side, longer), 1.2 * longer)) & (
            ratio < SIMILAR
        )
    result[around] = -1
    result[heads] = 1
    return result


def tell_helmets(record: Record, places: np.ndarray) -> np.ndarray:
    """Say which heads wear a helmet.

    Args:
        record: of the image.
        places: heads in it, ``[n, 3]`` or wider: centre x, centre y, side, pixels.

    Returns:
        int8 ``[n]``: 1 with a helmet, 0 without, -1 not known.
    """
    boxes = record.heads.xyxy
    if not len(record.helmets) or not len(places):
        return np.full(len(places), -1, np.int8)
    x = (boxes[:, 0] + boxes[:, 2]) / 2
    y = (boxes[:, 1] + boxes[:, 3]) / 2
    distance = np.hypot(places[:, :1] - x, places[:, 1:2] - y)
    return record.helmets[distance.argmin(axis=1)]


def find_places(
    images: TrainingImages, ask: Callable[[np.ndarray], np.ndarray], seed: int
) -> Places:
    """Let a head map name places in all images, some of them turned or grey.

    Args:
        images: to look at; those that cannot be read are left out.
        ask: the head map, see :data:`~roi_anon_ros.codec.headmap.RunMap`.
        seed: of everything random.

    Raises:
        ValueError: it names no head, or nothing but heads.
    """
    rng = np.random.default_rng(seed)
    crops = []
    evidence = []
    heads = []
    helmets = []
    weights = []
    for index, record in enumerate(images.records):
        if index % 200 == 0:
            rank_zero_info(f"places: {index} of {len(images.records)} images")
        turns = int(rng.integers(1, 4)) if rng.random() < TURNED else 0
        image = np.ascontiguousarray(np.rot90(read_pixels(record.path), turns))
        if rng.random() < GREY:
            image = as_grey(image)
        votes, _ = ask_map(ask, image, LEAST_PROBABILITY)
        if not len(votes):
            continue
        places, _ = merge_heads(votes)
        known = bool(record.complete) and images.backgrounds[index] > PARTIAL
        upright = turn_back(places, image.shape[1], image.shape[0], turns)
        judged = judge_places(label_heads(record), upright, known)
        chosen = rng.permutation(np.flatnonzero(judged >= 0))[:MOST_PLACES]
        each = 1.0 if images.weights is None else images.weights[index]
        for is_head in (0, 1):
            of_kind = chosen[judged[chosen] == is_head]
            crops.append(crop_heads(image, places[of_kind], KEPT))
            evidence.append(weigh(places[of_kind]))
            heads.append(np.full(len(of_kind), is_head == 1))
            worn = tell_helmets(record, upright[of_kind])
            helmets.append(worn if is_head else np.full(len(of_kind), -1, np.int8))
            # Images are alike, and so are the places of one kind in an image.
            often = np.where(places[of_kind, 2] >= headmap.LARGE, OF_LARGE, 1.0)
            weights.append(often * each / max(len(of_kind), 1))
    is_head = np.concatenate(heads)
    weight = np.concatenate(weights)
    if is_head.all() or not is_head.any():
        raise ValueError(
            f"train: got {int(is_head.sum())} heads of {len(is_head)} places, must be some"
        )
    weight[is_head] /= 2 * weight[is_head].sum()
    weight[~is_head] /= 2 * weight[~is_head].sum()
    helmet = np.concatenate(helmets)
    weight[helmet == 1] *= WITH_HELMET
    rank_zero_info(
        f"places: {len(is_head)}, {int(is_head.sum())} of them heads, "
        f"{int((helmet == 1).sum())} with a helmet, {int((helmet == 0).sum())} without"
    )
    return Places(np.concatenate(crops), np.concatenate(evidence), is_head, helmet, weight)


def turn_back(places: np.ndarray, width: int, height: int, turns: int) -> np.ndarray:
    """Move places in an image of this size, that ``np.rot90`` turned, to where they were."""
    moved = places.copy()
    for _ in range(turns):
        x, y = moved[:, :2].T.copy()
        moved[:, 0] = height - 1 - y
        moved[:, 1] = x
        height, width = width, height
    return moved


class LookCrops(PreloadedCrops):
    """Crops of places, turned, mirrored, moved, in other colours; item ``i``, for any ``i`` from 0,
    is the same in every run.

    Args:
        images: see :func:`find_places`.
        ask: the same.
        seed: of everything random.
    """

    def __init__(
        self, images: TrainingImages, ask: Callable[[np.ndarray], np.ndarray], seed: int
    ) -> None:
        self.seed = seed
        self._places = find_places(images, ask, seed)
        self._ends = np.cumsum(self._places.weights)

    def preload(self) -> None:
        """All of them are in memory."""

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crop ``item``: uint8 ``[2, 3, 32, 32]``, float32 ``[3]`` of evidence, 1 or 0 for a head,
        and 1, 0 or -1 for its helmet.
        """
        rng = np.random.default_rng((self.seed, item))
        place = int(np.searchsorted(self._ends, rng.random() * self._ends[-1], "right"))
        places = self._places
        index = min(place, len(places.heads) - 1)
        both = change_colours(_move(places.crops[index], rng), rng)
        crops = both.reshape(len(second_look.REACHES), -1, *both.shape[1:])
        return (
            torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))),
            torch.from_numpy(places.evidence[index]),
            torch.tensor(float(places.heads[index])),
            torch.tensor(float(places.helmets[index])),
        )


def _move(crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crops of 32 pixels a side out of larger ones, of each reach, one below the other."""
    side = second_look.SIDE
    scale = np.exp(rng.normal(0, SCALED))
    angle = np.deg2rad(90 * rng.choice([0, 0, 0, 0, 1, 2, 3]) + rng.normal(0, TILTED))
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    cosine = np.cos(angle) * scale
    sine = np.sin(angle) * scale
    turn = np.array([[cosine * mirrored, -sine], [sine * mirrored, cosine]])
    moved = rng.normal(0, MOVED, 2)
    result = np.empty((len(crops), side, side, 3), np.uint8)
    for crop, view, reach in zip(crops, result, second_look.REACHES, strict=True):
        middle = (crop.shape[0] - 1) / 2 + moved * second_look.REACHES[0] / reach
        shift = (side - 1) / 2 - turn @ middle
        matrix = np.column_stack([turn, shift])
        cv2.warpAffine(crop, matrix, (side, side), view, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return result.reshape(-1, side, 3)


class NormalisedLook(nn.Module):
    """A :class:`SecondLook` with normalisations, as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.look = SecondLook()
        self.look.last.reset_parameters()
        self.norms = nn.ModuleList(
            nn.ModuleList(map(nn.BatchNorm2d, widths[1:])) for widths in WIDTHS
        )

    def forward(self, crops: Tensor, evidence: Tensor) -> Tensor:
        """See :meth:`SecondLook.forward`."""
        look = self.look
        flat = []
        for reach, layers in enumerate(look.convolutions):
            x = crops[:, reach] - 0.5
            for layer, norm in zip(layers, self.norms_of(reach), strict=True):
                x = torch.relu(norm(layer(x)))
            flat.append(x.flatten(1))
        x = F.dropout(torch.cat(flat, 1), DROPPED, self.training)
        hidden = torch.relu(look.hidden(x))
        return look.last(torch.cat([hidden, evidence], 1))

    def norms_of(self, reach: int) -> list[nn.BatchNorm2d]:
        """The normalisations after the layers for one reach."""
        return list(cast("Iterable[nn.BatchNorm2d]", self.norms[reach]))

    def fold(self) -> SecondLook:
        """The same with the normalisations in the weights."""
        folded = SecondLook()
        folded.load_state_dict(self.look.state_dict())
        for reach, layers in enumerate(self.look.convolutions):
            fused = folded.branches[reach]
            assert isinstance(fused, nn.ModuleList)
            for index, norm in enumerate(self.norms_of(reach)):
                fused[index] = fuse_conv_bn_eval(layers[index].eval(), norm.eval())
        return folded


class SecondLookTraining(HeadsTraining):
    """A :class:`~roi_anon_ros.codec.networks.SecondLook` behind a head map that stays as it is.

    The loss is the cross entropy of "this is a head", about half of the places of a batch being
    heads, and that of "it wears a helmet" over those heads of which it is known, half of its weight
    on those that do.
    """

    config_type = SecondLookConfig
    inertia = 0.995

    def __init__(self, config: SecondLookConfig, validation: list[Record], out: Path) -> None:
        super().__init__(config, validation, out)
        put_head_map(self, config.codec)
        self.head_map.requires_grad_(False)
        self.second_look = NormalisedLook()

    def make_crops(self, images: TrainingImages) -> LookCrops:
        """Places that the head map names in the images."""
        self.head_map.eval()
        with torch.no_grad():
            return LookCrops(images, self._run, self.config.seed)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        crops, evidence, heads, helmets = batch
        answer = self.second_look(crops.float() / 255, evidence).float()
        logits = answer[:, 0]
        worn = (helmets == 1).float()
        bare = (helmets == 0).float()
        # Both count the same, however few heads with a helmet there are.
        each = worn / worn.sum().clamp(min=1) + bare / bare.sum().clamp(min=1)
        helmet = F.binary_cross_entropy_with_logits(answer[:, 1], worn, each / 2, reduction="sum")
        loss = F.binary_cross_entropy_with_logits(logits, heads) + HELMET_WEIGHT * helmet
        told = worn + bare
        right = ((answer[:, 1].detach() >= headmap.LEAST_HELMET) == (worn > 0)).float()
        kept = (logits.detach() >= headmap.LEAST_LOOK).float()
        terms = {
            "loss": loss,
            "recall": (kept * heads).sum() / heads.sum().clamp(min=1),
            "false": (kept * (1 - heads)).sum() / (1 - heads).sum().clamp(min=1),
            "helmet_right": (right * told).sum() / told.sum().clamp(min=1),
        }
        self.log_terms(terms, ("recall", "false", "helmet_right"), len(crops))
        return loss

    def find(self, image: np.ndarray) -> Regions:
        """Find heads as the codec will."""
        weights = self.second_look.fold().state_dict()
        tensors = {PREFIX + name: value.cpu().numpy() for name, value in weights.items()}
        look = second_look.SecondLook(tensors)
        regions, _ = find_heads(self._run, image, look=look)
        return regions

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the second look."""
        config = self.config
        return self.with_schedule(
            torch.optim.AdamW(
                self.second_look.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
            )
        )

    def write_result(self, path: Path, images: TrainingImages, training: dict[str, Any]) -> Path:
        """Write the model file with the new second look."""
        folded = self.second_look.fold()
        return write_codec(self, path, "second_look", folded.state_dict(), training)
