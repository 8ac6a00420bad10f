"""A robot that drives straight on under the rules of Nav2's collision monitor, as documented.

No cloud yet, or one older than the timeout: stop. `min_points` points or more between the heights
and in the stop polygon, seen from where the robot is now: stop. Else drive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from roi_anon_ros.ground.floor import is_inside

#: Nav2's defaults, and the fields without which its monitor dies or misreads.
SOURCE_TIMEOUT = 1.0
MIN_POINTS = 4
HEIGHTS = (0.05, 0.5)
FLOAT32 = np.dtype("<f4")


@dataclass
class Robot:
    """Drives along x from where it stands.

    Attributes:
        ahead: of the stop zone, metres before the robot's front.
        aside: of the stop zone, metres from its sides.
        x: its middle, metres.
        top: speed, m/s.
        braking: m/s^2.
    """

    ahead: float
    aside: float
    x: float = -8.0
    top: float = 0.5
    braking: float = 1.0
    speed: float = 0.0
    reason: str = "no cloud yet"
    front: float = 0.3
    side: float = 0.25
    _cloud: np.ndarray | None = None
    _stamp: float = 0.0
    log: list[tuple[float, float, float]] = field(default_factory=list)

    def take(self, stamp: float, cloud: np.ndarray) -> None:
        """Take a cloud in the frame of the world; a newer one takes the place of an older."""
        for name in "xyz":
            assert cloud.dtype[name] == FLOAT32, f"the monitor would misread {name}"
        assert stamp > 0
        self._cloud = cloud
        self._stamp = stamp

    def judge(self, now: float) -> str:
        """Why the robot must stop; empty: drive."""
        if self._cloud is None:
            return "no cloud yet"
        if now - self._stamp > SOURCE_TIMEOUT:
            return "invalid source"
        half = self.side + self.aside
        front = self.front + self.ahead
        zone = np.array([[front, half], [front, -half], [-self.front, -half], [-self.front, half]])
        places = np.column_stack([self._cloud["x"] - self.x, self._cloud["y"]])
        z = self._cloud["z"]
        counted = (z >= HEIGHTS[0]) & (z <= HEIGHTS[1] + 1e-3) & is_inside(zone, places)
        return "person" if counted.sum() >= MIN_POINTS else ""

    def step(self, now: float, seconds: float) -> None:
        """Drive or brake for some seconds."""
        self.reason = self.judge(now)
        if self.reason:
            self.speed = max(0.0, self.speed - self.braking * seconds)
        else:
            self.speed = min(self.top, self.speed + self.braking * seconds)
        self.x += self.speed * seconds
        self.log.append((now, self.x, self.speed))

    def distance(self, place: tuple[float, float]) -> float:
        """Metres from the robot's body to a place."""
        dx = max(0.0, abs(place[0] - self.x) - self.front)
        dy = max(0.0, abs(place[1]) - self.side)
        return float(np.hypot(dx, dy))


def walk(seconds: float) -> tuple[float, float]:
    """A person who waits aside, walks into the robot's way, stands, and walks away, 1.2 m/s.

    Args:
        seconds: from the start; walks in from 4, stands from 8 to 12, is away from 16 on.
    """
    away = float(np.interp(seconds, [4.0, 8.0, 12.0, 16.0], [4.8, 0.0, 0.0, -4.8]))
    return (-2.5, away)
