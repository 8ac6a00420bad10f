"""Checks of the numbers in training configurations; each names the field and the bound."""

from __future__ import annotations

from typing import Any


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise a ValueError where a field is no whole number, or less than this."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: got {value!r}, must be a whole number of {least} or more")


def check_number(name: str, value: Any, least: float) -> None:
    """Raise a ValueError where a field is no number, or less than this."""
    if not isinstance(value, int | float) or not value >= least:
        raise ValueError(f"{name}: got {value!r}, must be a number of at least {least}")


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError where a field is no float above 0."""
    # YAML reads 4e-4 as text.
    if not isinstance(value, float) or not value > 0:
        raise ValueError(f"{name}: got {value!r}, must be a number of more than 0, such as 4.0e-4")
