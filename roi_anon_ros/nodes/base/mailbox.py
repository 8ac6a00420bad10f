"""Where a callback leaves the newest frame for the thread that works on it."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

#: Seconds of work on others for which a stream waits at most, where its share of the time is not
#: less.
LONGEST_WAIT = 1.0


@dataclass
class Turns:
    """What a stream had of the time.

    Attributes:
        used: seconds, and what it was behind the others when it came back from silence.
        since: seconds of work on all streams until its item began to wait.
        costs: of its last two items, seconds.
    """

    used: float = 0.0
    since: float = 0.0
    costs: tuple[float, float] = (math.inf, math.inf)

    def usual(self) -> float:
        """Seconds that an item takes: the less of the last two, for a machine may stall once."""
        cost = min(self.costs)
        return 0.0 if cost == math.inf else cost


class Mailbox(Generic[Item]):
    """One slot for each stream, whose newest item wins; the streams share the time.

    The stream that has used the least time goes first, and among equals the one that waits longest
    (start-time fair queueing): an item that takes long costs its own stream turns, and no other.
    A stream that was silent has saved nothing up.

    An item that took long because the machine stalled would cost its stream as many turns. So a
    stream is overdue that waited for more than `LONGEST_WAIT`, and for more than all turns would
    take if they were as long as its own usually are. Overdue streams go before all others, the one
    that waits longest first, and owe nothing afterwards.
    """

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._slots: dict[str, Item] = {}
        self._turns: dict[str, Turns] = {}
        self._served = 0.0  # what the stream had used that was taken last
        self._worked = 0.0  # seconds on all streams
        self._closed = False

    def put(self, stream: str, item: Item) -> bool:
        """Leave an item. Returns whether it replaced one that had not been taken."""
        with self._ready:
            replaced = stream in self._slots
            if not replaced:
                turns = self._turns.setdefault(stream, Turns())
                turns.used = max(turns.used, self._served)
                turns.since = self._worked
            self._slots[stream] = item  # a replaced item keeps its stream's turn
            self._ready.notify()
            return replaced

    def take(self, most: int = 1) -> list[tuple[str, Item]]:
        """Wait for an item, and take what waits, without waiting for more.

        Args:
            most: items to take, one of each stream, in the order of their streams' turns.

        Returns:
            Streams and items, at least one; none once the mailbox is closed.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._slots or self._closed)
            if self._closed:
                return []
            least = min(self._turns[stream].used for stream in self._slots)
            overdue = [stream for stream in self._slots if self._is_overdue(stream)]
            for stream in overdue:
                self._turns[stream].used = least
            first = sorted(overdue, key=lambda stream: self._turns[stream].since)
            rest = [stream for stream in self._slots if stream not in overdue]
            streams = [*first, *sorted(rest, key=lambda stream: self._turns[stream].used)][:most]
            self._served = self._turns[streams[0]].used
            return [(stream, self._slots.pop(stream)) for stream in streams]

    def _is_overdue(self, stream: str) -> bool:
        turns = self._turns[stream]
        share = len(self._slots) * turns.usual()
        return self._worked - turns.since > max(LONGEST_WAIT, share)

    def charge(self, stream: str, seconds: float) -> None:
        """Count the time that an item of this stream took."""
        with self._ready:
            turns = self._turns.setdefault(stream, Turns())
            turns.used += seconds
            turns.costs = (turns.costs[1], seconds)
            self._worked += seconds

    def close(self) -> None:
        """Drop what is left, and let :meth:`take` return nothing from now on."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
