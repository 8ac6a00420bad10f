"""Training from one YAML file; a run goes on where its last epoch ended.

What is trained is the file's ``network``: ``heads`` is the head map,
``second-look`` the second look at what it finds, ``gained`` the codec for
every rate, ``actions`` says what is done in clips, ``pixels`` anonymizes their frames,
``yolox-nano`` is the detector of persons (``train.persons``), ``latent`` the one that needs no
image (``train.latent``), ``reversible`` an anonymizer to compare with (``train.reversible``), the
others are codecs that hide heads by their loss.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import lightning
import torch
import yaml

from roi_anon_ros.train import latent, persons, reversible
from roi_anon_ros.train.actions import ActionsTraining
from roi_anon_ros.train.detectors import DetectorConfig
from roi_anon_ros.train.gained import GainedTraining
from roi_anon_ros.train.heads import HeadsTraining
from roi_anon_ros.train.pixels import PixelsTraining
from roi_anon_ros.train.roi import RoiTraining
from roi_anon_ros.train.runs import RunConfig, Training, fit
from roi_anon_ros.train.second_look import SecondLookTraining

#: What is trained, by the name of the network.
TRAININGS: dict[str, type[Training]] = {
    "actions": ActionsTraining,
    "gained": GainedTraining,
    "heads": HeadsTraining,
    "pixels": PixelsTraining,
    "second-look": SecondLookTraining,
}


def find_training(network: str) -> type[Training]:
    """What trains a network."""
    return TRAININGS.get(network, RoiTraining)


def read_config(path: Path) -> RunConfig | DetectorConfig | reversible.Config:
    """Read a YAML file.

    Raises:
        ValueError: it names a field that does not exist, lacks one that is needed, or has one out
            of bounds.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
        if not isinstance(content, dict):
            raise ValueError("must be fields and their values")
        if content["network"] == persons.NAME:
            return persons.Config(**content)
        if content["network"] == latent.NAME:
            return latent.Config(**content)
        if content["network"] == reversible.NAME:
            return reversible.Config(**content)
        return find_training(content["network"]).config_type(**content)
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Under ``torchrun`` every process takes part; without it, every GPU of this machine does.

    Args:
        config_file: YAML, see :class:`~roi_anon_ros.train.runs.RunConfig` and its subclasses; paths
            in it are relative to where the command runs.
        out: folder for checkpoints, logs, sheets, the split and the model; a ``last.ckpt`` in it is
            continued.

    Returns:
        The model file ``<out>/<name of the config file>.safetensors``, with its card beside it; of
        a head map that goes into no model, its last checkpoint.

    Raises:
        ValueError: the configuration or a set cannot be used.
        TrainingError: the training failed, see the subclasses of
            :class:`~roi_anon_ros.train.runs.Training`.
    """
    config = read_config(config_file)
    out = Path(out)
    if isinstance(config, persons.Config):
        return persons.train(config_file, out)
    if isinstance(config, latent.Config):
        return latent.train(config_file, out)
    if isinstance(config, reversible.Config):
        return reversible.train(config_file, out)
    assert isinstance(config, RunConfig)
    kind = find_training(config.network)
    lightning.seed_everything(config.seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    images, whole = kind.read(config, out)
    module = kind(config, whole.records, out).to(memory_format=torch.channels_last)
    fit(module, images, whole)
    result = out / f"{Path(config_file).stem}.safetensors"
    if module.trainer.is_global_zero:
        training = {
            "steps": module.trainer.global_step,
            **images.count(),
            "validation_pictures": len(whole),
            "command": f"roi-anon train {config_file}",
            "config": asdict(config),
        }
        result = module.write_result(result, images, training)
    return result
