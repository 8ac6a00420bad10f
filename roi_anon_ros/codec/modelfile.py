"""One model is one file: ``<name>.safetensors`` with weights, integer CDF tables and JSON metadata.

The tables travel as integers because both sides must use the very same ones: nobody recomputes a
probability from floats. The metadata's key ``roi_anon`` holds JSON: format version, name,
architecture and its hyperparameters, fingerprint, what it was trained on, measured figures,
licence, and a checksum of all this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from roi_anon_ros.codec.errors import ModelFileError
from roi_anon_ros.codec.networks import ARCHITECTURES, AnonymizingCodec
from roi_anon_ros.storage import digest, write_bytes

FORMAT_VERSION = 1
LICENCE = "Apache-2.0"
#: Bytes of a fingerprint.
FINGERPRINT_SIZE = 8


@dataclass(frozen=True)
class Model:
    """A loaded model file.

    Attributes:
        codec: the network, in evaluation mode, float32.
        fingerprint: 8 bytes over weights and tables, in every packet of this model.
        metadata: the JSON of the file.
        path: the file; of a model that was never in one, where its exported files would be looked
            for.
    """

    codec: AnonymizingCodec
    fingerprint: bytes
    metadata: dict[str, Any]
    path: Path = Path("model.safetensors")


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """First 8 bytes of SHA-256 over names, types, shapes and values of all tensors, in the order of
    their names.
    """
    made = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        made.update(f"{name} {array.dtype} {array.shape}\n".encode())
        made.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return made.digest()[:FINGERPRINT_SIZE]


def save_model(
    codec: AnonymizingCodec,
    path: Path,
    name: str,
    training: dict[str, Any] | None = None,
    figures: dict[str, Any] | None = None,
) -> bytes:
    """Write a model file, with the weights of the transforms in float16.

    Args:
        codec: a network whose tables exist (``update()`` was called).
        path: the file; it is replaced in one step.
        name: of the model.
        training: what it was trained on and how.
        figures: what was measured.

    Returns:
        The fingerprint.

    Raises:
        RuntimeError: the network has no tables.
        ValueError: a weight is not finite, or out of float16's range.
    """
    codec.latents  # noqa: B018  a model without tables is refused before anything is written
    weights = {
        key
        for key, value in codec.named_parameters()
        if value.ndim > 1 and key.startswith(("g_a.", "g_s.", "head_map."))
    }
    tensors = {}
    for key, value in codec.state_dict().items():
        # The prior and the bounds of its reparametrisations are small, and below what float16
        # resolves.
        value = value.detach().cpu().to(torch.float16 if key in weights else value.dtype)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key}: not finite in {value.dtype}")
        tensors[key] = value.contiguous().clone()
    mark = fingerprint(tensors)
    metadata = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "architecture": codec.architecture,
        "hyperparameters": codec.hyperparameters,
        "fingerprint": mark.hex(),
        "training": training or {},
        "figures": figures or {},
        "licence": LICENCE,
    }
    metadata["checksum"] = _checksum(metadata)
    write_bytes(Path(path), save(tensors, metadata={"roi_anon": json.dumps(metadata)}))
    return mark


def _checksum(metadata: dict[str, Any]) -> str:
    rest = {key: value for key, value in metadata.items() if key != "checksum"}
    return digest(json.dumps(rest, sort_keys=True).encode(), digits=64)


def load_model(path: Path) -> Model:
    """Read a model file.

    Raises:
        ModelFileError: there is no such file, or it is damaged, foreign, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("roi_anon", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: damaged, or no safetensors file: {error}") from error
    if not isinstance(metadata, dict):
        raise ModelFileError(
            f"{path}: a safetensors file of something else: no metadata 'roi_anon'"
        )
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: format_version {version}, this release reads {FORMAT_VERSION}"
        )
    if metadata.get("checksum") != _checksum(metadata):
        raise ModelFileError(f"{path}: damaged: its metadata does not match its checksum")
    mark = fingerprint(tensors)
    if metadata.get("fingerprint") != mark.hex():
        raise ModelFileError(
            f"{path}: damaged: fingerprint {mark.hex()}, must be {metadata.get('fingerprint')}"
        )
    if metadata.get("architecture") not in ARCHITECTURES:
        raise ModelFileError(
            f"{path}: architecture {metadata.get('architecture')!r}, this release knows others"
        )
    try:
        codec = ARCHITECTURES[metadata["architecture"]](**metadata["hyperparameters"])
        codec.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
        codec.latents  # noqa: B018  tables that break their bounds are refused here
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: does not fit its architecture: {error}") from error
    return Model(codec.eval(), mark, metadata, path)


def model_folders() -> list[Path]:
    """Where models are looked for: beside the source, and in ``share/roi_anon_ros/models`` of the
    installation.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [package.parent / "models"]
    folders += [parent / "share" / "roi_anon_ros" / "models" for parent in package.parents]
    return [folder for folder in folders if folder.is_dir()]


def list_models() -> dict[str, Path]:
    """The installed models, by name."""
    files = (
        file
        for folder in reversed(model_folders())
        for file in sorted(folder.glob("*.safetensors"))
    )
    return {file.stem: file for file in files}


def find_model(name: str) -> Path:
    """The file of a model.

    Args:
        name: of an installed model, or a path to a ``.safetensors`` file.

    Raises:
        ModelFileError: no such model; the message lists those that there are.
    """
    models = list_models()
    if name in models:
        return models[name]
    if Path(name).is_file():
        return Path(name)
    raise ModelFileError(
        f"model {name!r}: neither a file nor one of {', '.join(models) or 'none installed'}"
    )
