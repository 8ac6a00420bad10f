"""The people node over DDS, under a clock that the tests set: what the cloud does in each fault."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM

import jsonschema
import numpy as np
import pytest
import yaml
from ground_scene import box_of

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")

from builtin_interfaces.msg import Time  # isort: skip
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # isort: skip
from rcl_interfaces.srv import DescribeParameters, SetParameters  # isort: skip
from rclpy.parameter import Parameter  # isort: skip
from sensor_msgs.msg import CameraInfo, PointCloud2, PointField  # isort: skip
from std_msgs.msg import Header, String  # isort: skip

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
if not hasattr(vision_msgs, "Detection3DArray"):
    pytest.skip("needs vision_msgs with Detection3DArray: make env", allow_module_level=True)
visualization_msgs = pytest.importorskip("visualization_msgs.msg", reason="needs a distribution")

from people_player import cameras_of, to_detections  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from simulated_robot import Robot, walk  # noqa: E402

from roi_anon_ros.graph.probe import RELIABLE, Probe  # noqa: E402
from roi_anon_ros.graph.processes import START_LIMIT  # noqa: E402
from roi_anon_ros.ground.twin import utc  # noqa: E402
from roi_anon_ros.ground.zone import size_stop_zone  # noqa: E402

pytestmark = [
    pytest.mark.ros,
    # On a loaded machine a message is lost now and then, and a test waits for it in vain.
    pytest.mark.skipif(
        os.environ.get("PEOPLE_NODE") != "1", reason="by hand on a quiet machine: PEOPLE_NODE=1"
    ),
]

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "config" / "site.yaml"
SCHEMA = json.loads((ROOT / "docs" / "twin.schema.json").read_text())
START = 1_700_000_000
#: Nanoseconds between two frames: not a whole number of anything, so that stamps must be exact.
FRAME = 100_000_007
DTYPES = {PointField.FLOAT32: "<f4", PointField.UINT32: "<u4"}
CAMERAS = ("north", "south")


def points_of(cloud: PointCloud2) -> np.ndarray:
    """The points as the message's own fields say."""
    layout = {
        "names": [field.name for field in cloud.fields],
        "formats": [DTYPES[field.datatype] for field in cloud.fields],
        "offsets": [field.offset for field in cloud.fields],
        "itemsize": cloud.point_step,
    }
    assert cloud.row_step == cloud.width * cloud.point_step == len(cloud.data)
    assert cloud.height == 1 and not cloud.is_bigendian
    return np.frombuffer(cloud.data.tobytes(), np.dtype(layout))


class Stage(Probe):
    """A people node, its two cameras, and a clock."""

    def open(self, site: Path, port: int) -> None:
        """Start the node, and connect to all of it."""
        self.time = START * 10**9
        self.cameras = {camera.name: camera for camera in cameras_of(SITE)}
        self.start_node(
            "people",
            site=site,
            use_sim_time="true",
            autostart="true",
            diagnostics_period=0.2,
            twin_period=0.1,
            page_port=port,
            publish_nvschema="true",
        )
        self.clock = self.talk(Clock, "/clock")
        self.inputs = {
            name: self.talk(vision_msgs.Detection2DArray, f"{name}/detections") for name in CAMERAS
        }
        self.clouds = {n: self.listen(PointCloud2, f"{n}/people", RELIABLE) for n in CAMERAS}
        self.fused = self.listen(PointCloud2, "people_fused", RELIABLE)
        self.twins = self.listen(String, "twin", RELIABLE)
        self.set_clock(self.time)
        for name in CAMERAS:
            self.connect(lambda name=name: self.send(name), self.clouds[name])
        self.forget()

    def stamp(self) -> Time:
        return Time(sec=self.time // 10**9, nanosec=self.time % 10**9)

    def seconds(self) -> float:
        return self.time * 1e-9

    def set_clock(self, nanoseconds: int) -> dict:
        """Set the time, wait until the node has it, and return a cycle of the twin."""
        self.time = nanoseconds
        self.twins.clear()

        def arrived() -> dict | None:
            self.clock.publish(Clock(clock=self.stamp()))
            cycles = [json.loads(message.data) for message in self.twins]
            wanted = utc(self.seconds())
            return next((cycle for cycle in cycles if cycle["time"] == wanted), None)

        return self.wait_for(arrived, "a twin at the time that was set")

    def send(self, camera: str, *places: tuple[float, float], stamp: Time | None = None) -> Header:
        """Send a frame of now, one FRAME after the last; returns the header that its cloud gets."""
        if stamp is None:
            self.time += FRAME
            self.clock.publish(Clock(clock=self.stamp()))
        where = self.cameras[camera]
        boxes = np.array([box_of(where, place) for place in places]).reshape(-1, 5)
        header = Header(stamp=stamp or self.stamp(), frame_id=f"{camera}_optical")
        self.inputs[camera].publish(to_detections(boxes, header))
        return Header(stamp=header.stamp, frame_id="site")

    def frame(self, camera: str, *places: tuple[float, float]) -> np.ndarray:
        """Send a frame; returns the points of its cloud, which must come with its stamp."""
        header = self.send(camera, *places)
        (cloud,) = self.wait_for(lambda: self.clouds[camera], f"a cloud of {camera}")
        self.clouds[camera].clear()
        assert cloud.header == header
        return points_of(cloud)

    def recover(self, camera: str) -> None:
        """Send until a cloud comes: of stamps that go back the node believes the third."""
        self.connect(lambda: self.send(camera), self.clouds[camera])

    def both(self, *places: tuple[float, float], count: int = 1) -> None:
        for _ in range(count):
            for camera in CAMERAS:
                self.frame(camera, *places)

    def forget(self) -> None:
        """Drop all that has arrived."""
        self.settle()
        for received in (*self.clouds.values(), self.fused, self.twins):
            received.clear()

    def newest_fused(self) -> PointCloud2:
        """The fused cloud of the newest stamp."""

        def newest() -> PointCloud2 | None:
            found = [cloud for cloud in self.fused if cloud.header.stamp == self.stamp()]
            return found[-1] if found else None

        return self.wait_for(newest, "a fused cloud")

    def counted(
        self, camera: str, key: str, again: Callable[[], object] = lambda: None
    ) -> dict[str, str]:
        """Wait for a report of a camera that counts something at all; do something each time."""
        name = f"/people: {camera}/detections"
        for _ in range(100):
            again()
            if (report := self.report(name)).get(key, "0") != "0":
                return report
        raise AssertionError(f"no {key}: {report}")

    def take_clouds(self, robot: Robot, alive: bool) -> None:
        """Give the robot what comes for the time that is; wait for both cameras if they live."""

        def all_came() -> bool:
            return sum(cloud.header.stamp == self.stamp() for cloud in self.fused) == 2

        end = time.monotonic() + (5.0 if alive else 0.0)
        while not all_came() and time.monotonic() < end:
            self.spin(0.05)
        for cloud in self.fused:
            stamp = cloud.header.stamp
            robot.take(stamp.sec + 1e-9 * stamp.nanosec, points_of(cloud))
        self.fused.clear()

    def set_parameter(self, name: str, value: object, expect: bool = True) -> None:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        (result,) = self.call(SetParameters, "/people/set_parameters", request).results
        assert result.successful == expect, result.reason


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("people")) as stage:
        stage.open(SITE, port)
        yield stage


def test_detections_become_a_cloud_in_metres_with_the_stamp_of_the_image(stage: Stage) -> None:
    tracks = stage.listen(vision_msgs.Detection3DArray, "tracks", RELIABLE)
    schema = stage.listen(String, "north/nvschema", RELIABLE)
    points = stage.frame("north", (1.0, 0.5))
    assert points.dtype.names == ("x", "y", "z", "id", "vx", "vy", "confidence")
    assert all(points.dtype[name] == "<f4" for name in points.dtype.names if name != "id")
    assert len(points) == 40
    assert points["x"].mean() == pytest.approx(1.0, abs=0.1)
    assert points["y"].mean() == pytest.approx(0.5, abs=0.1)
    low = points[(points["z"] >= 0.05) & (points["z"] <= 0.5 + 1e-6)]
    assert len(low) == 16
    stage.both((1.0, 0.5), count=4)
    fused = stage.newest_fused()
    assert fused.header.frame_id == "site" and len(points_of(fused)) == 40
    stamp = stage.stamp()
    stage.wait_for(lambda: tracks and tracks[-1].header.stamp == stamp, "tracks")
    (person,) = tracks[-1].detections
    place = person.results[0].pose
    assert [place.pose.position.x, place.pose.position.y] == pytest.approx([1.0, 0.5], abs=0.1)
    assert place.pose.position.z == 0.0 and person.bbox.center.position.z == pytest.approx(0.85)
    assert 0 < place.covariance[0] < 0.1 and place.covariance[14] == 0.0
    cycle = stage.set_clock(stage.time)
    jsonschema.validate(cycle, SCHEMA)
    assert cycle["complete"] and [p["id"] for p in cycle["people"]] == [person.id]
    frame = json.loads(schema[-1].data)
    assert frame["sensorId"] == "north" and frame["objects"][0]["id"] == person.id


def test_nobody_is_an_empty_cloud_with_fields_and_markers_are_deleted(stage: Stage) -> None:
    markers = stage.listen(visualization_msgs.MarkerArray, "people_markers", RELIABLE)
    stage.both((1.0, 0.5), count=3)
    stage.wait_for(lambda: markers and markers[-1].markers, "markers")
    shown = {m.id for m in markers[-1].markers if m.ns == "people"}
    assert len(shown) == 1 and markers[-1].markers[0].lifetime.sec == 2
    markers.clear()
    for _ in range(13):  # 2.6 s: longer than anybody is believed in unseen
        points = stage.frame("north")
        stage.frame("south")
    assert len(points) == 0 and points.dtype.names[:3] == ("x", "y", "z")
    assert len(points_of(stage.newest_fused())) == 0
    action = visualization_msgs.Marker.DELETE
    gone = [m for array in markers for m in array.markers if m.action == action]
    assert {(m.ns, m.id) for m in gone} == {(ns, *shown) for ns in ("people", "velocity")}
    assert stage.set_clock(stage.time)["zones"][0]["state"] == "free"


def test_with_a_third_of_the_frames_lost_each_that_comes_has_its_cloud(stage: Stage) -> None:
    random = np.random.default_rng(1)
    stage.both(count=2)
    for _ in range(12):
        for camera in CAMERAS:
            if random.uniform() < 0.3:
                stage.time += FRAME
            else:
                assert len(stage.frame(camera, (1.0, 0.5))) == 40
                assert len(points_of(stage.newest_fused())) == 40


def test_one_of_two_late_silences_the_fused_cloud_alone(stage: Stage) -> None:
    stage.both(count=2)
    for _ in range(4):
        stage.frame("north", (1.0, 0.5))
    stage.newest_fused()
    stage.frame("north", (1.0, 0.5))  # south is silent for 0.5 s by now
    stage.forget()
    for _ in range(3):
        assert len(stage.frame("north", (1.0, 0.5))) == 40
    report = stage.report("/people: people")
    assert "south: no image for" in report["people_fused"]
    assert report["camera south"].startswith("late")
    assert not stage.fused
    stage.frame("south", (1.0, 0.5))
    assert len(points_of(stage.newest_fused())) == 40


def test_when_the_server_dies_nothing_comes_and_the_twin_says_why(stage: Stage) -> None:
    stage.both((1.0, 0.5), count=2)
    stage.forget()
    status = DiagnosticStatus(name="/server: north/latent", message="crc: damaged")
    status.level = DiagnosticStatus.ERROR
    server = stage.node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def reason() -> str:
        server.publish(DiagnosticArray(status=[status]))
        return json.loads(stage.twins[-1].data)["cameras"][0]["reason"]

    cycle = stage.set_clock(stage.time + 3 * 10**9)
    stage.wait_for(lambda: "/server: crc: damaged" in reason(), "the server's error")
    assert not cycle["complete"] and cycle["zones"][0]["state"] == "unknown"
    assert [camera["state"] for camera in cycle["cameras"]] == ["dead", "dead"]
    stage.settle()
    assert not stage.fused and not any(stage.clouds.values())
    stage.both(count=2)
    assert stage.set_clock(stage.time)["complete"]


@pytest.mark.parametrize(
    ("reason", "shift"),
    [("stamp in the future", 5), ("older than the one before", -5), ("stamp of zero", None)],
)
def test_stamps_of_another_time_bring_no_cloud(
    stage: Stage, reason: str, shift: int | None
) -> None:
    stage.both(count=1)
    stage.forget()
    stamp = Time() if shift is None else Time(sec=stage.stamp().sec + shift)
    stage.send("north", (1.0, 0.5), stamp=stamp)
    stage.counted("north", f"dropped, {reason}")
    assert not stage.clouds["north"] and not stage.fused
    stage.recover("north")


def test_detections_without_sense_bring_no_cloud(stage: Stage) -> None:
    stage.both(count=1)
    stage.forget()
    message = to_detections(np.array([[1.0, 2.0, 3.0, np.nan, 0.5]]), Header(stamp=stage.stamp()))
    stage.inputs["south"].publish(message)
    stage.counted("south", "dropped, ValueError")
    assert not stage.clouds["south"]
    stage.frame("south")


def test_clock_that_jumps_starts_anew_both_ways(stage: Stage) -> None:
    for jump in (-1000, 2000):
        stage.both((1.0, 0.5), count=2)
        cycle = stage.set_clock(stage.time + jump * 10**9)
        assert [camera["state"] for camera in cycle["cameras"]] == ["dead", "dead"]
        stage.forget()
        stage.recover("north")
        assert len(stage.frame("north", (1.0, 0.5))) == 40
        stage.settle()
        assert not stage.fused  # until all cameras spoke
        stage.recover("south")
        stage.both((1.0, 0.5), count=1)
        stage.newest_fused()


def test_page_shows_what_the_twin_says(stage: Stage, port: int) -> None:
    websockets = pytest.importorskip("websockets.sync.client")
    stage.both(count=1)
    address = f"127.0.0.1:{port}"
    with websockets.connect(f"ws://{address}/live", origin=f"http://{address}") as live:
        jsonschema.validate(json.loads(live.recv(timeout=600)), SCHEMA)


def test_example_tells_nobody_from_a_missing_camera(stage: Stage) -> None:
    stage.both(count=12)  # whoever was there is forgotten
    stage.set_clock(stage.time + 3 * 10**9)
    example = stage.start("example", str(ROOT / "examples" / "twin_subscriber.py"))
    stage.wait_for(lambda: "a camera is missing" in example.output, "a line", START_LIMIT)
    stage.both(count=2)
    cycle = stage.set_clock(stage.time)
    stage.wait_for(lambda: f"{cycle['time']} nobody" in example.output, "nobody")
    stage.both((1.0, 0.5), count=4)
    (person,) = stage.set_clock(stage.time)["people"]
    stage.wait_for(lambda: f"{{'{person['id']}': [" in example.output, "a person")
    assert stage.processes.pop("example").end() == 0


def test_parameters_are_described_and_the_config_names_them(stage: Stage) -> None:
    config = ROOT / "config" / "people.yaml"
    names = list(yaml.safe_load(config.read_text())["/**"]["ros__parameters"])
    request = DescribeParameters.Request(names=names)
    described = stage.call(DescribeParameters, "/people/describe_parameters", request).descriptors
    assert [d.name for d in described if d.description] == names
    ranges = {d.name for d in described if d.integer_range or d.floating_point_range}
    no_range = {"site", "tolerate_late", "robot_frame", "rmf_level"}
    assert ranges == {n for n in names if not n.startswith("publish_")} - no_range


def test_robot_stops_for_a_person_goes_on_and_stops_when_the_server_is_killed(
    stage: Stage,
) -> None:
    period = 0.2
    start = (stage.time // 10**9 + 10) * 10**9
    stage.set_clock(start)
    folder = Path(__file__).parent
    stage.environment["PYTHONPATH"] = f"{folder}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    stage.start("server", str(folder / "people_player.py"), str(SITE), str(start * 1e-9 - 3.0))
    zone = size_stop_zone(0.0, period, walking=1.2, cycle=period, delay=0.0, error=0.4)
    robot = Robot(zone.ahead, zone.aside)
    stage.forget()
    stage.wait_for(
        lambda: stage.node.count_publishers("north/detections") > 1, "the player", START_LIMIT
    )

    def run(seconds: float, reason: str) -> None:
        """Let time pass until the robot's reason is this one for a second, at most so long."""
        held = 0.0
        waited = 0.0
        while held < 1.0:
            assert waited < seconds, f"not {reason!r} within {seconds} s: {robot.log}"
            stage.time += round(period * 1e9)
            stage.clock.publish(Clock(clock=stage.stamp()))
            stage.take_clouds(robot, alive="server" in stage.processes)
            robot.step(stage.seconds(), period)
            held = held + period if robot.reason == reason else 0.0
            waited += period
            person = walk(stage.seconds() - start * 1e-9 + 3.0)
            assert not robot.speed or robot.distance(person) > 0.2

    run(4.0, "")
    assert robot.speed == robot.top
    run(7.0, "person")
    assert robot.speed == 0.0
    run(12.0, "")
    stage.processes.pop("server").end(SIGKILL)
    run(3.0, "invalid source")
    assert robot.speed == 0.0


def test_cameras_without_camera_info_or_transform_wait_and_hang_nobody(
    stage: Stage, tmp_path: Path
) -> None:
    site = yaml.safe_load(SITE.read_text())
    lens = {key: site["cameras"]["north"].pop(key) for key in ("width", "height", "k", "d")}
    lens["distortion_model"] = site["cameras"]["north"].pop("distortion_model")
    for key in ("position", "orientation"):
        del site["cameras"]["south"][key]
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(site))
    assert stage.transit("people", "deactivate") and stage.transit("people", "cleanup")
    stage.set_parameter("site", str(tmp_path / "none.yaml"))
    assert not stage.transit("people", "configure")
    assert "none.yaml" in stage.report("/people: people")["message"]
    stage.set_parameter("site", str(file))
    assert stage.transit("people", "configure") and stage.transit("people", "activate")
    stage.set_clock(stage.time + 10**9)
    stage.forget()
    no_transform = stage.counted(
        "south", "dropped, no transform", again=lambda: stage.send("south")
    )
    reason = no_transform["camera south"]
    assert reason.startswith("dead") and "south_optical" in reason
    stage.counted("north", "dropped, no camera_info yet", again=lambda: stage.send("north"))
    assert not stage.fused and not any(stage.clouds.values())
    info = stage.talk(CameraInfo, "north/camera_info")

    def complaint() -> str:
        info.publish(CameraInfo(width=1280, height=720))  # of a camera that is not calibrated
        return stage.report("/people: people")["camera north"]

    stage.wait_for(lambda: "camera_info: k" in complaint(), "a complaint about camera_info")

    def send() -> Header:
        info.publish(CameraInfo(**lens))
        return stage.send("north")

    stage.connect(send, stage.clouds["north"])
    assert len(stage.frame("north", (1.0, 0.5))) == 40
    stage.settle()
    assert not stage.fused  # what the camera in the south sees is not known
    stage.set_parameter("site", str(SITE), expect=False)  # read by configure


def test_it_ends_cleanly_on_sigterm(stage: Stage) -> None:
    process = stage.processes.pop("people")
    assert process.end(SIGTERM) == 0
    assert "Traceback" not in process.output
