"""What the launch files share: texts of the command line as values of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

#: What makes a parameter of an argument's text, and what the argument is for, by name.
Overrides = Mapping[str, tuple[Callable[[str], Any], str]]


def truth(text: str) -> bool:
    """Of true and false, as YAML has them."""
    return bool(yaml.safe_load(text))


def names(text: str) -> list[str]:
    """Of [front, rear], of front, rear, and of front alone."""
    given = yaml.safe_load(text)
    if isinstance(given, list):
        return [str(name) for name in given]
    return [name.strip() for name in str(given).split(",")]


def given_parameters(overrides: Overrides, value: Callable[[str], str]) -> dict[str, Any]:
    """The parameters whose arguments are not empty.

    Args:
        overrides: arguments that are parameters.
        value: the text of an argument.

    Raises:
        ValueError: names the argument whose text is not of its type.
    """
    parameters = {}
    for name, (kind, _) in overrides.items():
        text = value(name)
        if not text:
            continue
        try:
            parameters[name] = kind(text)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{name}: got {text!r}: {error}") from error
    return parameters
