"""Results that a card may be made of: those of its model, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roi_anon_ros.evaluate.methods import ATTACKED, OPENED
from roi_anon_ros.evaluate.report.page import FILES
from roi_anon_ros.storage import digest

#: The results that a card is made of, by their names in ``report.page.FILES``.
KINDS = ("evaluation", "heads", "identity", "bodies")


@dataclass(frozen=True)
class Result:
    """One file of results.

    Attributes:
        path: of the file.
        about: what is in it.
        sha256: of the file, hexadecimal digits.
    """

    path: Path
    about: Mapping[str, Any]
    sha256: str

    def own(self, fingerprint: str) -> list[str]:
        """Methods of the model with this fingerprint, attacked and opened ones too."""
        said = self.about["fingerprints"]
        return [name for name, mark in said.items() if mark == fingerprint]


@dataclass(frozen=True)
class Model:
    """The model of a card.

    Attributes:
        name: of the model.
        fingerprint: 16 hex digits.
    """

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Results:
    """All results of a model.

    Attributes:
        model: whose they are.
        files: by the name in ``KINDS``.
    """

    model: Model
    files: Mapping[str, Sequence[Result]] = field(default_factory=dict)

    def of(self, kind: str) -> Sequence[Result]:
        """The files of one kind."""
        return self.files.get(kind, ())

    def plain(self, result: Result) -> list[str]:
        """Methods that are the model as it is sent: neither attacked nor opened."""
        own = result.own(self.model.fingerprint)
        return [name for name in own if not name.endswith(ATTACKED) and not name.startswith(OPENED)]

    def attacked(self, result: Result) -> list[str]:
        """Methods that are what an attacker recovers from the model."""
        own = result.own(self.model.fingerprint)
        return [name for name in own if name.endswith(ATTACKED)]

    def opened(self, result: Result) -> list[str]:
        """Methods that are what a holder of a key sees of the model."""
        own = result.own(self.model.fingerprint)
        return [name for name in own if name.startswith(OPENED)]


def read_all(folders: Sequence[Path], model: Model) -> Results:
    """Read what the commands left in folders.

    Args:
        folders: outputs of evaluate, heads and identify.
        model: whose results they must be.

    Raises:
        ValueError: there is nothing, or a file that is no JSON, or one that measured no model of
            this fingerprint; the message names it.
        OSError: a file cannot be read.
    """
    files: dict[str, list[Result]] = {}
    for kind, path in _paths(folders):
        data = path.read_bytes()
        try:
            about = json.loads(data)
        except ValueError as error:
            raise ValueError(f"{path}: no JSON: {error}") from error
        result = Result(path, about, digest(data, digits=64))
        _check_model(kind, result, model)
        files.setdefault(kind, []).append(result)
    if not files:
        names = ", ".join(FILES[kind] for kind in KINDS)
        raise ValueError(f"{', '.join(map(str, folders))}: none of {names} in it")
    return Results(model, files)


def _paths(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for kind in KINDS:
            path = folder / FILES[kind]
            if path.is_file():
                yield kind, path


def _check_model(kind: str, result: Result, model: Model) -> None:
    """Refuse the results of another model."""
    about = result.about
    if kind == "heads":
        measured = {about["model"]: about["fingerprint"]}
    elif "fingerprints" in about:
        measured = dict(about["fingerprints"])
    else:
        raise ValueError(
            f"{result.path}: says no fingerprints, it is of an older release; run the command again"
        )
    if model.fingerprint not in measured.values():
        said = ", ".join(f"{name} {mark}" for name, mark in measured.items()) or "no model"
        raise ValueError(
            f"{result.path}: fingerprint: measured {said}, the card is of {model.name} "
            f"{model.fingerprint}"
        )
