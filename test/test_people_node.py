"""The people node over DDS, under a clock that the tests set: what the cloud does in each fault."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL, SIGTERM

import jsonschema
import numpy as np
import pytest
import yaml
from people_stage import CAMERAS, FRAME, ROOT, SITE, Stage, points_of

from builtin_interfaces.msg import Time  # isort: skip
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # isort: skip
from people_player import to_detections  # isort: skip
from rcl_interfaces.srv import DescribeParameters  # isort: skip
from sensor_msgs.msg import CameraInfo  # isort: skip
from simulated_robot import Robot, walk  # isort: skip
from std_msgs.msg import Header, String  # isort: skip
from visualization_msgs.msg import Marker, MarkerArray  # isort: skip

from roi_anon_ros.graph.probe import RELIABLE
from roi_anon_ros.graph.processes import START_LIMIT
from roi_anon_ros.ground.people import Policy
from roi_anon_ros.ground.zone import size_stop_zone

pytestmark = pytest.mark.ros

SCHEMA = json.loads((ROOT / "docs" / "twin.schema.json").read_text())
SOMEBODY = (1.0, 0.5)
#: Nanoseconds between two frames where it counts after how many of them a camera is late.
LONG = 120_000_007


@pytest.fixture(scope="module")
def port() -> int:
    """A free port for the page; 0 without the extra `twin`."""
    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        return 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("people")) as stage:
        stage.open(port)
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Stage:
    theatre.begin()
    return theatre


def test_detections_become_a_cloud_in_metres_with_the_stamp_of_the_image(stage: Stage) -> None:
    schema = stage.listen(String, "north/nvschema", RELIABLE)
    points = stage.frame("north", SOMEBODY)
    assert points.dtype.names == ("x", "y", "z", "id", "vx", "vy", "confidence")
    assert all(points.dtype[name] == "<f4" for name in points.dtype.names if name != "id")
    assert len(points) == 40
    assert points["x"].mean() == pytest.approx(1.0, abs=0.1)
    assert points["y"].mean() == pytest.approx(0.5, abs=0.1)
    low = points[(points["z"] >= 0.05) & (points["z"] <= 0.5 + 1e-6)]
    assert len(low) == 16
    stage.both(SOMEBODY, count=4)
    stamp = stage.stamp()
    assert len(stage.fused_at(stamp)) == 40
    assert {cloud.header.frame_id for cloud in stage.fused} == {"site"}
    tracks = stage.tracks
    stage.wait_for(lambda: tracks and tracks[-1].header.stamp == stamp, "tracks")
    (person,) = tracks[-1].detections
    place = person.results[0].pose
    assert [place.pose.position.x, place.pose.position.y] == pytest.approx([1.0, 0.5], abs=0.1)
    assert place.pose.position.z == 0.0 and person.bbox.center.position.z == pytest.approx(0.85)
    assert 0 < place.covariance[0] < 0.1 and place.covariance[14] == 0.0
    cycle = stage.cycle()
    jsonschema.validate(cycle, SCHEMA)
    assert cycle["complete"] and [p["id"] for p in cycle["people"]] == [person.id]
    stage.until(lambda: stage.frame("north", SOMEBODY), lambda: schema, "nvschema")
    frame = json.loads(schema[-1].data)
    assert frame["sensorId"] == "north" and frame["objects"][0]["id"] == person.id


def test_nobody_for_a_minute_is_an_empty_cloud_for_each_frame(stage: Stage) -> None:
    begin = stage.time
    sent = []
    while stage.time < begin + 60 * 10**9:
        for camera in CAMERAS:
            points = stage.frame(camera, step=2 * FRAME)
            assert len(points) == 0 and points.dtype.names[:3] == ("x", "y", "z")
            sent.append(stage.stamp())
    stage.fused_at(sent[-1])
    assert stage.fused_stamps() == sent
    for cloud in stage.fused:
        points = points_of(cloud)
        assert len(points) == 0 and points.dtype.names[:3] == ("x", "y", "z")
    assert stage.cycle()["zones"][0]["state"] == "free"


def test_markers_live_as_long_as_a_camera_and_are_deleted_with_the_person(stage: Stage) -> None:
    markers = stage.listen(MarkerArray, "people_markers", RELIABLE)
    stage.until(
        lambda: stage.both(SOMEBODY, count=3), lambda: markers and markers[-1].markers, "markers"
    )
    shown = {m.id for m in markers[-1].markers if m.ns == "people"}
    assert len(shown) == 1 and markers[-1].markers[0].lifetime.sec == 2
    markers.clear()

    def gone() -> set[tuple[str, int]]:
        every = [marker for array in markers for marker in array.markers]
        return {(m.ns, m.id) for m in every if m.action == Marker.DELETE}

    stage.both(count=13)  # 2.6 s: longer than anybody is believed in unseen
    stage.wait_for(gone, "deletions")
    assert gone() == {(ns, *shown) for ns in ("people", "velocity")}


def test_with_a_third_of_the_frames_lost_each_that_comes_has_its_cloud(stage: Stage) -> None:
    random = np.random.default_rng(1)
    step = 60_000_007  # each camera sends one in 0.12 s, of which no multiple is late_after
    seen = dict.fromkeys(CAMERAS, stage.time)
    flowing = []
    for _ in range(40):
        for camera in CAMERAS:
            if random.uniform() < 0.3:
                stage.time += step
                continue
            points = stage.timed_frame(camera, SOMEBODY, step=step)
            assert len(points) == 40
            seen[camera] = stage.time
            oldest = stage.time - min(seen.values())
            if oldest <= Policy().late_after * 1e9:  # four lost in a row silence
                flowing.append(stage.stamp())
    stage.both()
    stage.fused_at(stage.stamp())
    assert stage.fused_stamps()[:-2] == flowing
    assert len(flowing) > 45


def test_one_of_two_late_silences_the_fused_cloud_alone(stage: Stage) -> None:
    flowing = []
    for _ in range(8):
        assert len(stage.timed_frame("north", SOMEBODY, step=LONG)) == 40
        flowing.append(stage.stamp())
    flowing = flowing[:4]  # then south was silent for more than 0.5 s
    cycle = stage.cycle()
    assert [camera["state"] for camera in cycle["cameras"]] == ["alive", "late"]
    assert "no image for" in cycle["cameras"][1]["reason"]
    stage.wait_for(lambda: "no image" in stage.report("/people: people")["people_fused"], "why")
    stage.frame("south", SOMEBODY)
    assert len(stage.fused_at(stage.stamp())) == 40
    assert stage.fused_stamps() == [*flowing, stage.stamp()]


def test_when_a_camera_dies_the_fused_cloud_ends_and_the_other_one_goes_on(stage: Stage) -> None:
    for _ in range(20):
        assert len(stage.timed_frame("north", SOMEBODY, step=LONG)) == 40
    cycle = stage.cycle()
    assert [camera["state"] for camera in cycle["cameras"]] == ["alive", "dead"]
    assert not cycle["complete"] and cycle["zones"][0]["state"] == "occupied"
    stage.frame("south", SOMEBODY)
    stage.fused_at(stage.stamp())
    assert len(stage.fused) == 5


def test_when_the_server_dies_nothing_comes_and_the_twin_says_why(stage: Stage) -> None:
    status = DiagnosticStatus(name="/server: north/latent", message="crc: damaged")
    status.level = DiagnosticStatus.ERROR
    server = stage.talk(DiagnosticArray, "/diagnostics")
    cycle = stage.set_clock(stage.time + 3 * 10**9)
    assert not cycle["complete"] and cycle["zones"][0]["state"] == "unknown"
    assert [camera["state"] for camera in cycle["cameras"]] == ["dead", "dead"]

    def is_named() -> bool:
        reason = json.loads(stage.twins[-1].data)["cameras"][0]["reason"]
        return "/server: crc: damaged" in reason

    stage.until(
        lambda: server.publish(DiagnosticArray(status=[status])), is_named, "the server's error"
    )
    stage.both()
    stage.fused_at(stage.stamp())
    assert stage.fused_stamps() == [stage.stamp()]  # and of the cameras `frame` says the same
    assert stage.cycle()["complete"]


def in_five_seconds(now: Time) -> Time:
    return Time(sec=now.sec + 5, nanosec=now.nanosec)


def five_seconds_ago(now: Time) -> Time:
    return Time(sec=now.sec - 5, nanosec=now.nanosec)


@pytest.mark.parametrize(
    ("reason", "shift"),
    [
        ("stamp in the future", in_five_seconds),
        ("stamp too old", five_seconds_ago),
        ("stamp of zero", lambda now: Time()),
    ],
)
def test_stamps_of_another_time_bring_no_cloud(
    stage: Stage, reason: str, shift: Callable[[Time], Time]
) -> None:
    before = stage.count_of("north", reason)
    stage.until(
        lambda: stage.send("north", [SOMEBODY], shift(stage.stamp())),
        lambda: stage.count_of("north", reason) > before,
        f"a frame that is dropped: {reason}",
    )
    assert len(stage.frame("north")) == 0
    stage.fused_at(stage.stamp())
    assert stage.fused_stamps() == [stage.stamp()]


def test_a_frame_that_was_overtaken_tells_where_people_were_and_has_no_cloud(stage: Stage) -> None:
    stage.time += FRAME
    older = stage.stamp()
    assert len(stage.frame("north")) == 0
    newest = stage.stamp()
    name = "/people: north/detections"
    sent = int(stage.report(name)["frames sent"])
    stage.until(
        lambda: stage.send("north", [SOMEBODY], older),
        lambda: int(stage.report(name)["frames sent"]) > sent,
        "a frame that is taken",
    )
    assert len(stage.frame("north")) == 0  # and no other cloud came
    stage.fused_at(stage.stamp())
    assert older not in stage.fused_stamps() and newest in stage.fused_stamps()


def test_detections_without_sense_bring_no_cloud(stage: Stage) -> None:
    boxes = np.array([[1.0, 2.0, 3.0, np.nan, 0.5]])
    message = to_detections(boxes, Header(stamp=stage.stamp()))
    before = stage.count_of("south", "ValueError")
    stage.until(
        lambda: stage.inputs["south"].publish(message),
        lambda: stage.count_of("south", "ValueError") > before,
        "a frame that is dropped",
    )
    stage.frame("south")
    stage.fused_at(stage.stamp())
    assert stage.fused_stamps() == [stage.stamp()]


@pytest.mark.parametrize("jump", [-1000, 2000])
def test_clock_that_jumps_starts_anew(stage: Stage, jump: int) -> None:
    stage.both(SOMEBODY, count=4)
    assert len(stage.fused_at(stage.stamp())) == 40
    stage.fused.clear()
    cycle = stage.set_clock(stage.time + jump * 10**9)
    assert [camera["state"] for camera in cycle["cameras"]] == ["dead", "dead"]
    assert not cycle["people"]
    for _ in range(3):
        assert len(stage.frame("north", SOMEBODY)) == 40
    stage.frame("south", SOMEBODY)
    stage.fused_at(stage.stamp())
    assert stage.fused_stamps() == [stage.stamp()]  # none until both spoke


def test_page_shows_what_the_twin_says(stage: Stage, port: int) -> None:
    websockets = pytest.importorskip("websockets.sync.client")
    if not port:
        pytest.skip("needs the extra twin: uvicorn and fastapi")
    address = f"127.0.0.1:{port}"
    with websockets.connect(f"ws://{address}/live", origin=f"http://{address}") as live:
        jsonschema.validate(json.loads(live.recv(timeout=600)), SCHEMA)


def test_example_tells_nobody_from_a_missing_camera(stage: Stage) -> None:
    stage.both(count=12)  # everybody who was there is forgotten
    stage.set_clock(stage.time + 3 * 10**9)
    example = stage.start("example", str(ROOT / "examples" / "twin_subscriber.py"))
    stage.wait_for(lambda: "a camera is missing" in example.output, "a line", START_LIMIT)
    stage.both(count=2)
    cycle = stage.cycle()
    stage.wait_for(lambda: f"{cycle['time']} nobody" in example.output, "nobody")
    stage.both(SOMEBODY, count=4)
    (person,) = stage.cycle()["people"]
    stage.wait_for(lambda: f"{{'{person['id']}': [" in example.output, "a person")
    assert stage.processes.pop("example").end() == 0


def test_parameters_are_described_and_the_config_names_them(theatre: Stage) -> None:
    config = ROOT / "config" / "people.yaml"
    names = list(yaml.safe_load(config.read_text())["/**"]["ros__parameters"])
    request = DescribeParameters.Request(names=names)
    described = theatre.call(DescribeParameters, "/people/describe_parameters", request).descriptors
    assert [d.name for d in described if d.description] == names
    ranges = {d.name for d in described if d.integer_range or d.floating_point_range}
    no_range = {"site", "tolerate_late", "robot_frame", "rmf_level"}
    assert ranges == {n for n in names if not n.startswith("publish_")} - no_range


class Loop:
    """A robot, a person and a server in a separate process, step by step.

    Args:
        stage: with the clock.
    """

    period = 0.19  # below what stamps may be ahead of the node's clock

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        start = (stage.time // 10**9 + 10) * 10**9
        stage.set_clock(start)
        self._began = start * 1e-9 - 3.0
        folder = Path(__file__).parent
        stage.environment["PYTHONPATH"] = f"{folder}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        stage.start("server", str(folder / "people_player.py"), str(SITE), str(self._began))
        zone = size_stop_zone(
            0.0, self.period, walking=1.2, cycle=self.period, delay=0.0, error=0.4
        )
        self.robot = Robot(zone.ahead, zone.aside)

    def run(self, seconds: float, reason: str) -> None:
        """Let time pass until the robot's reason is this one for a second, at most so long."""
        held = 0.0
        waited = 0.0
        while held < 1.0:
            assert waited < seconds, f"not {reason!r} within {seconds} s: {self.robot.log}"
            self._step()
            held = held + self.period if self.robot.reason == reason else 0.0
            waited += self.period
            person = walk(self._stage.seconds() - self._began)
            assert not self.robot.speed or self.robot.distance(person) > 0.2

    def _step(self) -> None:
        stage = self._stage
        stage.time += round(self.period * 1e9)
        if "server" in stage.processes:
            stage.until(stage.tell_time, self._has_both, "clouds of both cameras")
        else:
            stage.set_clock(stage.time)
        for cloud in stage.fused:
            stamp = cloud.header.stamp
            self.robot.take(stamp.sec + 1e-9 * stamp.nanosec, points_of(cloud))
        stage.fused.clear()
        self.robot.step(stage.seconds(), self.period)

    def _has_both(self) -> bool:
        stage = self._stage
        now = stage.stamp()
        clouds = (*stage.clouds.values(), stage.fused)
        return all(some and some[-1].header.stamp == now for some in clouds)


def test_robot_stops_for_a_person_goes_on_and_stops_when_the_server_is_killed(
    stage: Stage,
) -> None:
    loop = Loop(stage)
    loop.run(4.0, "")
    assert loop.robot.speed == loop.robot.top
    loop.run(7.0, "person")
    assert loop.robot.speed == 0.0
    loop.run(12.0, "")
    stage.processes.pop("server").end(SIGKILL)
    loop.run(3.0, "invalid source")
    assert loop.robot.speed == 0.0
    for clouds in stage.clouds.values():
        clouds.clear()


def test_cameras_without_camera_info_or_transform_wait_and_hang_nobody(
    theatre: Stage, tmp_path: Path
) -> None:
    stage = theatre
    site = yaml.safe_load(SITE.read_text())
    lens = {key: site["cameras"]["north"].pop(key) for key in ("width", "height", "k", "d")}
    lens["distortion_model"] = site["cameras"]["north"].pop("distortion_model")
    for key in ("position", "orientation"):
        del site["cameras"]["south"][key]
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(site))
    assert stage.transit("people", "deactivate") and stage.transit("people", "cleanup")
    assert stage.set_parameter("site", str(tmp_path / "none.yaml"))
    assert not stage.transit("people", "configure")
    assert "none.yaml" in stage.report("/people: people")["message"]
    assert stage.set_parameter("site", str(file))
    assert stage.transit("people", "configure") and stage.transit("people", "activate")
    assert not stage.set_parameter("site", str(SITE))  # read by configure
    cycle = stage.set_clock(stage.time + 10**9)
    stage.fused.clear()
    for camera, reason in (("south", "no transform"), ("north", "no camera_info yet")):
        stage.until(
            lambda camera=camera: stage.send(camera),
            lambda camera=camera, reason=reason: stage.count_of(camera, reason),
            f"a frame that is dropped: {reason}",
        )
    cycle = stage.cycle()
    assert [camera["state"] for camera in cycle["cameras"]] == ["dead", "dead"]
    assert "south_optical" in cycle["cameras"][1]["reason"]
    info = stage.talk(CameraInfo, "north/camera_info")

    def complaint() -> str:
        info.publish(CameraInfo(width=1280, height=720))  # of a camera that is not calibrated
        return stage.report("/people: people")["camera north"]

    stage.wait_for(lambda: "camera_info: k" in complaint(), "a complaint about camera_info")
    assert not any(stage.clouds.values())

    def send() -> Header:
        info.publish(CameraInfo(**lens))
        stage.time += FRAME
        stage.tell_time()
        return Header(stamp=stage.send("north").stamp, frame_id="site")

    stage.connect(send, stage.clouds["north"])
    for _ in range(3):
        assert len(stage.frame("north", SOMEBODY)) == 40
    cycle = stage.cycle()
    assert [camera["state"] for camera in cycle["cameras"]] == ["alive", "dead"]
    assert not stage.fused and not stage.clouds["south"]  # what south sees is not known


def test_it_ends_cleanly_on_sigterm(theatre: Stage) -> None:
    process = theatre.processes.pop("people")
    assert process.end(SIGTERM) == 0
    assert "Traceback" not in process.output
