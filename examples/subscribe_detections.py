"""Print the persons that a server node finds.

python examples/subscribe_detections.py --ros-args -r detections:=/cam1/detections
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from vision_msgs.msg import Detection2DArray


class Listener(Node):
    """Listens to ``detections``; boxes are in pixels of the camera's image."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.create_subscription(Detection2DArray, "detections", self.print_persons, 10)

    def print_persons(self, message: Detection2DArray) -> None:
        """Print a line for each image, and one for each person in it."""
        stamp = message.header.stamp
        print(f"{stamp.sec}.{stamp.nanosec:09d}: {len(message.detections)} persons", flush=True)
        for detection in message.detections:
            box = detection.bbox
            score = detection.results[0].hypothesis.score
            print(
                f"  at {box.center.position.x:.0f}, {box.center.position.y:.0f},"
                f" {box.size_x:.0f} x {box.size_y:.0f} pixels, score {score:.2f}",
                flush=True,
            )


rclpy.init()
try:
    rclpy.spin(Listener())
except (KeyboardInterrupt, ExternalShutdownException):
    pass
except RuntimeError:  # the interrupt came between two messages
    if rclpy.ok():
        raise
