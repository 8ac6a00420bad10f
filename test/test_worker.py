"""The worker of a node, its mailbox and its health: all that is no ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.nodes.base.health import Level, StreamHealth
from roi_anon_ros.nodes.base.mailbox import LONGEST_WAIT, Mailbox
from roi_anon_ros.nodes.base.worker import Worker

#: Seconds that only a hang reaches.
LIMIT = 60


def test_mailbox_keeps_the_newest_and_streams_take_turns() -> None:
    mailbox: Mailbox[int] = Mailbox()
    puts = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", 5)]
    assert [mailbox.put(*put) for put in puts] == [False, False, True, True, False]
    assert mailbox.take() == [("a", 4)]
    mailbox.put("a", 6)
    assert [mailbox.take() for _ in range(3)] == [[("b", 2)], [("c", 5)], [("a", 6)]]


def test_mailbox_gives_what_waits_up_to_a_number_and_waits_for_no_more() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for stream in "abc":
        mailbox.put(stream, 0)
    assert mailbox.take(2) == [("a", 0), ("b", 0)]
    for stream in "abcd":  # the newest of c, whose turn is still before that of those taken
        mailbox.put(stream, 1)
    assert mailbox.take(2) == [("c", 1), ("a", 1)]
    assert mailbox.take(9) == [("b", 1), ("d", 1)]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_stream_starves_in_a_mailbox_where_all_are_always_full(most: int) -> None:
    mailbox: Mailbox[int] = Mailbox()
    takes = []
    for item in range(20):
        for stream in "abcde":
            mailbox.put(stream, item)
        takes.append([stream for stream, _ in mailbox.take(most)])
        assert len(takes[-1]) == most
    turn = -(-5 // most)  # takes until everybody had one
    for first in range(20 - turn):
        assert {stream for take in takes[first : first + turn] for stream in take} == set("abcde")


def play(costs: dict[str, float], stalled: str = "", stall: float = 0.0) -> dict[str, float]:
    """Let streams that are always full share 200 seconds.

    Args:
        costs: seconds that an item of each takes.
        stalled: the stream whose first item after 50 seconds takes longer.
        stall: seconds that it takes longer.

    Returns:
        The longest time between two turns of each.
    """
    mailbox: Mailbox[int] = Mailbox()
    now = 0.0
    last = dict.fromkeys(costs, 0.0)
    gaps = dict.fromkeys(costs, 0.0)
    while now < 200:
        for stream in costs:
            mailbox.put(stream, 0)
        ((stream, _),) = mailbox.take()
        gaps[stream] = max(gaps[stream], now - last[stream])
        last[stream] = now
        seconds = costs[stream]
        if stream == stalled and now > 50:
            seconds += stall
            stalled = ""
        mailbox.charge(stream, seconds)
        now += seconds
    return gaps


def test_a_turn_that_took_long_once_costs_its_stream_one_wait() -> None:
    cameras = dict.fromkeys("abcdefgh", 0.1)
    gaps = play(cameras, "a", 3.0)
    # The stall, then 1 s of the others' turns and those that are overdue by then; by the time used
    # alone it would be 3 s of each of the seven others.
    assert gaps["a"] < 3.1 + LONGEST_WAIT + 0.7
    assert max(gaps.values()) == gaps["a"]


def test_large_items_of_one_stream_starve_no_other() -> None:
    cameras = dict.fromkeys("abcdefgh", 0.1)
    gaps = play(cameras | {"a": 1.0})
    # One large item and a turn of everybody else; the large ones have their eighth of the time.
    assert max(gaps[stream] for stream in "bcdefgh") < 1.0 + 8 * 0.1
    assert 8.0 < gaps["a"] < 9.0


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12))
def test_no_stream_waits_for_longer_than_its_share(costs: list[float]) -> None:
    streams = {str(number): cost for number, cost in enumerate(costs)}
    gaps = play(streams)
    for stream, gap in gaps.items():
        share = max(LONGEST_WAIT, len(costs) * streams[stream])
        # Overdue at the end of the turn that is under way; the others that are overdue go first.
        assert gap <= share + max(costs) + sum(costs) + streams[stream] + 1e-6


def test_a_closed_mailbox_gives_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[object] = []
    waiting = threading.Thread(target=lambda: taken.append(mailbox.take(3)))
    waiting.start()
    mailbox.close()
    waiting.join(10)
    mailbox.put("a", 1)
    assert taken == [[]] and mailbox.take() == []


def test_health_shows_an_error_until_a_good_frame_and_at_least_once() -> None:
    def levels(health: StreamHealth) -> Level:
        return health.report().level

    health = StreamHealth()
    assert levels(health) == Level.WARN  # no frame yet
    health.received()
    health.failed("step", "step 3, must be at least 4")
    assert [levels(health) for _ in range(2)] == [Level.ERROR, Level.ERROR]
    health.sent({"fit": 0.002}, {"bits per pixel": 0.5})
    assert levels(health) == Level.OK
    health.failed("step", "again")
    health.sent({"fit": 0.004}, {"bits per pixel": 1.5})
    assert [levels(health) for _ in range(2)] == [Level.ERROR, Level.OK]
    values = health.report().values
    assert values["frames dropped"] == values["dropped, step"] == "2"
    assert values["bits per pixel"] == "1.0000"
    assert values["fit median (ms)"] == "3.00" and values["fit last (ms)"] == "4.00"


def test_a_worker_drops_what_raises_counts_it_and_goes_on() -> None:
    done = threading.Event()
    dropped: list[tuple[list[str], str]] = []

    def work(items: list[tuple[str, int]]) -> None:
        for stream, item in items:
            with worker.at_the_cost_of([stream]):
                if item < 0:
                    raise ArithmeticError("below 0")
                worker.sent(stream, {"add": 0.001}, {"size": float(item)})
                done.set()

    def on_drop(streams: Sequence[str], error: Exception) -> None:
        dropped.append((list(streams), str(error)))
        done.set()

    worker: Worker[int] = Worker("adder", ["left", "right"], work, on_drop)
    assert list(worker.health) == ["adder", "left", "right"]
    worker.start()
    for stream, item in (("left", -1), ("right", 4)):
        worker.put(stream, item)
        assert done.wait(LIMIT)
        done.clear()
    worker.stop()
    assert dropped == [(["left"], "below 0")]
    whole = worker.health["adder"].report()
    assert whole.values["frames in"] == "2" and whole.values["frames sent"] == "1"
    assert whole.values["dropped, ArithmeticError"] == "1" and whole.values["size"] == "4.0000"
    assert worker.health["left"].report().level is Level.ERROR
    assert worker.health["right"].report().level is Level.OK
    worker.stop()  # once more is no error


def test_a_worker_starts_anew_without_what_waited() -> None:
    busy, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def work(items: list[tuple[str, int]]) -> None:
        busy.set()
        assert go_on.wait(LIMIT)
        seen.extend(item for _, item in items)

    worker: Worker[int] = Worker("one", ["only"], work, lambda streams, error: None)
    assert list(worker.health) == ["one"], "one stream has no separate health"
    worker.start()
    worker.put("only", 1)
    assert busy.wait(LIMIT)
    worker.put("only", 2)
    worker.put("only", 3)
    assert worker.health["one"].report().values["frames dropped"] == "1"
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    go_on.set()
    stopping.join(LIMIT)
    assert not stopping.is_alive() and seen[:1] == [1]
    worker.start()
    busy.clear()
    worker.put("only", 9)
    assert busy.wait(LIMIT)
    worker.stop()
    assert seen[-1] == 9
