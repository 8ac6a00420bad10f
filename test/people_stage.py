"""A people node, its two cameras and a clock, for tests; they skip where a message is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ground_scene import box_of

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")

from builtin_interfaces.msg import Time  # isort: skip
from rcl_interfaces.srv import SetParameters  # isort: skip
from rclpy.parameter import Parameter  # isort: skip
from sensor_msgs.msg import PointCloud2, PointField  # isort: skip
from std_msgs.msg import Header, String  # isort: skip

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
if not hasattr(vision_msgs, "Detection3DArray"):
    pytest.skip("needs vision_msgs with Detection3DArray: make env", allow_module_level=True)
pytest.importorskip("visualization_msgs.msg", reason="needs visualization_msgs: make env, or apt")

from people_player import cameras_of, to_detections  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from roi_anon_ros.graph.probe import RELIABLE, Probe  # noqa: E402
from roi_anon_ros.ground.twin import utc  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "config" / "site.yaml"
START = 1_700_000_000
CAMERAS = ("north", "south")
#: Nanoseconds between two frames: not a whole number of anything, so that stamps must be exact.
FRAME = 100_000_007
#: Nanoseconds that tell one cycle of the twin from the one before: it writes milliseconds.
TICK = 2_000_000
DTYPES = {PointField.FLOAT32: "<f4", PointField.UINT32: "<u4"}


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
    """A people node, its two cameras, and a clock that only the tests move.

    Whatever is sent is sent again until its effect is seen, so a busy machine may lose it.

    Attributes:
        time: that the clock shows, nanoseconds.
        clouds: of each camera, since the last of its frames.
        fused: all clouds of both, since :meth:`begin`; the newest comes last.
        tracks: those that went out with the fused clouds, or where these were silent.
        twins: cycles since the time was set.
    """

    def open(self, port: int) -> None:
        """Start the node, and connect to all of it."""
        self.time = START * 10**9
        self.cameras = {camera.name: camera for camera in cameras_of(SITE)}
        self.start_node(
            "people",
            site=SITE,
            use_sim_time="true",
            autostart="true",
            diagnostics_period=0.1,
            twin_period=0.05,
            page_port=port,
            publish_nvschema="true",
        )
        self.clock = self.talk(Clock, "/clock")
        self.inputs = {
            name: self.talk(vision_msgs.Detection2DArray, f"{name}/detections") for name in CAMERAS
        }
        self.clouds = {n: self.listen(PointCloud2, f"{n}/people", RELIABLE) for n in CAMERAS}
        self.fused = self.listen(PointCloud2, "people_fused", RELIABLE)
        self.tracks = self.listen(vision_msgs.Detection3DArray, "tracks", RELIABLE)
        self.twins = self.listen(String, "twin", RELIABLE)
        self.set_clock(self.time)

    def begin(self) -> None:
        """Let both cameras look until nobody is there, and drop all that came before."""
        for _ in range(30):  # everybody who was there is believed in for some seconds
            points = [self.frame(camera) for camera in CAMERAS]
            if not any(len(found) for found in points):
                break
        self.fused_at(self.stamp())
        self.fused.clear()
        self.tracks.clear()

    # Time

    def stamp(self) -> Time:
        """The time, as a message."""
        return Time(sec=self.time // 10**9, nanosec=self.time % 10**9)

    def now(self) -> int:
        """The time, nanoseconds: that of the node's diagnostics too."""
        return self.time

    def report(self, name: str) -> dict[str, str]:
        """As a probe's: the one after the next, for the time that they bear stands still."""
        super().report(name)
        return super().report(name)

    def seconds(self) -> float:
        """The time, as a number."""
        return self.time * 1e-9

    def tell_time(self) -> None:
        """Publish the time."""
        self.clock.publish(Clock(clock=self.stamp()))

    def set_clock(self, nanoseconds: int) -> dict:
        """Set the time, wait until the node has it, and return a cycle of the twin."""
        self.time = nanoseconds
        self.twins.clear()
        wanted = utc(self.seconds())

        def arrived() -> dict | None:
            cycles = [json.loads(message.data) for message in self.twins]
            return next((cycle for cycle in cycles if cycle["time"] == wanted), None)

        return self.until(self.tell_time, arrived, "a twin at the time that was set")

    def cycle(self) -> dict:
        """A cycle of the twin that knows all frames so far."""
        return self.set_clock(self.time + TICK)

    # Frames

    def send(
        self, camera: str, places: Sequence[tuple[float, float]] = (), stamp: Time | None = None
    ) -> Header:
        """Send a frame; returns its header."""
        where = self.cameras[camera]
        boxes = np.array([box_of(where, place) for place in places]).reshape(-1, 5)
        header = Header(stamp=stamp or self.stamp(), frame_id=f"{camera}_optical")
        self.inputs[camera].publish(to_detections(boxes, header))
        return header

    def frame(self, camera: str, *places: tuple[float, float], step: int = FRAME) -> np.ndarray:
        """Send a frame some nanoseconds later; returns the points of its cloud.

        No other cloud of this camera may have come since its last frame.
        """
        self.time += step
        clouds = self.clouds[camera]

        def send() -> None:
            self.tell_time()
            self.send(camera, places)

        self.until(send, lambda: clouds, f"a cloud of {camera}")
        (cloud,) = clouds
        assert cloud.header == Header(stamp=self.stamp(), frame_id="site")
        clouds.clear()
        return points_of(cloud)

    def timed_frame(self, camera: str, *places: tuple[float, float], step: int) -> np.ndarray:
        """As `frame`, where it counts what the clock shows: the node has the time before the frame
        comes, and is done with the frame before the time goes on.
        """
        self.set_clock(self.time + step)
        points = self.frame(camera, *places, step=0)
        stamp = self.stamp()
        self.wait_for(lambda: any(tracks.header.stamp == stamp for tracks in self.tracks), "tracks")
        return points

    def both(self, *places: tuple[float, float], count: int = 1) -> None:
        """Send frames of both cameras, in turns."""
        for _ in range(count):
            for camera in CAMERAS:
                self.frame(camera, *places)

    def fused_at(self, stamp: Time) -> np.ndarray:
        """Wait for the fused cloud of a stamp; returns its points."""

        def found() -> PointCloud2 | None:
            return next((cloud for cloud in self.fused if cloud.header.stamp == stamp), None)

        return points_of(self.wait_for(found, f"a fused cloud of {stamp}"))

    def fused_stamps(self) -> list[Time]:
        """Stamps of the fused clouds since :meth:`begin`."""
        return [cloud.header.stamp for cloud in self.fused]

    # What the node says of itself

    def count_of(self, camera: str, reason: str) -> int:
        """How many frames of a camera were dropped for a reason, as last reported."""
        status = self.diagnostics.get(f"/people: {camera}/detections")
        values = {} if status is None else {pair.key: pair.value for pair in status.values}
        return int(values.get(f"dropped, {reason}", 0))

    def set_parameter(self, name: str, value: object) -> bool:
        """Set a parameter of the node; returns whether it took it."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        (result,) = self.call(SetParameters, "/people/set_parameters", request).results
        return result.successful
