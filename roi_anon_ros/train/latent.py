"""Training of the detector on latents from one YAML file; a stopped run goes on.

The network learns from two teachers at once: who is in the images, as any detector does, and what a
detector of decoded images, whose last branches it takes over, makes of the same places.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.latents import Latents
from roi_anon_ros.codec.modelfile import latent_mark
from roi_anon_ros.detect.choice import OURS, find_detector, make_detector
from roi_anon_ros.detect.latent import Branch, LatentNano
from roi_anon_ros.detect.latent_persons import CELL
from roi_anon_ros.detect.yolox import Conv, load_yolox
from roi_anon_ros.detect.yolox_engine import LATENT, require
from roi_anon_ros.detect.yolox_export import write_graph
from roi_anon_ros.train import decoded
from roi_anon_ros.train.assignment import measure_loss
from roi_anon_ros.train.decoded import UNSURE
from roi_anon_ros.train.detectors import (
    DetectorConfig,
    DetectorTraining,
    choose_images,
    fit,
    load_crops,
    write_detector,
)
from roi_anon_ros.train.latent_crops import (
    Imitated,
    LatentCrops,
    LatentImages,
    Sample,
    analyse_once,
    collate,
    mark_of,
    quantise,
)

log = logging.getLogger(__name__)

#: What ``network`` says in the YAML file of such a training.
NAME = "latent"
#: Weight of the imitation in the loss.
IMITATION_WEIGHT = 3.0
#: How much slower the taken over branches learn.
TAKEN_OVER_RATE = 0.1
#: Images that the range of each channel of the latent is taken from.
RANGE_IMAGES = 100
CARD = """# Model card: {name}

| | |
|---|---|
| file | `{file}`, {megabytes:.1f} MB |
| network | {weights:.2f} M weights, on latents, one class |
| origin | last branches of `{start}`, which it was taught to imitate; else trained from nothing |
| licence | Apache-2.0 |
| trained on | {images} latents with {persons} persons of `{codec}` ({fingerprint}) |
| bound to | latents with the mark {mark} |
| steps | {steps} |
| command | `{command}` |

Persons are people's boxes where people drew them; the others were found on the originals by a
detector (`{teacher}`).

Measured on {validation_images} latents kept apart, at the end of the training, at a score of
{score} and an overlap of {overlap}: {recall:.1%} of the persons found, {false:.2f} false boxes an
image.

The configuration:

```yaml
{config}
```
"""


@dataclass(frozen=True, kw_only=True)
class Config(DetectorConfig):
    """What a YAML file with ``network: latent`` may set.

    Attributes:
        start: the detector that is imitated and whose last branches are taken over: "persons", or a
            file for `load_yolox` of one class.
        cache: folder for the latents, and for what the teacher found; other trainings share it.
        more_sides: longest sides, pixels, at which every second image is there again, mirrored.
        export: whether the network is written for engines without torch as well.
    """

    name = NAME

    start: str = OURS
    cache: str = "runs/latents"
    more_sides: list[int] = field(default_factory=lambda: [320, 640])
    export: bool = True
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = isinstance(self.more_sides, list) and all(
            isinstance(side, int) and side >= CELL for side in self.more_sides
        )
        if not fits:
            raise ValueError(
                f"more_sides: got {self.more_sides!r}, must be a list of whole numbers of {CELL} "
                "or more"
            )


class LatentTraining(DetectorTraining):
    """The detector on latents.

    Args:
        config: of the run.
        samples: that the range of each channel is taken from.
        latents: of the codec.
    """

    network: LatentNano

    def __init__(self, config: Config, samples: list[Sample], latents: Latents) -> None:
        network = LatentNano(latents.channels)
        start_network(network)
        network.take_over(load_yolox(find_detector(config.start)))
        scale_inputs(network, samples[:: max(len(samples) // RANGE_IMAGES, 1)], latents)
        super().__init__(config, network)

    def see(self, seen: Tensor) -> tuple[Tensor, int, int]:
        """See `DetectorTraining.see`; of float32 ``[B, N, h, w]``."""
        height, width = seen.shape[-2:]
        return self.network.logits(seen), CELL * height, CELL * width

    def groups(self) -> list[dict[str, Any]]:
        """Return two groups of weights: what was taken over learns slower than the rest."""
        slow: set[int] = set()
        for branch in self.network.branches:
            assert isinstance(branch, Branch)
            slow |= {id(one) for one in (*branch.branch.parameters(), *branch.rows.parameters())}
        everything = list(self.network.parameters())
        return [
            {"params": [one for one in everything if id(one) not in slow]},
            {
                "params": [one for one in everything if id(one) in slow],
                "lr": TAKEN_OVER_RATE * self.config.learning_rate,
            },
        ]

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the loss of one batch."""
        (latents, target, kinds), truths = batch
        features = self.network.features(latents.contiguous(memory_format=torch.channels_last))
        side = CELL * latents.shape[-1]
        terms = measure_loss(self.network.judge(features), truths, side, side)
        terms["imitation"] = measure_imitation(features, target.float(), kinds)
        terms["loss"] = terms["loss"] + IMITATION_WEIGHT * terms["imitation"]
        return self.say(terms, len(latents))


def measure_imitation(features: list[Tensor], target: Tensor, kinds: Tensor) -> Tensor:
    """Return by how much the branches' inputs differ from another network's, relative to those.

    The mean over cells on persons and the mean over the others count the same: persons are few.

    Args:
        features: of `LatentNano.features`.
        target: the same of the other network, ``[B, 64, n]``.
        kinds: int8 ``[B, n]``, as in `LatentCrops`; cells outside the image do not count.
    """
    mine = torch.cat([one.float().flatten(2) for one in features], 2)
    error = (mine - target).square().mean(1)
    size = target.square().mean(1)
    loss = error.new_zeros(())
    for kind in (1, 2):
        here = kinds == kind
        loss = loss + (error * here).sum() / (size * here).sum().clamp(min=1e-3)
    return loss


def start_network(network: LatentNano) -> None:
    """Put normalisations behind the convolutions: the network begins with random weights."""
    for module in list(network.modules()):
        if isinstance(module, Conv):
            convolution = module[0]
            assert isinstance(convolution, nn.Conv2d)
            module.insert(1, nn.BatchNorm2d(convolution.out_channels))
    # What is taken over has its normalisation in its weights.
    for branch in network.branches:
        assert isinstance(branch, Branch)
        for module in branch.branch.modules():
            if isinstance(module, Conv):
                del module[1]


@torch.no_grad()
def scale_inputs(network: LatentNano, samples: list[Sample], latents: Latents) -> None:
    """Divide the first weights by the deviation of their channel: some are hundreds, some below 1.

    Args:
        network: changed in place.
        samples: to take it from.
        latents: of the codec.
    """
    squares = np.zeros(latents.channels)
    for sample in samples:
        with np.load(sample.file) as file:
            latent = quantise(file["latent"], latents, sample.quality)
        squares += np.square(latent).mean((1, 2)) / len(samples)
    deviation = torch.from_numpy(np.sqrt(squares) + 1e-2).float()
    first = network.sixteenth[0]
    assert isinstance(first, Conv)
    first[0].get_parameter("weight").div_(deviation[None, :, None, None])


def fold_network(network: LatentNano) -> LatentNano:
    """Return the network with its normalisations in the weights before them."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, Conv) and isinstance(module[1], nn.BatchNorm2d):
            convolution = module[0]
            assert isinstance(convolution, nn.Conv2d)
            module[0] = fuse_conv_bn_eval(convolution, module[1])
            del module[1]
    return folded


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Args:
        config_file: YAML, see `Config`; paths in it are relative to where the command runs.
        out: folder for checkpoints, logs and the weights; a ``last.ckpt`` in it is continued.

    Returns:
        ``<out>/<name of the config file>.safetensors``, for `load_latent`; its card and the
        exported network lie beside it.

    Raises:
        ImportError: what ``export`` needs is not installed.
        ValueError: the configuration, the codec or a set cannot be used.
    """
    config = Config.read(config_file)
    if config.export:
        require("onnxscript", "export")  # now, not after hours
    lightning.seed_everything(config.seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    model, _, engine = config.codec.partition("@")
    codec = Codec.load(model, engine or "torch")
    if codec.model.downsampling_factor != CELL:
        raise ValueError(
            f"codec: {codec.name} has latents of {codec.model.downsampling_factor} pixels, must "
            f"be of {CELL}"
        )
    samples, validation = read_samples(config, codec)
    latents = codec.model.latents
    crops = LatentCrops(samples, latents, config.crop, config.seed)
    whole = LatentImages(validation, latents)
    module = LatentTraining(config, samples, latents).to(memory_format=torch.channels_last)
    wholes = DataLoader(whole, 1, collate_fn=decoded.collate)
    steps = fit(module, load_crops(crops, config, collate), wholes, out, buffers=True)
    training = {
        "codec": config.codec,
        "fingerprint": codec.fingerprint,
        "mark": latent_mark(codec.model.tensors),
        "images": len(samples),
        "persons": sum(int((sample.truth[:, 4] == 0).sum()) for sample in samples),
        "validation_images": len(whole),
        "steps": steps,
        "command": f"roi-anon train {config_file}",
        "teacher": config.teacher,
        "start": config.start,
        **module.figures,
    }
    result = out / f"{Path(config_file).stem}.safetensors"
    about = {LATENT: str(training["mark"])}
    write_detector(fold_network(module.network), result, CARD, about, training, config)
    if config.export:
        write_graph(result)
    return result


def read_samples(config: Config, codec: Codec) -> tuple[list[Sample], list[Sample]]:
    """Read the sets and analyse their images, or take them from a former run.

    Returns:
        Samples to train on, and samples to validate on.

    Raises:
        ValueError: a set cannot be used, or there are no images.
    """
    chosen, apart = choose_images(config)
    weights = find_detector(config.start)
    parts = []
    for part, more_sides in ((chosen, config.more_sides), (apart, [])):
        parts.append(
            analyse_once(
                part,
                codec,
                config.max_side,
                more_sides,
                lambda: Imitated(load_yolox(weights)),
                mark_of(weights),
                lambda: make_detector(config.teacher, confidence=UNSURE),
                Path(config.cache),
            )
        )
    return parts[0], parts[1]
