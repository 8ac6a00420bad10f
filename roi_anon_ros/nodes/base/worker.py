"""A thread that works on the newest item of each stream; without ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from roi_anon_ros.nodes.base.health import LATE, MUTED, REPLACED, StreamHealth
from roi_anon_ros.nodes.base.mailbox import Mailbox

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Works on the newest item of each stream, in its own thread between :meth:`start` and
    :meth:`stop`.

    Whatever goes wrong with an item costs that item: it is counted, and the next one is tried.

    Args:
        name: of the whole, for :attr:`health`.
        streams: their names.
        work: on the newest items of some streams, at least one. It reports each of them: by
            :meth:`sent`, or by an exception within :meth:`at_the_cost_of`.
        on_drop: is called with the streams whose items were dropped, and with the exception.
        most: items, each of another stream, that are worked on at once where that many wait.
        loss: whether items that never arrive are worth a warning, see :class:`StreamHealth`.

    Attributes:
        health: of the whole by its name, and of each stream where there are several.
    """

    def __init__(
        self,
        name: str,
        streams: Sequence[str],
        work: Callable[[list[tuple[str, Item]]], None],
        on_drop: Callable[[Sequence[str], Exception], None],
        most: int = 1,
        loss: bool = False,
    ) -> None:
        self.name = name
        names = [name, *streams] if len(streams) > 1 else [name]
        self.health = {stream: StreamHealth(loss) for stream in names}
        # Of several streams, each has its own stamps; their common health has none.
        self._stamped = set(streams) if len(streams) > 1 else set(names)
        self._work = work
        self._on_drop = on_drop
        self._most = most
        self._mailbox: Mailbox[Item] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._mailbox = Mailbox()
        self._thread = threading.Thread(
            target=self._run, args=(self._mailbox,), name="work", daemon=True
        )
        self._thread.start()

    def stop(self, limit: float | None = None) -> bool:
        """Finish the items at work, drop those that wait, and end the thread; none needs to be
        running.

        Args:
            limit: seconds to wait for the items at work; None: as long as they take.

        Returns:
            Whether the thread has ended.
        """
        mailbox = self._mailbox
        thread = self._thread
        self._mailbox = None
        if mailbox is not None:
            mailbox.close()
        if thread is not None:
            thread.join(limit)
            if thread.is_alive():
                return False
        self._thread = None
        return True

    def put(self, stream: str, item: Item, stamp: float | None = None, now: float = 0.0) -> None:
        """Take an item, in place of one of its stream that waits; it is dropped where the thread
        does not run, and where it is older than one before it.

        Args:
            stream: that it is of.
            item: to work on.
            stamp: of the item, seconds; None where there are no stamps.
            now: of the clock that should have stamped it.
        """
        late = False
        for name, health in self._healths(stream).items():
            if name in self._stamped:
                late = health.received(stamp, now)
            else:
                health.received()
        mailbox = self._mailbox
        reason = ""
        if late:
            reason = LATE
        elif mailbox is None:
            reason = MUTED
        elif mailbox.put(stream, item):
            reason = REPLACED
        if reason:
            for health in self._healths(stream).values():
                health.dropped(reason)

    def sent(
        self,
        stream: str,
        seconds: dict[str, float],
        figures: dict[str, float] | None = None,
        age: float | None = None,
    ) -> None:
        """Report an item whose result went out.

        Args:
            stream: that it is of.
            seconds: that each stage took.
            figures: whatever else is measured on each item, by name.
            age: seconds from its stamp until now; None where there is no stamp.
        """
        for health in self._healths(stream).values():
            health.sent(seconds, figures, age)

    def warned(self, stream: str, message: str) -> None:
        """Report something wrong with an item of a stream that does not cost it."""
        for health in self._healths(stream).values():
            health.warned(message)

    @contextmanager
    def at_the_cost_of(self, streams: Sequence[str]) -> Iterator[None]:
        """Let an exception cost the items of these streams, and nothing else.

        They are dropped, and counted by the exception's ``reason``, or else its type.
        """
        try:
            yield
        except Exception as error:
            reason = getattr(error, "reason", type(error).__name__)
            for stream in streams:
                for health in self._healths(stream).values():
                    health.failed(reason, str(error))
            self._on_drop(streams, error)

    def _healths(self, stream: str) -> dict[str, StreamHealth]:
        return {name: self.health[name] for name in (self.name, stream) if name in self.health}

    def _run(self, mailbox: Mailbox[Item]) -> None:
        while items := mailbox.take(self._most):
            started = time.perf_counter()
            self._work(items)
            share = (time.perf_counter() - started) / len(items)
            for stream, _ in items:
                mailbox.charge(stream, share)
