"""Training of a person detector on decoded images from one YAML file; a stopped run goes on."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

from roi_anon_ros.codec import DEFAULT_MAX_SIDE, DEFAULT_MODEL, Codec
from roi_anon_ros.datasets import Record, split, spread, without_overlap
from roi_anon_ros.detect import Detections, find_weights
from roi_anon_ros.detect.boxes import suppress
from roi_anon_ros.detect.choice import make_detector
from roi_anon_ros.detect.matching import match, overlaps
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox, save_yolox
from roi_anon_ros.detect.yolox_cells import decode_rows, fit
from roi_anon_ros.detect.yolox_engine import require
from roi_anon_ros.detect.yolox_export import calibrate, write_graph
from roi_anon_ros.detect.yolox_persons import OVERLAP as SUPPRESSION
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.assignment import measure_loss
from roi_anon_ros.train.decoded import (
    UNSURE,
    DecodedCrops,
    DecodedImages,
    Sample,
    collate,
    decode_once,
    read_persons,
)
from roi_anon_ros.train.runs import CropNumbers, average

log = logging.getLogger(__name__)

#: What ``network`` says in the YAML file of such a training.
NAME = "yolox-nano"
#: Share of the images that are kept apart where the configuration names no validation set.
VALIDATION_SHARE = 0.1
#: Score from which validation counts a detection, and its least overlap with a person.
SCORE = 0.25
OVERLAP = 0.5
#: Longest gradient.
CLIP = 10.0
CARD = """# Model card: {name}

| | |
|---|---|
| file | `{file}`, {megabytes:.1f} MB |
| network | YOLOX-nano (arXiv 2107.08430), one class, {weights:.2f} M weights |
| origin | YOLOX-nano of Megvii, Apache-2.0, trained on COCO; trained on here |
| licence | Apache-2.0 |
| trained on | {images} images with {persons} persons, decoded by `{codec}` ({fingerprint}) |
| steps | {steps} |
| command | `{command}` |

Persons are people's boxes where people drew them; the others were found on the originals by a
detector (`{teacher}`).

Measured on {validation_images} decoded images kept apart, at the end of the training, at a score
of {score} and an overlap of {overlap}: {recall:.1%} of the persons found, {false:.2f} false boxes
an image.

The configuration:

```yaml
{config}
```
"""


@dataclass(frozen=True)
class Config:
    """What a YAML file with ``network: yolox-nano`` may set.

    Attributes:
        network: "yolox-nano".
        train: sets to train on, see `read_persons`.
        validation: the same, kept apart; empty: a tenth of the images.
        start: weights to begin with, a name that `find_weights` knows or a file for `load_yolox`.
        codec: the model that codes the images, name or file; after it ``@`` and an engine.
        qualities: of the codec, each image at each; empty: its only one.
        max_side: at which a camera codes images, pixels.
        teacher: the detector that finds persons on originals where people drew no boxes, or not
            all.
        decoded: folder for the decoded images and for what the teacher found; other trainings share
            it.
        steps: optimiser steps in all, a multiple of ``epoch``.
        batch: crops a step.
        crop: side of a crop, pixels, a multiple of 32.
        own_size: share of the crops at the decoded size, 0 to 1.
        learning_rate: of Adam; it rises over ``warmup`` steps and falls to 0 along a cosine.
        warmup: steps.
        epoch: steps between two checkpoints, each with a validation.
        validation_images: how many, spread over the validation set.
        int8: images that the ranges of the network in int8 are taken from, see `calibrate`; 0: no
            networks are written that run without torch.
        precision: Lightning's, "32-true" or "bf16-mixed".
        workers: processes that prepare crops.
        seed: of everything random.
    """

    network: str
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]] = field(default_factory=list)
    start: str = "yolox_nano"
    codec: str = DEFAULT_MODEL
    qualities: list[int] = field(default_factory=list)
    max_side: int = DEFAULT_MAX_SIDE
    teacher: str = "yolov8n"
    decoded: str = "runs/decoded"
    steps: int = 6000
    batch: int = 16
    crop: int = 384
    own_size: float = 0.5
    learning_rate: float = 2e-4
    warmup: int = 300
    epoch: int = 500
    validation_images: int = 100
    int8: int = 60
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network != NAME:
            raise ValueError(f"network: got {self.network!r}, must be {NAME}")
        least = {
            "steps": 1,
            "batch": 1,
            "epoch": 1,
            "validation_images": 1,
            "int8": 0,
            "warmup": 0,
            "workers": 0,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise ValueError(
                    f"{name}: got {value!r}, must be a whole number of {bound} or more"
                )
        if self.steps % self.epoch:
            raise ValueError(f"steps: got {self.steps}, must be a multiple of epoch, {self.epoch}")
        if not isinstance(self.crop, int) or self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop: got {self.crop!r}, must be a multiple of 32")
        if not isinstance(self.own_size, int | float) or not 0 <= self.own_size <= 1:
            raise ValueError(f"own_size: got {self.own_size!r}, must be from 0 to 1")
        if not isinstance(self.learning_rate, float) or not self.learning_rate > 0:
            raise ValueError(f"learning_rate: got {self.learning_rate!r}, must be more than 0.0")
        for name in ("train", "validation"):
            sets = getattr(self, name)
            named = isinstance(sets, list) and all(
                isinstance(one, dict) and "annotations" in one for one in sets
            )
            if not named:
                raise ValueError(f"{name}: must be a list of sets, each with annotations")

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read a YAML file.

        Raises:
            ValueError: a field does not exist, is missing, or is out of bounds.
        """
        try:
            return cls(**yaml.safe_load(Path(path).read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error


class PersonsTraining(lightning.LightningModule):
    """The detector, its loss and its optimiser.

    Attributes:
        figures: ``recall`` and ``false``, of the last validation.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network: YoloxNano = load_yolox(find_weights(config.start), classes=[0])
        self.figures: dict[str, float] = {}
        self._counts = np.zeros(4)

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

    def training_step(self, batch: tuple[Tensor, list[Tensor]], index: int) -> Tensor:
        """Return the loss of one batch."""
        images, truths = batch
        logits = self.network.logits(_as_numbers(images))
        terms = measure_loss(logits, truths, *images.shape[-2:])
        if not torch.isfinite(terms["loss"]):
            raise RuntimeError(f"loss: not finite at step {self.global_step}; lower learning_rate")
        figures = {f"train/{name}": term for name, term in terms.items()}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(images))
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._counts = np.zeros(4)

    def validation_step(self, batch: tuple[Tensor, list[Tensor]], index: int) -> None:
        """Count who is found in one whole image, and who is not there."""
        images, (truth,) = batch
        height, width = images.shape[-2:]
        logits = self.network.logits(_as_numbers(images)).float()
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
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.config.warmup, 1))
        return warm * (0.5 + 0.5 * math.cos(math.pi * min(step / self.config.steps, 1)))


def _as_numbers(images: Tensor) -> Tensor:
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


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


def read_samples(config: Config) -> tuple[list[Sample], list[Sample], str]:
    """Read the sets and decode their images, or take them from a former run.

    Returns:
        Samples to train on, samples to validate on, and the fingerprint of the codec.

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
    model, _, engine = config.codec.partition("@")
    codec = Codec.load(model, engine or "torch")
    folder = Path(config.decoded)
    parts = []
    for part, of_part in ((kept, images), (spread(list(apart), config.validation_images), apart)):
        chosen = [(record, of_part[record]) for record in part]
        parts.append(
            decode_once(
                chosen,
                codec,
                config.qualities,
                config.max_side,
                lambda: make_detector(config.teacher, confidence=UNSURE),
                folder,
            )
        )
    return parts[0], parts[1], codec.fingerprint


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


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Args:
        config_file: YAML, see `Config`; paths in it are relative to where the command runs.
        out: folder for checkpoints, logs and the weights; a ``last.ckpt`` in it is continued.

    Returns:
        ``<out>/<name of the config file>.safetensors``, for `load_yolox`; its card and the
        exported networks lie beside it.

    Raises:
        ImportError: what ``int8`` needs is not installed.
        ValueError: the configuration or a set cannot be used.
    """
    config = Config.read(config_file)
    for package in ("nncf", "onnxscript", "openvino") if config.int8 else ():
        require(package, "export")  # now, not after hours
    lightning.seed_everything(config.seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    samples, validation, fingerprint = read_samples(config)
    loader = DataLoader(
        DecodedCrops(samples, config.crop, config.own_size, config.seed),
        config.batch,
        sampler=CropNumbers(config.epoch * config.batch),
        num_workers=config.workers,
        # A process that ran an engine crashes where it forks.
        multiprocessing_context="forkserver" if config.workers else None,
        persistent_workers=config.workers > 0,
        collate_fn=collate,
    )
    whole = DecodedImages(validation, config.max_side)
    module = PersonsTraining(config).to(memory_format=torch.channels_last)
    trainer = _make_trainer(config, out)
    last = out / "last.ckpt"
    checkpoint = last if last.exists() else None
    wholes = DataLoader(whole, 1, collate_fn=collate)
    trainer.fit(module, loader, wholes, ckpt_path=checkpoint, weights_only=False)
    # A run that is over already leaves the last step's weights in the module, not their mean.
    module.load_state_dict(torch.load(last, weights_only=False)["state_dict"])
    persons = sum(int((sample.truth[:, 4] == 0).sum()) for sample in samples)
    training = {
        "codec": config.codec,
        "fingerprint": fingerprint,
        "images": len(samples),
        "persons": persons,
        "validation_images": len(whole),
        "steps": trainer.global_step,
        "command": f"roi-anon train {config_file}",
        "teacher": config.teacher,
        **module.figures,
    }
    result = out / f"{Path(config_file).stem}.safetensors"
    write_result(module.network, result, training, config)
    if config.int8:
        files = [sample.files[number % len(sample.files)] for number, sample in enumerate(samples)]
        seen = (fit(read_pixels(file), config.max_side) for file in spread(files, config.int8))
        calibrate(result, seen)
        write_graph(result)
    return result


def _make_trainer(config: Config, out: Path) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=out,
        max_steps=config.steps,
        precision=config.precision,
        devices=1,
        gradient_clip_val=CLIP,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=CSVLogger(out, name="log"),
        callbacks=[
            WeightAveraging(use_buffers=False, multi_avg_fn=average),
            ModelCheckpoint(out, filename="{step}", save_last=True, save_on_train_epoch_end=True),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def write_result(network: YoloxNano, path: Path, training: dict[str, Any], config: Config) -> None:
    """Write the weights, and beside them their card, ``.md``."""
    metadata = {
        "origin": "YOLOX-nano, Megvii, trained on COCO, Apache-2.0",
        "licence": "Apache-2.0",
        "training": json.dumps(training | {"config": asdict(config)}),
    }
    save_yolox(network, path, metadata)
    card = CARD.format(
        name=path.stem,
        file=path.name,
        megabytes=path.stat().st_size / 1e6,
        weights=sum(one.numel() for one in network.parameters()) / 1e6,
        score=SCORE,
        overlap=OVERLAP,
        config=yaml.safe_dump(asdict(config), sort_keys=False, width=90).rstrip(),
        **training,
    )
    path.with_suffix(".md").write_text(card)
