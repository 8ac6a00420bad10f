"""Training of the second look at what a head map finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from roi_anon_ros.codec import headmap, second_look
from roi_anon_ros.codec.headmap import find_heads
from roi_anon_ros.codec.modelfile import find_model, load_model
from roi_anon_ros.codec.networks.second_look import HIDDEN, WIDTHS, SecondLook
from roi_anon_ros.codec.regions import Regions
from roi_anon_ros.codec.second_look import HEAD, HELMET, MOVE, PREFIX, TURNS
from roi_anon_ros.datasets import Record
from roi_anon_ros.train.heads import HeadsConfig, HeadsTraining, write_codec
from roi_anon_ros.train.look_places import LookCrops, Teacher
from roi_anon_ros.train.look_teacher import HINTS, Describer
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.weights import put_head_map

#: Weights of the cross entropies of "it wears a helmet" and of which way is up, and of the squared
#: distance from the hints.
HELMET_WEIGHT = 0.3
TURNS_WEIGHT = 0.2
HINTS_WEIGHT = 0.3
#: Weight of the way to a head; errors above so many sides or octaves count as they are, lesser ones
#: squared.
MOVE_WEIGHT = 0.5
MOVE_LINEAR = 0.1
#: How much "this is a head" counts of a place that is shown turned: places are turned upright
#: before they are asked about, but somebody may lie. And how much which way is up counts of one
#: that is upright and of one that is not: there are fewer of these.
TURNED_COUNTS = 0.35
UPRIGHT_TURNS = 0.7
TURNED_TURNS = 1.5
#: Share of the values before the hidden layer that a step leaves out.
DROPPED = 0.2


@dataclass(frozen=True, kw_only=True)
class SecondLookConfig(HeadsConfig):
    """What a YAML file may set for ``network: second-look``.

    ``codec`` is needed: its head map names the places, and the second look goes into it.
    ``start`` and ``crop`` mean nothing here.

    Attributes:
        teacher: name or ``.pt`` file of a YOLOv8 whose maps tell heads, see
            :mod:`roi_anon_ros.train.look_teacher`; empty: what people drew is all there is.
    """

    teacher: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codec:
            raise ValueError("codec: must be a model with a head map")


class NormalisedLook(nn.Module):
    """A :class:`SecondLook` with normalisations and what answers with hints, as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.look = SecondLook()
        self.look.last.reset_parameters()
        self.norms = nn.ModuleList(
            nn.ModuleList(map(nn.BatchNorm2d, widths[1:])) for widths in WIDTHS
        )
        self.hints = nn.Linear(HIDDEN, HINTS)

    def forward(self, crops: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """The answers of :meth:`SecondLook.forward`, and hints ``[n, 64]``."""
        look = self.look
        flat = []
        for reach, layers in enumerate(look.convolutions):
            x = crops[:, reach] - 0.5
            for layer, norm in zip(layers, self.norms_of(reach), strict=True):
                x = torch.relu(norm(layer(x)))
            flat.append(x.flatten(1))
        x = F.dropout(torch.cat(flat, 1), DROPPED, self.training)
        hidden = torch.relu(look.hidden(x))
        return look.last(torch.cat([hidden, evidence], 1)), self.hints(hidden)

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
    heads; that of "it wears a helmet" over those heads of which it is known, half of its weight on
    those that do; that of which way is up; the Huber loss of the way to a drawn head; and, with a
    teacher, the mean squared distance of a linear layer on the hidden values from its hints.
    """

    config_type = SecondLookConfig
    config: SecondLookConfig
    inertia = 0.995

    def __init__(self, config: SecondLookConfig, validation: list[Record], out: Path) -> None:
        super().__init__(config, validation, out)
        put_head_map(self, config.codec)
        self.head_map.requires_grad_(False)
        self.second_look = NormalisedLook()

    def make_crops(self, images: TrainingImages) -> LookCrops:
        """Places that the head map names in the images."""
        config = self.config
        teacher = None
        if config.teacher:
            describe = Describer(config.teacher, half=config.precision == "bf16-mixed")
            before = load_model(find_model(config.codec)).second_look
            assert before is not None  # it has a head map
            teacher = Teacher(describe, before)
        self.head_map.eval()
        with torch.no_grad():
            return LookCrops(images, self._run, config.seed, teacher)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        crops, evidence, heads, helmets, turns, moves, hints = batch
        answer, hinted = self.second_look(crops.float() / 255, evidence)
        answer = answer.float()
        logits = answer[:, HEAD]
        turned = turns > 0
        counts = torch.where(turned, TURNED_COUNTS, 1.0)
        entropy = F.binary_cross_entropy_with_logits(logits, heads, reduction="none")
        worn = (helmets == 1).float()
        bare = (helmets == 0).float()
        # Both count the same, however few heads with a helmet there are.
        each = worn / worn.sum().clamp(min=1) + bare / bare.sum().clamp(min=1)
        helmet = F.binary_cross_entropy_with_logits(
            answer[:, HELMET], worn, each / 2, reduction="sum"
        )
        up = F.cross_entropy(answer[:, TURNS], turns, reduction="none")
        up = (up * torch.where(turned, TURNED_TURNS, UPRIGHT_TURNS)).mean()
        loss = (entropy * counts).mean() / counts.mean()
        loss = loss + HELMET_WEIGHT * helmet + TURNS_WEIGHT * up
        drawn = moves.isfinite()
        moved = answer[:, MOVE][drawn]
        off = F.smooth_l1_loss(moved, moves[drawn], reduction="sum", beta=MOVE_LINEAR)
        off = off / drawn.any(dim=1).sum().clamp(min=1)
        loss = loss + MOVE_WEIGHT * off
        if hints.shape[1]:
            loss = loss + HINTS_WEIGHT * F.mse_loss(hinted.float(), hints)
        is_head = (heads > 0.5).float()
        told = worn + bare
        right = ((answer[:, HELMET].detach() >= headmap.LEAST_HELMET) == (worn > 0)).float()
        kept = (logits.detach() >= headmap.LEAST_LOOK).float()
        terms = {
            "loss": loss,
            "recall": (kept * is_head).sum() / is_head.sum().clamp(min=1),
            "false": (kept * (1 - is_head)).sum() / (1 - is_head).sum().clamp(min=1),
            "helmet_right": (right * told).sum() / told.sum().clamp(min=1),
            "off": off,
            "up_right": (answer[:, TURNS].argmax(1) == turns).float().mean(),
        }
        self.log_terms(terms, ("recall", "false", "off", "up_right"), len(crops))
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
