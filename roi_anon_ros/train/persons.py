"""Training of a person detector on decoded images from one YAML file; a stopped run goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from roi_anon_ros.codec import Codec
from roi_anon_ros.datasets import spread
from roi_anon_ros.detect import find_weights
from roi_anon_ros.detect.choice import make_detector
from roi_anon_ros.detect.yolox import YoloxNano, load_yolox
from roi_anon_ros.detect.yolox_cells import fit as fit_image
from roi_anon_ros.detect.yolox_engine import require
from roi_anon_ros.detect.yolox_export import calibrate, write_graph
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.decoded import (
    UNSURE,
    DecodedCrops,
    DecodedImages,
    Sample,
    collate,
    decode_once,
)
from roi_anon_ros.train.detectors import (
    DetectorConfig,
    DetectorTraining,
    choose_images,
    fit,
    load_crops,
    write_detector,
)

log = logging.getLogger(__name__)

#: What ``network`` says in the YAML file of such a training.
NAME = "yolox-nano"
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


@dataclass(frozen=True, kw_only=True)
class Config(DetectorConfig):
    """What a YAML file with ``network: yolox-nano`` may set.

    Attributes:
        start: weights to begin with, a name that `find_weights` knows or a file for `load_yolox`.
        qualities: of the codec, each image at each; empty: its only one.
        decoded: folder for the decoded images and for what the teacher found; other trainings share
            it.
        own_size: share of the crops at the decoded size, 0 to 1.
        int8: images that the ranges of the network in int8 are taken from, see `calibrate`; 0: no
            networks are written that run without torch.
    """

    name = NAME
    least = DetectorConfig.least | {"int8": 0}

    start: str = "yolox_nano"
    qualities: list[int] = field(default_factory=list)
    decoded: str = "runs/decoded"
    own_size: float = 0.5
    int8: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.own_size, int | float) or not 0 <= self.own_size <= 1:
            raise ValueError(f"own_size: got {self.own_size!r}, must be from 0 to 1")


class PersonsTraining(DetectorTraining):
    """The detector on decoded images.

    Args:
        config: of the run.
    """

    network: YoloxNano

    def __init__(self, config: Config) -> None:
        super().__init__(config, load_yolox(find_weights(config.start), classes=[0]))

    def see(self, seen: Tensor) -> tuple[Tensor, int, int]:
        """See `DetectorTraining.see`; of uint8 ``[B, 3, H, W]``."""
        images = (seen.float() / 255).contiguous(memory_format=torch.channels_last)
        height, width = seen.shape[-2:]
        return self.network.logits(images), height, width


def read_samples(config: Config) -> tuple[list[Sample], list[Sample], str]:
    """Read the sets and decode their images, or take them from a former run.

    Returns:
        Samples to train on, samples to validate on, and the fingerprint of the codec.

    Raises:
        ValueError: a set cannot be used, or there are no images.
    """
    chosen, apart = choose_images(config)
    model, _, engine = config.codec.partition("@")
    codec = Codec.load(model, engine or "torch")
    folder = Path(config.decoded)
    parts = []
    for part in (chosen, apart):
        parts.append(
            decode_once(
                part,
                codec,
                config.qualities,
                config.max_side,
                lambda: make_detector(config.teacher, confidence=UNSURE),
                folder,
            )
        )
    return parts[0], parts[1], codec.fingerprint


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
    crops = DecodedCrops(samples, config.crop, config.own_size, config.seed)
    whole = DecodedImages(validation, config.max_side)
    module = PersonsTraining(config).to(memory_format=torch.channels_last)
    wholes = DataLoader(whole, 1, collate_fn=collate)
    steps = fit(module, load_crops(crops, config, collate), wholes, out, buffers=False)
    persons = sum(int((sample.truth[:, 4] == 0).sum()) for sample in samples)
    training = {
        "codec": config.codec,
        "fingerprint": fingerprint,
        "images": len(samples),
        "persons": persons,
        "validation_images": len(whole),
        "steps": steps,
        "command": f"roi-anon train {config_file}",
        "teacher": config.teacher,
        **module.figures,
    }
    result = out / f"{Path(config_file).stem}.safetensors"
    about = {"origin": "YOLOX-nano, Megvii, trained on COCO, Apache-2.0"}
    write_detector(module.network, result, CARD, about, training, config)
    if config.int8:
        files = [sample.files[number % len(sample.files)] for number, sample in enumerate(samples)]
        seen = (
            fit_image(read_pixels(file), config.max_side) for file in spread(files, config.int8)
        )
        calibrate(result, seen)
        write_graph(result)
    return result
