"""How a stream of frames fares: counts, times, and whether something is wrong; without ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.nodes.base.stamps import Stamps

#: Frames that medians and 95th percentiles look back on.
WINDOW = 100
#: Seconds without a frame after which a stream is reported as silent.
SILENCE = 5.0
#: Why a frame was dropped that did nothing wrong.
REPLACED = "replaced by a newer frame"
LATE = "older than the one before"
MUTED = "muted"
#: Characters of a text from outside that go into a message.
LONGEST = 300
#: Share of the frames that may be lost on their way before that is worth a warning.
LOST = 0.1


class AgeError(RoiAnonError, ValueError):
    """A frame whose result comes too late."""

    reason = "age"


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


def cut(text: str, most: int = LONGEST) -> str:
    """A text of at most this many characters: what comes from outside may be of any length."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... ({len(text)} characters)"


class StreamHealth:
    """Counts and times of one stream of frames; may be called from several threads.

    A failure is reported as ERROR until the next good frame, and at least once. OK means that
    frames come in and go out.

    Args:
        loss: whether frames that never arrive are worth a warning.
    """

    def __init__(self, loss: bool = False) -> None:
        self._lock = threading.Lock()
        self._loss = loss
        self._stamps = Stamps()
        self._oddity = ""
        self._ages: deque[float] = deque(maxlen=WINDOW)
        self._newest_sent: float | None = None
        self._frames_in = 0
        self._sent = 0
        self._dropped: Counter[str] = Counter()
        self._newest: float | None = None
        self._figures: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._failure = ""
        self._unreported = ""
        self._warning = ""

    def received(self, stamp: float | None = None, now: float = 0.0) -> bool:
        """A frame came in.

        Args:
            stamp: of the frame, seconds; None where there are no stamps.
            now: of the clock that should have stamped it.

        Returns:
            Whether a newer one came in before it.
        """
        with self._lock:
            self._frames_in += 1
            self._newest = time.monotonic()
            if stamp is None:
                return False
            late = self._stamps.is_late(stamp, now)
            self._oddity = self._stamps.oddity or self._oddity
            return late

    def dropped(self, reason: str) -> None:
        """A frame was dropped that did nothing wrong: :data:`REPLACED`, :data:`LATE`, ..."""
        with self._lock:
            self._dropped[reason] += 1

    def counts(self) -> tuple[int, int, Counter[str]]:
        """Frames that came in, that went out, and that were dropped, by reason."""
        with self._lock:
            return self._frames_in, self._sent, self._dropped.copy()

    def failed(self, reason: str, message: str) -> None:
        """A frame was dropped because of an error.

        Args:
            reason: one of few words, to count by.
            message: what was wrong.
        """
        with self._lock:
            self._dropped[reason] += 1
            said = message if message.startswith(f"{reason}: ") else f"{reason}: {message}"
            self._failure = cut(said)
            self._unreported = self._failure

    def warned(self, message: str) -> None:
        """Something is wrong that costs no frame; WARN until the next report.

        Args:
            message: what is wrong.
        """
        with self._lock:
            self._warning = cut(message)

    def sent(
        self,
        seconds: dict[str, float],
        figures: dict[str, float] | None = None,
        age: float | None = None,
    ) -> None:
        """A frame went out.

        Args:
            seconds: time of each stage.
            figures: whatever else is measured on each frame, by name; means over the last frames
                are reported.
            age: seconds from the frame's stamp until now; None where there is no stamp.
        """
        with self._lock:
            self._sent += 1
            self._failure = ""
            self._newest_sent = time.monotonic()
            if age is not None:
                self._ages.append(age)
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
            level, message = self._judge(state)
            self._unreported = ""
            self._oddity = ""
            self._warning = ""
            return Report(level, message, self._values())

    def _judge(self, state: str) -> tuple[Level, str]:
        now = time.monotonic()
        age = None if self._newest is None else now - self._newest
        failure = self._failure or self._unreported
        lost = self._stamps.share_lost() if self._loss else 0.0
        if failure:
            return Level.ERROR, failure
        if state:
            return Level.OK, state
        if age is None:
            return Level.WARN, "no frame yet"
        if age > SILENCE:
            return Level.WARN, f"no frame for {age:.0f} s"
        if self._newest_sent is None:
            return Level.WARN, "frames come in, and none went out yet"
        if now - self._newest_sent > SILENCE:
            return Level.WARN, f"no frame went out for {now - self._newest_sent:.0f} s"
        oddity = self._warning or self._oddity or self._stamps.oddity
        if oddity:
            return Level.WARN, oddity
        if lost > LOST:
            return Level.WARN, f"{lost:.0%} of the frames are lost on their way to this node"
        return Level.OK, "frames flow"

    def _values(self) -> dict[str, str]:
        values: dict[str, object] = {"frames in": self._frames_in, "frames sent": self._sent}
        values["frames dropped"] = self._dropped.total()
        values |= {f"dropped, {reason}": count for reason, count in sorted(self._dropped.items())}
        values["age of newest frame (s)"] = (
            "" if self._newest is None else f"{time.monotonic() - self._newest:.1f}"
        )
        if self._ages:
            median, p95 = np.percentile(self._ages, (50, 95))
            values["age of the image when sent, median (s)"] = f"{median:.3f}"
            values["age of the image when sent, p95 (s)"] = f"{p95:.3f}"
        if self._loss:
            values["share lost on the way"] = f"{self._stamps.share_lost():.2f}"
        for name, figures in self._figures.items():
            values[name] = f"{np.mean(figures):.4f}"
        for stage, seconds in self._seconds.items():
            median, p95 = 1000 * np.percentile(seconds, (50, 95))
            values[f"{stage} last (ms)"] = f"{1000 * seconds[-1]:.2f}"
            values[f"{stage} median (ms)"] = f"{median:.2f}"
            values[f"{stage} p95 (ms)"] = f"{p95:.2f}"
        return {name: str(value) for name, value in values.items()}
