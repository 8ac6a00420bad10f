"""The camera node: plays an image, a folder of images or a video as a camera would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from roi_anon_ros.files import read_pixels
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.parameters import declare
from roi_anon_ros.nodes.base.process import run


class CameraNode(Node):
    """Publishes ``image_raw`` (rgb8), one image at a time, as long as somebody listens.

    The first image waits for a subscriber. A file that is no image is reported and left out.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        source = declare(
            self, "input", "", "An image, a folder of images, or a video", read_only=True
        )
        rate = declare(self, "rate", 5.0, "Images a second", (0.01, 1000.0), read_only=True)
        self._loop: bool = declare(
            self,
            "loop",
            True,
            "Begin again at the end; otherwise the node ends there",
            read_only=True,
        )
        self._frame_id: str = declare(
            self, "frame_id", "camera", "Their headers' frame", read_only=True
        )
        self._source = Path(source)
        if not source or not self._source.exists():
            raise SystemExit(f"input: {source!r}, must be an image, a folder of images, or a video")
        self._images = self._read()
        self._published = 0
        # Reliable, as most drivers offer it: a large image over a busy network needs it.
        self._publisher = self.create_publisher(Image, "image_raw", QoSProfile(depth=1))
        self.create_timer(1 / rate, self._publish_next)

    def _read(self) -> Iterator[np.ndarray]:
        """The images in order, uint8 ``[H, W, 3]`` RGB."""
        folder = self._source.is_dir()
        for file in (
            sorted(f for f in self._source.iterdir() if f.is_file()) if folder else [self._source]
        ):
            try:
                yield read_pixels(file)
            except ValueError:
                try:
                    from roi_anon_ros.files import Video  # here: images do without PyAV

                    for frame in Video(file).frames():
                        yield frame.image
                except (ImportError, ValueError) as error:
                    self.get_logger().error(f"{file}: neither image nor video: {error}")

    def _publish_next(self) -> None:
        if not self._publisher.get_subscription_count():
            return
        image = next(self._images, None)
        if image is None and self._loop and self._published:
            self._images = self._read()
            image = next(self._images, None)
        if image is None:
            self.get_logger().info(f"the end of {self._source} after {self._published} images")
            self.context.try_shutdown()
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._publisher.publish(from_rgb(image, header))
        self._published += 1


def main(args: list[str] | None = None) -> None:
    """Run the camera node."""
    run(CameraNode, args)


if __name__ == "__main__":
    main()
