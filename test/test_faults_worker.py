"""Stamps, turns and reports of streams, without ROS."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.nodes.base.health import LATE, LONGEST, Level, StreamHealth
from roi_anon_ros.nodes.base.mailbox import Mailbox
from roi_anon_ros.nodes.base.stamps import Stamps
from roi_anon_ros.nodes.base.worker import Worker

#: Seconds that only a hang reaches.
LIMIT = 60


def judge(stamps: Stamps, times: list[float], now: float = 1000.0) -> list[bool]:
    return [stamps.is_late(time, now) for time in times]


def test_a_late_frame_is_named_and_the_next_good_one_is_not() -> None:
    stamps = Stamps()
    assert judge(stamps, [10.0, 10.1, 10.0]) == [False, False, True]
    assert "backwards" in stamps.oddity
    assert judge(stamps, [10.2, 10.2]) == [False, False]
    assert stamps.oddity == ""


def test_a_clock_that_was_set_back_is_believed_after_three_frames_in_order() -> None:
    stamps = Stamps()
    assert judge(stamps, [500.0, 3.0, 3.1, 3.2, 3.3]) == [False, True, True, False, False]
    # Late ones out of order, or between newer ones, are no new clock.
    assert judge(stamps, [2.9, 2.8, 2.7, 2.6]) == [True] * 4
    assert judge(stamps, [2.61, 3.4, 2.62, 3.5, 2.63]) == [True, False, True, False, True]


def test_stamps_ahead_and_zero_are_named_and_cost_nothing() -> None:
    stamps = Stamps()
    assert not stamps.is_late(1000.0 + 3600, 1000.0) and "3600.0 s ahead" in stamps.oddity
    assert not stamps.is_late(0.0, 1000.0) and "zero" in stamps.oddity
    assert judge(stamps, [1000.1, 1000.2, 1000.3]) == [True, True, False]


@given(st.floats(0.0, 0.75), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 1.0]))
def test_the_share_that_is_lost_is_estimated_from_gaps(
    share: float, seed: int, period: float
) -> None:
    noise = np.random.default_rng(seed)
    kept = noise.random(2000) >= share
    times = 100 + period * np.arange(2000) + noise.normal(0, 0.01 * period, 2000)
    stamps = Stamps()
    judge(stamps, times[kept].tolist())
    last = np.flatnonzero(kept)[-100:]
    truth = 1 - 99 / (last[-1] - last[0])
    assert stamps.share_lost() == pytest.approx(truth, abs=0.08)


def test_a_stream_without_a_period_loses_nothing() -> None:
    times = 100 + np.cumsum(np.random.default_rng(0).uniform(0.1, 0.35, 300))
    stamps = Stamps()
    judge(stamps, times.tolist())
    assert stamps.share_lost() == 0.0
    assert Stamps().share_lost() == 0.0


@pytest.mark.slow
@given(st.floats(0.5, 3.0), st.floats(0.01, 0.2))
def test_streams_share_the_time_and_not_the_turns(costly: float, cheap: float) -> None:
    mailbox: Mailbox[int] = Mailbox()
    costs = {"costly": costly, "cheap": cheap}
    used = dict.fromkeys(costs, 0.0)
    while sum(used.values()) < 100:
        for stream in costs:
            mailbox.put(stream, 0)
        ((stream, _),) = mailbox.take()
        mailbox.charge(stream, costs[stream])
        used[stream] += costs[stream]
        assert used["cheap"] >= used["costly"] - costly - cheap
    assert used["cheap"] == pytest.approx(50, abs=costly + cheap)


def test_a_stream_that_was_silent_has_saved_nothing_up() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for _ in range(50):
        mailbox.put("busy", 0)
        mailbox.take()
        mailbox.charge("busy", 1.0)
    taken = []
    for _ in range(10):
        for stream in ("busy", "late"):
            mailbox.put(stream, 0)
        ((stream, _),) = mailbox.take()
        mailbox.charge(stream, 1.0)
        taken.append(stream)
    assert taken.count("busy") >= 4


def test_a_worker_drops_what_comes_late_and_counts_it() -> None:
    done = threading.Semaphore(0)
    seen: list[float] = []

    def work(items: list[tuple[str, float]]) -> None:
        for stream, item in items:
            seen.append(item)
            worker.sent(stream, {}, age=0.25)
            done.release()

    worker: Worker[float] = Worker("both", ["left", "right"], work, lambda streams, error: None)
    worker.start()
    for stream, stamp in (("left", 5.0), ("right", 1.0), ("left", 4.0), ("left", 6.0)):
        worker.put(stream, stamp, stamp, 6.0)
        if stamp != 4.0:
            assert done.acquire(timeout=LIMIT)
    worker.stop()
    assert seen == [5.0, 1.0, 6.0]  # each stream has its own stamps
    values = worker.health["both"].report().values
    assert (
        values[f"dropped, {LATE}"]
        == "1"
        == worker.health["left"].report().values[f"dropped, {LATE}"]
    )
    assert f"dropped, {LATE}" not in worker.health["right"].report().values
    assert values["age of the image when sent, median (s)"] == "0.250"


def test_ok_means_that_frames_come_in_and_go_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("roi_anon_ros.nodes.base.health.time.monotonic", lambda: clock[0])
    health = StreamHealth()
    health.received()
    assert health.report().level is Level.WARN and "none went out" in health.report().message
    health.sent({})
    assert health.report().level is Level.OK
    clock[0] += 6
    health.received()
    assert health.report().level is Level.WARN and "went out" in health.report().message


def test_lost_frames_are_a_warning_where_that_is_asked_for() -> None:
    for loss, level in ((True, Level.WARN), (False, Level.OK)):
        health = StreamHealth(loss)
        for number in range(0, 300, 3):
            health.received(100 + 0.1 * number + (0.1 if number % 2 else 0), 200.0)
            health.sent({})
        assert health.report().level is level
    assert ("share lost on the way" in health.report().values) is False


def test_a_reason_is_said_once_and_foreign_text_is_cut() -> None:
    health = StreamHealth()
    error = PacketError("crc", "the packet was damaged on its way")
    health.failed(error.reason, str(error))
    assert health.report().message == "crc: the packet was damaged on its way"
    health.failed("encoding", "x" * 100_000)
    assert len(health.report().message) < LONGEST + 50
