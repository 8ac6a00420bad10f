"""Cameras, people and their boxes for the tests of ground/."""

from __future__ import annotations

import numpy as np

from roi_anon_ros.ground.cameras import Camera, Lens, Pose

WIDTH = 1280
HEIGHT = 720
#: Distortion coefficients of lenses that exist, by model.
DISTORTION = {
    "plumb_bob": (-0.28, 0.09, 0.0007, -0.0004, -0.012),
    "rational_polynomial": (0.42, -2.3, 0.0006, -0.0003, 1.4, 0.3, -2.1, 1.3),
    "equidistant": (-0.012, 0.021, -0.014, 0.003),
}
FOCAL = {"plumb_bob": 700.0, "rational_polynomial": 620.0, "equidistant": 420.0}


def make_lens(model: str = "plumb_bob", distorted: bool = True) -> Lens:
    focal = FOCAL[model]
    k = (focal, 0.0, 645.0, 0.0, focal * 1.01, 352.0, 0.0, 0.0, 1.0)
    return Lens(WIDTH, HEIGHT, k, model, DISTORTION[model] if distorted else ())


def look_from(position: tuple[float, float, float], yaw: float, down: float) -> Pose:
    """A pose that looks along yaw (radians from x) and down (radians below level), upright."""
    forward = [np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)]
    right = [np.sin(yaw), -np.cos(yaw), 0.0]
    below = np.cross(forward, right)
    return Pose(np.column_stack([right, below, forward]), np.asarray(position, float))


def make_camera(
    model: str = "plumb_bob",
    position: tuple[float, float, float] = (0.0, 0.0, 4.0),
    yaw: float = 0.0,
    down: float = 0.4,
    name: str = "north",
    distorted: bool = True,
) -> Camera:
    return Camera(name, make_lens(model, distorted), look_from(position, yaw, down))


def box_of(
    camera: Camera, place: tuple[float, float] | np.ndarray, floor: float = 0.0, tall: float = 1.72
) -> np.ndarray:
    """The box (5,) of a person whose feet and head are its edges' middles."""
    x, y = place
    ends = camera.project(np.array([[x, y, floor], [x, y, floor + tall]]))
    feet = ends[0]
    head = ends[1]
    half = 0.2 * (feet[1] - head[1])
    return np.array([feet[0] - half, head[1], feet[0] + half, feet[1], 0.9])
