"""An attack in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from roi_anon_ros.codec.modelfile import fingerprint
from roi_anon_ros.evaluate.attack.network import Attacker
from roi_anon_ros.storage import write_bytes

FORMAT_VERSION = 1

#: Steps at the end over which the losses in a file are averaged.
LAST = 100


def write_attack(
    path: Path, net: Attacker, about: dict[str, Any], history: list[dict[str, float]]
) -> None:
    """Write a trained attacker, with what its training was and its last losses."""
    tensors = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    last = history[-LAST:]
    losses: dict[str, float] = {}
    for name in last[0]:
        losses[name] = sum(terms[name] for terms in last) / len(last)
    metadata = about | {"losses": losses, "fingerprint": fingerprint(to_arrays(tensors)).hex()}
    write_bytes(path, save(tensors, metadata={"roi_anon_attack": json.dumps(metadata)}))


def read_attack(path: Path) -> tuple[Attacker, dict[str, Any]]:
    """Read an attack's file.

    Returns:
        The network, and what the file says of itself: ``row``, ``row_key``, ``channels``,
        ``factor``, ``steps``, ``batch``, ``seed``, ``pictures``, ``heads``, ``data`` (a digest of
        the pairs) and ``losses`` (means over the last 100 steps).

    Raises:
        ValueError: there is no such file, or it is damaged, foreign, or of another format; the
            message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("roi_anon_attack", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(
            f"{path}: a safetensors file of something else: no metadata 'roi_anon_attack'"
        )
    if about.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {about.get('format_version')}, this release reads "
            f"{FORMAT_VERSION}"
        )
    if about.get("fingerprint") != fingerprint(to_arrays(tensors)).hex():
        raise ValueError(f"{path}: damaged: its weights do not match their fingerprint")
    try:
        net = Attacker(about["channels"], about["factor"])
        net.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: does not fit its network: {error}") from error
    return net.to(memory_format=torch.channels_last).eval(), about


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays, of which a fingerprint is made."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
