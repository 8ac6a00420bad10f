"""A training of the codec without what takes longer than a few steps do: its card, and the
detectors that look at validation images. Run as a program, it is the command line with such a
training.
"""

from __future__ import annotations

from roi_anon_ros.train import gained, roi


class NoWitnesses:
    """In place of the detectors at validation."""

    def __init__(self, weights: str) -> None:
        pass

    def begin(self) -> None:
        pass

    def look(self, *seen: object) -> None:
        pass

    def ratios(self) -> dict[str, float]:
        return {}


def write_no_card(*_: object) -> None:
    """In place of the card."""


#: What is replaced: a module, a name in it, and by what.
REPLACED = [
    (module, name, replacement)
    for module in (gained, roi)
    for name, replacement in (("Witnesses", NoWitnesses), ("write_card", write_no_card))
]


def leave_out() -> None:
    """Replace it in this process for good."""
    for module, name, replacement in REPLACED:
        setattr(module, name, replacement)


if __name__ == "__main__":
    from roi_anon_ros.cli import app

    leave_out()
    app()
