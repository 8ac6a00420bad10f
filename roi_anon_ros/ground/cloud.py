"""People as points that a robot's planner stops for.

Each person is rings of points around the body's middle, at heights that planners look at: Nav2's
collision monitor wants 4 points between 0.05 and 0.5 m by default. All fields are FLOAT32 but the
id, and an empty cloud has the same fields: without them the monitor dies or reads nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: One point; 28 bytes without gaps.
POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("id", "<u4"),
        ("vx", "<f4"),
        ("vy", "<f4"),
        ("confidence", "<f4"),
    ]
)
#: Metres above the floor.
RING_HEIGHTS = (0.1, 0.5, 0.9, 1.3, 1.7)
RING_RADIUS = 0.25
RING_POINTS = 8


@dataclass(frozen=True)
class Body:
    """A person as the cloud needs them.

    Attributes:
        id: random name.
        places: where rings stand, (K, 3) on the floor, metres: now, and where they will be.
        velocity: (2,), m/s.
        confidence: 0 to 1.
    """

    id: int
    places: np.ndarray
    velocity: np.ndarray
    confidence: float


def make_cloud(bodies: Iterable[Body]) -> np.ndarray:
    """Points of all bodies.

    Returns:
        (N,) of POINT, 40 for each place of each body; (0,) of POINT for nobody.
    """
    angles = 2 * np.pi * np.arange(RING_POINTS) / RING_POINTS
    circle = RING_RADIUS * np.column_stack([np.cos(angles), np.sin(angles)])
    rings = np.empty((len(RING_HEIGHTS), RING_POINTS, 3))
    rings[..., :2] = circle
    rings[..., 2] = np.asarray(RING_HEIGHTS)[:, None]
    parts = [np.empty(0, POINT)]
    for body in bodies:
        points = (body.places[:, None] + rings.reshape(-1, 3)).reshape(-1, 3)
        part = np.empty(len(points), POINT)
        part["x"] = points[:, 0]
        part["y"] = points[:, 1]
        part["z"] = points[:, 2]
        part["id"] = body.id
        part["vx"] = body.velocity[0]
        part["vy"] = body.velocity[1]
        part["confidence"] = body.confidence
        parts.append(part)
    return np.concatenate(parts)


def sweep(place: np.ndarray, velocity: np.ndarray, horizon: float) -> np.ndarray:
    """Places that a person passes within the next seconds, no gap wider than a body.

    Args:
        place: now, (2,), metres.
        velocity: (2,), m/s.
        horizon: seconds, 0 or more.

    Returns:
        (K, 2), the first one is now, the last one at the horizon.
    """
    length = float(np.linalg.norm(velocity)) * horizon
    steps = int(np.ceil(length / (2 * RING_RADIUS)))
    times = np.linspace(0.0, horizon, steps + 1) if steps else np.zeros(1)
    return place + times[:, None] * velocity
