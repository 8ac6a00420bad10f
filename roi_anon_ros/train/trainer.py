"""Training of a codec from one YAML file; an interrupted run continues where its last epoch ended."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from ..codec.modelfile import find_model, load_model, save_model
from ..codec.transforms import AnonymizingCodec, build
from .data import Crops, Record, collate, read_coco, read_rgb
from .losses import Regions, RoiLoss, bits_per_pixel, outside

#: The prior learns this much faster than the transforms. At their speed it stays too wide for thousands of steps,
#: and the rate it asks for keeps the latent from carrying anything.
PRIOR_SPEED = 10


@dataclass(frozen=True)
class Config:
    """What a YAML file in ``config/train/`` may set.

    Attributes:
        configuration: name of the network, see ``codec.transforms.CONFIGURATIONS``.
        train: ``{"annotations": COCO JSON, "images": folder}`` to train on.
        validation: the same, pictures kept apart.
        start: name or file of a model to begin with; empty: random weights.
        loss: arguments of :class:`~roi_anon_ros.train.losses.RoiLoss`.
        steps: optimiser steps in all.
        batch: crops a step.
        crop: side of a crop, pixels.
        learning_rate: of Adam, after ``warmup`` steps and until the last ``decay`` share of the steps, where it
            falls to 0 along a cosine.
        warmup: steps.
        decay: share of the steps, 0 to 1.
        epoch: steps between two checkpoints.
        precision: Lightning's, ``"32-true"`` or ``"bf16-mixed"``.
        workers: processes that prepare crops.
        seed: of everything random.
    """

    configuration: str
    train: dict[str, str]
    validation: dict[str, str]
    start: str = ""
    loss: dict[str, Any] = field(default_factory=dict)
    steps: int = 20000
    batch: int = 8
    crop: int = 192
    learning_rate: float = 4e-4
    warmup: int = 500
    decay: float = 0.3
    epoch: int = 500
    precision: str = "bf16-mixed"
    workers: int = 1
    seed: int = 0

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read a YAML file.

        Raises:
            ValueError: it names a field that does not exist, or lacks one that is needed.
        """
        try:
            return cls(**yaml.safe_load(Path(path).read_text()))
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error


class CodecTraining(lightning.LightningModule):
    """A codec, its loss and its optimiser."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.codec: AnonymizingCodec = build(config.configuration)
        if config.start:
            self.codec.load_state_dict(load_model(find_model(config.start)).codec.state_dict())
        self.loss = RoiLoss(**config.loss)
        self._tick: float | None = None

    def on_train_epoch_start(self) -> None:
        """Move the crops on, so that no epoch repeats another."""
        self.trainer.train_dataloader.dataset.first = self.current_epoch * self.config.epoch * self.config.batch
        self._tick = time.monotonic()

    def training_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> Tensor:
        """Loss of one batch."""
        x, heads, persons = batch
        terms = self.loss(self.codec(x), x, heads, persons)
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"loss: not finite at step {self.global_step}; lower learning_rate")
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, on_step=False, on_epoch=True)
        self.log("bpp", terms["bpp"], prog_bar=True, logger=False)
        self.log("bg", terms["background"], prog_bar=True, logger=False)
        self.log("heads", terms["heads"], prog_bar=True, logger=False)
        return terms["loss"]

    def on_train_epoch_end(self) -> None:
        """Log how many crops a second went through."""
        if self._tick is None:
            return  # a continued run begins with the end of the epoch before it
        seconds = time.monotonic() - self._tick
        self.log("train/crops_per_second", self.config.epoch * self.config.batch / seconds)

    def validation_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> None:
        """Rate and MSE, outside and inside the heads, of one whole picture."""
        x, heads, _ = batch
        output = self.codec(x)
        error = (output["x_hat"].float().clamp(0, 1) - x).square().mean(1, keepdim=True)
        keep = outside(heads, x)
        self.log("val/bpp", bits_per_pixel(output["likelihoods"]["y"], x[0, 0].numel()), batch_size=1)
        self.log("val/mse_outside", (error * keep).sum() / keep.sum().clamp(min=1), batch_size=1)
        hide = 1 - keep
        if hide.any():
            self.log("val/mse_heads", (error * hide).sum() / hide.sum(), batch_size=1)

    def on_validation_epoch_start(self) -> None:
        """The medians around which an evaluated codec rounds follow from the averaged prior."""
        self.codec.entropy_bottleneck._update_quantiles()

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam over the transforms and their prior.

        The quantiles, which only bound the entropy coder's tables, are found by bisection when a model is saved.
        """
        rate = self.config.learning_rate
        transforms = [*self.codec.g_a.parameters(), *self.codec.g_s.parameters()]
        named = self.codec.entropy_bottleneck.named_parameters()
        prior = [p for name, p in named if name != "quantiles"]
        optimizer = torch.optim.Adam([{"params": transforms}, {"params": prior, "lr": PRIOR_SPEED * rate}], lr=rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        c = self.config
        left = (c.steps - step) / max(c.decay * c.steps, 1)
        return min(1.0, (step + 1) / max(c.warmup, 1)) * (0.5 - 0.5 * math.cos(math.pi * min(max(left, 0), 1)))


class WholePictures(torch.utils.data.Dataset):
    """Whole pictures with their boxes, as :class:`~roi_anon_ros.train.data.Crops` gives crops."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        record = self.records[item]
        x = torch.from_numpy(read_rgb(record.path)).permute(2, 0, 1).float() / 255
        return x, torch.from_numpy(record.heads).long(), torch.from_numpy(record.persons).long()


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Args:
        config_file: YAML, see :class:`Config`; paths in it are relative to where the command runs.
        out: folder for checkpoints and logs; a ``last.ckpt`` in it is continued.

    Returns:
        The model file ``<out>/<configuration>.safetensors``.
    """
    config = Config.read(config_file)
    lightning.seed_everything(config.seed)
    records = read_coco(Path(config.train["annotations"]), Path(config.train["images"]))
    crops = Crops(records, config.crop, config.epoch * config.batch, config.seed)
    crops.preload()
    loader = DataLoader(crops, config.batch, num_workers=config.workers, collate_fn=collate)
    kept_apart = read_coco(Path(config.validation["annotations"]), Path(config.validation["images"]))
    validation = DataLoader(WholePictures(kept_apart[::3]), 1, collate_fn=collate)
    module = CodecTraining(config).to(memory_format=torch.channels_last)
    trainer = lightning.Trainer(
        default_root_dir=out,
        max_steps=config.steps,
        precision=config.precision,
        gradient_clip_val=1.0,
        logger=CSVLogger(out, name="log"),
        callbacks=[
            EMAWeightAveraging(decay=0.999, use_buffers=False),
            ModelCheckpoint(out, filename="{step}", save_last=True),
            RichProgressBar(refresh_rate=10),
        ],
        log_every_n_steps=50,
    )
    last = Path(out) / "last.ckpt"
    trainer.fit(module, loader, validation, ckpt_path=last if last.exists() else None, weights_only=False)
    module.codec.update(force=True, update_quantiles=True)
    result = Path(out) / f"{config.configuration}.safetensors"
    figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    save_model(
        module.codec,
        result,
        name=config.configuration,
        training={"steps": trainer.global_step, "pictures": len(records), "config": asdict(config)},
        figures=figures,
    )
    return result
