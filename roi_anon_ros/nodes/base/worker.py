"""A thread that works on the newest item of each stream; without ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from roi_anon_ros.nodes.base.health import StreamHealth
from roi_anon_ros.nodes.base.mailbox import Mailbox

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Works on the newest item of each stream, in a thread of its own between :meth:`start` and
    :meth:`stop`.

    Whatever goes wrong with an item costs that item: it is counted, and the next one is tried.

    Args:
        name: of the whole, for :attr:`health`.
        streams: their names.
        work: on the newest items of some streams, at least one. It reports each of them: by
            :meth:`sent`, or by an exception within :meth:`at_the_cost_of`.
        on_drop: is called with the streams whose items were dropped, and with the exception.
        most: items, each of another stream, that are worked on at once where so many wait.

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
    ) -> None:
        self.name = name
        names = [name, *streams] if len(streams) > 1 else [name]
        self.health = {stream: StreamHealth() for stream in names}
        self._work = work
        self._on_drop = on_drop
        self._most = most
        self._mailbox: Mailbox[Item] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._mailbox = Mailbox()
        self._thread = threading.Thread(target=self._run, args=(self._mailbox,), name="work")
        self._thread.start()

    def stop(self) -> None:
        """Finish the items at work, drop those that wait, and end the thread; none needs to be
        running.
        """
        if self._mailbox is not None and self._thread is not None:
            self._mailbox.close()
            self._thread.join()
        self._mailbox = None
        self._thread = None

    def put(self, stream: str, item: Item) -> None:
        """Take an item, in place of one of its stream that waits; only while the thread runs."""
        assert self._mailbox is not None
        replaced = self._mailbox.put(stream, item)
        for health in self._healths(stream):
            health.received()
            if replaced:
                health.replaced()

    def sent(
        self, stream: str, seconds: dict[str, float], figures: dict[str, float] | None = None
    ) -> None:
        """Report an item whose result went out.

        Args:
            stream: that it is of.
            seconds: that each stage took.
            figures: whatever else is measured on each item, by name.
        """
        for health in self._healths(stream):
            health.sent(seconds, figures)

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
                for health in self._healths(stream):
                    health.failed(reason, str(error))
            self._on_drop(streams, error)

    def _healths(self, stream: str) -> list[StreamHealth]:
        return [self.health[name] for name in (self.name, stream) if name in self.health]

    def _run(self, mailbox: Mailbox[Item]) -> None:
        while items := mailbox.take(self._most):
            self._work(items)
