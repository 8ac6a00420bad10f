"""One model is one file: ``<name>.safetensors`` with weights, integer CDF tables and JSON metadata.

The tables travel as integers because both sides must use the very same ones: nobody recomputes a
probability from floats. The metadata's key ``roi_anon`` holds JSON: format version, name,
architecture and its hyperparameters, fingerprint, what it was trained on, measured figures,
licence, and a checksum of all this.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from roi_anon_ros.codec.errors import ModelFileError
from roi_anon_ros.codec.latents import Latents, read_latents
from roi_anon_ros.codec.second_look import SecondLook
from roi_anon_ros.storage import digest, write_bytes

if TYPE_CHECKING:
    from roi_anon_ros.codec.networks import AnonymizingCodec, GainedCodec

FORMAT_VERSION = 1
LICENCE = "Apache-2.0"
#: The shipped model that is taken where none is named.
DEFAULT_MODEL = "roi"
#: What a file may name as its architecture, with its hyperparameters, see ``codec.networks``.
ARCHITECTURES = {"paper": {"N", "M"}, "fast": {"N"}, "gained": {"N"}}
#: What the reference finds on the trial image: symbols at the highest quality, the head map's
#: answer, and the image that it makes of the symbols.
TRIAL_TENSORS = ("trial_symbols", "trial_map", "trial_image")
#: Bytes of a fingerprint.
FINGERPRINT_SIZE = 8


@dataclass(frozen=True)
class Model:
    """A loaded model file. Torch is needed for :attr:`codec` alone.

    Attributes:
        tensors: of the file, by name.
        fingerprint: 8 bytes over weights and tables, in every packet of this model.
        metadata: the JSON of the file.
        path: the file; of a model that was never in one, where its exported files would be looked
            for.
    """

    tensors: Mapping[str, np.ndarray]
    fingerprint: bytes
    metadata: dict[str, Any]
    path: Path = Path("model.safetensors")

    @cached_property
    def codec(self) -> AnonymizingCodec | GainedCodec:
        """The network, in evaluation mode, float32.

        Raises:
            ModelFileError: the tensors do not fit the architecture.
            EngineError: torch is not installed.
        """
        from roi_anon_ros.codec.engines.machine import require

        require("torch", "train")
        import torch

        from roi_anon_ros.codec import networks

        values = {}
        for name, array in self.tensors.items():
            value = torch.from_numpy(array.copy())
            values[name] = value.float() if value.is_floating_point() else value
        for name in TRIAL_TENSORS:
            values.pop(name, None)
        try:
            network = networks.ARCHITECTURES[self.metadata["architecture"]]
            codec = network(**self.metadata["hyperparameters"])
            codec.load_state_dict(values)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.path}: does not fit its architecture: {error}") from error
        return codec.eval()

    @cached_property
    def latents(self) -> Latents:
        """What turns its latent into a payload.

        Raises:
            ModelFileError: tables that break their bounds.
        """
        try:
            return read_latents(self.tensors)
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"{self.path}: does not fit its architecture: {error}") from error

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side for each value of the latent."""
        if self.metadata.get("architecture") == "paper":
            return 2 ** (self.metadata["hyperparameters"]["M"] + 2)
        return 16

    @property
    def has_head_map(self) -> bool:
        """Whether the model finds heads itself and paints them."""
        return self.latents.has_quality

    @cached_property
    def second_look(self) -> SecondLook | None:
        """The second look at heads; None: the model has no head map.

        Raises:
            ModelFileError: a tensor of it is missing, or it is that of an older release.
        """
        if not self.has_head_map:
            return None
        try:
            return SecondLook(self.tensors)
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"{self.path}: does not fit its architecture: {error}") from error

    @property
    def trial(self) -> dict[str, np.ndarray] | None:
        """What the reference finds on the trial image, see ``engines.trial``; None: not known."""
        if not all(name in self.tensors for name in TRIAL_TENSORS):
            return None
        return {name: self.tensors[name] for name in TRIAL_TENSORS}


def fingerprint(tensors: Mapping[str, np.ndarray]) -> bytes:
    """First 8 bytes of SHA-256 over names, types, shapes and values of all tensors, in the order of
    their names.
    """
    made = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        made.update(f"{name} {array.dtype} {array.shape}\n".encode())
        made.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return made.digest()[:FINGERPRINT_SIZE]


def latent_mark(tensors: Mapping[str, np.ndarray]) -> str:
    """Mark of what a model's latents mean, 16 hex digits: of its analysis and its gains alone.

    Models that differ in their head map, tables or synthesis have latents that mean the same.
    """
    meaning = ("g_a.", "gain", "inverse_gain", "entropy_bottleneck.quantiles")
    return fingerprint({k: v for k, v in tensors.items() if k.startswith(meaning)}).hex()


def model_of(codec: AnonymizingCodec, name: str) -> Model:
    """A model of a network that was never in a file, with its weights as they are."""
    tensors = {key: value.detach().cpu().numpy() for key, value in codec.state_dict().items()}
    metadata = {
        "name": name,
        "architecture": codec.architecture,
        "hyperparameters": codec.hyperparameters,
    }
    return Model(tensors, fingerprint(tensors), metadata)


def save_model(
    codec: AnonymizingCodec | GainedCodec,
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
        if value.ndim > 1 and key.startswith(("g_a.", "g_s.", "head_map.", "second_look."))
    }
    tensors = {}
    for key, value in codec.state_dict().items():
        # The prior and the bounds of its reparametrisations are small, and below what float16
        # resolves.
        array = value.detach().cpu().numpy()
        array = array.astype(np.float16) if key in weights else array
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{key}: not finite in {array.dtype}")
        tensors[key] = array
    if codec.has_head_map:
        tensors |= try_reference(tensors, codec)
    # safetensors writes memory as it lies, and what torch found may lie channels last.
    tensors = {key: np.array(array, order="C") for key, array in tensors.items()}
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


def try_reference(
    tensors: Mapping[str, np.ndarray], codec: AnonymizingCodec | GainedCodec
) -> dict[str, np.ndarray]:
    """What a model with these tensors finds on the trial image, by torch: :data:`TRIAL_TENSORS`."""
    from roi_anon_ros.codec.engines.torch_engine import TorchEngine
    from roi_anon_ros.codec.engines.trial import TRIAL, trial_image
    from roi_anon_ros.codec.packet import MAX_QUALITY

    metadata = {"architecture": codec.architecture, "hyperparameters": codec.hyperparameters}
    model = Model(tensors, b"", metadata)
    engine = TorchEngine(model)
    image = trial_image(*TRIAL)
    symbols = model.latents.quantise(engine.analyse(image), MAX_QUALITY)
    latent = model.latents.dequantise(symbols, MAX_QUALITY)
    found = symbols.astype(np.int16), engine.map_heads(image), engine.synthesise(latent)
    return dict(zip(TRIAL_TENSORS, found, strict=True))


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
        with safe_open(path, "np") as file:
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
    if metadata.get("architecture") not in list(ARCHITECTURES):  # it may be of any type
        raise ModelFileError(
            f"{path}: architecture {metadata.get('architecture')!r}, this release knows others"
        )
    model = Model(tensors, mark, metadata, path)
    _check_hyperparameters(model)
    return model


def _check_hyperparameters(model: Model) -> None:
    """Refuse tables that break their bounds, and hyperparameters of another network than these
    tensors are of.
    """
    given = model.metadata.get("hyperparameters")
    names = ARCHITECTURES[model.metadata["architecture"]]
    if not isinstance(given, dict) or given.keys() != names:
        raise ModelFileError(
            f"{model.path}: does not fit its architecture: hyperparameters {given}, must be "
            f"{', '.join(sorted(names))}"
        )
    expected = {"N": model.latents.channels, "M": _count_layers(model.tensors) - 2}
    for name, value in given.items():
        if value != expected[name]:
            raise ModelFileError(
                f"{model.path}: does not fit its architecture: {name} {value}, must be "
                f"{expected[name]}"
            )


def _count_layers(tensors: Mapping[str, np.ndarray]) -> int:
    """Convolutions of the analysis."""
    weights = [name for name in tensors if re.fullmatch(r"g_a\.\d+\.weight", name)]
    return sum(tensors[name].ndim == 4 for name in weights)


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
