"""How a stream of frames fares: counts, times, and whether something is wrong; without ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

#: Frames that medians and 95th percentiles look back on.
WINDOW = 100
#: Seconds without a frame after which a stream is reported as silent.
SILENCE = 5.0
#: Why a frame was dropped that did nothing wrong.
REPLACED = "replaced by a newer frame"


class Level(IntEnum):
    """How serious a report is; the numbers are those of ROS diagnostics."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Report:
    """What a stream says of itself.

    Attributes:
        level: how serious it is.
        message: what is wrong, or why nothing is expected.
        values: counts and times, by name.
    """

    level: Level
    message: str
    values: dict[str, str]


class StreamHealth:
    """Counts and times of one stream of frames; may be called from several threads.

    A failure is reported as ERROR until the next good frame, and at least once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames_in = 0
        self._sent = 0
        self._dropped: Counter[str] = Counter()
        self._newest: float | None = None
        self._figures: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._failure = ""
        self._unreported = ""

    def received(self) -> None:
        """A frame came in."""
        with self._lock:
            self._frames_in += 1
            self._newest = time.monotonic()

    def replaced(self) -> None:
        """A frame was dropped because a newer one came before its turn."""
        with self._lock:
            self._dropped[REPLACED] += 1

    def failed(self, reason: str, message: str) -> None:
        """A frame was dropped because of an error.

        Args:
            reason: one of few words, to count by.
            message: what was wrong.
        """
        with self._lock:
            self._dropped[reason] += 1
            self._failure = self._unreported = f"{reason}: {message}"

    def sent(self, seconds: dict[str, float], figures: dict[str, float] | None = None) -> None:
        """A frame went out.

        Args:
            seconds: time of each stage.
            figures: whatever else is measured on each frame, by name; means over the last frames
                are reported.
        """
        with self._lock:
            self._sent += 1
            self._failure = ""
            for name, value in (figures or {}).items():
                self._figures[name].append(value)
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def report(self, state: str = "") -> Report:
        """The report, which is ERROR, WARN or OK.

        Args:
            state: where not empty, why no frames are expected now; silence is no reason to warn
                then.
        """
        with self._lock:
            age = None if self._newest is None else time.monotonic() - self._newest
            failure = self._failure or self._unreported
            self._unreported = ""
            if failure:
                level, message = Level.ERROR, failure
            elif state:
                level, message = Level.OK, state
            elif age is None:
                level, message = Level.WARN, "no frame yet"
            elif age > SILENCE:
                level, message = Level.WARN, f"no frame for {age:.0f} s"
            else:
                level, message = Level.OK, "frames flow"
            values = {"frames in": self._frames_in, "frames sent": self._sent}
            values["frames dropped"] = self._dropped.total()
            values |= {
                f"dropped, {reason}": count for reason, count in sorted(self._dropped.items())
            }
            values["age of newest frame (s)"] = "" if age is None else f"{age:.1f}"
            for name, figures in self._figures.items():
                values[name] = f"{np.mean(figures):.4f}"
            for stage, seconds in self._seconds.items():
                median, p95 = 1000 * np.percentile(seconds, (50, 95))
                values[f"{stage} last (ms)"] = f"{1000 * seconds[-1]:.2f}"
                values[f"{stage} median (ms)"] = f"{median:.2f}"
                values[f"{stage} p95 (ms)"] = f"{p95:.2f}"
        return Report(level, message, {name: str(value) for name, value in values.items()})
