"""The decoder node: latents in, anonymized images out, without a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec.engines import SYNTHESIS
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.latents import EDGE_PIXELS, PIXELS, SOURCE_PIXELS, decode
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.process import run


class DecoderNode(CodecNode):
    """Decodes the newest packet of ``latent`` to ``image_anonymized``, for viewers and for other
    people's detectors.

    The newest ``camera_info`` goes out with each image as ``camera_info_anonymized``, scaled to the
    image's size and with its header. Images stand as the camera was mounted.
    """

    role = "decoder"
    stage = SYNTHESIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "source_size",
            False,
            "Images have the size of their source, rather than the size that was coded",
            check=bool,
        )
        self.setting(
            "max_pixels",
            EDGE_PIXELS,
            "Packets with more coded pixels are refused; the square of the edge's max_side",
            PIXELS,
        )
        self.setting(
            "max_source_pixels",
            SOURCE_PIXELS,
            "Packets of larger sources are refused while images have the size of their source",
            PIXELS,
        )
        self._camera: CameraInfo | None = None
        self._camera_input: Any = None
        self._camera_state = "none came"

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        self._images = self.output(Image, "image_anonymized", QoSProfile(depth=1))
        self._cameras = self.output(CameraInfo, "camera_info_anonymized", QoSProfile(depth=1))
        return {"latent": CompressedLatent}

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the camera's description as well."""
        result = super().on_activate(state)
        if result == TransitionCallbackReturn.SUCCESS:
            self._camera_input = self.create_subscription(
                CameraInfo, "camera_info", self._note_camera, newest_only()
            )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening to it."""
        self._forget_camera()
        return super().on_deactivate(state)

    def unload(self) -> None:
        """Let the model go, and what is known of the camera."""
        self._forget_camera()
        super().unload()

    def process(
        self, topic: str, message: CompressedLatent
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Decode one packet and send its image."""
        full = self.value("source_size")
        most = self.value("max_source_pixels") if full else PIXELS[1]
        decoded = decode(self.codec, message, self.value("max_pixels"), most)
        if full:
            image = decoded.at_source_size()
        else:
            image = np.ascontiguousarray(np.rot90(decoded.image, decoded.header.turns))
        self.check_age(message)
        self._images.publish(from_rgb(image, message.header))
        height, width = image.shape[:2]
        self._pass_on_camera(message.header, decoded.header.source_size, (width, height))
        rate = decoded.header.bits_per_pixel(len(message.packet))
        return decoded.seconds, {"bits per pixel": rate}

    def describe(self) -> dict[str, str]:
        """Model, engine, and what is known of the camera."""
        return super().describe() | {"camera_info": self._camera_state}

    def _pass_on_camera(
        self, header: Header, source: tuple[int, int], size: tuple[int, int]
    ) -> None:
        """Send the camera's description for an image of this size, where it is of this source."""
        camera = self._camera
        if camera is None:
            self._camera_state = "none came"
            return
        try:
            scaled = scale_camera(camera, source, size)
        except ValueError as error:
            self._camera_state = str(error)
            return
        scaled.header = header
        self._cameras.publish(scaled)
        self._camera_state = "passed on"

    def _note_camera(self, message: CameraInfo) -> None:
        self._camera = message

    def _forget_camera(self) -> None:
        if self._camera_input is not None:
            self.destroy_subscription(self._camera_input)
        self._camera_input = None
        self._camera = None


def scale_camera(camera: CameraInfo, source: tuple[int, int], size: tuple[int, int]) -> CameraInfo:
    """A camera's description for images of another size.

    A pixel's centre at ``x`` lies at ``(x + 0.5) * scale - 0.5`` after the scaling, so that focal
    lengths grow by the scale, and principal points by it and half a pixel. The baseline of a
    stereo camera in ``p`` has the unit of a focal length times metres.

    Args:
        camera: of the source; it describes the whole image, in pixels of it or of its binning.
        source: width and height of the source, pixels.
        size: width and height of the images, pixels.

    Raises:
        ValueError: the description is of another size than the source.
    """
    if (camera.width, camera.height) != source:
        raise ValueError(
            f"camera_info: of {camera.width}x{camera.height} pixels, must be of "
            f"{source[0]}x{source[1]}"
        )
    across = size[0] / source[0]
    down = size[1] / source[1]
    k = np.array(camera.k).reshape(3, 3)
    p = np.array(camera.p).reshape(3, 4)
    scaling = np.array([[across, 0, 0.5 * across - 0.5], [0, down, 0.5 * down - 0.5], [0, 0, 1]])
    scaled = CameraInfo(
        header=camera.header,
        width=size[0],
        height=size[1],
        distortion_model=camera.distortion_model,
        d=camera.d,
        r=camera.r,
    )
    scaled.k = (scaling @ k).ravel() if k[2, 2] else k.ravel()  # zeros: not calibrated
    scaled.p = (scaling @ p).ravel() if p[2, 2] else p.ravel()
    return scaled


def main(args: list[str] | None = None) -> None:
    """Run the decoder node."""
    run(DecoderNode, args)


if __name__ == "__main__":
    main()
