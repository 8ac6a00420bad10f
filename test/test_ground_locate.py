from __future__ import annotations

import numpy as np
import pytest
from ground_scene import DISTORTION, HEIGHT, WIDTH, box_of, make_camera
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.ground.floor import Floor, Patch, Plane
from roi_anon_ros.ground.locate import REASONS, BodyPrior, locate, which_are_covered

FLOOR = Floor()
PRIOR = BodyPrior()


def place_one(camera, box, floor=FLOOR, prior=PRIOR):
    sightings, reasons = locate(camera, box[None], floor, prior)
    assert len(sightings) + len(reasons) == 1
    return sightings[0] if sightings else reasons[0]


def test_foot_point_of_a_pinhole_is_where_the_formula_says() -> None:
    camera = make_camera(distorted=False)  # 4 m high, 0.4 rad down, looks along x
    box = np.array([640.0, 300.0, 690.0, 500.0, 0.8])
    below = 0.4 + np.arctan2(500.0 - 352.0, 707.0)
    x = 4.0 / np.tan(below)
    depth = x * np.cos(0.4) + 4.0 * np.sin(0.4)
    y = -(665.0 - 645.0) / 700.0 * depth
    sighting = place_one(camera, box)
    np.testing.assert_allclose(sighting.place, [x, y], atol=1e-6)
    assert sighting.source == "feet" and sighting.confidence == 0.8


@pytest.mark.parametrize("model", DISTORTION)
@given(x=st.floats(4.0, 14.0), y=st.floats(-3.0, 3.0), slope=st.floats(-0.05, 0.05))
@settings(max_examples=15, deadline=None)
def test_people_come_back_to_their_places(model: str, x: float, y: float, slope: float) -> None:
    camera = make_camera(model)
    floor = Floor(plane=Plane(0.2, (slope, 0.0)))
    box = box_of(camera, (x, y), floor=0.2 + slope * x)
    sighting = place_one(camera, box, floor)
    np.testing.assert_allclose(sighting.place, [x, y], atol=2e-3)
    assert np.linalg.eigvalsh(sighting.covariance).min() >= PRIOR.ground_error**2 * 0.999


@pytest.mark.parametrize("model", DISTORTION)
def test_covariance_of_feet_holds_what_it_says(model: str) -> None:
    """Squared Mahalanobis distances are chi-square of 2: 50, 90 and 95 % lie within theirs."""
    random = np.random.default_rng(2)
    camera = make_camera(model)
    squares = []
    for _ in range(60):
        place = np.array([random.uniform(4, 13), random.uniform(-3, 3)])
        body = place + random.normal(size=(20, 2)) * PRIOR.ground_error
        boxes = np.array([box_of(camera, where) for where in body])
        edge = np.hypot(PRIOR.pixel_error, PRIOR.relative_error * (boxes[:, 3] - boxes[:, 1]))
        boxes[:, [0, 2]] += (random.normal(size=20) * edge)[:, None]
        boxes[:, 3] += random.normal(size=20) * edge
        boxes = boxes[(boxes[:, 3] < HEIGHT - 5) & (boxes[:, 0] > 8) & (boxes[:, 2] < WIDTH - 8)]
        for sighting in locate(camera, boxes, FLOOR, PRIOR)[0]:
            away = sighting.place - place
            squares.append(away @ np.linalg.solve(sighting.covariance, away))
    assert len(squares) > 900
    for share in (0.5, 0.9, 0.95):
        bound = -2 * np.log(1 - share)
        assert np.mean(np.array(squares) < bound) == pytest.approx(share, abs=0.04)


def test_covariance_of_heads_holds_what_it_says() -> None:
    random = np.random.default_rng(3)
    camera = make_camera(down=0.2)
    squares = []
    for _ in range(600):
        place = np.array([random.uniform(4.5, 6.5), random.uniform(-1, 1)])
        tall = random.normal(PRIOR.height, PRIOR.height_deviation)
        body = place + random.normal(size=2) * PRIOR.ground_error
        box = box_of(camera, body, tall=tall)
        box[3] = HEIGHT
        edge = np.hypot(PRIOR.pixel_error, PRIOR.relative_error * (box[3] - box[1]))
        box[[0, 2]] += random.normal() * edge
        box[1] += random.normal() * edge
        sighting = place_one(camera, box)
        assert sighting.source == "head"
        away = sighting.place - place
        squares.append(away @ np.linalg.solve(sighting.covariance, away))
    for share in (0.5, 0.9):
        bound = -2 * np.log(1 - share)
        assert np.mean(np.array(squares) < bound) == pytest.approx(share, abs=0.06)


def test_hidden_feet_give_a_larger_covariance_at_the_same_place() -> None:
    camera = make_camera(down=0.2)
    box = box_of(camera, (6.0, 0.3))
    seen = place_one(camera, box)
    box[3] = HEIGHT
    hidden = place_one(camera, box)
    assert (seen.source, hidden.source) == ("feet", "head")
    np.testing.assert_allclose(hidden.place, [6.0, 0.3], atol=0.05)
    assert np.linalg.det(hidden.covariance) > 4 * np.linalg.det(seen.covariance)


def test_box_cut_at_both_ends_gives_a_bearing_and_the_nearest_distance() -> None:
    camera = make_camera(position=(1.0, 2.0, 1.4), yaw=0.5, down=0.0, distorted=False)
    sighting = place_one(camera, np.array([400.0, 0.0, 900.0, 720.0, 0.9]))
    assert sighting.source == "bearing"
    away = sighting.place - [1.0, 2.0]
    middle = np.arctan2(650.0 - 645.0, 700.0)
    assert np.arctan2(away[1], away[0]) == pytest.approx(0.5 - middle, abs=0.01)
    angle = np.arctan2(900.0 - 645, 700) - np.arctan2(400.0 - 645, 700)
    nearest = np.linalg.norm(sighting.nearest - [1.0, 2.0])
    assert nearest == pytest.approx(PRIOR.narrowest / angle, rel=0.02)
    assert nearest < np.linalg.norm(away) < PRIOR.widest / angle


def test_person_nearer_than_heads_allow_is_no_nearest_distance() -> None:
    """From above, a head over the upper edge is not nearer than where that ray is at its height."""
    camera = make_camera(position=(0, 0, 3.0), down=0.7, distorted=False)
    sighting = place_one(camera, np.array([600.0, 0.0, 690.0, 720.0, 0.9]))
    top = 0.7 - np.arctan2(352.0, 707.0)
    tallest = PRIOR.height + 2 * PRIOR.height_deviation
    farthest = 3.0 / np.tan(0.7 + np.arctan2(720.0 - 352.0, 707.0))
    expected = min((3.0 - tallest) / np.tan(top), farthest)
    assert np.linalg.norm(sighting.nearest) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([600, 10, 650, 40, 0.9], "behind"),  # the foot is above the horizon
        ([600, 10, 650, 60, 0.9], "horizon"),  # just below it
        ([600, 300, 600, 300, 0.9], "box"),
        ([2000, 300, 2100, 500, 0.9], "box"),
        ([np.nan, 300, 700, 500, 0.9], "box"),
    ],
)
def test_boxes_without_a_place_say_why(box: list[float], reason: str) -> None:
    camera = make_camera(distorted=False, down=0.4)
    assert place_one(camera, np.array(box, float)) == reason
    assert reason in REASONS


def test_pixel_that_no_ray_makes_is_refused() -> None:
    camera = make_camera("plumb_bob")
    strong = camera.lens.__class__(WIDTH, HEIGHT, camera.lens.k, "plumb_bob", (-0.9, 0, 0, 0, 0))
    camera = camera.__class__("north", strong, camera.pose)
    assert place_one(camera, np.array([1.0, 500.0, 30.0, 700.0, 0.9])) == "lens"


def test_places_outside_and_untracked_are_refused() -> None:
    camera = make_camera()
    area = np.array([[0.0, -5.0], [9.0, -5.0], [9.0, 5.0], [0.0, 5.0]])
    corner = np.array([[5.0, 0.5], [7.0, 0.5], [7.0, 3.0], [5.0, 3.0]])
    floor = Floor(area=area, untracked=(corner,))
    places = [(6.0, -1.0), (6.0, 1.0), (12.0, 0.0)]
    boxes = np.array([box_of(camera, place) for place in places])
    sightings, reasons = locate(camera, boxes, floor, PRIOR)
    assert len(sightings) == 1
    assert sorted(reasons) == ["outside", "untracked"]


def test_person_on_a_stage_stands_there_and_not_on_the_ground_at_its_back() -> None:
    camera = make_camera()
    stage = np.array([[6.0, -2.0], [9.0, -2.0], [9.0, 2.0], [6.0, 2.0]])
    floor = Floor(patches=(Patch(stage, Plane(0.8)),))
    sighting = place_one(camera, box_of(camera, (7.5, 0.5), floor=0.8), floor)
    np.testing.assert_allclose(sighting.place, [7.5, 0.5], atol=1e-3)


def test_box_cut_at_the_side_is_less_sure_across() -> None:
    camera = make_camera(distorted=False)
    whole = place_one(camera, np.array([8.0, 300.0, 80.0, 500.0, 0.9]))
    cut = place_one(camera, np.array([0.0, 300.0, 30.0, 500.0, 0.9]))
    assert cut.covariance[1, 1] > 1.5 * whole.covariance[1, 1]


def test_nobody_is_no_trouble() -> None:
    assert locate(make_camera(), np.empty((0, 5)), FLOOR, PRIOR) == ([], [])


def test_covered_is_where_a_person_would_be_placed() -> None:
    camera = make_camera(position=(0, 0, 4.0), down=0.2)
    places = np.array([[8.0, 0.0], [-8.0, 0.0], [2.0, 0.0], [150.0, 0.0]])
    assert which_are_covered(camera, places, FLOOR, PRIOR).tolist() == [True, False, False, False]
