"""Cameras for the load test: one process that publishes a message made beforehand."""

from __future__ import annotations

import json
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.parameters import declare
from roi_anon_ros.nodes.base.process import run as run_node

#: Least and greatest rate, messages a second.
RATES = (1.0, 1000.0)


class Cameras(Node):
    """Publishes one message to each of several topics in turn, stamped anew each time.

    When it ends, it writes the stamps of each topic, in nanoseconds, into a JSON file.
    """

    def __init__(self) -> None:
        super().__init__("cameras")
        file = declare(
            self, "message", "", "File of the message to publish, serialized", read_only=True
        )
        topics = declare(self, "topics", ["latent"], "Where to publish it", read_only=True)
        raw = declare(self, "raw", False, "It is an Image, not a CompressedLatent", read_only=True)
        rate = declare(self, "rate", 15.0, "Messages a second on each topic", RATES, read_only=True)
        self._stamps_file = Path(declare(self, "stamps", "", "File for the stamps", read_only=True))
        self._message = deserialize_message(
            Path(file).read_bytes(), Image if raw else CompressedLatent
        )
        # Raw images are reliable, as from camera_node; latents as from an edge node.
        qos = QoSProfile(depth=1) if raw else newest_only()
        self._outputs = [self.create_publisher(type(self._message), topic, qos) for topic in topics]
        self._stamps: list[list[int]] = [[] for _ in topics]
        self._published = 0
        self.create_timer(
            1 / (rate * len(topics)), self._publish_next
        )  # one at a time: their phases differ

    def _publish_next(self) -> None:
        camera = self._published % len(self._outputs)
        now = self.get_clock().now()
        self._message.header.stamp = now.to_msg()
        self._outputs[camera].publish(self._message)
        self._stamps[camera].append(now.nanoseconds)
        self._published += 1

    def destroy_node(self) -> None:
        """Write the stamps, and destroy the node."""
        self._stamps_file.write_text(json.dumps(self._stamps))
        super().destroy_node()


def main() -> None:
    """Run the cameras, in a separate process."""
    run_node(Cameras)


if __name__ == "__main__":
    main()
