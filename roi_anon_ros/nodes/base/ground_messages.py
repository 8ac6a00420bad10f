"""Persons and clouds as messages; their frame is the site's, their stamp the image's."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Vector3
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA
from std_msgs.msg import Header as HeaderMessage
from vision_msgs.msg import (
    BoundingBox3D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import Marker, MarkerArray

from roi_anon_ros.ground.cloud import POINT, RING_HEIGHTS, RING_RADIUS
from roi_anon_ros.ground.tracks import Track

if TYPE_CHECKING:  # few have these packages; those who ask for them get the real import
    from people_msgs.msg import People
    from rmf_obstacle_msgs.msg import Obstacles

DATATYPES = {"<f4": PointField.FLOAT32, "<u4": PointField.UINT32}
#: Width and height of a person's box, metres.
WIDTH = 2 * RING_RADIUS
HEIGHT = RING_HEIGHTS[-1]


@dataclass(frozen=True)
class Person:
    """A person as messages need them.

    Attributes:
        id: random, 32 bits.
        track: place, motion and how sure.
        z: height of the floor there, metres.
    """

    id: int
    track: Track
    z: float

    @property
    def name(self) -> str:
        """The id as all texts have it."""
        return f"{self.id:08x}"

    @property
    def signed_id(self) -> int:
        """The id where a message has only int32."""
        return self.id - 2**32 if self.id >= 2**31 else self.id

    def point(self, above: float = 0.0, seconds: float = 0.0) -> Point:
        """The place ``above`` metres over the floor, ``seconds`` seconds later."""
        x, y = (self.track.state[:2] + seconds * self.track.state[2:]).tolist()
        return Point(x=x, y=y, z=self.z + above)

    def box(self) -> BoundingBox3D:
        """The body's box; its centre is half a body above the foot point."""
        center = Pose(position=self.point(HEIGHT / 2))
        return BoundingBox3D(center=center, size=Vector3(x=WIDTH, y=WIDTH, z=HEIGHT))


def to_seconds(stamp: Time) -> float:
    """A stamp in seconds of the epoch."""
    return stamp.sec + 1e-9 * stamp.nanosec


def to_duration(seconds: float) -> Duration:
    """Seconds, 0 or more, as a Duration."""
    whole = int(seconds)
    return Duration(sec=whole, nanosec=int(1e9 * (seconds - whole)))


def to_boxes(message: Detection2DArray) -> np.ndarray:
    """What a detector found. Every detection counts as a person, whatever its class is called: a
    name that nobody thought of must not make people vanish.

    Returns:
        (N, 5): x0, y0, x1, y1 in pixels of the source, confidence.

    Raises:
        ValueError: a number is not finite, or a box has a negative size.
    """
    boxes = np.empty((len(message.detections), 5))
    for row, detection in zip(boxes, message.detections, strict=True):
        centre = detection.bbox.center.position
        half_width = detection.bbox.size_x / 2
        half_height = detection.bbox.size_y / 2
        row[0] = centre.x - half_width
        row[1] = centre.y - half_height
        row[2] = centre.x + half_width
        row[3] = centre.y + half_height
        row[4] = max((result.hypothesis.score for result in detection.results), default=1.0)
    if not np.isfinite(boxes).all() or (boxes[:, 2:4] < boxes[:, :2]).any():
        raise ValueError("detections: got a box without place or size, must be finite numbers")
    return boxes


def to_cloud(points: np.ndarray, header: HeaderMessage) -> PointCloud2:
    """Points as a cloud that has all fields, also when nobody is there.

    Args:
        points: (N,) of ground.cloud.POINT.
        header: the site's frame, the image's stamp.
    """
    fields = []
    assert POINT.fields is not None  # a record has fields
    for name, (kind, offset, *_) in POINT.fields.items():
        fields.append(PointField(name=name, offset=offset, datatype=DATATYPES[kind.str], count=1))
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(points),
        data=array("B", points.tobytes()),
        is_dense=True,
    )


def to_tracks(people: Iterable[Person], header: HeaderMessage) -> Detection3DArray:
    """Persons with the foot point and its covariance as pose, the body as box."""
    array_message = Detection3DArray(header=header)
    for person in people:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = "person"
        result.hypothesis.score = person.track.confidence
        result.pose.pose.position = person.point()
        covariance = np.zeros((6, 6))
        covariance[:2, :2] = person.track.covariance[:2, :2]
        result.pose.covariance = covariance.ravel()
        found = Detection3D(header=header, results=[result], bbox=person.box(), id=person.name)
        array_message.detections.append(found)
    return array_message


def to_markers(
    people: Sequence[Person], gone: Iterable[int], header: HeaderMessage, lifetime: float
) -> MarkerArray:
    """A cylinder a person and a line of one second of its velocity; deletions of who is gone.

    Args:
        people: who is there.
        gone: signed ids that were shown before.
        header: the site's frame, the image's stamp.
        lifetime: seconds after which a viewer drops a marker by itself.
    """
    markers = []
    for person in people:
        body = Marker(header=header, ns="people", id=person.signed_id, type=Marker.CYLINDER)
        body.pose.position = person.point(HEIGHT / 2)
        body.scale = Vector3(x=WIDTH, y=WIDTH, z=HEIGHT)
        body.color = ColorRGBA(r=0.1, g=0.5, b=1.0, a=0.7)
        line = Marker(header=header, ns="velocity", id=person.signed_id, type=Marker.ARROW)
        line.points = [person.point(0.1), person.point(0.1, seconds=1.0)]
        line.scale = Vector3(x=0.05, y=0.1, z=0.1)
        line.color = ColorRGBA(r=1.0, g=0.6, b=0.1, a=0.9)
        markers += [body, line]
    for marker in markers:
        marker.action = Marker.ADD
        marker.lifetime = to_duration(lifetime)
    for signed_id in gone:
        for namespace in ("people", "velocity"):
            markers.append(Marker(header=header, ns=namespace, id=signed_id, action=Marker.DELETE))
    return MarkerArray(markers=markers)


def to_rmf(
    people: Iterable[Person],
    gone: Iterable[int],
    header: HeaderMessage,
    source: str,
    level: str,
    lifetime: float,
) -> Obstacles:
    """Persons as obstacles of Open-RMF, with a lifetime and removals.

    Args:
        people: who is there.
        gone: signed ids that were told before.
        header: the site's frame, the image's stamp.
        source: who says so.
        level: of the building.
        lifetime: seconds.
    """
    from rmf_obstacle_msgs.msg import Obstacle, Obstacles

    obstacles = []
    for person in people:
        obstacle = Obstacle(id=person.signed_id, action=Obstacle.ACTION_ADD)
        box = person.box()  # Open-RMF has its own box type, with the same fields
        obstacle.bbox.center = box.center
        obstacle.bbox.size = box.size
        obstacle.lifetime = to_duration(lifetime)
        obstacles.append(obstacle)
    obstacles += [Obstacle(id=signed_id, action=Obstacle.ACTION_DELETE) for signed_id in gone]
    for obstacle in obstacles:
        obstacle.header = header
        obstacle.source = source
        obstacle.level_name = level
        obstacle.classification = "person"
    return Obstacles(header=header, obstacles=obstacles)


def to_people_list(people: Iterable[Person], header: HeaderMessage) -> People:
    """Persons for the social layers of costmaps."""
    from people_msgs.msg import People
    from people_msgs.msg import Person as PersonMessage

    messages = []
    for person in people:
        vx, vy = person.track.state[2:].tolist()
        message = PersonMessage(name=person.name, position=person.point())
        message.velocity = Point(x=vx, y=vy, z=0.0)
        message.reliability = person.track.confidence
        messages.append(message)
    return People(header=header, people=messages)
