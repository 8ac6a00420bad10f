"""Training of the head map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from roi_anon_ros.codec.engines.stages import to_batch
from roi_anon_ros.codec.headmap import THRESHOLD, find_heads
from roi_anon_ros.codec.modelfile import find_model, load_model, save_model
from roi_anon_ros.codec.networks import HeadMap
from roi_anon_ros.codec.networks.headmap import MULTIPLE
from roi_anon_ros.codec.regions import Regions, paint
from roi_anon_ros.datasets import Record
from roi_anon_ros.train.crops import PreloadedCrops
from roi_anon_ros.train.head_crops import HeadCrops
from roi_anon_ros.train.losses import Regions as BatchRegions
from roi_anon_ros.train.runs import RunConfig, Training, to_bytes, to_floats
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.weights import HEAD_MAP, put_head_map, read_weights

#: Sides of heads that are counted apart in the validation, pixels: from each to the next.
SIZES = (8, 16, 32, 64, 128)
#: A painted pixel within this share of a head's sides around its box is of the head.
NEAR = 0.3
#: Weight of the places relative to the weighed cross entropy.
PLACE_WEIGHT = 0.3
#: The cross entropy of an image is divided by this: what a crop's cells weigh, about.
USUAL_WEIGHT = 60


@dataclass(frozen=True, kw_only=True)
class HeadsConfig(RunConfig):
    """What a YAML file may set for ``network: heads``.

    ``start`` is a model or a checkpoint; ``crop`` a multiple of 128.

    Attributes:
        codec: name or file of the model into which the head map is put in the end; empty: none,
            and ``last.ckpt`` is what the training of a codec takes as ``head_map``.
        weight_decay: of AdamW.
    """

    least: ClassVar[dict[str, float]] = RunConfig.least | {"weight_decay": 0}
    multiple: ClassVar[int] = MULTIPLE

    crop: int = 256
    codec: str = ""
    weight_decay: float = 1e-3


class HeadsTraining(Training):
    """A :class:`~roi_anon_ros.codec.networks.HeadMap`, its loss and its optimiser.

    .. code-block:: none

        L = Σ w · f · BCE / (60 · images)  +  0.3 · Σ p · smooth L1 of the place / Σ p

    The sums run over cells. f = ¼ + (1 − e^−BCE)^1.5 lets those count that are still wrong (focal
    loss, arXiv 1708.02002); w and p are the weights of
    :class:`~roi_anon_ros.train.head_targets.HeadTargets`.

    Args:
        config: of the run.
        validation: the images that it is validated on.
        out: folder for the sheets.
    """

    config_type = HeadsConfig
    config: HeadsConfig
    hidden_only = False
    inertia = 0.998
    averages_buffers = True
    largest_gradient = 2.0

    def __init__(self, config: HeadsConfig, validation: list[Record], out: Path) -> None:
        super().__init__(config, validation, out)
        self.head_map = HeadMap()
        if config.start:
            put_head_map(self, config.start)
        if config.codec and HEAD_MAP + "stem.0.weight" not in read_weights(config.codec):
            raise ValueError(f"codec: got {config.codec}, must be a model with a head map")
        self._begin_counts()

    def make_crops(self, images: TrainingImages) -> PreloadedCrops:
        """Crops with their targets."""
        config = self.config
        return HeadCrops(
            images.records, config.crop, config.seed, images.backgrounds, images.weights
        )

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        image = batch[0]
        terms = head_loss(self.head_map(to_floats(image)).float(), *batch[1:])
        self.log_terms(terms, ("head", "recall"), len(image))
        return terms["loss"]

    def _begin_counts(self) -> None:
        #: Heads of each of SIZES: painted, and all.
        self._heads = np.zeros((len(SIZES), 2))
        #: Of each image: share painted, and share painted outside heads.
        self._painted: list[float] = []
        self._outside: list[float] = []

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._begin_counts()

    def validation_step(self, batch: tuple[Tensor, BatchRegions, BatchRegions], index: int) -> None:
        """Find the heads of one whole image, as the codec does."""
        image = to_bytes(batch[0][0])
        record = self.validation[index]
        boxes = record.heads.xyxy * np.float32(image.shape[1] / record.width)
        regions = self.find(image)
        mask = regions.mask(image.shape[1], image.shape[0])
        kept = ~record.heads.ignore
        self._heads += count_painted(mask, boxes[kept])
        self._painted.append(float(mask.mean()))
        if {"head", "face"} & record.complete:
            self._outside.append(share_outside(mask, boxes))
        self.show(image, paint(image, regions), boxes)

    def find(self, image: np.ndarray) -> Regions:
        """Find heads, by the map alone."""
        regions, _ = find_heads(self._run, image, THRESHOLD)
        return regions

    def _run(self, image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(to_batch(image, MULTIPLE, 2 * MULTIPLE)).to(self.device)
        return self.head_map(batch.permute(0, 3, 1, 2).float() / 255)[0].float().cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        """Log the shares, write the sheet, and say it in a line."""
        figures = {"painted": float(np.mean(self._painted))}
        if self._outside:
            figures["outside_heads"] = float(np.mean(self._outside))
        for size, (painted, heads) in zip(SIZES, self._heads.tolist(), strict=True):
            if heads:
                figures[f"heads_{size}"] = painted / heads
        self.log_dict({f"val/{name}": value for name, value in figures.items()})
        words = [
            f"from {size} px {figures[f'heads_{size}']:.1%} painted"
            for size in SIZES
            if f"heads_{size}" in figures
        ]
        if "outside_heads" in figures:
            words.append(f"{figures['outside_heads']:.1%} painted outside heads")
        self.end_validation(words)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the head map."""
        config = self.config
        return self.with_schedule(
            torch.optim.AdamW(
                self.head_map.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
            )
        )

    def write_result(self, path: Path, images: TrainingImages, training: dict[str, Any]) -> Path:
        """Write the model file with the new head map; without a codec, name the checkpoint."""
        if not self.config.codec:
            return self.out / "last.ckpt"
        return write_codec(self, path, "head_map", self.head_map.state_dict(), training)


def write_codec(
    run: HeadsTraining,
    path: Path,
    name: str,
    weights: Mapping[str, Tensor],
    training: dict[str, Any],
) -> Path:
    """Write the run's codec with new weights of one of its networks.

    Args:
        run: that is over.
        path: of the model file.
        name: ``head_map`` or ``second_look``.
        weights: of that network.
        training: for the model's metadata.

    Returns:
        The path.
    """
    model = load_model(find_model(run.config.codec))
    getattr(model.codec, name).load_state_dict(weights)
    metadata = model.metadata
    save_model(
        model.codec,
        path,
        name=path.stem,
        training={**metadata["training"], name: training},
        figures={**metadata["figures"], name: run.figures},
    )
    return path


def head_loss(
    answer: Tensor, head: Tensor, weight: Tensor, place: Tensor, place_weight: Tensor
) -> dict[str, Tensor]:
    """The loss of one batch and what is in it, see :class:`HeadsTraining`.

    Args:
        answer: of the map, ``[B, 4, g, g]``.
        head: ``[B, g, g]``, as the other targets see ``head_targets``.
        weight: ``[B, g, g]``.
        place: ``[B, 3, g, g]``.
        place_weight: ``[B, g, g]``.

    Returns:
        Scalars ``loss``, ``head``, ``place``; ``recall`` and ``false``, the shares of the cells
        with and without a head that are above the threshold.
    """
    logits = answer[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, head, reduction="none")
    focus = 0.25 + (1 - torch.exp(-entropy.detach())) ** 1.5
    head_term = (entropy * focus * weight).sum() / len(answer) / USUAL_WEIGHT
    distance = F.smooth_l1_loss(answer[:, 1:], place, reduction="none", beta=0.1).sum(1)
    place_term = (distance * place_weight).sum() / place_weight.sum().clamp(min=1)
    hot = (logits.detach().sigmoid() > THRESHOLD).float()
    counted = weight > 0
    inside = (counted & (head > 0)).float()
    beyond = (counted & (head == 0)).float()
    return {
        "loss": head_term + PLACE_WEIGHT * place_term,
        "head": head_term.detach(),
        "place": place_term.detach(),
        "recall": (hot * inside).sum() / inside.sum().clamp(min=1),
        "false": (hot * beyond).sum() / beyond.sum().clamp(min=1),
    }


def count_painted(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Heads of each of :data:`SIZES` whose centre is painted, and all of them: ``[sizes, 2]``.

    Args:
        mask: bool ``[H, W]``, what is painted.
        boxes: ``[n, 4]``, x1 y1 x2 y2, pixels; those below the least size are left out.
    """
    counts = np.zeros((len(SIZES), 2))
    height, width = mask.shape
    for x1, y1, x2, y2 in boxes.tolist():
        size = int(np.searchsorted(SIZES, max(x2 - x1, y2 - y1), "right")) - 1
        row = int((y1 + y2) / 2)
        column = int((x1 + x2) / 2)
        if size >= 0 and 0 <= row < height and 0 <= column < width:
            counts[size] += (mask[row, column], 1)
    return counts


def share_outside(mask: np.ndarray, boxes: np.ndarray) -> float:
    """Share of an image that is painted and further from any head than 0.3 of its sides, 0 to 1."""
    free = mask.copy()
    for x1, y1, x2, y2 in boxes.tolist():
        margin_x = NEAR * (x2 - x1)
        margin_y = NEAR * (y2 - y1)
        left = max(int(x1 - margin_x), 0)
        top = max(int(y1 - margin_y), 0)
        free[top : max(int(y2 + margin_y), 0), left : max(int(x2 + margin_x), 0)] = False
    return float(free.mean())
