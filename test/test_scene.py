"""The demo's second scene, and the map of the twin."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ground_scene import box_of

pytest.importorskip("rclpy", reason="no ROS 2 here")
pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")

from matplotlib.figure import Figure

from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.detect.weights import WeightsError, find_weights
from roi_anon_ros.files import read_pixels
from roi_anon_ros.graph.scene import FRAMES, PERIOD, PHOTO, SITE, Yard, site_camera
from roi_anon_ros.ground.locate import locate
from roi_anon_ros.ground.map import draw_map
from roi_anon_ros.ground.people import People
from roi_anon_ros.ground.site import make_site

pytestmark = [pytest.mark.ros, pytest.mark.weights]


@pytest.fixture(scope="module")
def yard() -> Yard:
    pytest.importorskip("ultralytics", reason="needs the 'server' extra")
    photo = example_photo(PHOTO)
    if photo is None:
        pytest.skip(f"the installed ultralytics has no {PHOTO}")
    return Yard(read_pixels(photo))


def test_people_are_found_where_the_scene_has_them(yard: Yard) -> None:
    try:
        find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")
    from roi_anon_ros.detect import YoloPersons

    find = YoloPersons("yolov8n")
    site = make_site(SITE)
    for number in (0, FRAMES // 2, FRAMES - 1):
        seconds = PERIOD * number
        found = find([yard.image(seconds)])[0]
        boxes = np.column_stack([found.boxes.reshape(-1, 4), found.scores])
        sightings, _ = locate(site_camera(), boxes, site.floor, site.body)
        seen = np.array([sighting.place for sighting in sightings])
        for place in yard.places(seconds):
            assert np.linalg.norm(seen - place, axis=1).min() < 0.3


def test_people_walk_within_the_image_and_the_area(yard: Yard) -> None:
    camera = site_camera()
    floor = make_site(SITE).floor
    begin = yard.places(0.0)
    end = yard.places(PERIOD * (FRAMES - 1))
    assert (np.linalg.norm(end - begin, axis=1) > 1.5).all()
    for places in (begin, end):
        assert camera.sees(np.column_stack([places, np.zeros(2)])).all()
        assert not any(floor.refuse(places))
    assert not np.array_equal(yard.image(0.0), yard.image(PERIOD))


def test_map_shows_people_their_tails_cameras_and_zones() -> None:
    people = People(make_site(SITE))
    camera = site_camera()
    cycles = []
    for number in range(5):
        stamp = 1_700_000_000.0 + 0.2 * number
        people.add("camera", stamp, box_of(camera, (3.0, 0.1 * number))[None], stamp)
        cycles.append(json.loads(json.dumps(people.twin(stamp))))
    (person,) = cycles[-1]["people"]
    axes = Figure().subplots()
    draw_map(axes, cycles)
    said = {text.get_text() for text in axes.texts}
    assert {person["id"], "camera: alive", f"crossing: {cycles[-1]['zones'][0]['state']}"} <= said
    tails = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert len(tails) == 1
    x, y = tails[0].get_xydata()[-1]
    assert (x, y) == pytest.approx(person["position"][:2])
