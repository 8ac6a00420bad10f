"""Where frames are, from TF; tf2_ros comes with a ROS distribution, not from PyPI."""

from __future__ import annotations

import math
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.ground.cameras import Pose


class NoTransformError(RoiAnonError):
    """TF does not say where a frame was."""

    reason = "no transform"


class Transforms:
    """What TF says of frames in the site's frame, while it is open."""

    def __init__(self, node: Node, frame: str) -> None:
        """Start to listen to /tf and /tf_static, where tf2_ros is installed.

        Args:
            node: that listens.
            frame: the site's.
        """
        self._frame = frame
        self._buffer: Any = None
        self._listener: Any = None
        try:
            from tf2_ros import Buffer, TransformListener
        except ImportError:
            node.get_logger().warning("tf2_ros is not installed: only the site file says poses")
            return
        self._buffer = Buffer(node=node)
        self._listener = TransformListener(self._buffer, node)

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = None
        self._buffer = None

    def pose_of(self, frame: str, stamp: Any) -> Pose:
        """Where a frame was.

        Args:
            frame: its name.
            stamp: a message's; None: the newest that is known.

        Raises:
            NoTransformError: TF does not know, by now.
        """
        if self._buffer is None:
            raise NoTransformError(f"{frame}: tf2_ros is not installed, and no pose in the site")
        when = Time() if stamp is None else Time.from_msg(stamp)
        try:
            found = self._buffer.lookup_transform(self._frame, frame, when).transform
        except Exception as error:  # tf2's exceptions have no common base but this one
            raise NoTransformError(f"{frame}: {error}") from None
        place = found.translation
        turn = found.rotation
        return Pose.from_quaternion((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))


def yaw_of(pose: Pose) -> float:
    """Which way a frame's x axis points on the ground, radians from the site's x axis."""
    return math.atan2(pose.rotation[1, 0], pose.rotation[0, 0])
