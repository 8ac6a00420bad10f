"""What a study compares, out of a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from roi_anon_ros.datasets import TASKS
from roi_anon_ros.detect.learning import Schedule
from roi_anon_ros.evaluate.methods import ORIGINAL


@dataclass(frozen=True)
class Part:
    """Images for training or for tests.

    Attributes:
        annotations: of the set, as ``read_scenes`` takes them.
        images: the images' folder; None: where the set's own layout says.
        limit: images at most, spread over the set; 0: all.
    """

    annotations: Path
    images: Path | None = None
    limit: int = 0


@dataclass(frozen=True)
class ArmPlan:
    """One way to treat images: regions and what they become, or a method.

    Attributes:
        region: what is hidden, as ``roi-anon anonymize`` names it, or ``annotated``: the persons
            of the set, by their outlines where it has them.
        treatment: what it becomes, likewise.
        pose: file of MediaPipe's pose network, for masks of detected persons; None: boxes.
        method: a way to send an image, as ``roi-anon evaluate`` names it; instead of a region.
    """

    region: str = ""
    treatment: str = ""
    pose: Path | None = None
    method: str = ""

    def __post_init__(self) -> None:
        if bool(self.method) == bool(self.region) or bool(self.region) != bool(self.treatment):
            raise ValueError(
                f"got region {self.region!r}, treatment {self.treatment!r}, method "
                f"{self.method!r}; must be region and treatment, or method alone"
            )


@dataclass(frozen=True)
class Config:
    """A study.

    Attributes:
        weights: that every training begins with: a name or a file, or an architecture of
            ultralytics' such as ``yolov8n.yaml``, trained from nothing.
        train: images for training, all of them together, but those that are for tests.
        test: images for tests.
        arms: ways to treat images, by name; the original is always there.
        task: of :data:`~roi_anon_ros.datasets.TASKS`.
        seeds: trainings of each arm, 1 or more.
        schedule: of each training.
    """

    weights: str
    train: tuple[Part, ...]
    test: tuple[Part, ...]
    arms: Mapping[str, ArmPlan]
    task: str
    seeds: int
    schedule: Schedule


#: Least and greatest of the numbers.
BOUNDS = {
    "seeds": (1, 100),
    "epochs": (1, 10_000),
    "image_size": (32, 4096),
    "batch": (2, 1024),
    "limit": (0, 10_000_000),
}
FIELDS = ("weights", "train", "test", "arms", "task", "seeds", "epochs", "image_size", "batch")


def read_config(path: Path) -> Config:
    """Read a study's YAML file; its paths are relative to its folder.

    Raises:
        ValueError: names the field and what it must be.
        OSError: the file cannot be read.
    """
    try:
        told = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {error}") from error
    told = _mapping("the file", told, FIELDS)
    lacking = [name for name in ("weights", "train", "test", "arms") if not told.get(name)]
    if lacking:
        raise ValueError(f"{lacking[0]}: got none, must be there")
    task = told.get("task", "detect")
    if task not in TASKS:
        raise ValueError(f"task: got {task!r}, must be one of {', '.join(TASKS)}")
    image_size = _number("image_size", told.get("image_size", 640))
    if image_size % 32:
        raise ValueError(f"image_size: got {image_size}, must be a multiple of 32")
    schedule = Schedule(
        _number("epochs", told.get("epochs", 100)),
        image_size,
        _number("batch", told.get("batch", 16)),
    )
    weights = str(told["weights"])
    beside = path.parent / weights
    return Config(
        str(beside) if beside.is_file() else weights,
        _read_parts("train", told["train"], path.parent),
        _read_parts("test", told["test"], path.parent),
        _read_arms(told["arms"], path.parent),
        task,
        _number("seeds", told.get("seeds", 3)),
        schedule,
    )


def _read_parts(name: str, told: Any, folder: Path) -> tuple[Part, ...]:
    if not isinstance(told, list):
        raise ValueError(f"{name}: got {type(told).__name__}, must be a list of sets")
    parts = []
    for number, one in enumerate(told):
        where = f"{name}[{number}]"
        given = _paths(_mapping(where, one, _names(Part)), ("annotations", "images"), folder)
        _require(where, given, Part)
        _number("limit", given.get("limit", 0))
        parts.append(Part(**given))
    return tuple(parts)


def _read_arms(told: Any, folder: Path) -> dict[str, ArmPlan]:
    if not isinstance(told, dict):
        raise ValueError(f"arms: got {type(told).__name__}, must be arms by name")
    arms = {}
    for name, one in told.items():
        where = f"arms: {name}"
        if name == ORIGINAL:
            raise ValueError(f"{where}: is always there, and must not be named")
        given = _paths(_mapping(where, one, _names(ArmPlan)), ("pose",), folder)
        try:
            arms[str(name)] = ArmPlan(**given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return arms


def _mapping(where: str, told: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """A mapping whose fields are all known."""
    if not isinstance(told, dict):
        raise ValueError(f"{where}: got {type(told).__name__}, must have fields with values")
    strange = [str(name) for name in told if name not in known]
    if strange:
        raise ValueError(f"{where}: got field {strange[0]!r}, must be one of {', '.join(known)}")
    return dict(told)


def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def _require(where: str, given: Mapping[str, Any], record: type) -> None:
    for field in fields(record):
        if field.default is MISSING and field.name not in given:
            raise ValueError(f"{where}: {field.name}: got none, must be there")


def _paths(given: dict[str, Any], names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The fields with those of these names as paths, relative to a folder."""
    made = {name: folder / str(given[name]) for name in names if given.get(name) is not None}
    return given | made


def _number(name: str, value: Any) -> int:
    least, most = BOUNDS[name]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}: got {value!r}, must be a whole number from {least} to {most}")
    return value
