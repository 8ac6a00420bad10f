"""Where a callback leaves the newest frame for the thread that works on it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """One slot for each stream, whose newest item wins; the streams share the time.

    The stream that has used the least time goes first, and among equals the one that waits longest
    (start-time fair queueing): an item that takes long costs its own stream turns, and no other.
    A stream that was silent has saved nothing up.
    """

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._slots: dict[str, Item] = {}
        self._used: dict[str, float] = {}
        self._served = 0.0  # what the stream had used that was taken last
        self._closed = False

    def put(self, stream: str, item: Item) -> bool:
        """Leave an item. Returns whether it replaced one that had not been taken."""
        with self._ready:
            replaced = stream in self._slots
            if not replaced:
                self._used[stream] = max(self._used.get(stream, 0.0), self._served)
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
            streams = sorted(self._slots, key=lambda stream: self._used[stream])[:most]
            self._served = self._used[streams[0]]
            return [(stream, self._slots.pop(stream)) for stream in streams]

    def charge(self, stream: str, seconds: float) -> None:
        """Count the time that an item of this stream took."""
        with self._ready:
            self._used[stream] = self._used.get(stream, 0.0) + seconds

    def close(self) -> None:
        """Drop what is left, and let :meth:`take` return nothing from now on."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
