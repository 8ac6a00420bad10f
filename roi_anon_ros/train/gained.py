"""Training of the codec for every rate, on painted images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from roi_anon_ros.codec.latents import DEFAULT_QUALITY
from roi_anon_ros.codec.modelfile import save_model
from roi_anon_ros.codec.networks import GainedCodec, build, pad_to_multiple
from roi_anon_ros.codec.networks.gained import LEVELS
from roi_anon_ros.datasets import Record
from roi_anon_ros.train.branches import BranchedConfig, BranchedTraining
from roi_anon_ros.train.card import write_card
from roi_anon_ros.train.losses import Regions
from roi_anon_ros.train.numbers import check_positive
from roi_anon_ros.train.painted_crops import (
    PaintedBatch,
    PaintedCrops,
    collate_painted,
    draw_painted_images,
    paint_record,
)
from roi_anon_ros.train.runs import TrainingError, to_bytes, to_floats
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.tables import count_tables
from roi_anon_ros.train.validation import Witnesses, to_decibels
from roi_anon_ros.train.weights import put_head_map, read_weights

#: A channel is active where more than this share of its symbols is not 0.
ACTIVE = 0.002
#: The level of the sheets and of what detectors find, nearest to the default quality.
SHOWN_LEVEL = round(DEFAULT_QUALITY)
#: λ of the level whose terms count as they are; others are weighed by the root of their λ to it.
USUAL_LAMBDA = 0.005


@dataclass(frozen=True, kw_only=True)
class GainedConfig(BranchedConfig):
    """What a YAML file may set for ``network: gained``.

    ``start`` is a model or a checkpoint; ``learning_rate`` is of the transforms.

    Attributes:
        lambdas: λ of each level, 1 (fewest bits) to 8, rising.
        descent: share of the steps over which the lowest level that is trained falls from 8 to 1:
            channels wake at high rates. 0: all levels from the first step.
        gain_learning_rate: of the gains.
        prior_learning_rate: of the prior. At the transforms' speed it stays too wide for thousands
            of steps, and the rate it asks for keeps the latent from carrying anything.
        least_channels: the run fails where an epoch ends with fewer active channels.
        head_map: model, or checkpoint of the training of a head map, from which that is taken.
        table_images: images on which the tables are counted after the last step.
        dead_zone: of the symbols, see :class:`~roi_anon_ros.codec.latents.GainedLatents`.
        detector: YOLOv8 weights, name or file, for validation.
    """

    least: ClassVar[dict[str, float]] = BranchedConfig.least | {
        "descent": 0,
        "least_channels": 1,
        "table_images": 1,
        "dead_zone": 0,
    }

    lambdas: list[float] = field(
        default_factory=lambda: [0.0001, 0.00025, 0.0006, 0.0012, 0.0025, 0.005, 0.012, 0.03]
    )
    descent: float = 0.0
    gain_learning_rate: float = 6e-4
    prior_learning_rate: float = 4e-3
    least_channels: int = 16
    head_map: str = ""
    table_images: int = 400
    dead_zone: float = 0.0
    detector: str = "yolov8n"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("gain_learning_rate", self.gain_learning_rate)
        check_positive("prior_learning_rate", self.prior_learning_rate)
        rising = sorted(self.lambdas)
        if len(rising) != LEVELS or self.lambdas != rising or not rising[0] > 0:
            raise ValueError(
                f"lambdas: got {self.lambdas}, must be {LEVELS} rising numbers above 0"
            )
        if self.descent > 1:
            raise ValueError(f"descent: got {self.descent}, must be from 0 to 1")
        if not self.dead_zone < 0.5:
            raise ValueError(f"dead_zone: got {self.dead_zone}, must be from 0 to 0.5")
        if not self.head_map:
            raise ValueError(
                "head_map: '', must name a model or a checkpoint: a codec without a head map would "
                "hide nobody"
            )


class GainedTraining(BranchedTraining):
    """A :class:`~roi_anon_ros.codec.networks.GainedCodec`, its loss and its optimiser.

    .. code-block:: none

        L = mean over images of  (R + λ · 255² · MSE) / √(λ / 0.005)  +  branches

    R is in bits per pixel; the level of each image, and with it λ, is drawn. The MSE is that to the
    painted image, also where the codec saw the unpainted one.

    Args:
        config: of the run.
        validation: the images that it is validated on.
        out: folder for the sheets.
    """

    config_type = GainedConfig
    config: GainedConfig
    collate = staticmethod(collate_painted)
    lambdas: Tensor
    hidden_only = False
    inertia = 0.995

    def __init__(self, config: GainedConfig, validation: list[Record], out: Path) -> None:
        super().__init__(config, validation, out)
        codec = build("gained")
        assert isinstance(codec, GainedCodec)
        self.codec = codec
        if config.start:
            weights = read_weights(config.start)
            if "gain" not in weights:
                raise ValueError(f"start: got {config.start}, must be a codec with gains")
            self.codec = GainedCodec(weights["gain"].shape[1])
            self.codec.load_state_dict(self.codec.state_dict() | weights)
        put_head_map(self.codec, config.head_map)
        # Processors multiply bfloat16 a third faster in this order.
        self.codec = self.codec.to(memory_format=torch.channels_last)
        self.codec.head_map.requires_grad_(False)
        self.register_buffer("lambdas", torch.tensor(config.lambdas), persistent=False)
        self.witnesses = Witnesses(config.detector)
        self._begin_counts()

    def make_crops(self, images: TrainingImages) -> PaintedCrops:
        """Painted crops."""
        config = self.config
        return PaintedCrops(images.records, config.crop, config.seed, images.weights)

    def on_train_epoch_start(self) -> None:
        """Begin to count."""
        super().on_train_epoch_start()
        self._begin_counts()

    def _begin_counts(self) -> None:
        channels = self.codec.N
        self._nonzero = torch.zeros(channels)
        #: Of each level: bits per pixel, MSE, images.
        self._sums = torch.zeros(LEVELS, 3)
        self._counted = 0

    def lowest_level(self) -> int:
        """The lowest level, from 0, that this step trains."""
        fall = self.config.descent * self.config.steps
        if self.global_step >= fall:
            return 0
        return round((LEVELS - 1) * (1 - self.global_step / fall))

    def training_step(self, batch: PaintedBatch, index: int) -> Tensor:
        """Loss of one batch."""
        shown, target, original = (to_floats(image) for image in batch[:3])
        keep = batch[3].float()
        number = len(shown)
        level = torch.randint(self.lowest_level(), LEVELS, (number,)).to(shown.device)
        lambdas = self.lambdas[level]
        x_hat, bits, symbols = self.codec(shown, level)
        mse = (x_hat - target).square().mean((1, 2, 3))
        bpp = bits / shown[0, 0].numel()
        weighed = (bpp + lambdas * 255**2 * mse) / (lambdas / USUAL_LAMBDA).sqrt()
        terms = {"loss": weighed.mean(), "bpp": bpp.mean(), "mse": mse.mean()}
        self.add_branches(terms, x_hat, original, keep, batch[4])
        self._count(level, bpp, mse, symbols)
        terms = {"loss": terms.pop("loss"), **{k: v.detach() for k, v in terms.items()}}
        self.log_terms(terms, ("bpp", *(terms.keys() & {"utility"})), number)
        return terms["loss"]

    @torch.no_grad()
    def _count(self, level: Tensor, bpp: Tensor, mse: Tensor, symbols: Tensor) -> None:
        figures = torch.stack([bpp, mse, torch.ones_like(bpp)], dim=1).float().cpu()
        self._sums.index_add_(0, level.cpu(), figures)
        self._nonzero += (symbols.abs() > 0.5).float().mean((0, 2, 3)).cpu()
        self._counted += 1

    def on_train_epoch_end(self) -> None:
        """Log the rate of each level and the active channels.

        Raises:
            TrainingError: the latent collapsed. No checkpoint of this epoch is written.
        """
        super().on_train_epoch_end()
        if not self._counted:
            return
        for number, (bpp, mse, images) in enumerate(self._sums.tolist(), 1):
            if images:
                self.log(f"train/bpp_{number}", bpp / images)
                self.log(f"train/mse_{number}", mse / images)
        active = int((self._nonzero / self._counted > ACTIVE).sum())
        self.log("train/active_channels", float(active), prog_bar=True)
        if active < self.config.least_channels:
            raise TrainingError(
                f"latent: collapsed: got {active} of {self.codec.N} channels active at step "
                f"{self.global_step}, must be at least {self.config.least_channels}; begin with a "
                "longer descent, or with a model in start"
            )

    def on_validation_epoch_start(self) -> None:
        """Forget what the detectors saw before."""
        self.witnesses.begin()

    def validation_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> None:
        """Rate and MSE of one whole painted image at each level; near the default quality also
        what detectors find in it.
        """
        x, heads, _ = batch
        record = self.validation[index]
        original = to_bytes(x[0])
        painted, regions = paint_record(original, record)
        height, width = original.shape[:2]
        target = torch.from_numpy(painted).permute(2, 0, 1)[None].to(x).div_(255)
        padded = pad_to_multiple(target, self.codec.downsampling_factor)
        keep = torch.from_numpy(~regions.mask(width, height)).to(x)
        figures = {}
        for level in range(LEVELS):
            x_hat, bits, _ = self.codec(padded, torch.tensor([level], device=x.device))
            x_hat = x_hat[..., :height, :width].clamp(0, 1)
            figures[f"bpp_{level + 1}"] = bits[0] / (height * width)
            figures[f"mse_{level + 1}"] = (x_hat - target).square().mean()
            if level + 1 == SHOWN_LEVEL:
                decoded = to_bytes(x_hat[0])
                error = (x_hat - x).square().mean((0, 1))
                figures["bpp"] = figures[f"bpp_{level + 1}"]
                figures["mse_outside"] = (error * keep).sum() / keep.sum().clamp(min=1)
        self.log_dict({f"val/{name}": value for name, value in figures.items()}, batch_size=1)
        self.witnesses.look(index, record, original, decoded)
        self.show(original, decoded, heads.boxes.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Log what the detectors found, write the sheet, and say it in a line."""
        self.log_dict({f"val/{name}": value for name, value in self.witnesses.ratios().items()})
        figures = self.figures
        words = []
        for number in range(1, LEVELS + 1):
            if figures.get(f"mse_{number}"):
                decibels = to_decibels(figures[f"mse_{number}"])
                words.append(f"{number}: {figures[f'bpp_{number}']:.3f} bpp {decibels:.1f} dB")
        if "persons" in figures:
            words.append(f"persons {figures['persons']:.0%}")
        self.end_validation(words)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam over the transforms, the gains, the prior and what learns in the branches."""
        codec = self.codec
        transforms = [*codec.g_a.parameters(), *codec.g_s.parameters()]
        gains = [codec.gain, codec.inverse_gain]
        groups: list[dict[str, Any]] = [
            {"params": transforms},
            {"params": gains, "lr": self.config.gain_learning_rate},
            {"params": list(codec.prior.parameters()), "lr": self.config.prior_learning_rate},
            *self.branch_groups(),
        ]
        return self.with_schedule(torch.optim.Adam(groups, lr=self.config.learning_rate))

    def write_result(self, path: Path, images: TrainingImages, training: dict[str, Any]) -> Path:
        """Count the tables, take the newest head map, and write the model file with its card."""
        config = self.config
        put_head_map(self.codec, config.head_map)
        self.codec.eval()
        painted = draw_painted_images(images, config.table_images, config.seed)
        count_tables(self.codec, painted, config.dead_zone)
        save_model(self.codec, path, name=path.stem, training=training, figures=self.figures)
        write_card(path, self.out / "log")
        return path
