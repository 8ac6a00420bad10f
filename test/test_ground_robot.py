"""A closed loop without ROS: a robot stops for a person, goes on, and stops for silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ground_scene import box_of
from simulated_robot import Robot, walk

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.people import People
from roi_anon_ros.ground.site import read_site
from roi_anon_ros.ground.zone import size_stop_zone

ROOT = Path(__file__).resolve().parent.parent
START = 1_700_000_000.0
STEP = 0.05
PERIOD = 0.1
CLEARANCE = 0.2


class Site:
    """Two cameras at 10 Hz, a server that takes a while, people, a robot."""

    def __init__(self, latency: float) -> None:
        self.people = People(read_site(ROOT / "config" / "site.yaml"))
        zone = size_stop_zone(latency, PERIOD, walking=1.2, cycle=STEP, delay=STEP, error=0.4)
        self.robot = Robot(zone.ahead, zone.aside)
        self.latency = latency
        self.now = START
        self.ticks = 0
        self.under_way: list[tuple[float, str, np.ndarray]] = []
        self.server = True

    def tick(self) -> None:
        """One step: images are taken, frames arrive, the monitor judges, the robot drives."""
        self.now = START + self.ticks * STEP
        person = walk(self.now - START)
        if self.ticks % 2 == 0 and self.server:
            for name, known in self.people.site.cameras.items():
                camera = Camera(name, known.lens, known.pose)
                boxes = box_of(camera, person)[None]
                self.under_way.append((self.now, name, boxes))
        while self.under_way and self.under_way[0][0] + self.latency <= self.now + 1e-6:
            stamp, name, boxes = self.under_way.pop(0)
            assert self.people.add(name, stamp, boxes, self.now)
            fused = self.people.fused(self.now)
            if fused.cloud is not None:
                self.robot.take(fused.stamp, fused.cloud)
        self.robot.step(self.now, STEP)
        self.ticks += 1

    def run_until(self, seconds: float) -> list[tuple[float, str]]:
        """Distances to the person while the robot moves, and the reasons to stop."""
        seen = []
        while self.ticks * STEP < seconds - 1e-6:
            self.tick()
            if self.robot.speed:
                seen.append((self.robot.distance(walk(self.now - START)), self.robot.reason))
        return seen


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0.1, 0.3])
def test_robot_stops_before_a_person_goes_on_and_stops_when_the_server_is_killed(
    latency: float,
) -> None:
    site = Site(latency)
    moving = site.run_until(9.0)
    assert site.robot.x > -7.0 and site.robot.speed == 0.0
    assert site.robot.reason == "person"
    assert min(distance for distance, _ in moving) >= CLEARANCE
    stood = site.robot.x
    assert not site.run_until(12.0)  # it stands as long as the person stands
    moving = site.run_until(19.0)
    assert site.robot.x > stood + 0.5 and site.robot.reason == ""
    assert min(distance for distance, _ in moving) >= CLEARANCE
    site.server = False
    site.under_way.clear()
    site.run_until(19.0 + 0.9 - latency - PERIOD)
    assert site.robot.reason == ""
    site.run_until(19.0 + 1.0 + STEP)
    assert site.robot.reason == "invalid source"
    site.run_until(22.0)
    assert site.robot.speed == 0.0
    site.server = True
    site.run_until(22.0 + latency + 3 * PERIOD)
    assert site.robot.reason == ""


def test_robot_never_starts_before_a_camera_spoke() -> None:
    site = Site(0.1)
    site.server = False
    assert not site.run_until(3.0)
    assert site.robot.reason == "no cloud yet"


def test_robot_stops_when_one_of_two_cameras_dies() -> None:
    site = Site(0.1)
    site.run_until(3.0)
    assert site.robot.speed == site.robot.top
    del site.people.site.cameras["south"]  # the site still knows it; it no longer sends
    site.run_until(3.0 + 0.5 + 1.0 + 3 * PERIOD)
    assert site.robot.reason == "invalid source"
