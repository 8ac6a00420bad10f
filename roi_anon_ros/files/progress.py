"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: Wraps what is gone through, with how many there are and what it is, to show how far it is.
Track = Callable[[Iterable, int | None, str], Iterable]
