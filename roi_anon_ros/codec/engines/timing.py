"""Which of several engines is the fastest, told on a machine that may be busy with other things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

#: The order in which engines are taken where none is clearly faster: ONNX Runtime needs the least
#: memory; int8 comes after bfloat16, for it finds other symbols.
PRIOR = ("onnxruntime", "openvino", "openvino-int8", "torch")
#: An engine beats one before it in that order with at most this share of its time.
CLEARLY = 0.9
#: Rounds are settled where half of each engine's runs took at most this share longer than its
#: fastest.
SPREAD = 0.3


@dataclass
class Timing:
    """How long the runs of an engine took.

    Attributes:
        wall: seconds of each run, by the clock.
        processor: seconds of each run, of all processors together; whatever else the machine does
            does not count.
    """

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def fastest(self) -> float:
        """Seconds of the fastest run."""
        return min(self.wall)

    @property
    def spread(self) -> float:
        """By which share of the fastest run the median run took longer."""
        return median(self.wall) / self.fastest - 1

    def beats(self, other: Timing) -> bool:
        """Whether it is clearly faster, and not because the other one had to wait for a processor:
        it may not keep the processors busy for longer.
        """
        return self.fastest <= CLEARLY * other.fastest and min(self.processor) <= min(
            other.processor
        )


def rank(name: str) -> int:
    """The place of an engine in :data:`PRIOR`; others come last."""
    return PRIOR.index(name) if name in PRIOR else len(PRIOR)


def choose(timings: Mapping[str, Timing]) -> str:
    """The name of the engine to take.

    Args:
        timings: of one or more engines, by name.
    """
    names = sorted(timings, key=rank)
    best = names[0]
    for name in names[1:]:
        if timings[name].beats(timings[best]):
            best = name
    return best


def is_settled(timings: Mapping[str, Timing]) -> bool:
    """Whether no engine's runs differ so much that the machine must have been busy."""
    return all(timing.spread <= SPREAD for timing in timings.values())
