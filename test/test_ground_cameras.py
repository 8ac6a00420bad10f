from __future__ import annotations

import cv2
import numpy as np
import pytest
from ground_scene import DISTORTION, HEIGHT, WIDTH, look_from, make_camera, make_lens
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.ground.cameras import Lens, Pose
from roi_anon_ros.ground.floor import Floor, Patch, Plane, is_inside

SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])


def points_ahead(count: int = 200) -> np.ndarray:
    random = np.random.default_rng(1)
    depth = random.uniform(1, 30, count)
    return np.column_stack([random.uniform(-0.8, 0.8, (count, 2)) * depth[:, None], depth])


@pytest.mark.parametrize("model", DISTORTION)
def test_projection_is_opencvs(model: str) -> None:
    lens = make_lens(model)
    points = points_ahead()
    numbers = np.array(lens.distortion)
    none = np.zeros(3)
    if model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[:, None], none, none, lens.matrix, numbers)
    else:
        expected, _ = cv2.projectPoints(points, none, none, lens.matrix, numbers)
    found = lens.project(points)
    known = np.isfinite(found).all(1)
    assert known.mean() > 0.8
    np.testing.assert_allclose(found[known], expected[:, 0][known], atol=1e-6)


@pytest.mark.parametrize("distorted", [True, False])
@pytest.mark.parametrize("model", DISTORTION)
def test_rays_come_back_as_their_pixels(model: str, distorted: bool) -> None:
    lens = make_lens(model, distorted)
    u, v = np.meshgrid(np.linspace(0, WIDTH - 1, 9), np.linspace(0, HEIGHT - 1, 9))
    pixels = np.column_stack([u.ravel(), v.ravel()])
    rays = lens.rays(pixels)
    known = np.isfinite(rays).all(1)
    assert known.mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(rays[known], axis=1), 1)
    np.testing.assert_allclose(lens.project(7 * rays[known]), pixels[known], atol=0.01)


def test_equidistant_lens_sees_more_than_a_half_space() -> None:
    lens = Lens(1000, 1000, (200.0, 0, 500, 0, 200.0, 500, 0, 0, 1), "equidistant")
    ray = np.array([[1.0, 0.0, -0.2]])  # 101 degrees from the axis
    pixel = lens.project(ray)
    np.testing.assert_allclose(pixel, [[500 + 200 * np.arctan2(1, -0.2), 500]])
    np.testing.assert_allclose(lens.rays(pixel), ray / np.linalg.norm(ray))


def test_a_polynomial_that_folds_shows_nothing_far_outside() -> None:
    lens = make_lens("plumb_bob")
    assert np.isnan(lens.project(np.array([[4.0, 0.0, 1.0]]))).all()
    assert np.isnan(lens.project(np.array([[0.0, 0.0, -1.0]]))).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 0}, "size"),
        ({"model": "kannala"}, "distortion_model"),
        ({"d": [0.1, 0.2]}, "distortion"),
        ({"k": [0.0] * 9}, "uncalibrated"),
        ({"k": [1.0] * 4}, "k: got 4"),
        ({"d": [float("nan")] * 5}, "finite"),
    ],
)
def test_camera_info_that_makes_no_sense_is_named(changes: dict, said: str) -> None:
    good = {"width": 640, "height": 480, "model": "plumb_bob", "d": [0.0] * 5}
    good["k"] = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
    with pytest.raises(ValueError, match=said):
        Lens.from_camera_info(**(good | changes))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.hypot(*q[:2]) > 0.1))
@settings(max_examples=25, deadline=None)
def test_quaternions_come_back(quaternion: list[float]) -> None:
    pose = Pose.from_quaternion((1.0, 2.0, 3.0), quaternion)
    back = Pose.from_quaternion(pose.position, pose.quaternion)
    np.testing.assert_allclose(back.rotation, pose.rotation, atol=1e-9)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-9)


def test_quaternion_is_ros_order() -> None:
    half = np.sqrt(0.5)
    pose = Pose.from_quaternion((0, 0, 0), (0, 0, half, half))  # a quarter turn about z
    np.testing.assert_allclose(pose.rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    with pytest.raises(ValueError, match="orientation"):
        Pose.from_quaternion((0, 0, 0), (0, 0, 0, 0))


def test_view_ends_where_the_image_does() -> None:
    camera = make_camera(distorted=False)
    view = camera.view(Floor(), reach=25.0)
    assert np.isfinite(view).all()
    nearest = 4.0 / np.tan(0.4 + np.arctan2(HEIGHT - 1 - 352.0, 707.0))
    assert view[:, 0].min() == pytest.approx(nearest, abs=0.05)
    inside = np.array([[8.0, 0.0, 0.0]])
    assert is_inside(view, inside[:, :2])[0] and camera.sees(inside)[0]
    assert not camera.sees(np.array([[-8.0, 0.0, 0.0]]))[0]


def test_level_camera_looks_along_its_axis() -> None:
    pose = look_from((1.0, 2.0, 3.0), yaw=np.pi / 2, down=0.0)
    np.testing.assert_allclose(pose.rotation @ [0, 0, 5], [0, 5, 0], atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ [0, 1, 0], [0, 0, -1], atol=1e-12)


def test_inside_of_a_polygon_that_is_not_convex() -> None:
    angle = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)
    places = np.array([[1.0, 1.0], [2.0, 3.0], [3.5, 2.5], [5.0, 1.0], [-1.0, 1.0]])
    assert is_inside(angle, places).tolist() == [True, False, True, False, False]
    assert is_inside(angle, np.empty((0, 2))).shape == (0,)


def test_rays_stop_at_the_first_floor() -> None:
    stage = Patch(SQUARE, Plane(1.0))
    floor = Floor(patches=(stage,))
    origin = np.array([-4.0, 2.0, 5.0])
    rays = np.array([[6.0, 0.0, -4.0], [1.0, 0.0, -5.0]])
    reach, slope = floor.reach(origin, rays)
    np.testing.assert_allclose(origin + reach[0] * rays[0], [2.0, 2.0, 1.0])
    np.testing.assert_allclose(origin + reach[1] * rays[1], [-3.0, 2.0, 0.0])
    assert slope.shape == (2, 2)
    np.testing.assert_allclose(floor.height_at(np.array([[2.0, 2.0], [9.0, 9.0]])), [1.0, 0.0])


def test_ramp_is_met_where_its_equation_says() -> None:
    ramp = Plane(0.5, (0.1, -0.05))
    origin = np.array([0.0, 0.0, 4.0])
    ray = np.array([[3.0, 2.0, -1.0]])
    met = origin + ramp.reach(origin, ray)[0] * ray[0]
    assert met[2] == pytest.approx(0.5 + 0.1 * met[0] - 0.05 * met[1])
    assert np.isinf(Plane().reach(origin, np.array([[1.0, 0.0, 0.0]])))[0]
