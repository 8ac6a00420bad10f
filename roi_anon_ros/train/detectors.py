"""What the trainings of person detectors share: configuration, sets, steps and validation."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from roi_anon_ros.codec import DEFAULT_MAX_SIDE, DEFAULT_MODEL
from roi_anon_ros.datasets import Record, split, spread, without_overlap
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.boxes import suppress
from roi_anon_ros.detect.matching import match, overlaps
from roi_anon_ros.detect.network_file import write_network
from roi_anon_ros.detect.yolox_cells import decode_rows
from roi_anon_ros.detect.yolox_persons import OVERLAP as SUPPRESSION
from roi_anon_ros.train.assignment import measure_loss
from roi_anon_ros.train.decoded import read_persons
from roi_anon_ros.train.numbers import check_positive, check_whole
from roi_anon_ros.train.runs import CropNumbers, average

#: Share of the images that are kept apart where the configuration names no validation set.
VALIDATION_SHARE = 0.1
#: Score from which validation counts a detection, and its least overlap with a person.
SCORE = 0.25
OVERLAP = 0.5
#: Longest gradient.
CLIP = 10.0

AnyConfig = TypeVar("AnyConfig", bound="DetectorConfig")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What a YAML file may set, whatever a detector sees.

    Attributes:
        network: what is trained, `name`.
        train: sets to train on, see `read_persons`.
        validation: the same, kept apart; empty: a tenth of the images.
        start: weights to begin with.
        codec: the model that codes the images, name or file; after it ``@`` and an engine.
        max_side: at which a camera codes images, pixels.
        teacher: the detector that finds persons on originals where people drew no boxes, or not
            all.
        steps: optimiser steps in all, a multiple of ``epoch``.
        batch: crops a step.
        crop: side of a crop, pixels, a multiple of 32.
        learning_rate: of Adam; it rises over ``warmup`` steps and falls to 0 along a cosine.
        warmup: steps.
        epoch: steps between two checkpoints, each with a validation.
        validation_images: how many, spread over the validation set.
        precision: Lightning's, "32-true" or "bf16-mixed".
        workers: processes that prepare crops.
        seed: of everything random.
    """

    #: What ``network`` says.
    name: ClassVar[str]
    least: ClassVar[dict[str, int]] = {
        "steps": 1,
        "batch": 1,
        "epoch": 1,
        "validation_images": 1,
        "warmup": 0,
        "workers": 0,
    }

    network: str
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]] = field(default_factory=list)
    start: str = ""
    codec: str = DEFAULT_MODEL
    max_side: int = DEFAULT_MAX_SIDE
    teacher: str = "yolov8n"
    steps: int = 6000
    batch: int = 16
    crop: int = 384
    learning_rate: float = 2e-4
    warmup: int = 300
    epoch: int = 500
    validation_images: int = 100
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network != self.name:
            raise ValueError(f"network: got {self.network!r}, must be {self.name}")
        for name, bound in self.least.items():
            check_whole(name, getattr(self, name), bound)
        if self.steps % self.epoch:
            raise ValueError(f"steps: got {self.steps}, must be a multiple of epoch, {self.epoch}")
        if not isinstance(self.crop, int) or self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop: got {self.crop!r}, must be a multiple of 32")
        check_positive("learning_rate", self.learning_rate)
        for name in ("train", "validation"):
            sets = getattr(self, name)
            named = isinstance(sets, list) and all(
                isinstance(one, dict) and "annotations" in one for one in sets
            )
            if not named:
                raise ValueError(f"{name}: must be a list of sets, each with annotations")

    @classmethod
    def read(cls: type[AnyConfig], path: Path) -> AnyConfig:
        """Read a YAML file.

        Raises:
            ValueError: a field does not exist, is missing, or is out of bounds.
        """
        try:
            return cls(**yaml.safe_load(Path(path).read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error


class DetectorTraining(lightning.LightningModule):
    """A detector, its loss and its optimiser.

    Args:
        config: of the run.
        network: that is trained.

    Attributes:
        figures: ``recall`` and ``false``, of the last validation.
    """

    def __init__(self, config: DetectorConfig, network: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.figures: dict[str, float] = {}
        self._counts = np.zeros(4)

    @abstractmethod
    def see(self, seen: Tensor) -> tuple[Tensor, int, int]:
        """Return the logits ``[B, n, 6]`` of a batch, and its images' height and width, pixels."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the figures: a run that is over is not validated again."""
        checkpoint["figures"] = self.figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the figures."""
        self.figures = checkpoint["figures"]

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's crops by its number, so that a run that goes on draws the same."""
        loader = self.trainer.train_dataloader
        assert loader is not None  # there is one in an epoch
        loader.sampler.epoch = self.current_epoch

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the loss of one batch."""
        seen, truths = batch
        logits, height, width = self.see(seen)
        return self.say(measure_loss(logits, truths, height, width), len(seen))

    def say(self, terms: dict[str, Tensor], count: int) -> Tensor:
        """Log the terms of a loss over ``count`` crops, and return the loss.

        Raises:
            RuntimeError: it is not finite.
        """
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"loss: not finite at step {self.global_step}; lower learning_rate")
        figures = {f"train/{name}": term for name, term in terms.items()}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=count)
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._counts = np.zeros(4)

    def validation_step(self, batch: Any, index: int) -> None:
        """Count who is found in one whole image, and who is not there."""
        seen, (truth,) = batch
        logits, height, width = self.see(seen)
        logits = logits.float()
        self.log("val/loss", measure_loss(logits, [truth], height, width)["loss"], batch_size=1)
        rows = torch.cat([logits[0, :, :4], logits[0, :, 4:].sigmoid()], -1).cpu().numpy()
        boxes, scores = decode_rows(rows, height, width, SCORE)
        kept = suppress(boxes, scores, SUPPRESSION)
        found = Detections(boxes[kept], scores[kept], ["person"] * len(kept))
        self._counts += [1, *count(found, truth.cpu().numpy())]

    def on_validation_epoch_end(self) -> None:
        """Log the share of the persons found and the false boxes an image, and say them."""
        images, persons, right, false = self._counts.tolist()
        self.figures = {"recall": right / max(persons, 1), "false": false / max(images, 1)}
        self.log_dict({f"val/{name}": value for name, value in self.figures.items()})
        rank_zero_info(
            f"step {self.global_step}/{self.config.steps}, recall {self.figures['recall']:.1%}, "
            f"{self.figures['false']:.2f} false boxes an image"
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam and its schedule."""
        optimizer = torch.optim.Adam(self.groups(), lr=self.config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups of weights: one of all."""
        return [{"params": list(self.network.parameters())}]

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.config.warmup, 1))
        return warm * (0.5 + 0.5 * math.cos(math.pi * min(step / self.config.steps, 1)))


def count(found: Detections, truth: np.ndarray) -> tuple[int, int, int]:
    """Return how many persons there are, how many were found, and how many boxes are false.

    Args:
        found: in one image.
        truth: ``[n, 5]`` as in `Sample`; what is found on an ignored person is neither.
    """
    persons = truth[truth[:, 4] == 0, :4]
    ignored = truth[truth[:, 4] == 1, :4]
    right = match(found, persons, OVERLAP) >= 0
    on_ignored = overlaps(found.boxes, ignored).max(1, initial=0) >= OVERLAP
    return len(persons), int(right.sum()), int((~right & ~on_ignored).sum())


def choose_images(
    config: DetectorConfig,
) -> tuple[list[tuple[Record, bool]], list[tuple[Record, bool]]]:
    """Read the sets of a configuration.

    Returns:
        Images to train on, and images to validate on, each as `read_persons` gives it.

    Raises:
        ValueError: a set cannot be used, or there are no images.
    """
    images = _read_sets(config.train)
    if config.validation:
        apart = _read_sets(config.validation)
        kept, _ = without_overlap(list(images), list(apart))
    else:
        shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
        kept, held = split(list(images), shares, config.seed).values()
        apart = {record: images[record] for record in held}
    if not kept or not apart:
        raise ValueError(
            f"got {len(kept)} images to train on, {len(apart)} to validate on, must be 1"
        )
    shown = spread(list(apart), config.validation_images)
    return [(one, images[one]) for one in kept], [(one, apart[one]) for one in shown]


def _read_sets(sets: list[dict[str, Any]]) -> dict[Record, bool]:
    images: dict[Record, bool] = {}
    for one in sets:
        of_set, problems = read_persons(one)
        for problem in problems:
            rank_zero_info(problem)
        complete = sum(by_hand for _, by_hand in of_set)
        rank_zero_info(
            f"{one['annotations']}: {len(of_set)} images, people drew all persons on {complete}"
        )
        images |= dict(of_set)
    return images


def fit(
    module: DetectorTraining, crops: DataLoader, wholes: DataLoader, out: Path, buffers: bool
) -> int:
    """Train, or go on from ``last.ckpt``; the module ends with the mean of its weights.

    Args:
        module: that is trained.
        crops: to train on.
        wholes: images to validate on, one at a time.
        out: folder for checkpoints and logs.
        buffers: whether buffers (of normalisations) are averaged like weights.

    Returns:
        The steps that were made in all.
    """
    config = module.config
    trainer = lightning.Trainer(
        default_root_dir=out,
        max_steps=config.steps,
        precision=config.precision,
        devices=1,
        gradient_clip_val=CLIP,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=CSVLogger(out, name="log"),
        callbacks=[
            WeightAveraging(use_buffers=buffers, multi_avg_fn=average),
            ModelCheckpoint(out, filename="{step}", save_last=True, save_on_train_epoch_end=True),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = out / "last.ckpt"
    checkpoint = last if last.exists() else None
    trainer.fit(module, crops, wholes, ckpt_path=checkpoint, weights_only=False)
    # A run that is over already leaves the last step's weights in the module, not their mean.
    module.load_state_dict(torch.load(last, weights_only=False)["state_dict"])
    return trainer.global_step


def load_crops(
    crops: Dataset, config: DetectorConfig, collate: Callable[[list[Any]], Any]
) -> DataLoader:
    """Return what loads the batches of an epoch.

    Args:
        crops: with an item for every number from 0 on.
        config: of the run.
        collate: makes a batch.
    """
    return DataLoader(
        crops,
        config.batch,
        sampler=CropNumbers(config.epoch * config.batch),
        num_workers=config.workers,
        # A process that ran an engine crashes where it forks.
        multiprocessing_context="forkserver" if config.workers else None,
        persistent_workers=config.workers > 0,
        collate_fn=collate,
    )


def write_detector(
    network: nn.Module,
    path: Path,
    card: str,
    metadata: dict[str, str],
    training: dict[str, Any],
    config: DetectorConfig,
) -> None:
    """Write the weights, and beside them their card, ``.md``.

    Args:
        network: that was trained.
        path: of the weights.
        card: a text with fields, of what is in ``training`` and ``file``, ``megabytes``,
            ``weights`` (millions), ``score``, ``overlap``, ``config``.
        metadata: of the weights, besides their licence and training.
        training: what it was.
        config: of the run.
    """
    configured = asdict(config)
    told = json.dumps(training | {"config": configured})
    write_network(network, path, metadata | {"licence": "Apache-2.0", "training": told})
    text = card.format(
        name=path.stem,
        file=path.name,
        megabytes=path.stat().st_size / 1e6,
        weights=sum(one.numel() for one in network.parameters()) / 1e6,
        score=SCORE,
        overlap=OVERLAP,
        config=yaml.safe_dump(configured, sort_keys=False, width=90).rstrip(),
        **training,
    )
    path.with_suffix(".md").write_text(text)
