"""Training of the codecs that hide heads by their loss: the paper's networks and ``fast``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from roi_anon_ros.codec.modelfile import find_model, load_model, save_model
from roi_anon_ros.codec.networks import AnonymizingCodec, FastCodec, GatedConv, build
from roi_anon_ros.datasets import Record
from roi_anon_ros.train.branches import BranchedConfig, BranchedTraining
from roi_anon_ros.train.card import write_card
from roi_anon_ros.train.crops import Crops, collate
from roi_anon_ros.train.losses import (
    Regions,
    RoiLoss,
    bits_per_pixel,
    head_cells,
    outside,
)
from roi_anon_ros.train.runs import to_bytes
from roi_anon_ros.train.sets import TrainingImages
from roi_anon_ros.train.validation import Witnesses, to_decibels

#: The prior learns this much faster than the transforms. At their speed it stays too wide for
#: thousands of steps, and the rate it asks for keeps the latent from carrying anything.
PRIOR_SPEED = 10


@dataclass(frozen=True, kw_only=True)
class RoiConfig(BranchedConfig):
    """What a YAML file may set for the region-of-interest loss.

    ``network`` is the name of a network, see ``codec.networks.NETWORKS``.

    Attributes:
        synthesis_only: train the synthesis alone. Analysis, prior and tables stay those of
            ``start``: the payload of a packet is the same as before, and tells no more than before.
            The model's fingerprint is another one.
        loss: arguments of :class:`~roi_anon_ros.train.losses.RoiLoss`.
        heads_warmup: steps over which the head term grows from 0 to its weight. The inverted term
            needs it: on an untrained codec it wins at once and nothing else is learned.
        detector: YOLOv8 weights, name or file, for validation.
        head_map: weight λ of the cross entropy between the map of heads that closes the latent of
            the network ``fast`` (:class:`~roi_anon_ros.codec.networks.GatedConv`) and where heads
            are; 0: none. A cell that heads cover by half is all head.
        own_size: share of the crops at the size at which a camera codes their image, 0 to 1; the
            others are scaled, most of them so that heads of all sizes are seen.
    """

    least: ClassVar[dict[str, float]] = BranchedConfig.least | {"heads_warmup": 0, "head_map": 0}

    synthesis_only: bool = False
    loss: dict[str, Any] = field(default_factory=dict)
    heads_warmup: int = 0
    detector: str = "yolov8n"
    head_map: float = 0.0
    own_size: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.own_size, int | float) or not 0 <= self.own_size <= 1:
            raise ValueError(f"own_size: got {self.own_size!r}, must be a number from 0 to 1")
        RoiLoss(**self.loss)
        network = build(self.network)
        if self.head_map and not isinstance(network, FastCodec):
            raise ValueError(
                f"head_map: got {self.head_map}, must be 0 for {self.network}: it has no such map"
            )
        if self.synthesis_only and not self.start:
            raise ValueError("synthesis_only: true, needs the analysis of a model in start")
        if self.synthesis_only and self.head_map:
            raise ValueError(
                f"head_map: got {self.head_map}, must be 0 with synthesis_only: the analysis would "
                "learn it"
            )
        if self.synthesis_only and self.privacy:
            raise ValueError(
                "privacy: must be empty with synthesis_only: packets would tell all the same"
            )


class RoiTraining(BranchedTraining):
    """A codec, its loss and its optimiser.

    Args:
        config: of the run.
        validation: the images that it is validated on.
        out: folder for the sheets.
    """

    config_type = RoiConfig
    config: RoiConfig
    collate = staticmethod(collate)

    def __init__(self, config: RoiConfig, validation: list[Record], out: Path) -> None:
        super().__init__(config, validation, out)
        codec = build(config.network)
        assert isinstance(codec, AnonymizingCodec)  # another class trains the other one
        self.codec = codec
        if config.start:
            self.codec.load_state_dict(load_model(find_model(config.start)).codec.state_dict())
        # They only bound the entropy coder's tables, and are found by bisection when a model is
        # saved.
        self.codec.entropy_bottleneck.quantiles.requires_grad_(False)
        if config.synthesis_only:
            self.codec.g_a.requires_grad_(False)
            self.codec.entropy_bottleneck.requires_grad_(False)
        self.loss = RoiLoss(**config.loss)
        self._head_map: Tensor | None = None
        if isinstance(codec, FastCodec):
            gate = codec.g_a[-1]
            assert isinstance(gate, GatedConv)
            gate.heads.register_forward_hook(self._keep_head_map)
        self.witnesses = Witnesses(config.detector)

    def make_crops(self, images: TrainingImages) -> Crops:
        """Crops with their boxes."""
        config = self.config
        return Crops(
            images.records,
            config.crop,
            config.seed,
            own_size=config.own_size,
            weights=images.weights,
        )

    def train(self, mode: bool = True) -> RoiTraining:
        """Switch to training or evaluation; a synthesis that learns alone sees rounded latents, as
        a receiver does.
        """
        super().train(mode)
        if self.config.synthesis_only:
            self.codec.entropy_bottleneck.eval()
        return self

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
        self.add_branches(terms, output["x_hat"].float(), x, keep, persons)
        if self.config.head_map:
            covered = head_cells(keep, self.codec.downsampling_factor)
            assert self._head_map is not None  # a network with a gate has left it
            terms["head_map"] = F.binary_cross_entropy_with_logits(self._head_map.float(), covered)
            terms["loss"] = terms["loss"] + self.config.head_map * terms["head_map"]
        self.log_terms(terms, ("bpp", "background", "heads"), len(x))
        return terms["loss"]

    def _keep_head_map(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._head_map = output

    def on_validation_epoch_start(self) -> None:
        """The medians around which an evaluated codec rounds follow from the averaged prior."""
        if not self.config.synthesis_only:
            self.codec.entropy_bottleneck._update_quantiles()
        self.witnesses.begin()

    def validation_step(self, batch: tuple[Tensor, Regions, Regions], index: int) -> None:
        """Rate, loss, MSE outside and inside the heads of one whole image, and what detectors
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
        source = to_bytes(x[0])
        decoded = to_bytes(output["x_hat"][0])
        self.witnesses.look(index, self.validation[index], source, decoded)
        self.show(source, decoded, heads.boxes.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Log what the detectors found, write the sheet, and say it in a line."""
        self.log_dict({f"val/{name}": value for name, value in self.witnesses.ratios().items()})
        self.end_validation(self._line())

    def _line(self) -> list[str]:
        figures = self.figures
        words = []
        if "bpp" in figures:
            words.append(f"{figures['bpp']:.3f} bits per pixel")
        for name in ("outside", "heads"):
            if figures.get(f"mse_{name}", 0) > 0:
                words.append(f"{name} {to_decibels(figures[f'mse_{name}']):.1f} dB")
        for name in ("persons", "faces"):
            if name in figures:
                words.append(f"{name} {figures[name]:.0%}")
        if "closed_heads" in figures:
            words.append(f"gate closed on {figures['closed_heads']:.0%} of the heads")
        return words

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam over the transforms, their prior and what learns in the branches."""
        rate = self.config.learning_rate
        transforms = [
            p for g in (self.codec.g_a, self.codec.g_s) for p in g.parameters() if p.requires_grad
        ]
        prior = [p for p in self.codec.entropy_bottleneck.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": transforms},
            {"params": prior, "lr": PRIOR_SPEED * rate},
            *self.branch_groups(),
        ]
        optimizer = torch.optim.Adam(groups, lr=rate)
        return self.with_schedule(optimizer)

    def write_result(self, path: Path, images: TrainingImages, training: dict[str, Any]) -> Path:
        """Write the model file, with its card beside it."""
        if not self.config.synthesis_only:
            self.codec.update(force=True, update_quantiles=True)
        save_model(self.codec, path, name=path.stem, training=training, figures=self.figures)
        write_card(path, self.out / "log")
        return path
