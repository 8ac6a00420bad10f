"""Training of a network that says what is done in a clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from roi_anon_ros.datasets import Clip
from roi_anon_ros.detect.actions import ActionNetwork, save_actions
from roi_anon_ros.train.clips import (
    ClipsConfig,
    ClipTraining,
    TrainingClips,
    list_labels,
    to_frames,
)

#: Share of the certainty that goes to the other actions: there are few clips.
SMOOTHING = 0.1


@dataclass(frozen=True, kw_only=True)
class ActionsConfig(ClipsConfig):
    """What a YAML file may set for ``network: actions``; ``start`` means nothing here.

    Attributes:
        weight_decay: of AdamW.
    """

    least: ClassVar[dict[str, float]] = ClipsConfig.least | {"weight_decay": 0}

    weight_decay: float = 1e-2


class ActionsTraining(ClipTraining):
    """An :class:`~roi_anon_ros.detect.actions.ActionNetwork` and the cross entropy of actions.

    Args:
        config: of the run.
        validation: the clips that it is validated on.
        out: folder for the weights.
    """

    config_type = ActionsConfig
    config: ActionsConfig
    inertia = 0.98

    def __init__(self, config: ActionsConfig, validation: list[Clip], out: Path) -> None:
        super().__init__(config, validation, out)
        self.network = ActionNetwork(list_labels(config), config.frames, config.crop)
        self._right: list[float] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        clips, numbers = batch
        logits = self.network(to_frames(clips)).float()
        terms = {
            "loss": F.cross_entropy(logits, numbers, label_smoothing=SMOOTHING),
            "top1": (logits.argmax(1) == numbers).float().mean(),
        }
        self.log_terms(terms, ("loss", "top1"), len(clips))
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._right = []

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Tell the action of one clip."""
        clips, numbers = batch
        told = self.network(to_frames(clips)).argmax(1)
        self._right += (told == numbers).float().tolist()

    def on_validation_epoch_end(self) -> None:
        """Log the share told right, and say it beside that of the commonest action."""
        top1 = sum(self._right) / len(self._right)
        self.log("val/top1", top1)
        labels = [clip.label for clip in self.validation]
        commonest = max(labels.count(label) for label in set(labels)) / len(labels)
        self.end_validation([f"{top1:.1%} of {len(labels)} clips right, chance {commonest:.1%}"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW."""
        config = self.config
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        return self.with_schedule(optimizer)

    def write_result(  # type: ignore[override]
        self, path: Path, images: TrainingClips, training: dict[str, Any]
    ) -> Path:
        """Write the network."""
        save_actions(self.network, path, {**training, **self.figures})
        return path
