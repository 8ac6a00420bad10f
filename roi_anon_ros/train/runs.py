"""What every training shares: its configuration, its steps and epochs, and how it goes on."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.train.crops import PreloadedCrops, WholeImages
from roi_anon_ros.train.numbers import check_number, check_positive
from roi_anon_ros.train.sets import TrainingImages, parse_sets, read_images
from roi_anon_ros.train.validation import sheet

log = logging.getLogger(__name__)

#: Images on the sheet of every validation.
SHEET_IMAGES = 6


class TrainingError(RoiAnonError):
    """A training failed; its last checkpoint is as it was."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a YAML file in ``config/train/`` may set, whatever is trained.

    Attributes:
        network: what is trained, see ``train.trainer``.
        train: sets to train on, see :class:`~roi_anon_ros.train.sets.ImageSet`.
        validation: the same, images kept apart; empty: a tenth of the training images.
        start: name or file of a model to begin with; empty: random weights.
        steps: optimiser steps in all, a multiple of ``epoch`` times ``validate``.
        batch: crops a step, on each process.
        crop: side of a crop, pixels, a multiple of 32.
        learning_rate: of Adam, after ``warmup`` steps and until the last ``decay`` share of the
            steps, where it falls to 0 along a cosine.
        warmup: steps.
        decay: share of the steps, 0 to 1.
        epoch: steps between two checkpoints.
        validate: epochs between two validations.
        validation_images: how many, spread over the validation set.
        precision: Lightning's, ``"32-true"`` or ``"bf16-mixed"``.
        workers: processes that prepare crops, on each process.
        seed: of everything random.
    """

    least: ClassVar[dict[str, float]] = {
        "steps": 1,
        "batch": 1,
        "crop": 32,
        "epoch": 1,
        "validate": 1,
        "validation_images": 1,
        "warmup": 0,
        "decay": 0,
        "workers": 0,
    }
    #: A crop's side is a multiple of this.
    multiple: ClassVar[int] = 32

    network: str
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]] = field(default_factory=list)
    start: str = ""
    steps: int = 20000
    batch: int = 8
    crop: int = 192
    learning_rate: float = 4e-4
    warmup: int = 500
    decay: float = 0.3
    epoch: int = 500
    validate: int = 1
    validation_images: int = 48
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bound in self.least.items():
            check_number(name, getattr(self, name), bound)
        if self.steps % (self.epoch * self.validate):
            times = f" times validate, {self.validate}," if self.validate > 1 else ","
            raise ValueError(
                f"steps: got {self.steps}, must be a multiple of epoch, {self.epoch}{times} to end "
                "with a validation"
            )
        if self.crop % self.multiple:
            raise ValueError(f"crop: got {self.crop}, must be a multiple of {self.multiple}")
        check_positive("learning_rate", self.learning_rate)
        if not parse_sets("train", self.train):
            raise ValueError("train: must have at least one set")
        parse_sets("validation", self.validation)


class Training(lightning.LightningModule):
    """What is trained, its loss and its optimiser.

    A subclass says what a step and a validation are, makes the crops and writes the result.

    Args:
        config: of the run.
        validation: the images that it is validated on.
        out: folder for the sheets.
    """

    #: What its YAML file may set.
    config_type: ClassVar[type[RunConfig]] = RunConfig
    #: Whether images without annotated heads are left out.
    hidden_only = True
    #: The share that the averaged weights keep of themselves in a step, at most.
    inertia = 0.999
    #: Whether buffers (of normalisations) are averaged like weights.
    averages_buffers = False
    #: Largest norm of the gradient of each group of weights.
    largest_gradient = 1.0
    #: What makes a batch of crops; None: torch's own.
    collate: Callable[[list[Any]], Any] | None = None

    def __init__(self, config: RunConfig, validation: list[Any], out: Path) -> None:
        super().__init__()
        self.config = config
        self.validation = validation
        self.out = out
        self._shown: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._started: tuple[float, int] | None = None
        self._former_figures: dict[str, float] = {}
        self._tick = time.monotonic()
        self._batch_end = self._tick
        self._waited = 0.0

    @classmethod
    def read(cls, config: RunConfig, out: Path) -> tuple[Any, Any]:
        """What is trained on, and what is validated on: here images; see ``train/clips.py`` for
        another kind.

        Args:
            config: of the run.
            out: folder for ``split.json``.

        Returns:
            What :meth:`make_crops` takes; and a data set with its ``records`` and its ``collate``.

        Raises:
            ValueError, OSError: there are none, or a set is not readable at all.
        """
        images, validation = read_images(
            parse_sets("train", config.train),
            parse_sets("validation", config.validation),
            config.validation_images,
            config.seed,
            out,
            cls.hidden_only,
        )
        return images, WholeImages(validation)

    def make_crops(self, images: TrainingImages) -> PreloadedCrops:
        """What the batches are made of; item i is the same in every run."""
        raise NotImplementedError

    def write_result(self, path: Path, images: TrainingImages, training: dict[str, Any]) -> Path:
        """Write what was trained.

        Args:
            path: of the model file.
            images: that were trained on.
            training: for the model's metadata.

        Returns:
            The file written.
        """
        raise NotImplementedError

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's crops and noise by its number: a continued run draws the same."""
        loader = self.trainer.train_dataloader
        assert loader is not None  # there is one in an epoch
        loader.sampler.epoch = self.current_epoch
        torch.manual_seed(
            (self.config.seed * 100_003 + self.current_epoch) * self.trainer.world_size
            + self.global_rank
        )
        self._tick = time.monotonic()
        self._batch_end = self._tick
        self._waited = 0.0
        if self._started is None:
            self._started = self._tick, self.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Count the time that the step waited for its crops."""
        self._waited += time.monotonic() - self._batch_end

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Begin to wait."""
        self._batch_end = time.monotonic()

    def on_train_epoch_end(self) -> None:
        """Log the speed of this process, and the share of the time that it waited for crops."""
        seconds = time.monotonic() - self._tick
        if not self.has_stepped:
            return  # a continued run begins with the end of the epoch before it
        self.log("train/images_per_second", self.config.epoch * self.config.batch / seconds)
        self.log("train/waiting", self._waited / seconds)

    @property
    def has_stepped(self) -> bool:
        """Whether this process made a step since it started."""
        return self._started is not None and self._started[1] != self.global_step

    def log_terms(self, terms: dict[str, Tensor], shown: tuple[str, ...], size: int) -> None:
        """Log a step's figures, those of ``shown`` on the bar too.

        Raises:
            TrainingError: the loss is not finite.
        """
        if not torch.isfinite(terms["loss"]):
            raise TrainingError(f"loss: not finite at step {self.global_step}; lower learning_rate")
        self.log_dict(
            {f"train/{name}": value for name, value in terms.items()},
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=True,
        )
        for name in shown:
            self.log(name, terms[name], prog_bar=True, logger=False, batch_size=size)

    def show(self, original: np.ndarray, result: np.ndarray, heads: np.ndarray) -> None:
        """Put a validation image on the sheet, if there is room: uint8 ``[H, W, 3]`` RGB both,
        head boxes ``[n, 4]``.
        """
        if len(self._shown) < SHEET_IMAGES:
            self._shown.append((original, result, heads))

    def end_validation(self, words: list[str]) -> None:
        """Write the sheet, where something is shown, and say the figures in a line."""
        if not self.trainer.is_global_zero:
            return
        if self._shown:
            image = sheet(self._shown, self.out / "sheets" / f"{self.global_step:07}.png")
            self._shown.clear()
            for logger in self.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(
                        "validation", image, self.global_step, dataformats="HWC"
                    )
        left = self.seconds_left()
        end = f"; {left / 60:.0f} min left" if left is not None else ""
        rank_zero_info(", ".join([f"step {self.global_step}/{self.config.steps}", *words]) + end)

    @property
    def figures(self) -> dict[str, float]:
        """What the last validation measured, by name."""
        measured = {
            name.removeprefix("val/"): float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        return measured or self._former_figures

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the figures: a run that is over is not validated again."""
        checkpoint["figures"] = self.figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the figures."""
        self._former_figures = checkpoint["figures"]

    def seconds_left(self) -> float | None:
        """Time until the last step at the pace so far, validations included; None before there is a
        pace.
        """
        if self._started is None or not self.has_stepped:
            return None
        pace = (time.monotonic() - self._started[0]) / (self.global_step - self._started[1])
        return pace * (self.config.steps - self.global_step)

    def with_schedule(self, optimizer: torch.optim.Optimizer) -> OptimizerLRSchedulerConfig:
        """An optimiser whose learning rates warm up and fall as the configuration says."""
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip each group's gradient: one group's spares the others."""
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], self.largest_gradient)

    def _rate(self, step: int) -> float:
        c = self.config
        left = (c.steps - step) / max(c.decay * c.steps, 1)
        return min(1.0, (step + 1) / max(c.warmup, 1)) * (
            0.5 - 0.5 * math.cos(math.pi * min(max(left, 0), 1))
        )


def to_bytes(image: Tensor) -> np.ndarray:
    """``[3, H, W]`` around [0, 1] as uint8 ``[H, W, 3]``."""
    return (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def to_floats(image: Tensor) -> Tensor:
    """uint8 ``[B, 3, H, W]`` as floats in [0, 1], channels last."""
    return image.float().div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def average(
    averages: list[Tensor], weights: list[Tensor], count: Tensor, inertia: float = 0.999
) -> None:
    """Move the averaged weights towards the present ones, by 1 − ``inertia`` after a warm-up.

    Args:
        averages: changed in place.
        weights: of the training.
        count: how many steps were averaged.
        inertia: the share of itself that an average keeps, 0 to 1.
    """
    decay = min(inertia, (1 + int(count)) / (10 + int(count)))
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, weights, 1 - decay)
    else:  # counters of a normalisation
        torch._foreach_copy_(averages, weights)


class CropNumbers(Sampler[int]):
    """The numbers of an epoch's crops: every epoch and every process has its own, whenever it was
    started.

    Args:
        count: crops in an epoch, on each process.

    Attributes:
        epoch: the one to come, set before it begins.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, processes = (
            (torch.distributed.get_rank(), torch.distributed.get_world_size())
            if several
            else (0, 1)
        )
        first = (self.epoch * processes + rank) * self.count
        return iter(range(first, first + self.count))


class ProgressBar(RichProgressBar):
    """Lightning's bar, with the minutes left of the whole run."""

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, Any]:
        """The figures after the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        assert isinstance(pl_module, Training)
        left = pl_module.seconds_left()
        return metrics | ({"minutes_left": f"{left / 60:.0f}"} if left is not None else {})


def fit(module: Training, images: TrainingImages, whole: WholeImages) -> None:
    """Run a training to its end; a ``last.ckpt`` in its folder is continued.

    Under ``torchrun`` every process takes part; without it, every GPU of this machine does.
    """
    config = module.config
    out = module.out
    crops = module.make_crops(images)
    crops.preload()
    loader = DataLoader(
        crops,
        config.batch,
        sampler=CropNumbers(config.epoch * config.batch),
        num_workers=config.workers,
        collate_fn=module.collate,
    )
    processes, here = (int(os.environ.get(name, 0)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    callbacks = [
        WeightAveraging(
            use_buffers=module.averages_buffers,
            multi_avg_fn=partial(average, inertia=module.inertia),
        ),
        ModelCheckpoint(out, filename="{step}", save_last=True, save_on_train_epoch_end=True),
        ProgressBar(refresh_rate=10),
    ]
    trainer = lightning.Trainer(
        default_root_dir=out,
        max_steps=config.steps,
        precision=config.precision,
        devices=here or "auto",
        num_nodes=processes // here if here else 1,
        strategy="ddp" if processes > 1 else "auto",
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=config.validate,
        logger=[CSVLogger(out, name="log"), TensorBoardLogger(out, name="tensorboard", version="")],
        callbacks=callbacks,
        enable_model_summary=False,
    )
    last = out / "last.ckpt"
    checkpoint = last if last.exists() else None
    trainer.fit(
        module,
        loader,
        DataLoader(whole, 1, collate_fn=whole.collate),
        ckpt_path=checkpoint,
        weights_only=False,
    )
    # A run that is over already leaves the last step's weights in the module, not their mean.
    module.load_state_dict(torch.load(last, map_location="cpu", weights_only=False)["state_dict"])
