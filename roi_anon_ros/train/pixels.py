"""Training of an anonymizer of pixels on clips, after arXiv 2504.14301."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from roi_anon_ros.anonymize.pixels import PixelNetwork, load_pixels, save_pixels
from roi_anon_ros.datasets import Clip
from roi_anon_ros.detect.actions import load_actions
from roi_anon_ros.train.branches import BranchedConfig, BranchedTraining
from roi_anon_ros.train.clips import (
    ClipsConfig,
    ClipTraining,
    TrainingClips,
    list_labels,
    to_frames,
)
from roi_anon_ros.train.losses import Regions
from roi_anon_ros.train.runs import to_bytes
from roi_anon_ros.train.validation import to_decibels


@dataclass(frozen=True, kw_only=True)
class PixelsConfig(BranchedConfig, ClipsConfig):
    """What a YAML file may set for ``network: pixels``.

    ``start`` is the file of a pixel anonymizer. Of ``utility``, only networks of actions see clips
    as such.

    Attributes:
        reproduce: weight of the mean distance |x − x̂| to the original, 0 or more: what the
            anonymizer learns first.
        actions: file of a network of actions, as ``network: actions`` writes it, whose cross
            entropy of the clip's action on what the anonymizer gives is L_T; empty: none.
    """

    least: ClassVar[dict[str, float]] = ClipsConfig.least | {"reproduce": 0}

    reproduce: float = 0.0
    actions: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reproduce and not self.actions:
            raise ValueError("reproduce: got 0, must be above 0 where actions is empty")


class PixelsTraining(ClipTraining, BranchedTraining):
    """A :class:`~roi_anon_ros.anonymize.pixels.PixelNetwork` and what it learns from.

    .. code-block:: none

        L = reproduce · |x − x̂|  +  L_T  +  branches

    L_T is the cross entropy of the clip's action; the branches hold the utility budget and − L_B of
    the paper.

    Args:
        config: of the run.
        validation: the clips that it is validated on.
        out: folder for the sheets and the weights.

    Raises:
        ValueError: a network cannot be read, or knows other actions, frames or sides.
    """

    config_type = PixelsConfig
    config: PixelsConfig
    inertia = 0.98

    def __init__(self, config: PixelsConfig, validation: list[Clip], out: Path) -> None:
        super().__init__(config, validation, out)
        self.network = load_pixels(Path(config.start)) if config.start else PixelNetwork()
        self.network.train()
        # In a tuple, not as a module: checkpoints and averages leave it out.
        self._judges = tuple(load_actions(Path(one)) for one in [config.actions] if one)
        labels = list_labels(config)
        for judge in self._judges:
            judge.requires_grad_(False)
            known = (judge.labels, judge.frames)
            if known != (labels, config.frames):
                raise ValueError(
                    f"actions: got a network of {', '.join(judge.labels)} in {judge.frames} "
                    f"frames, must be of {', '.join(labels)} in {config.frames}"
                )

    def on_fit_start(self) -> None:
        """Take the frozen networks along to the device."""
        super().on_fit_start()
        for judge in self._judges:
            judge.to(self.device)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        clips, numbers = batch
        x = to_frames(clips)
        x_hat = self.network(x).float()
        terms = {"distance": (x_hat - x).abs().mean()}
        terms["loss"] = self.config.reproduce * terms["distance"]
        for judge in self._judges:
            terms["actions"] = F.cross_entropy(judge(x_hat), numbers)
            terms["loss"] = terms["loss"] + terms["actions"]
        keep = torch.ones_like(x[:, :1])
        nobody = Regions(
            torch.zeros(0, 4, dtype=torch.int64, device=x.device),
            torch.zeros(0, dtype=torch.int64, device=x.device),
        )
        self.add_branches(terms, x_hat, x, keep, nobody, self.config.frames)
        self.log_terms(terms, ("loss", "distance"), len(clips))
        return terms["loss"]

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """How far one whole clip is from its original, and whether its action is told right."""
        clips, numbers = batch
        x = to_frames(clips)
        x_hat = self.network(x).float()
        figures = {"mse": (x_hat - x).square().mean()}
        for judge in self._judges:
            right = judge(x_hat).argmax(1) == numbers
            figures["top1"] = right.float().mean()
        self.log_dict({f"val/{name}": value for name, value in figures.items()}, batch_size=1)
        middle = len(x) // 2
        self.show(to_bytes(x[middle]), to_bytes(x_hat[middle]), np.zeros((0, 4)))

    def on_validation_epoch_end(self) -> None:
        """Write the sheet, and say the figures in a line."""
        figures = self.figures
        words = []
        if figures.get("mse"):
            words.append(f"{to_decibels(figures['mse']):.1f} dB from the original")
        if "top1" in figures:
            words.append(f"{figures['top1']:.1%} of the actions right")
        self.end_validation(words)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam over the network and what learns in the branches."""
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters())},
            *self.branch_groups(),
        ]
        return self.with_schedule(torch.optim.Adam(groups, lr=self.config.learning_rate))

    def write_result(  # type: ignore[override]
        self, path: Path, images: TrainingClips, training: dict[str, Any]
    ) -> Path:
        """Write the network."""
        save_pixels(self.network, path, {**training, **self.figures})
        return path
