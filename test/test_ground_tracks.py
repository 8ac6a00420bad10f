from __future__ import annotations

import numpy as np
import pytest
from ground_scene import make_camera
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.ground.floor import Floor
from roi_anon_ros.ground.locate import Sighting
from roi_anon_ros.ground.tracks import Frame, Motion, Names, TrackSet

PERIOD = 0.1
DEVIATION = 0.15


def see(
    place: np.ndarray, random: np.random.Generator | None = None, deviation: float = DEVIATION
) -> Sighting:
    covariance = deviation**2 * np.eye(2)
    moved = place if random is None else place + deviation * random.normal(size=2)
    return Sighting(np.asarray(moved, float), covariance, "feet", (0, 0, 1, 1), 0.9)


def overlooking(name: str = "north") -> object:
    """A camera that sees everything between 2 and 25 m ahead."""
    return make_camera(position=(0.0, 0.0, 8.0), down=0.7, name=name)


def play(paths, steps, random, drop=0.0, cameras=("north",), offset=0.0, delay=0, motion=None):
    """Frames of cameras in turn; a camera after the first is off by an offset, and late."""
    tracks = TrackSet(Floor(), motion)
    frames = []
    for step in range(steps):
        for number, name in enumerate(cameras):
            stamp = step * PERIOD + number * PERIOD / 2
            shift = np.array([offset * number, 0.0])
            places = [path(stamp) + shift for path in paths]
            seen = tuple(see(p, random) for p in places if random.uniform() >= drop)
            frames.append((step + delay * number, Frame(stamp, overlooking(name), seen)))
    for _, frame in sorted(frames, key=lambda pair: pair[0]):
        assert tracks.add(frame)
    return tracks


def confirmed(tracks: TrackSet, stamp: float | None = None) -> list:
    when = tracks.newest if stamp is None else stamp
    return [track for track in tracks.at(when) if track.log_odds >= tracks.motion.confirmed]


def walk(start, velocity):
    return lambda stamp: np.asarray(start) + stamp * np.asarray(velocity)


def test_two_people_who_cross_stay_who_they_are() -> None:
    random = np.random.default_rng(1)
    paths = [walk([8.0, -3.0], [0.0, 1.2]), walk([9.2, 3.0], [0.0, -1.2])]
    early = play(paths, 10, random, drop=0.2)
    by_place = sorted(confirmed(early), key=lambda track: track.state[1])
    first = [track.key for track in by_place]
    assert len(first) == 2
    late = play(paths, 50, np.random.default_rng(1), drop=0.2)
    after = sorted(confirmed(late), key=lambda track: -track.state[1])
    assert [track.key for track in after] == first
    np.testing.assert_allclose(after[0].state[2:], [0, 1.2], atol=0.4)


def test_overlapping_cameras_see_one_person_once() -> None:
    random = np.random.default_rng(2)
    tracks = play([walk([8, -2], [0, 1])], 30, random, cameras=("north", "south"), offset=0.3)
    there = confirmed(tracks)
    assert len(there) == 1
    assert set(there[0].hits) == {"north", "south"}
    assert np.linalg.norm(there[0].state[:2] - [8.15, 0.95]) < 0.25


def test_two_who_walk_side_by_side_stay_two() -> None:
    random = np.random.default_rng(3)
    paths = [walk([8.0, -3.0], [0, 1]), walk([8.6, -3.0], [0, 1])]
    assert len(confirmed(play(paths, 50, random, drop=0.1))) == 2


def test_second_birth_of_one_person_is_united_with_the_first() -> None:
    tracks = TrackSet(Floor())
    for step in range(12):
        stamp = step * PERIOD
        tracks.add(Frame(stamp, overlooking("north"), (see(np.array([8.0, 0.0]), None, 0.05),)))
        tracks.add(
            Frame(stamp + 0.05, overlooking("south"), (see(np.array([8.55, 0.0]), None, 0.05),))
        )
    assert len(tracks.at(tracks.newest)) == 1


@given(st.permutations(range(8)), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_order_of_arrival_changes_nothing(order: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = []
    for number in range(8):
        seen = tuple(see(np.array([8.0 + k, number * 0.1]), random) for k in range(2))
        frames.append(Frame(number * 0.1, overlooking(("north", "south")[number % 2]), seen))
    straight = TrackSet(Floor())
    shuffled = TrackSet(Floor())
    for number, other in enumerate(order):
        assert straight.add(frames[number])
        assert shuffled.add(frames[other])
    for one, two in zip(straight.at(1.0), shuffled.at(1.0), strict=True):
        assert one.key == two.key
        np.testing.assert_array_equal(one.state, two.state)


def test_what_comes_after_the_window_or_twice_changes_nothing() -> None:
    tracks = TrackSet(Floor())
    camera = overlooking()
    assert tracks.add(Frame(10.0, camera, (see(np.array([8.0, 0.0])),)))
    assert not tracks.add(Frame(10.0, camera, ()))
    assert not tracks.add(Frame(8.9, overlooking("south"), (see(np.array([9.0, 0.0])),)))
    assert tracks.add(Frame(9.1, overlooking("south"), ()))
    assert len(tracks.at(10.0)) == 1


def test_late_camera_gives_the_same_as_one_in_time() -> None:
    path = walk([8.0, -2.0], [0.3, 0.9])
    both = ("north", "south")
    in_time = play([path], 30, np.random.default_rng(5), cameras=both)
    late = play([path], 30, np.random.default_rng(5), cameras=both, delay=5)
    np.testing.assert_array_equal(in_time.at(2.95)[0].state, late.at(2.95)[0].state)


def test_covariance_of_tracks_holds_what_it_says() -> None:
    """Who moves as the model says lies within the 90 % ellipse of x, y, vx, vy 90 % of times."""
    random = np.random.default_rng(6)
    motion = Motion()
    squares = []
    spread = np.array([[PERIOD**3 / 3, PERIOD**2 / 2], [PERIOD**2 / 2, PERIOD]])
    for _ in range(60):
        state = np.append([9.0, 0.0], random.normal(size=2) * motion.speed_deviation)
        tracks = TrackSet(Floor(), motion)
        for step in range(12):
            tracks.add(Frame(step * PERIOD, overlooking(), (see(state[:2], random),)))
            kick = random.multivariate_normal([0, 0], motion.acceleration * spread, 2)
            if step < 11:
                state = np.append(
                    state[:2] + PERIOD * state[2:] + kick[:, 0], state[2:] + kick[:, 1]
                )
        track = min(tracks.at(tracks.newest), key=lambda t: np.linalg.norm(t.state[:2] - state[:2]))
        away = track.state - state
        squares.append(away @ np.linalg.solve(track.covariance, away))
    assert np.mean(np.array(squares) < 7.779) == pytest.approx(0.9, abs=0.11)  # chi-square of 4
    assert np.mean(squares) == pytest.approx(4.0, abs=1.1)


def test_prediction_is_for_the_time_asked() -> None:
    tracks = play([walk([8, -2], [0.5, 1.0])], 30, np.random.default_rng(7))
    known = confirmed(tracks)[0]
    ahead = confirmed(tracks, tracks.newest + 0.8)[0]
    np.testing.assert_allclose(ahead.state[:2], known.state[:2] + 0.8 * known.state[2:])
    assert ahead.covariance[0, 0] > known.covariance[0, 0]
    before = tracks.at(tracks.newest - 0.35)
    assert before[0].state[1] < known.state[1] - 0.2


def test_person_who_left_is_gone_soon_and_one_false_alarm_never_counts() -> None:
    tracks = play([walk([8, 0], [0, 0])], 20, np.random.default_rng(8))
    camera = overlooking()
    gone_after = None
    for step in range(20, 50):
        tracks.add(Frame(step * PERIOD, camera, ()))
        if not confirmed(tracks):
            gone_after = (step - 19) * PERIOD
            break
    assert gone_after is not None and 0.3 <= gone_after <= 1.6
    alarm = TrackSet(Floor())
    alarm.add(Frame(0.0, camera, (see(np.array([8.0, 0.0])),)))
    assert not confirmed(alarm)
    for step in range(1, 12):
        alarm.add(Frame(step * PERIOD, camera, ()))
        assert not confirmed(alarm)
    assert not alarm.at(alarm.newest)


def test_person_out_of_every_view_is_forgotten_in_time() -> None:
    tracks = play([walk([8, 0], [0, 0])], 20, np.random.default_rng(9))
    away = make_camera(yaw=np.pi, name="other")
    last = tracks.newest
    for step in range(1, 40):
        tracks.add(Frame(last + step * PERIOD, away, ()))
        there = bool(tracks.at(last + step * PERIOD))
        assert there == (step * PERIOD <= tracks.motion.forget_after + 1e-9)


def test_nobody_is_tracked_where_nobody_may_be() -> None:
    room = np.array([[7.0, 0.5], [9.0, 0.5], [9.0, 4.0], [7.0, 4.0]])
    tracks = TrackSet(Floor(untracked=(room,)))
    for step in range(30):
        place = np.array([8.0, -1.0 + step * 0.1])
        seen = (see(place),) if place[1] < 0.5 else ()
        tracks.add(Frame(step * PERIOD, overlooking(), seen))
        assert all(track.state[1] <= 0.5 for track in tracks.at(step * PERIOD))
    assert not tracks.at(2.9)


def test_names_are_random_and_change_all_at_once() -> None:
    keys = [(0.0, "north", number) for number in range(50)]
    names = Names(rotate_every=60.0)
    first = [names.of(key, 10.0) for key in keys]
    assert first == [names.of(key, 59.0) for key in keys]
    second = [names.of(key, 61.0) for key in keys]
    assert len(set(first) | set(second)) == 100
    assert 0 not in first and max(first) > 2**24
    assert [Names().of(key, 10.0) for key in keys] != first
    # A late frame of the period before does not bring the old names back.
    assert [names.of(key, 59.0) for key in keys] == second
