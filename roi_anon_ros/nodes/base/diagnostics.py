"""What a node says about itself every second."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

#: Frames that medians and 95th percentiles look back on.
WINDOW = 100
#: Seconds without a frame after which a stream is reported as silent.
SILENCE = 5.0
#: Why a frame was dropped that did nothing wrong.
REPLACED = "replaced by a newer frame"


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
        self._bits_per_pixel: deque[float] = deque(maxlen=WINDOW)
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

    def sent(self, bits_per_pixel: float, seconds: dict[str, float]) -> None:
        """A frame went out.

        Args:
            bits_per_pixel: bits of its packet over the pixels of its source.
            seconds: time of each stage.
        """
        with self._lock:
            self._sent += 1
            self._failure = ""
            self._bits_per_pixel.append(bits_per_pixel)
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def status(self, name: str, state: str = "") -> DiagnosticStatus:
        """The report, which is ERROR, WARN or OK.

        Args:
            name: of the status.
            state: where not empty, why no frames are expected now; silence is no reason to warn then.
        """
        with self._lock:
            age = None if self._newest is None else time.monotonic() - self._newest
            failure = self._failure or self._unreported
            self._unreported = ""
            if failure:
                level, message = DiagnosticStatus.ERROR, failure
            elif state:
                level, message = DiagnosticStatus.OK, state
            elif age is None:
                level, message = DiagnosticStatus.WARN, "no frame yet"
            elif age > SILENCE:
                level, message = DiagnosticStatus.WARN, f"no frame for {age:.0f} s"
            else:
                level, message = DiagnosticStatus.OK, "frames flow"
            values = {"frames in": self._frames_in, "frames sent": self._sent}
            values["frames dropped"] = self._dropped.total()
            values |= {f"dropped, {reason}": count for reason, count in sorted(self._dropped.items())}
            values["age of newest frame (s)"] = "" if age is None else f"{age:.1f}"
            if self._bits_per_pixel:
                values["bits per pixel"] = f"{np.mean(self._bits_per_pixel):.4f}"
            for stage, seconds in self._seconds.items():
                median, p95 = 1000 * np.percentile(seconds, (50, 95))
                values[f"{stage} last (ms)"] = f"{1000 * seconds[-1]:.2f}"
                values[f"{stage} median (ms)"] = f"{median:.2f}"
                values[f"{stage} p95 (ms)"] = f"{p95:.2f}"
        return status(name, level, message, values)


def status(name: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    """A DiagnosticStatus of plain values."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
