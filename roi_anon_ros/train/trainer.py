"""Training of a codec from one YAML file; a run goes on where its last epoch ended."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from roi_anon_ros.codec.modelfile import find_model, load_model, save_model
from roi_anon_ros.codec.networks import AnonymizingCodec, FastCodec, GatedConv, build
from roi_anon_ros.datasets import (
    Record,
    for_training,
    read_set,
    split,
    spread,
    without_overlap,
    write_split,
)
from roi_anon_ros.train.adversary import Adversary
from roi_anon_ros.train.card import write_card
from roi_anon_ros.train.crops import Crops, WholePictures, collate
from roi_anon_ros.train.losses import (
    Regions,
    RoiLoss,
    bits_per_pixel,
    head_cells,
    hidden_target,
    outside,
)
from roi_anon_ros.train.validation import Witnesses, sheet, to_decibels

log = logging.getLogger(__name__)

#: The prior learns this much faster than the transforms. At their speed it stays too wide for
#: thousands of steps, and the rate it asks for keeps the latent from carrying anything.
PRIOR_SPEED = 10
#: Share of the pictures that are kept apart where the configuration names no validation set.
VALIDATION_SHARE = 0.1
#: Pictures on the sheet of every epoch.
SHEET_PICTURES = 6


@dataclass(frozen=True)
class Config:
    """What a YAML file in ``config/train/`` may set.

    Attributes:
        configuration: name of the network, see ``codec.networks.CONFIGURATIONS``.
        train: sets to train on, each ``{"annotations": file or folder, "images": folder}``, see
            :func:`~roi_anon_ros.datasets.read_set`; ``images`` may be left out where the set's own
            layout says it.
        validation: the same, pictures kept apart; empty: a tenth of the training pictures.
        start: name or file of a model to begin with; empty: random weights.
        synthesis_only: train the synthesis alone. Analysis, prior and tables stay those of
            ``start``: the payload of a packet is the same as before, and tells no more than before.
            The model's fingerprint is another one.
        loss: arguments of :class:`~roi_anon_ros.train.losses.RoiLoss`.
        heads_warmup: steps over which the head term grows from 0 to its weight. The inverted term
            needs it: on an untrained codec it wins at once and nothing else is learned.
        detector: YOLOv8 weights, name or file, for ``guide`` and for validation.
        guide: weight λ of :class:`~roi_anon_ros.detect.guide.PersonGuide`, which makes decoded
            pictures look to that detector like their originals; 0: none.
        head_map: weight λ of the cross entropy between the map of heads that closes the latent of
            the network ``fast`` (:class:`~roi_anon_ros.codec.networks.GatedConv`) and where heads
            are; 0: none. A cell that heads cover by half is all head.
        adversary: weight λ of the defence against :class:`~roi_anon_ros.train.adversary.Adversary`;
            0: none.
        steps: optimiser steps in all, a multiple of ``epoch``.
        batch: crops a step, on each process.
        crop: side of a crop, pixels, a multiple of 32.
        own_size: share of the crops at the size at which a camera codes their picture, 0 to 1; the
            others are scaled, most of them so that heads of all sizes are seen.
        learning_rate: of Adam, after ``warmup`` steps and until the last ``decay`` share of the
            steps, where it falls to 0 along a cosine.
        warmup: steps.
        decay: share of the steps, 0 to 1.
        epoch: steps between two checkpoints, each with a validation.
        validation_pictures: how many, spread over the validation set.
        precision: Lightning's, ``"32-true"`` or ``"bf16-mixed"``.
        workers: processes that prepare crops, on each process.
        seed: of everything random.
    """

    configuration: str
    train: list[dict[str, str]]
    validation: list[dict[str, str]] = field(default_factory=list)
    start: str = ""
    synthesis_only: bool = False
    loss: dict[str, Any] = field(default_factory=dict)
    heads_warmup: int = 0
    detector: str = "yolov8n"
    guide: float = 0.0
    head_map: float = 0.0
    adversary: float = 0.0
    steps: int = 20000
    batch: int = 8
    crop: int = 192
    own_size: float = 0.0
    learning_rate: float = 4e-4
    warmup: int = 500
    decay: float = 0.3
    epoch: int = 500
    validation_pictures: int = 48
    precision: str = "bf16-mixed"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "crop": 32, "epoch": 1, "validation_pictures": 1}
        least |= dict.fromkeys(
            ("heads_warmup", "guide", "head_map", "adversary", "warmup", "decay", "workers"), 0
        )
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value >= bound:
                raise ValueError(f"{name}: {value!r}, must be a number of at least {bound}")
        if self.steps % self.epoch:
            raise ValueError(
                f"steps: {self.steps}, must be a multiple of epoch, {self.epoch}, to end with a "
                "validation"
            )
        if not isinstance(self.own_size, int | float) or not 0 <= self.own_size <= 1:
            raise ValueError(f"own_size: {self.own_size!r}, must be a number from 0 to 1")
        if self.crop % 32:
            raise ValueError(f"crop: {self.crop}, must be a multiple of 32")
        if not isinstance(self.learning_rate, float) or not self.learning_rate > 0:
            raise ValueError(
                f"learning_rate: {self.learning_rate!r}, must be a number of more than 0, such as "
                "4.0e-4"
            )
        for name in ("train", "validation"):
            sets = getattr(self, name)
            if not isinstance(sets, list) or not all(
                isinstance(s, dict) and "annotations" in s for s in sets
            ):
                raise ValueError(f"{name}: must be a list of sets, each with annotations")
        RoiLoss(**self.loss)
        network = build(self.configuration)
        if self.head_map and not isinstance(network, FastCodec):
            raise ValueError(
                f"head_map: {self.head_map}, must be 0 for {self.configuration}, which has no such "
                "map"
            )
        if self.synthesis_only and not self.start:
            raise ValueError("synthesis_only: true, needs the analysis of a model in start")
        for name in ("head_map", "adversary"):
            value = getattr(self, name)
            if self.synthesis_only and value:
                raise ValueError(
                    f"{name}: {value}, must be 0 with synthesis_only, for the analysis would learn "
                    "it"
                )

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read a YAML file.

        Raises:
            ValueError: it names a field that does not exist, lacks one that is needed, or has one
                out of bounds.
        """
        try:
            return cls(**yaml.safe_load(Path(path).read_text()))
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: {error}") from error


class CodecTraining(lightning.LightningModule):
    """A codec, its loss and its optimiser.

    Args:
        config: of the run.
        validation: the pictures that it is validated on.
        out: folder for the sheets.
    """

    def __init__(self, config: Config, validation: list[Record], out: Path) -> None:
        super().__init__()
        self.config, self.validation, self.out = config, validation, out
        self.codec: AnonymizingCodec = build(config.configuration)
        if config.start:
            self.codec.load_state_dict(load_model(find_model(config.start)).codec.state_dict())
        # They only bound the entropy coder's tables, and are found by bisection when a model is
        # saved.
        self.codec.entropy_bottleneck.quantiles.requires_grad_(False)
        if config.synthesis_only:
            self.codec.g_a.requires_grad_(False)
            self.codec.entropy_bottleneck.requires_grad_(False)
        self.loss = RoiLoss(**config.loss)
        self.guide = None
        if config.guide:
            from roi_anon_ros.detect.guide import PersonGuide

            self.guide = PersonGuide(config.detector)
        self.adversary = Adversary(self.codec.g_s) if config.adversary else None
        self._head_map: Tensor | None = None
        if isinstance(self.codec, FastCodec):
            self.codec.g_a[-1].heads.register_forward_hook(self._keep_head_map)
        self.witnesses = Witnesses(config.detector)
        self._shown: list[tuple[Any, Any, Any]] = []
        self._started: tuple[float, int] | None = None
        self._tick = self._batch_end = time.monotonic()
        self._waited = 0.0

    def train(self, mode: bool = True) -> CodecTraining:
        """Switch to training or evaluation; a synthesis that learns alone sees rounded latents, as
        a receiver does.
        """
        super().train(mode)
        if self.config.synthesis_only:
            self.codec.entropy_bottleneck.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's crops and noise by its number: a continued run draws the same."""
        self.trainer.train_dataloader.sampler.epoch = self.current_epoch
        torch.manual_seed(
            (self.config.seed * 100_003 + self.current_epoch) * self.trainer.world_size
            + self.global_rank
        )
        self._tick = self._batch_end = time.monotonic()
        self._waited = 0.0
        if self._started is None:
            self._started = self._tick, self.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Count the time that the step waited for its crops."""
        self._waited += time.monotonic() - self._batch_end

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Begin to wait."""
        self._batch_end = time.monotonic()

    def training_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> Tensor:
        """Loss of one batch."""
        x, heads, persons = batch
        output = self.codec(x)
        warm = (
            min(1.0, self.global_step / self.config.heads_warmup)
            if self.config.heads_warmup
            else 1.0
        )
        terms = self.loss(output, x, heads, persons, warm)
        keep = outside(heads, x)
        if self.guide is not None:
            terms["guide"] = self.guide(output["x_hat"].float(), x, keep)
            terms["loss"] = terms["loss"] + self.config.guide * terms["guide"]
        if self.config.head_map:
            covered = head_cells(keep, self.codec.downsampling_factor)
            terms["head_map"] = F.binary_cross_entropy_with_logits(self._head_map.float(), covered)
            terms["loss"] = terms["loss"] + self.config.head_map * terms["head_map"]
        if self.adversary is not None:
            target = hidden_target(
                x, heads, "flatten" if self.loss.hide == "inverse" else self.loss.hide
            )
            terms["attack"], terms["defence"] = self.adversary(output["y_hat"], x, target, heads)
            terms["loss"] = (
                terms["loss"] + terms["attack"] + self.config.adversary * terms["defence"]
            )
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"loss: not finite at step {self.global_step}; lower learning_rate")
        self.log_dict(
            {f"train/{name}": value for name, value in terms.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(x),
            sync_dist=True,
        )
        for name in ("bpp", "background", "heads"):
            self.log(name, terms[name], prog_bar=True, logger=False, batch_size=len(x))
        return terms["loss"]

    def _keep_head_map(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._head_map = output

    def on_train_epoch_end(self) -> None:
        """Log the speed of this process, and the share of the time that it waited for crops."""
        seconds = time.monotonic() - self._tick
        if self._started is None or self._started[1] == self.global_step:
            return  # a continued run begins with the end of the epoch before it
        self.log("train/pictures_per_second", self.config.epoch * self.config.batch / seconds)
        self.log("train/waiting", self._waited / seconds)

    def on_validation_epoch_start(self) -> None:
        """The medians around which an evaluated codec rounds follow from the averaged prior."""
        if not self.config.synthesis_only:
            self.codec.entropy_bottleneck._update_quantiles()
        self.witnesses.begin()
        self._shown.clear()

    def validation_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> None:
        """Rate, loss, MSE outside and inside the heads of one whole picture, and what detectors
        find in it.

        Of a network with a gate also which share of the latent it closes inside and outside the
        heads.
        """
        x, heads, persons = batch
        output = self.codec(x)
        error = (output["x_hat"].float().clamp(0, 1) - x).square().mean(1, keepdim=True)
        keep = outside(heads, x)
        hidden = 1 - keep
        figures = {
            "loss": self.loss(output, x, heads, persons)["loss"],
            "bpp": bits_per_pixel(output["likelihoods"]["y"], x[0, 0].numel()),
            "mse_outside": (error * keep).sum() / keep.sum().clamp(min=1),
        }
        if hidden.any():
            figures["mse_heads"] = (error * hidden).sum() / hidden.sum()
        if self._head_map is not None:
            closed = (GatedConv.opening(self._head_map.float()) == 0).float()
            covered = head_cells(keep, self.codec.downsampling_factor)
            for name, where in (("closed_heads", covered == 1), ("closed_outside", covered == 0)):
                if where.any():
                    figures[name] = closed[where].mean()
        self.log_dict({f"val/{name}": value for name, value in figures.items()}, batch_size=1)
        pictures = [_bytes(t[0]) for t in (x, output["x_hat"])]
        self.witnesses.look(index, self.validation[index], *pictures)
        if len(self._shown) < SHEET_PICTURES:
            self._shown.append((*pictures, heads.boxes.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Log what the detectors found, write the sheet, and say it in a line."""
        self.log_dict({f"val/{name}": value for name, value in self.witnesses.ratios().items()})
        if self.trainer.is_global_zero:
            picture = sheet(self._shown, self.out / "sheets" / f"{self.global_step:07}.png")
            for logger in self.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(
                        "validation", picture, self.global_step, dataformats="HWC"
                    )
            rank_zero_info(self._line())

    def _line(self) -> str:
        figures = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        parts = [f"step {self.global_step}/{self.config.steps}"]
        if "val/bpp" in figures:
            parts.append(f"{figures['val/bpp']:.3f} bits per pixel")
        for name in ("outside", "heads"):
            if figures.get(f"val/mse_{name}", 0) > 0:
                parts.append(f"{name} {to_decibels(figures[f'val/mse_{name}']):.1f} dB")
        for name in ("persons", "faces"):
            if f"val/{name}" in figures:
                parts.append(f"{name} {figures[f'val/{name}']:.0%}")
        if "val/closed_heads" in figures:
            parts.append(f"gate closed on {figures['val/closed_heads']:.0%} of the heads")
        left = self.seconds_left()
        return ", ".join(parts) + (f"; {left / 60:.0f} min left" if left is not None else "")

    def seconds_left(self) -> float | None:
        """Time until the last step at the pace so far, validations included; None before there is a
        pace.
        """
        if self._started is None or self.global_step == self._started[1]:
            return None
        pace = (time.monotonic() - self._started[0]) / (self.global_step - self._started[1])
        return pace * (self.config.steps - self.global_step)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam over the transforms, their prior and the adversary."""
        rate = self.config.learning_rate
        transforms = [
            p for g in (self.codec.g_a, self.codec.g_s) for p in g.parameters() if p.requires_grad
        ]
        prior = [p for p in self.codec.entropy_bottleneck.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": transforms},
            {"params": prior, "lr": PRIOR_SPEED * rate},
        ]
        if self.adversary is not None:
            groups.append({"params": list(self.adversary.parameters())})
        optimizer = torch.optim.Adam(groups, lr=rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip each group's gradient to a norm of 1: the adversary's spares the codec's."""
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)

    def _rate(self, step: int) -> float:
        c = self.config
        left = (c.steps - step) / max(c.decay * c.steps, 1)
        return min(1.0, (step + 1) / max(c.warmup, 1)) * (
            0.5 - 0.5 * math.cos(math.pi * min(max(left, 0), 1))
        )


def _bytes(picture: Tensor) -> np.ndarray:
    """``[3, H, W]`` around [0, 1] as uint8 ``[H, W, 3]``."""
    return (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


@torch.no_grad()
def average(averages: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
    """Move the averaged weights towards the present ones, by a thousandth after a warm-up.

    Args:
        averages: changed in place.
        weights: of the training.
        count: how many steps were averaged.
    """
    decay = min(0.999, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averages, weights, 1 - decay)


class CropNumbers(Sampler[int]):
    """The numbers of an epoch's crops: every epoch and every process has its own, whenever it was
    started.

    Args:
        count: crops in an epoch, on each process.

    Attributes:
        epoch: the one to come, set before it begins.
    """

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

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

    def get_metrics(self, trainer: lightning.Trainer, pl_module: CodecTraining) -> dict[str, Any]:
        """The figures behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        left = pl_module.seconds_left()
        return metrics | ({"minutes_left": f"{left / 60:.0f}"} if left is not None else {})


def read_sets(sets: list[dict[str, str]]) -> list[Record]:
    """Read and join sets; what is broken in them, or must not be trained on, is reported and left
    out.

    Raises:
        ValueError, OSError: a set is not readable at all.
    """
    records: list[Record] = []
    for one in sets:
        reading = read_set(
            Path(one["annotations"]), Path(one["images"]) if "images" in one else None
        )
        kept, reasons = for_training(reading.records)
        for problem in [*reading.problems, *reasons]:
            rank_zero_info(problem)
        rank_zero_info(
            f"{one['annotations']}: {len(kept)} pictures; {len(reading.problems)} broken entries "
            "skipped, "
            f"{reading.clipped} boxes clipped, {reading.dropped} dropped"
        )
        records += kept
    return records


def read_pictures(config: Config, out: Path) -> tuple[list[Record], list[Record]]:
    """The pictures to train on and to validate on, no picture or copy of one in both; written to
    ``split.json``.

    Raises:
        ValueError, OSError: there are none, or a set is not readable at all.
    """
    records = read_sets(config.train)
    shares = None
    if config.validation:
        validation = read_sets(config.validation)
        records, dropped = without_overlap(records, validation)
        if dropped:
            rank_zero_info(
                f"{len(dropped)} training pictures left out, which the validation set has too"
            )
    else:
        shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
        records, validation = split(records, shares, config.seed).values()
    if not records or not validation:
        raise ValueError(
            f"{len(records)} pictures to train on, {len(validation)} to validate on, must be 1 each"
        )
    write_split(
        out / "split.json", {"train": records, "validation": validation}, shares, config.seed
    )
    return records, spread(validation, config.validation_pictures)


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Under ``torchrun`` every process takes part; without it, every GPU of this machine does.

    Args:
        config_file: YAML, see :class:`Config`; paths in it are relative to where the command runs.
        out: folder for checkpoints, logs, sheets, the split and the model; a ``last.ckpt`` in it is
            continued.

    Returns:
        The model file ``<out>/<name of the config file>.safetensors``, with its card beside it.

    Raises:
        ValueError: the configuration or a set cannot be used.
    """
    config, out = Config.read(config_file), Path(out)
    lightning.seed_everything(config.seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    records, validation = read_pictures(config, out)
    crops = Crops(records, config.crop, config.seed, own_size=config.own_size)
    crops.preload()
    loader = DataLoader(
        crops,
        config.batch,
        sampler=CropNumbers(config.epoch * config.batch),
        num_workers=config.workers,
        collate_fn=collate,
    )
    whole = WholePictures(validation)
    module = CodecTraining(config, whole.records, out).to(memory_format=torch.channels_last)
    processes, here = (int(os.environ.get(name, 0)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    callbacks = [
        WeightAveraging(use_buffers=False, multi_avg_fn=average),
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
        logger=[CSVLogger(out, name="log"), TensorBoardLogger(out, name="tensorboard", version="")],
        callbacks=callbacks,
        enable_model_summary=False,
    )
    last = out / "last.ckpt"
    checkpoint = last if last.exists() else None
    trainer.fit(
        module,
        loader,
        DataLoader(whole, 1, collate_fn=collate),
        ckpt_path=checkpoint,
        weights_only=False,
    )
    result = out / f"{Path(config_file).stem}.safetensors"
    if trainer.is_global_zero:
        if not config.synthesis_only:
            module.codec.update(force=True, update_quantiles=True)
        measured = trainer.callback_metrics.items()
        figures = {
            name.removeprefix("val/"): float(value)
            for name, value in measured
            if name.startswith("val/")
        }
        training = {
            "steps": trainer.global_step,
            "pictures": len(records),
            "heads": sum(len(r.heads.xyxy) for r in records),
            "persons": sum(len(r.persons.xyxy) for r in records),
            "validation_pictures": len(whole),
            "command": f"roi-anon train {config_file}",
            "config": asdict(config),
        }
        save_model(module.codec, result, name=result.stem, training=training, figures=figures)
        write_card(result, out / "log")
    return result
