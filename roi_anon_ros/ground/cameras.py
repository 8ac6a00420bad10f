"""Cameras: which ray a pixel is, at which pixel a point is, where the camera hangs.

Coordinates are OpenCV's: a camera's z goes forward, x to the right, y down; pixel (0, 0) is the
centre of the upper left one. The distortion models are those that `CameraInfo` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from roi_anon_ros.ground.floor import Floor

#: Distortion models by the names of CameraInfo, and how many coefficients each may have.
DISTORTIONS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "equidistant": (0, 4)}
#: A ray whose pixel comes back farther away than this is none, pixels.
PIXEL_TOLERANCE = 0.01
#: Widest angle from the axis that is searched for an equidistant lens, radians.
WIDEST = np.pi


@dataclass(frozen=True)
class Lens:
    """What CameraInfo says of a camera without its pose.

    Attributes:
        width: of the image, pixels.
        height: of the image, pixels.
        k: the camera matrix row by row, 9 numbers: focal lengths and principal point, pixels.
        distortion_model: a key of DISTORTIONS.
        distortion: the coefficients in OpenCV's order.
    """

    width: int
    height: int
    k: tuple[float, ...]
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"size: got {self.width} x {self.height}, must be 1 x 1 or more")
        if self.distortion_model not in DISTORTIONS:
            names = ", ".join(DISTORTIONS)
            raise ValueError(f"distortion_model: got {self.distortion_model!r}, must be of {names}")
        counts = DISTORTIONS[self.distortion_model]
        if len(self.distortion) not in counts:
            got = f"{len(self.distortion)} numbers for {self.distortion_model}"
            raise ValueError(f"distortion: got {got}, must be {' or '.join(map(str, counts))}")
        if len(self.k) != 9:
            raise ValueError(f"k: got {len(self.k)} numbers, must be 9")
        if not np.isfinite(self.k).all() or not np.isfinite(self.distortion).all():
            raise ValueError("k and distortion: must be finite numbers")
        if self.k[0] <= 0 or self.k[4] <= 0:
            focal = f"{self.k[0]:g} and {self.k[4]:g}"
            raise ValueError(f"k: got focal lengths {focal}, must be above 0 (uncalibrated?)")

    @classmethod
    def from_camera_info(
        cls, width: int, height: int, model: str, d: Sequence[float], k: Sequence[float]
    ) -> Lens:
        """Make a lens from the fields of a CameraInfo message of the same names.

        Raises:
            ValueError: a field makes no sense; an uncalibrated camera has a k of zeros.
        """
        matrix = tuple(float(number) for number in k)
        numbers = tuple(float(number) for number in d)
        return cls(int(width), int(height), matrix, model or "plumb_bob", numbers)

    @cached_property
    def matrix(self) -> np.ndarray:
        """K, (3, 3)."""
        return np.asarray(self.k, float).reshape(3, 3)

    @cached_property
    def _coefficients(self) -> np.ndarray:
        return np.asarray(self.distortion or (0.0,) * 4, float)

    @cached_property
    def _widest_radius(self) -> float:
        """Radius in the plane z = 1 from which a polynomial lens folds back onto the image."""
        if not any(self.distortion):
            return np.inf
        radii = np.linspace(0.0, 20.0, 20001)
        k = np.zeros(8)
        k[: len(self.distortion)] = self.distortion
        square = radii**2
        above = 1 + square * (k[0] + square * (k[1] + square * k[4]))
        below = 1 + square * (k[5] + square * (k[6] + square * k[7]))
        falls = np.flatnonzero(np.diff(radii * above / below) <= 0)
        return float(radii[falls[0]]) if len(falls) else np.inf

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels of points in the camera's frame.

        Args:
            points: (N, 3), metres.

        Returns:
            (N, 2), pixels, in the image or not; NaN where the lens cannot see: at its back, or
            where its polynomial folds.
        """
        points = np.asarray(points, float).reshape(-1, 3)
        if self.distortion_model == "equidistant":
            return self._project_equidistant(points)
        pixels = np.full((len(points), 2), np.nan)
        ahead = points[:, 2] > 1e-9
        radius = np.hypot(points[:, 0], points[:, 1]) / np.where(ahead, points[:, 2], 1.0)
        ahead &= radius < self._widest_radius
        if ahead.any():
            none = np.zeros(3)
            found, _ = cv2.projectPoints(points[ahead], none, none, self.matrix, self._coefficients)
            pixels[ahead] = found[:, 0]
        return pixels

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Directions in the camera's frame, the inverse of `project`.

        Args:
            pixels: (N, 2).

        Returns:
            (N, 3) of length 1; NaN where the lens has no ray for a pixel.
        """
        pixels = np.asarray(pixels, float).reshape(-1, 2)
        if self.distortion_model == "equidistant":
            rays = self._equidistant_rays(pixels)
        elif not len(pixels):
            rays = np.empty((0, 3))
        else:
            precise = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
            flat = cv2.undistortPointsIter(
                pixels[:, None], self.matrix, self._coefficients, np.eye(3), np.eye(3), precise
            )[:, 0]
            rays = np.column_stack([flat, np.ones(len(flat))])
        with np.errstate(invalid="ignore"):
            rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
            away = np.linalg.norm(self.project(rays) - pixels, axis=1)
        return np.where((away < PIXEL_TOLERANCE)[:, None], rays, np.nan)

    def _distorted(self, angle: np.ndarray) -> np.ndarray:
        """Radius of an equidistant lens for an angle from its axis (OpenCV's fisheye model)."""
        k = self._coefficients
        square = angle**2
        return angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))

    @cached_property
    def _widest_angle(self) -> float:
        """Angle from which an equidistant lens folds back onto the image."""
        angles = np.linspace(0.0, WIDEST, 10001)
        falls = np.flatnonzero(np.diff(self._distorted(angles)) <= 0)
        return float(angles[falls[0]]) if len(falls) else WIDEST

    def _project_equidistant(self, points: np.ndarray) -> np.ndarray:
        across = np.hypot(points[:, 0], points[:, 1])
        angle = np.arctan2(across, points[:, 2])
        scale = self._distorted(angle) / np.maximum(across, 1e-12)
        flat = np.column_stack([points[:, :2] * scale[:, None], np.ones(len(points))])
        pixels = (flat @ self.matrix.T)[:, :2]
        return np.where((angle < self._widest_angle)[:, None], pixels, np.nan)

    def _equidistant_rays(self, pixels: np.ndarray) -> np.ndarray:
        ones = np.ones((len(pixels), 1))
        flat = np.linalg.solve(self.matrix, np.hstack([pixels, ones]).T).T[:, :2]
        radius = np.linalg.norm(flat, axis=1)
        low = np.zeros(len(pixels))
        high = np.full(len(pixels), self._widest_angle)
        for _ in range(60):  # bisection: the radius grows with the angle up to the widest
            middle = (low + high) / 2
            too_far = self._distorted(middle) > radius
            high = np.where(too_far, middle, high)
            low = np.where(too_far, low, middle)
        side = flat / np.maximum(radius, 1e-12)[:, None]
        return np.column_stack([side * np.sin(low)[:, None], np.cos(low)])


@dataclass(frozen=True)
class Pose:
    """Where a camera hangs: a point p of its frame is rotation @ p + position in the site frame.

    Attributes:
        rotation: (3, 3).
        position: (3,), metres.
    """

    rotation: np.ndarray
    position: np.ndarray

    @classmethod
    def from_quaternion(cls, position: Sequence[float], orientation: Sequence[float]) -> Pose:
        """Make a pose from a position and a quaternion x, y, z, w, as TF carries them.

        Raises:
            ValueError: of wrong counts, a quaternion of no length, numbers that are not finite.
        """
        place = np.asarray(position, float)
        turn = np.asarray(orientation, float)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise ValueError(f"position: got {list(position)}, must be 3 finite numbers")
        if turn.shape != (4,) or not np.isfinite(turn).all() or np.linalg.norm(turn) < 1e-6:
            got = list(orientation)
            raise ValueError(f"orientation: got {got}, must be a quaternion x, y, z, w")
        return cls(Rotation.from_quat(turn).as_matrix(), place)

    @property
    def quaternion(self) -> np.ndarray:
        """The rotation as x, y, z, w."""
        return Rotation.from_matrix(self.rotation).as_quat()


@dataclass(frozen=True)
class Camera:
    """A camera that hangs somewhere; all its points are in the site frame."""

    name: str
    lens: Lens
    pose: Pose

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Directions of pixels (N, 2) in the site frame, (N, 3) of length 1; NaN without ray."""
        return self.lens.rays(pixels) @ self.pose.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of points (N, 3); NaN where the lens cannot see."""
        return self.lens.project((points - self.pose.position) @ self.pose.rotation)

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Which points (N, 3) are in the image, (N,) of bool; what hides them is not known."""
        pixels = self.project(points)
        size = (self.lens.width, self.lens.height)
        with np.errstate(invalid="ignore"):
            return ((pixels >= 0) & (pixels < size)).all(1)

    def view(self, floor: Floor, reach: float = 25.0, steps: int = 12) -> np.ndarray:
        """The field of view on the ground.

        Args:
            floor: of the site; patches are not followed.
            reach: where a view without end ends, metres from the camera.
            steps: points along each edge of the image.

        Returns:
            Corners of a polygon, (up to 4 * steps, 2), metres.
        """
        along = np.arange(steps) / steps
        right = self.lens.width - 1.0
        low = self.lens.height - 1.0
        edges = [
            np.column_stack([along * right, np.full(steps, low)]),
            np.column_stack([np.full(steps, right), low * (1 - along)]),
            np.column_stack([right * (1 - along), np.zeros(steps)]),
            np.column_stack([np.zeros(steps), along * low]),
        ]
        rays = self.rays(np.concatenate(edges))
        rays = rays[np.isfinite(rays).all(1)]
        level = np.linalg.norm(rays[:, :2], axis=1)
        away = floor.plane.reach(self.pose.position, rays) * level
        away = np.where((away >= 0) & (away <= reach), away, reach)
        return self.pose.position[:2] + (away / np.maximum(level, 1e-9))[:, None] * rays[:, :2]
