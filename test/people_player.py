"""Plays a server's part in a process that a test can kill: detections of a person at each /clock.

A time that comes again brings the same detections again, for messages that were lost on the way.

Arguments: the site file, the stamp at which the walk begins.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rclpy
from ground_scene import box_of
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from simulated_robot import walk
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.site import read_site


def to_detections(boxes: np.ndarray, header: Header) -> Detection2DArray:
    """The message of boxes (N, 5), as the server makes it."""
    array = Detection2DArray(header=header)
    for x0, y0, x1, y1, confidence in boxes.tolist():
        detection = Detection2D(header=header)
        detection.bbox.center.position.x = (x0 + x1) / 2
        detection.bbox.center.position.y = (y0 + y1) / 2
        detection.bbox.size_x = x1 - x0
        detection.bbox.size_y = y1 - y0
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = "person"
        result.hypothesis.score = confidence
        detection.results.append(result)
        array.detections.append(detection)
    return array


def cameras_of(site_file: Path) -> list[Camera]:
    """The cameras of a site file that says all of them."""
    known = read_site(site_file).cameras.values()
    return [Camera(camera.name, camera.lens, camera.pose) for camera in known]


def main() -> None:
    """Publish both cameras' detections, stamped with each time."""
    cameras = cameras_of(Path(sys.argv[1]))
    start = float(sys.argv[2])
    rclpy.init()
    node = rclpy.create_node("player")
    outputs = [
        node.create_publisher(Detection2DArray, f"{camera.name}/detections", 10)
        for camera in cameras
    ]

    def play(clock: Clock) -> None:
        now = clock.clock.sec + 1e-9 * clock.clock.nanosec
        header = Header(stamp=clock.clock, frame_id="optical")
        for camera, output in zip(cameras, outputs, strict=True):
            boxes = box_of(camera, walk(now - start))[None]
            output.publish(to_detections(boxes, header))

    node.create_subscription(Clock, "/clock", play, qos_profile_sensor_data)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
