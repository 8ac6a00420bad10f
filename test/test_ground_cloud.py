from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.ground.cloud import POINT, RING_HEIGHTS, Body, make_cloud, sweep
from roi_anon_ros.ground.zone import size_stop_zone


def body(x: float, y: float, z: float = 0.0) -> Body:
    return Body(0xDEADBEEF, np.array([[x, y, z]]), np.array([0.5, -1.0]), 0.9)


def test_cloud_of_a_person_is_what_a_collision_monitor_counts() -> None:
    cloud = make_cloud([body(3.0, 4.0, 0.2)])
    assert len(cloud) == 40
    np.testing.assert_allclose(np.hypot(cloud["x"] - 3, cloud["y"] - 4), 0.25, atol=1e-6)
    heights, counts = np.unique(np.round(cloud["z"] - 0.2, 3), return_counts=True)
    np.testing.assert_allclose(heights, [0.1, 0.5, 0.9, 1.3, 1.7], atol=1e-3)
    assert (counts == 8).all()
    # Nav2's defaults: 4 points between 0.05 and 0.5 m; half a body in the zone is enough.
    low = cloud[(cloud["z"] - 0.2 >= 0.05) & (cloud["z"] - 0.2 <= 0.501)]
    assert (low["x"] <= 3.0).sum() >= 4
    assert (cloud["id"] == 0xDEADBEEF).all()
    assert cloud["vy"][0] == -1.0


def test_empty_cloud_has_all_fields_and_four_byte_floats() -> None:
    cloud = make_cloud([])
    assert cloud.shape == (0,) and cloud.dtype == POINT
    assert POINT.names[:3] == ("x", "y", "z") and POINT.itemsize == 28
    assert all(POINT[name] == np.dtype("<f4") for name in POINT.names if name != "id")


def test_bytes_are_a_point_after_the_other() -> None:
    cloud = make_cloud([body(1.0, 2.0), body(5.0, 6.0)])
    again = np.frombuffer(cloud.tobytes(), POINT)
    np.testing.assert_array_equal(again, cloud)
    assert cloud.flags.c_contiguous


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_sweep_leaves_no_gap_a_robot_fits_in(vx: float, vy: float, horizon: float) -> None:
    velocity = np.array([vx, vy])
    places = sweep(np.array([1.0, 2.0]), velocity, horizon)
    np.testing.assert_allclose(places[0], [1, 2])
    np.testing.assert_allclose(places[-1], [1, 2] + velocity * horizon, atol=1e-9)
    assert (np.linalg.norm(np.diff(places, axis=0), axis=1) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize(("latency", "met_at"), [(0.1, 0.71), (0.5, 0.23), (0.8, -0.05)])
def test_stop_zone_covers_what_the_real_monitor_let_through(latency: float, met_at: float) -> None:
    """Zone of 0.9 m, person at 1 m/s, robot at 0.5 m/s, 10 Hz: the sum covers what was measured."""
    zone = size_stop_zone(
        latency, 0.1, walking=1.0, braking=1e6, delay=0.0, clearance=0.0, error=0.0
    )
    lost = 0.9 - met_at
    assert lost <= zone.ahead <= lost + 0.12


def test_table_of_the_docs_is_what_the_function_says() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "people.md").read_text()
    table = text.split("| latency, s | ahead, m |")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    assert len(rows) == 5
    for row in rows:
        latency, ahead, aside = (float(cell) for cell in row)
        zone = size_stop_zone(latency, 0.1)
        assert (round(zone.ahead, 2), round(zone.aside, 2)) == (ahead, aside)


def simulate(zone: float, latency: float, phase: float) -> float:
    """Distance left when the robot stands; person and robot walk at each other, in fine steps."""
    step = 0.001
    person = zone + 1.5
    robot = 0.0
    speed = 0.5
    braking_from = None
    captured: list[tuple[float, float]] = []
    for tick in range(20000):
        now = tick * step
        if tick % 100 == int(phase * 100):
            captured.append((now, person))
        arrived = [place for stamp, place in captured if stamp + latency <= now]
        if tick % 50 == 0 and arrived and braking_from is None and arrived[-1] - robot <= zone:
            braking_from = now + 0.1
        if braking_from is not None and now >= braking_from:
            speed = max(0.0, speed - 1.0 * step)
        if speed == 0.0:
            return person - robot
        robot += speed * step
        person -= 1.6 * step
    raise AssertionError("the robot never stopped")


@pytest.mark.parametrize("latency", [0.1, 0.6])
def test_robot_stands_before_the_clearance(latency: float) -> None:
    zone = size_stop_zone(latency, 0.1, error=0.0)
    left = [simulate(zone.ahead, latency, phase) for phase in (0.0, 0.33, 0.66, 0.99)]
    assert min(left) >= 0.2 - 1e-3
    assert min(left) <= 0.2 + 0.35  # and the zone is not larger than it must be


def test_zone_says_which_number_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="latency: got -1"):
        size_stop_zone(-1.0, 0.1)
    with pytest.raises(ValueError, match="braking: got 0"):
        size_stop_zone(0.1, 0.1, braking=0.0)


def test_stop_zone_of_the_nav2_config_is_what_the_sum_says() -> None:
    """A robot of 0.6 x 0.5 m, latency of 0.3 s at 10 Hz."""
    root = Path(__file__).resolve().parent.parent
    content = yaml.safe_load((root / "config" / "nav2_collision_monitor.yaml").read_text())
    monitor = content["collision_monitor"]["ros__parameters"]
    corners = np.array(yaml.safe_load(monitor["PersonStop"]["points"]))
    zone = size_stop_zone(0.3, 0.1)
    assert 0 <= corners[:, 0].max() - (0.3 + zone.ahead) < 0.05
    assert 0 <= corners[:, 1].max() - (0.25 + zone.aside) < 0.05
    assert 0.3 + 0.1 < monitor["source_timeout"]  # 0 would fail open
    source = monitor["people"]
    assert source["topic"] == "people_fused" and source["type"] == "pointcloud"
    counted = [h for h in RING_HEIGHTS if source["min_height"] <= h <= source["max_height"]]
    assert len(counted) * 8 >= monitor["PersonStop"]["min_points"]
    costmap = yaml.safe_load((root / "config" / "nav2_costmap.yaml").read_text())
    layer = costmap["local_costmap"]["local_costmap"]["ros__parameters"]["people_layer"]
    assert layer["people"]["max_obstacle_height"] > max(RING_HEIGHTS)
    assert not layer["people"]["clearing"]
