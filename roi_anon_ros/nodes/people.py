"""The people node: detections of one or many cameras in, people in metres out."""

from __future__ import annotations

import json
import posixpath
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header as HeaderMessage
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.ground.cameras import Lens
from roi_anon_ros.ground.people import People, Policy
from roi_anon_ros.ground.site import Site, read_site
from roi_anon_ros.nodes.base import ground_messages as messages
from roi_anon_ros.nodes.base.newest import LOG_PERIOD, NewestFramesNode
from roi_anon_ros.nodes.base.page import Page
from roi_anon_ros.nodes.base.process import run
from roi_anon_ros.nodes.base.transforms import NoTransformError, Transforms, yaw_of

#: Parameters that are fields of Policy: what they say, least and greatest value.
POLICY = {
    "late_after": ("Age of a camera's newest image from which it is late, seconds", (0.05, 60.0)),
    "dead_after": ("Age from which it is dead, seconds", (0.1, 600.0)),
    "tolerate_late": ("people_fused goes on while a camera of a watched zone is late", None),
    "ahead": ("How far an image's stamp may lie in the future, seconds", (0.0, 10.0)),
    "horizon": ("The clouds also hold where people will be within these seconds", (0.0, 5.0)),
    "rotate_every": ("Seconds after which all ids change; 0: with each session", (0.0, 86400.0)),
}


class RefusedError(RoiAnonError):
    """A frame from which nobody can be placed.

    Args:
        reason: one of few words, to count by.
        detail: the numbers.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class PeopleNode(NewestFramesNode):
    """Places persons on the ground, follows them, and tells planners and twins of them.

    A frame that failed brings no cloud: a robot stops for silence, and for nothing less.
    """

    role = "people"
    in_order = False  # a late frame still tells where people were

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # People is for one thread at a time
        self._people: People | None = None
        self._page: Page | None = None
        self._transforms: Transforms | None = None
        self._listeners: list[Any] = []
        self._timer: Any = None
        self.setting("site", "", "Site file: cameras, floors, zones; config/site.yaml explains it")
        for name, (description, bounds) in POLICY.items():
            self.setting(name, getattr(Policy(), name), description, bounds)
        self.setting("twin_period", 0.2, "Seconds between two cycles of twin", (0.02, 10.0))
        self.setting("robot_frame", "", "TF frame of the robot, for the twin; empty: none")
        self.setting("page_port", 0, "Serve the twin's page on this port; 0: do not", (0, 65535))
        self.setting("publish_nvschema", False, "Publish each camera's frames as NVIDIA's nvschema")
        self.setting("publish_people_list", False, "Publish people_msgs/People on people_list")
        self.setting("rmf_level", "", "Publish rmf_obstacles with this level's name; empty: do not")

    # What the base asks for

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        if not self.value("site"):
            raise ValueError("site: got '', must be the path of a site file")
        site = read_site(Path(self.value("site")))
        policy = Policy(**{name: self.value(name) for name in POLICY})
        if policy.dead_after < policy.late_after:
            got = f"{policy.dead_after:g}"
            raise ValueError(f"dead_after: got {got}, must be late_after or more")
        self._people = People(site, policy)
        self._frame = site.frame
        self._lenses: dict[str, Lens] = {}
        self._stamp = Time()
        self._shown: set[int] = set()
        self._cameras = {f"{name}/detections": name for name in site.cameras}
        self._homes = {
            posixpath.dirname(self.resolve_topic_name(topic)): name
            for topic, name in self._cameras.items()
        }
        if self.value("robot_frame") or any(c.pose is None for c in site.cameras.values()):
            self._transforms = Transforms(self, site.frame)
        self._open_outputs(site)
        self._open_listeners(site)
        if self.value("page_port"):
            self._page = Page(self.value("page_port"))
        return {topic: Detection2DArray for topic in self._cameras}

    def _open_outputs(self, site: Site) -> None:
        results = partial(QoSProfile, depth=10)  # reliable; a fresh one each, for overrides
        cameras = site.cameras
        self._clouds = {c: self.output(PointCloud2, f"{c}/people", results()) for c in cameras}
        self._fused = self.output(PointCloud2, "people_fused", results())
        self._tracks = self.output(Detection3DArray, "tracks", results())
        self._markers = self.output(MarkerArray, "people_markers", results())
        self._twin = self.output(String, "twin", results())
        self._nvschema = {}
        if self.value("publish_nvschema"):
            self._nvschema = {c: self.output(String, f"{c}/nvschema", results()) for c in cameras}
        self._people_list = None
        if self.value("publish_people_list"):
            from people_msgs.msg import People as PeopleMessage

            self._people_list = self.output(PeopleMessage, "people_list", results())
        self._rmf = None
        if self.value("rmf_level"):
            from rmf_obstacle_msgs.msg import Obstacles

            self._rmf = self.output(Obstacles, "rmf_obstacles", results())

    def _open_listeners(self, site: Site) -> None:
        """Listen to what may come at any time, and also never."""
        # One of them at a time; they may come while a transition lets go what they are about.
        group = MutuallyExclusiveCallbackGroup()
        listen = partial(self.create_subscription, callback_group=group)
        for name, camera in site.cameras.items():
            if camera.lens is None:
                take = partial(self._take_camera_info, name)
                topic = f"{name}/camera_info"
                self._listeners.append(listen(CameraInfo, topic, take, qos_profile_sensor_data))
        self._listeners.append(
            listen(DiagnosticArray, "/diagnostics", self._take_diagnostics, QoSProfile(depth=10))
        )
        # Wall-clock seconds, so that the twin speaks also where a simulation's time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = self.value("twin_period")
        self._timer = self.create_timer(period, self._tell_twin, clock=steady, callback_group=group)

    def unload(self) -> None:
        """Stop listening, close the page, forget everybody."""
        for listener in self._listeners:
            self.destroy_subscription(listener)
        self._listeners.clear()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._timer = None
        if self._transforms is not None:
            self._transforms.close()
        self._transforms = None
        if self._page is not None:
            self._page.close()
        self._page = None
        with self._lock:
            self._people = None

    def describe(self) -> dict[str, str]:
        """Site, how each camera is, and what was refused."""
        said = {"site": self.value("site")}
        now = self._now()
        with self._lock:
            if self._people is None:
                return said
            for name, state in self._people.states(now).items():
                said[f"camera {name}"] = f"{state.state} {state.reason}".rstrip()
            said["people_fused"] = self._people.fused(now).silence or "flows"
            for reason, count in sorted(self._people.refused.items()):
                said[f"refused, {reason}"] = str(count)
        return said

    # Frames

    def process(
        self, topic: str, message: Detection2DArray
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Place the persons of one frame, and publish what comes of it."""
        camera = self._cameras[topic]
        started = time.perf_counter()
        with self._lock:
            people = self._people
            assert people is not None  # until unload(), which waits for the frame at work
            stamp = self._add(people, camera, message)
            located = time.perf_counter()
            self._publish_camera(people, camera, stamp, message.header.stamp)
            self._publish_site(people, stamp, message.header.stamp)
        seconds = {"place": located - started, "publish": time.perf_counter() - located}
        return seconds, {}

    def _add(self, people: People, camera: str, message: Detection2DArray) -> float:
        """Take a frame in.

        Returns:
            Its stamp, seconds.

        Raises:
            RefusedError, NoTransformError, AgeError, ValueError: nobody can be placed from it.
        """
        stamp = messages.to_seconds(message.header.stamp)
        if stamp == 0:
            raise RefusedError("stamp of zero", "must be the image's")
        try:
            self.check_age(message)
            boxes = messages.to_boxes(message)
            if people.site.cameras[camera].pose is None:
                assert self._transforms is not None  # see setup()
                header = message.header
                people.set_pose(camera, self._transforms.pose_of(header.frame_id, header.stamp))
        except (NoTransformError, ValueError) as error:
            people.fail(camera, str(error))
            raise
        if camera in self._lenses:
            people.set_lens(camera, self._lenses[camera])
        now = self._now()
        if not people.add(camera, stamp, boxes, now):
            raise RefusedError(people.trouble(camera), f"stamp {stamp:.3f} at {now:.3f}")
        return stamp

    def _publish_camera(self, people: People, camera: str, stamp: float, image_stamp: Time) -> None:
        """Publish what belongs to one camera's frame."""
        points = people.cloud(camera, stamp)
        if points is not None:
            self._clouds[camera].publish(messages.to_cloud(points, self._header(image_stamp)))
        if self._nvschema:
            frame = people.nvschema(camera, stamp)
            self._nvschema[camera].publish(String(data=json.dumps(frame)))

    def _publish_site(self, people: People, stamp: float, image_stamp: Time) -> None:
        """Publish what all cameras together say, at the newest image's stamp."""
        fused = people.fused(self._now())
        if fused.stamp == stamp:
            self._stamp = image_stamp
        header = self._header(self._stamp)
        if fused.cloud is not None:
            self._fused.publish(messages.to_cloud(fused.cloud, header))
        persons = list_persons(people, fused.stamp)
        there = {person.signed_id for person in persons}
        gone = sorted(self._shown - there)
        self._shown = there
        lifetime = people.policy.dead_after
        self._tracks.publish(messages.to_tracks(persons, header))
        self._markers.publish(messages.to_markers(persons, gone, header, lifetime))
        if self._people_list is not None:
            self._people_list.publish(messages.to_people_list(persons, header))
        if self._rmf is not None:
            level = self.value("rmf_level")
            source = self.get_fully_qualified_name()
            self._rmf.publish(messages.to_rmf(persons, gone, header, source, level, lifetime))

    def _header(self, stamp: Time) -> HeaderMessage:
        return HeaderMessage(frame_id=self._frame, stamp=stamp)

    # What comes at any time

    def _take_camera_info(self, camera: str, info: CameraInfo) -> None:
        try:
            lens = Lens.from_camera_info(
                info.width, info.height, info.distortion_model, info.d, info.k
            )
        except ValueError as error:
            said = f"camera_info: {error}"
            with self._lock:
                if self._people is not None and self._people.trouble(camera) != said:
                    self._people.fail(camera, said)
            self.get_logger().error(f"{camera}: {said}", throttle_duration_sec=LOG_PERIOD)
            return
        self._lenses[camera] = lens

    def _take_diagnostics(self, array: DiagnosticArray) -> None:
        """Note for which camera another node reports an error.

        Its status is named `NODE: STREAM`; the camera is whose namespace the stream or the node
        has.
        """
        for status in array.status:
            node, _, stream = status.name.partition(": ")
            if status.level != DiagnosticStatus.ERROR or node == self.get_fully_qualified_name():
                continue
            topic = posixpath.join(posixpath.dirname(node), stream)
            camera = self._homes.get(posixpath.dirname(topic))
            if camera is not None:
                with self._lock:
                    if self._people is not None:
                        self._people.fail(camera, f"{node}: {status.message}")

    def _tell_twin(self) -> None:
        """Publish one cycle of the twin while the node is active and not muted."""
        transforms = self._transforms
        page = self._page
        if self._muted or not self._twin.is_activated:
            return
        robot = None
        if self.value("robot_frame") and transforms is not None:
            try:
                pose = transforms.pose_of(self.value("robot_frame"), None)
                x, y, _ = pose.position.tolist()
                robot = (x, y, yaw_of(pose))
            except NoTransformError as error:
                self.get_logger().warning(str(error), throttle_duration_sec=LOG_PERIOD)
        with self._lock:
            if self._people is None:
                return
            cycle = json.dumps(self._people.twin(self._now(), robot))
        self._twin.publish(String(data=cycle))
        if page is not None:
            page.publish(cycle)


def list_persons(people: People, stamp: float) -> list[messages.Person]:
    """Everybody who is believed in, at a time.

    Args:
        people: who they are.
        stamp: the time, seconds.
    """
    floor = people.site.floor
    found = []
    for track in people.confirmed(stamp):
        z = float(floor.height_at(track.state[None, :2])[0])
        found.append(messages.Person(people.id_of(track), track, z))
    return found


def main(args: list[str] | None = None) -> None:
    """Run the people node."""
    run(PeopleNode, args)


if __name__ == "__main__":
    main()
