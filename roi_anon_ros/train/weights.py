"""Weights of a model file, or of a training that still runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from roi_anon_ros.codec.modelfile import find_model, load_model
from roi_anon_ros.codec.networks.gained import TABLES
from roi_anon_ros.codec.networks.headmap import HeadMap

HEAD_MAP = "head_map."


def read_weights(name: str) -> dict[str, Tensor]:
    """Read the weights of a codec or a head map, by their names in the codec, without tables.

    Args:
        name: of an installed model, a model file, or a ``.ckpt`` of a training, whose averaged
            weights are taken.

    Raises:
        ValueError: the checkpoint cannot be read.
        ModelFileError: the model cannot be.
    """
    if Path(name).suffix == ".ckpt":
        try:
            # Lightning's checkpoints hold more than tensors: read only those of your own runs.
            state = torch.load(name, map_location="cpu", weights_only=False)["state_dict"]
        except (OSError, RuntimeError, KeyError, EOFError) as error:
            raise ValueError(f"{name}: no checkpoint of a training: {error!r}") from error
        weights = {key.removeprefix("codec."): value for key, value in state.items()}
    else:
        weights = load_model(find_model(name)).codec.state_dict()
    return {key: value for key, value in weights.items() if key not in TABLES}


class HasHeadMap(Protocol):
    """A codec, or a training of a head map."""

    head_map: HeadMap


def put_head_map(codec: HasHeadMap, name: str) -> None:
    """Give a codec the head map of a model, or of a training of one.

    Args:
        codec: changed in place.
        name: see :func:`read_weights`.

    Raises:
        ValueError: there is no head map in it, or one of another shape.
        ModelFileError: the model cannot be read.
    """
    weights = read_weights(name)
    chosen = {
        key.removeprefix(HEAD_MAP): value
        for key, value in weights.items()
        if key.startswith(HEAD_MAP)
    }
    if not chosen:
        raise ValueError(f"{name}: has no head map")
    try:
        codec.head_map.load_state_dict(chosen)
    except RuntimeError as error:
        raise ValueError(f"{name}: its head map does not fit: {error}") from error
