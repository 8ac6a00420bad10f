"""Where a camera hangs, from pixels whose places in metres are known; and how good that is.

With known intrinsics the pose comes from OpenCV's PnP, otherwise pose and one focal length with the
principal point in the middle of the image and no distortion; both end in least squares over the
pixels' errors with this package's own projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from scipy.optimize import least_squares

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.ground.cameras import Camera, Lens, Pose
from roi_anon_ros.ground.floor import Plane

#: Bounds of the distances from the camera in which errors on the ground are summed up, metres.
BANDS = (0.0, 5.0, 10.0, 20.0, 40.0, np.inf)
#: Focal lengths that are tried where none is known, in widths of the image.
FOCAL_LENGTHS = np.geomspace(0.3, 4.0, 24)


class CalibrationError(RoiAnonError):
    """The points make no camera; the message says which bound they miss."""


@dataclass(frozen=True)
class Points:
    """Pixels with their places.

    Attributes:
        width: of the image, pixels.
        height: of the image, pixels.
        pixels: (N, 2).
        places: (N, 3), metres in the site frame.
        lens: None: the focal length is to be found.
    """

    width: int
    height: int
    pixels: np.ndarray
    places: np.ndarray
    lens: Lens | None


@dataclass(frozen=True)
class Band:
    """Errors on the ground of the points at some distance.

    Attributes:
        start: metres from the camera.
        end: metres from the camera.
        points: how many lie there.
        error: mean distance between a point and where its pixel is cast, centimetres.
        left_out: the same, each point cast by a calibration without it; None: too few points.
        pixel: what one pixel up or down is there, centimetres.
    """

    start: float
    end: float
    points: int
    error: float
    left_out: float | None
    pixel: float


@dataclass(frozen=True)
class Calibration:
    """A camera that was found.

    Attributes:
        camera: with lens and pose.
        residuals: pixels between each point and its projection, (N,).
        bands: errors on the ground by distance.
    """

    camera: Camera
    residuals: np.ndarray
    bands: list[Band]

    def to_site(self) -> str:
        """The camera's entry for site.yaml."""
        lens = self.camera.lens
        entry = {
            "width": lens.width,
            "height": lens.height,
            "distortion_model": lens.distortion_model,
            "d": [round(float(number), 8) for number in lens.distortion],
            "k": [round(float(number), 4) for number in lens.k],
            "position": [round(float(number), 4) for number in self.camera.pose.position],
            "orientation": [round(float(number), 7) for number in self.camera.pose.quaternion],
        }
        return yaml.safe_dump({self.camera.name: entry}, sort_keys=False, default_flow_style=None)


def read_points(path: Path) -> Points:
    """Read a YAML or JSON file of points; docs/people.md shows one.

    Raises:
        CalibrationError: it cannot be read or makes no sense.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"{path}: {error}") from None
    try:
        return make_points(content)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def make_points(content: Any) -> Points:
    """Make points of a file's content.

    Raises:
        CalibrationError: it makes no sense.
    """
    if not isinstance(content, dict):
        raise CalibrationError("file: must have the fields width, height and points")
    try:
        width = int(content["width"])
        height = int(content["height"])
        rows = [(row["pixel"], row["place"]) for row in content["points"]]
        pixels = np.array([pixel for pixel, _ in rows], float).reshape(-1, 2)
        places = np.array([[*place, 0.0][:3] for _, place in rows], float).reshape(-1, 3)
    except KeyError as error:
        raise CalibrationError(f"file: has no field {error}") from None
    except (TypeError, ValueError) as error:
        raise CalibrationError(
            f"points: each needs pixel: [u, v], place: [x, y]: {error}"
        ) from None
    if not np.isfinite(pixels).all() or not np.isfinite(places).all():
        raise CalibrationError("points: must be finite numbers")
    lens = None
    if content.get("k") is not None:
        model = str(content.get("distortion_model", "plumb_bob"))
        try:
            lens = Lens.from_camera_info(width, height, model, content.get("d") or (), content["k"])
        except (TypeError, ValueError) as error:
            raise CalibrationError(str(error)) from None
    return Points(width, height, pixels, places, lens)


def calibrate(name: str, points: Points) -> Calibration:
    """Find a camera.

    Args:
        name: of the camera.
        points: 4 or more, not all on one line.

    Raises:
        CalibrationError: no camera could have made these points, or many could.
    """
    _check(points)
    camera = _find(name, points)
    residuals = np.linalg.norm(camera.project(points.places) - points.pixels, axis=1)
    if not np.isfinite(residuals).all() or np.median(residuals) > 0.02 * points.width:
        raise CalibrationError("points: no camera fits them; is a pair mixed up?")
    return Calibration(camera, residuals, _sum_up(camera, points))


def _check(points: Points) -> None:
    count = len(points.pixels)
    if count < 4:
        raise CalibrationError(f"points: got {count}, must be 4 or more")
    spread = np.linalg.svd(points.places - points.places.mean(0), compute_uv=False)
    if spread[1] < 0.02 * spread[0]:
        raise CalibrationError("points: lie on one line, must spread over the ground")
    outside = (points.pixels < 0) | (points.pixels > (points.width, points.height))
    if outside.any():
        number = int(np.flatnonzero(outside.any(1))[0])
        pixel = points.pixels[number].tolist()
        size = f"{points.width} x {points.height}"
        raise CalibrationError(f"points: number {number}: got pixel {pixel}, must be in {size}")


def _find(name: str, points: Points) -> Camera:
    lenses = [points.lens] if points.lens else [_pinhole(points, f) for f in FOCAL_LENGTHS]
    best = None
    for lens in lenses:
        for pose in _poses(lens, points):
            camera = Camera(name, lens, pose)
            error = _cost(camera, points)
            if best is None or error < best[0]:
                best = (error, camera)
    if best is None or not np.isfinite(best[0]):
        raise CalibrationError("points: no camera above the ground shows them so")
    return _refine(best[1], points)


def _pinhole(points: Points, focal: float) -> Lens:
    """A lens of a focal length in image widths, centred, without distortion."""
    length = float(focal * points.width)
    centre_x = (points.width - 1) / 2
    centre_y = (points.height - 1) / 2
    k = (length, 0.0, centre_x, 0.0, length, centre_y, 0.0, 0.0, 1.0)
    return Lens(points.width, points.height, k)


def _cost(camera: Camera, points: Points) -> float:
    away = camera.project(points.places) - points.pixels
    return float((away**2).sum()) if np.isfinite(away).all() else np.inf


def _poses(lens: Lens, points: Points) -> list[Pose]:
    """What PnP makes of rays; a plane of points has two answers, of which one can be wrong."""
    rays = lens.rays(points.pixels)
    ahead = np.isfinite(rays).all(1) & (rays[:, 2] > 0.05)
    if ahead.sum() < 4:
        return []
    flat = np.ascontiguousarray((rays[ahead, :2] / rays[ahead, 2:])[:, None])
    places = np.ascontiguousarray(points.places[ahead])
    methods = [cv2.SOLVEPNP_SQPNP]
    if np.ptp(places[:, 2]) < 1e-9:
        methods.append(cv2.SOLVEPNP_IPPE)
    poses = []
    for method in methods:
        try:
            answer = cv2.solvePnPGeneric(places, flat, np.eye(3), None, flags=method)
        except cv2.error:  # of degenerate points
            continue
        for turn, shift in zip(answer[1], answer[2], strict=True):
            to_camera = cv2.Rodrigues(turn)[0]
            poses.append(Pose(to_camera.T, -to_camera.T @ shift.ravel()))
    return poses


def _refine(camera: Camera, points: Points) -> Camera:
    """Least squares over pixels; of the focal length too where it is not known."""
    turn = cv2.Rodrigues(camera.pose.rotation)[0].ravel()
    start = np.concatenate([turn, camera.pose.position])
    width = points.width
    if points.lens is None:
        start = np.append(start, np.log(camera.lens.k[0] / width))

    def build(numbers: np.ndarray) -> Camera:
        pose = Pose(cv2.Rodrigues(numbers[:3])[0], numbers[3:6])
        lens = points.lens or _pinhole(points, float(np.exp(np.clip(numbers[6], -5, 5))))
        return Camera(camera.name, lens, pose)

    def errors(numbers: np.ndarray) -> np.ndarray:
        away = build(numbers).project(points.places) - points.pixels
        return np.nan_to_num(away, nan=1e4).ravel()

    found = least_squares(errors, start, x_scale="jac", method="lm", max_nfev=1000)
    steepness = np.linalg.svd(found.jac / np.linalg.norm(found.jac, axis=0), compute_uv=False)
    if steepness[-1] < 1e-4:
        raise CalibrationError("points: many cameras fit them; spread them in depth and height")
    return build(found.x)


def _sum_up(camera: Camera, points: Points) -> list[Band]:
    errors = _ground_errors(camera, points)
    left_out = _left_out_errors(camera.name, points)
    up = _cast(camera, points.pixels + [0, -0.5], points.places[:, 2])
    down = _cast(camera, points.pixels + [0, 0.5], points.places[:, 2])
    pixel = np.linalg.norm(up - down, axis=1)
    distances = np.linalg.norm(points.places[:, :2] - camera.pose.position[:2], axis=1)
    bands = []
    for start, end in zip(BANDS[:-1], BANDS[1:], strict=True):
        there = (distances >= start) & (distances < end)
        if there.any():
            alone = None if left_out is None else 100 * float(np.mean(left_out[there]))
            bands.append(
                Band(
                    start=start,
                    end=end,
                    points=int(there.sum()),
                    error=100 * float(np.mean(errors[there])),
                    left_out=alone,
                    pixel=100 * float(np.mean(pixel[there])),
                )
            )
    return bands


def _cast(camera: Camera, pixels: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Where pixels meet the height of their points, (N, 2); far away where they do not."""
    rays = camera.rays(pixels)
    places = []
    for ray, height in zip(rays, heights, strict=True):
        reach = Plane(float(height)).reach(camera.pose.position, ray[None])[0]
        place = camera.pose.position + reach * ray if reach > 0 else np.full(3, np.inf)
        places.append(place[:2])
    return np.asarray(places)


def _ground_errors(camera: Camera, points: Points) -> np.ndarray:
    cast = _cast(camera, points.pixels, points.places[:, 2])
    return np.linalg.norm(cast - points.places[:, :2], axis=1)


def _left_out_errors(name: str, points: Points) -> np.ndarray | None:
    """Each point's error with a camera found without it: what a new place will have."""
    count = len(points.pixels)
    if count < (5 if points.lens else 6):
        return None
    errors = []
    for number in range(count):
        rest = np.arange(count) != number
        others = Points(
            points.width, points.height, points.pixels[rest], points.places[rest], points.lens
        )
        alone = Points(
            points.width, points.height, points.pixels[~rest], points.places[~rest], points.lens
        )
        try:
            errors.append(_ground_errors(_find(name, others), alone)[0])
        except CalibrationError:  # the rest is not enough: this point carries all
            errors.append(np.inf)
    return np.asarray(errors)


def draw_grid(
    camera: Camera, image: np.ndarray | None = None, reach: float = 30.0, floor: float = 0.0
) -> np.ndarray:
    """Draw lines on the ground, one a metre, every fifth one thick with its number.

    Args:
        camera: that was found.
        image: (H, W, 3) of uint8, BGR; None: grey.
        reach: metres around the camera.
        floor: height of the ground, metres.

    Returns:
        (H, W, 3) of uint8, BGR.
    """
    size = (camera.lens.height, camera.lens.width, 3)
    canvas = np.full(size, 64, np.uint8) if image is None else image.copy()
    if canvas.shape != size:
        raise CalibrationError(
            f"image: got {canvas.shape[1]} x {canvas.shape[0]}, must be as points"
        )
    for value, line in grid_lines(camera, reach, floor):
        thick = value % 5 == 0
        colour = (80, 220, 255) if thick else (200, 160, 80)
        cv2.polylines(canvas, [np.round(line).astype(np.int32)], False, colour, 1 + thick)
        if thick:
            end = tuple(int(number) for number in line[len(line) // 2])
            cv2.putText(canvas, f"{value} m", end, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
    return canvas


def grid_lines(camera: Camera, reach: float, floor: float) -> list[tuple[int, np.ndarray]]:
    """The visible pieces of the metre grid: the x or y that a line stands for, pixels (K, 2)."""
    centre = np.round(camera.pose.position[:2]).astype(int)
    steps = np.arange(-int(reach), int(reach) + 1)
    along = np.arange(-reach, reach + 0.01, 0.25)
    lines = []
    for axis in (0, 1):
        for value in (centre[axis] + steps).tolist():
            points = np.empty((len(along), 3))
            points[:, axis] = value
            points[:, 1 - axis] = centre[1 - axis] + along
            points[:, 2] = floor
            seen = np.flatnonzero(camera.sees(points))
            pixels = camera.project(points)
            for piece in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1):
                if len(piece) > 1:
                    lines.append((value, pixels[piece]))
    return lines


def describe(calibration: Calibration) -> str:
    """The errors as text."""
    residuals = calibration.residuals
    position = ", ".join(f"{number:.2f}" for number in calibration.camera.pose.position)
    lines = [
        f"position: {position} m; focal length: {calibration.camera.lens.k[0]:.1f} pixels",
        f"reprojection error: {np.sqrt(np.mean(residuals**2)):.2f} pixels (rms), "
        f"{residuals.max():.2f} at most, {len(residuals)} points",
        "error on the ground by distance from the camera:",
    ]
    for band in calibration.bands:
        end = "" if np.isinf(band.end) else f"{band.end:.0f}"
        alone = "" if band.left_out is None else f", {band.left_out:.1f} cm if left out"
        if band.left_out is not None and np.isinf(band.left_out):
            alone = ", unknown if left out"
        lines.append(
            f"  {band.start:.0f}-{end} m: {band.error:.1f} cm{alone}; one pixel is "
            f"{band.pixel:.1f} cm ({band.points} points)"
        )
    return "\n".join(lines)
