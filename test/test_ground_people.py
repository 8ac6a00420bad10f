from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from ground_scene import box_of

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.people import People, Policy
from roi_anon_ros.ground.site import SiteError, make_site, read_site

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "config" / "site.yaml"
SCHEMA = json.loads((ROOT / "docs" / "twin.schema.json").read_text())
START = 1_700_000_000.0
NOBODY = np.empty((0, 5))


def content() -> dict:
    return yaml.safe_load(SITE.read_text())


def make_people(**policy) -> People:
    return People(make_site(content()), Policy(**policy))


def boxes_of(people: People, camera: str, *places: tuple[float, float]) -> np.ndarray:
    known = people.site.cameras[camera]
    where = Camera(camera, known.lens, known.pose)
    return np.array([box_of(where, place) for place in places]).reshape(-1, 5)


def play(people: People, steps: int, *places, cameras=("north", "south"), start=START) -> float:
    """Frames of 10 Hz in which everybody stands still; returns the stamp of the last."""
    stamp = start
    for step in range(steps):
        stamp = start + step * 0.1
        for camera in cameras:
            assert people.add(camera, stamp, boxes_of(people, camera, *places), stamp + 0.05)
    return stamp


def check(cycle: dict) -> dict:
    jsonschema.validate(json.loads(json.dumps(cycle, allow_nan=False)), SCHEMA)
    return cycle


def test_two_cameras_bring_each_person_once_to_cloud_and_twin() -> None:
    people = make_people()
    stamp = play(people, 6, (1.0, 0.5), (-2.0, -1.0))
    cycle = check(people.twin(stamp + 0.1))
    assert cycle["complete"]
    places = sorted(person["position"] for person in cycle["people"])
    np.testing.assert_allclose(places, [[-2, -1, 0], [1, 0.5, 0]], atol=0.05)
    assert cycle["people"][0]["cameras"] == ["north", "south"]
    assert {zone["name"]: zone["state"] for zone in cycle["zones"]} == {
        "crossing": "occupied",
        "ramp": "not watched",
        "break_room": "not watched",
    }
    fused = people.fused(stamp + 0.1)
    assert fused.stamp == stamp and not fused.silence
    assert len(fused.cloud) == 80
    assert {f"{name:08x}" for name in fused.cloud["id"]} == {p["id"] for p in cycle["people"]}
    assert cycle["time"] == "2023-11-14T22:13:20.600Z"


def test_first_sighting_is_in_the_cloud_at_once_and_in_the_twin_when_believed() -> None:
    people = make_people()
    boxes = boxes_of(people, "north", (1.0, 0.0))
    people.add("north", START, boxes, START)
    people.add("south", START, NOBODY, START)
    assert len(people.cloud("north", START)) == 40
    assert len(people.fused(START).cloud) == 40
    assert not people.twin(START)["people"]
    people.add("north", START + 0.1, NOBODY, START + 0.1)
    assert len(people.cloud("north", START + 0.1)) == 0


def test_nobody_and_a_dead_camera_are_different_sentences() -> None:
    people = make_people()
    stamp = play(people, 5)
    fused = people.fused(stamp + 0.1)
    assert fused.cloud is not None and len(fused.cloud) == 0
    cycle = check(people.twin(stamp + 0.1))
    assert cycle["complete"] and cycle["zones"][0]["state"] == "free"
    stamp = play(people, 30, cameras=("north",), start=stamp + 0.1)
    cycle = check(people.twin(stamp))
    assert not cycle["complete"] and cycle["zones"][0]["state"] == "unknown"
    assert [camera["state"] for camera in cycle["cameras"]] == ["alive", "dead"]
    fused = people.fused(stamp)
    assert fused.cloud is None and "south: no image for" in fused.silence
    assert len(people.cloud("north", stamp)) == 0  # its own cloud goes on


def test_one_late_camera_silences_the_fused_cloud_unless_tolerated() -> None:
    for tolerated in (False, True):
        people = make_people(tolerate_late=tolerated)
        stamp = play(people, 5, (1.0, 0.0))
        stamp = play(people, 7, (1.0, 0.0), cameras=("north",), start=stamp + 0.1)
        assert people.states(stamp)["south"].state == "late"
        assert (people.fused(stamp).cloud is not None) == tolerated
        assert people.fused(stamp + 5).cloud is None  # with nobody alive nothing is tolerated


def test_camera_that_sees_no_watched_zone_silences_nothing() -> None:
    site = content()
    site["cameras"]["far"] = dict(site["cameras"]["south"], position=[0.0, -200.0, 4.5])
    people = People(make_site(site))
    stamp = play(people, 5)
    assert people.fused(stamp).cloud is not None
    site["cameras"]["new"] = None  # of which nothing is known: it may see the zone
    people = People(make_site(site))
    stamp = play(people, 5)
    assert "new: no camera_info yet" in people.fused(stamp).silence
    assert check(people.twin(stamp))["cameras"][3]["reason"] == "no camera_info yet"


def test_zone_that_no_camera_sees_wholly_is_never_free() -> None:
    site = content()
    site["zones"]["crossing"]["polygon"] = [[-3, -3], [3, -3], [3, 3], [-3, 60]]
    people = People(make_site(site))
    stamp = play(people, 5)
    assert check(people.twin(stamp))["zones"][0]["state"] == "unknown"
    assert people.fused(stamp).cloud is not None


def test_camera_without_camera_info_or_pose_waits_and_hangs_nobody() -> None:
    site = content()
    for field in ("position", "orientation"):
        del site["cameras"]["south"][field]
    people = People(make_site(site))
    north = make_people()
    boxes = boxes_of(north, "south", (1.0, 0.0))
    assert not people.add("south", START, boxes, START)
    assert people.cloud("south", START) is None
    assert people.add("north", START, NOBODY, START)
    assert people.states(START)["south"].reason == "no pose yet"
    people.set_pose("south", north.site.cameras["south"].pose)
    assert people.add("south", START, boxes, START)
    assert people.fused(START).cloud is not None


def test_failed_frames_age_a_camera_and_say_why() -> None:
    people = make_people()
    stamp = play(people, 3)
    people.fail("south", "decoding failed")
    assert people.states(stamp)["south"].state == "alive"
    later = people.states(stamp + 0.7)["south"]
    assert (later.state, later.reason) == ("late", "decoding failed")
    assert people.refused["failed"] == 1


def test_stamps_of_another_time_are_refused_and_counted() -> None:
    people = make_people()
    stamp = play(people, 3)
    assert not people.add("north", stamp + 60, NOBODY, stamp + 0.1)
    assert not people.add("north", stamp - 60, NOBODY, stamp + 0.1)
    assert not people.add("north", stamp, NOBODY, stamp + 0.1)
    assert people.cloud("north", stamp + 60) is None
    assert people.cloud("north", stamp) is not None
    assert people.add("north", stamp + 0.1, NOBODY, stamp + 0.15)
    assert sum(people.refused.values()) == 3
    check(people.twin(stamp + 0.2))


def test_clock_that_jumps_back_starts_everything_anew() -> None:
    people = make_people()
    play(people, 5, (1.0, 0.0))
    assert people.fused(START - 1000).cloud is None
    assert people.states(START - 1000)["north"].state == "dead"
    stamp = play(people, 5, (1.0, 0.0), start=START - 999)
    assert len(people.fused(stamp).cloud) == 40


def test_clock_that_jumps_ahead_makes_every_camera_dead_until_it_speaks() -> None:
    people = make_people()
    play(people, 5, (1.0, 0.0))
    assert people.fused(START + 1000).cloud is None
    stamp = play(people, 5, (1.0, 0.0), start=START + 1000)
    assert len(people.fused(stamp).cloud) == 40


def test_horizon_adds_the_places_that_a_person_passes() -> None:
    people = make_people(horizon=1.0)
    for step in range(12):
        stamp = START + step * 0.1
        people.add("north", stamp, boxes_of(people, "north", (-2 + step * 0.12, 0.0)), stamp)
        people.add("south", stamp, boxes_of(people, "south", (-2 + step * 0.12, 0.0)), stamp)
    cloud = people.fused(stamp).cloud
    assert len(cloud) == 40 * 4  # 1.2 m/s in steps of at most half a metre
    assert cloud["x"].max() == pytest.approx(-2 + 11 * 0.12 + 1.2 + 0.25, abs=0.25)


def test_nvschema_has_feet_and_no_embedding() -> None:
    people = make_people()
    stamp = play(people, 4, (1.0, 0.5))
    frame = people.nvschema("north", stamp)
    assert frame["version"] == "4.0" and frame["sensorId"] == "north"
    (person,) = frame["objects"]
    assert person["type"] == "Person" and "embedding" not in json.dumps(frame)
    foot = [float(number) for number in person["info"]["footLocation3D"].split(",")]
    np.testing.assert_allclose(foot, [1.0, 0.5], atol=0.05)
    assert person["coordinate"] == {"x": foot[0], "y": foot[1], "z": 0.0}
    assert person["bbox"]["leftX"] < person["bbox"]["rightX"]
    assert person["id"] == people.twin(stamp)["people"][0]["id"]


def test_robot_and_unknown_cameras_pass_the_schema() -> None:
    site = content()
    site["cameras"]["new"] = None
    people = People(make_site(site))
    cycle = check(people.twin(START, robot=(1.0, 2.0, 0.5)))
    assert cycle["robot"] == {"position": [1.0, 2.0], "yaw": 0.5}
    cycle["people"].append({"id": "1"})
    with pytest.raises(jsonschema.ValidationError):
        check(cycle)


def test_boxes_of_another_shape_and_unknown_cameras_are_errors() -> None:
    people = make_people()
    with pytest.raises(ValueError, match="boxes: got shape"):
        people.add("north", START, np.zeros((3, 4)), START)
    with pytest.raises(KeyError):
        people.add("east", START, NOBODY, START)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda site: site.pop("frame"), "file: has no 'frame'"),
        (lambda site: site.update(frame="/map"), "leading slash"),
        (lambda site: site.update(camera={}), "got field 'camera'"),
        (lambda site: site.update(cameras={}), "cameras: got none"),
        (lambda site: site["cameras"]["north"].pop("k"), "cameras: north: has no 'k'"),
        (lambda site: site["cameras"]["north"].update(k=[1, 2]), "cameras: north: k"),
        (lambda site: site["cameras"]["north"].update(d=[1, 2]), "cameras: north: distortion"),
        (lambda site: site["cameras"]["north"].pop("position"), "has no 'position'"),
        (lambda site: site["cameras"]["north"].update(orientation=[0] * 4), "quaternion"),
        (lambda site: site["zones"]["crossing"].update(kind="hot"), "zones: crossing: kind"),
        (lambda site: site["zones"]["crossing"].update(polygon=[[0, 0]]), "3 corners"),
        (lambda site: site["zones"]["crossing"].update(height=1), "kind floor"),
        (lambda site: site["body"].update(height="tall"), "body: height"),
        (lambda site: site["body"].update(height=-1), "body: height: got -1"),
        (lambda site: site.update(area=[[0, 0], [1, 1], [2, float("nan")]]), "area: corner 2"),
    ],
)
def test_site_that_makes_no_sense_says_where(change, said: str) -> None:
    site = content()
    change(site)
    with pytest.raises(SiteError, match=said):
        make_site(site)


def test_site_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"none\.yaml"):
        read_site(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("site: [")
    with pytest.raises(SiteError, match=r"broken\.yaml"):
        read_site(broken)
    assert read_site(SITE).cameras["north"].lens.width == 1280
