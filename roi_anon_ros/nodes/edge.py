"""The edge node: camera pictures in, anonymized latents out, and nothing else ever."""

from __future__ import annotations

import time
from array import array

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header as HeaderMessage

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import MAX_SIDE, MAX_SIZE, MIN_SIZE, Encoded
from roi_anon_ros.codec.engines import ANALYSIS
from roi_anon_ros.codec.picture import coded_size
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.images import decompress, to_rgb
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.process import run

#: Topic, message type and reader of each transport.
TRANSPORTS = {
    "raw": ("image_raw", Image, to_rgb),
    "compressed": ("image_raw/compressed", CompressedImage, decompress),
}


class EdgeNode(CodecNode):
    """Encodes the newest picture of ``image_raw`` to ``latent``.

    It fails closed: a picture that cannot be encoded, for whatever reason, is dropped.
    """

    role = "edge"
    stage = ANALYSIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "max_side",
            MAX_SIDE,
            f"Longer sides are shrunk to it before the coding, pixels, at least {MIN_SIZE}; 0: "
            "never",
            (0, MAX_SIZE),
        )
        self.setting("input_transport", "raw", "raw: image_raw; compressed: image_raw/compressed")

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        self.max_side: int = self.value("max_side")
        coded_size(MIN_SIZE, MIN_SIZE, self.max_side)  # raises where it is out of bounds
        transport = self.value("input_transport")
        if transport not in TRANSPORTS:
            raise ValueError(
                f"input_transport: {transport!r}, must be one of {', '.join(TRANSPORTS)}"
            )
        topic, message_type, self._read = TRANSPORTS[transport]
        self._latent = self.output(CompressedLatent, "latent", newest_only())
        return {topic: message_type}

    def process(
        self, topic: str, message: Image | CompressedImage
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Encode one picture and send its latent."""
        started = time.perf_counter()
        image = self._read(message)
        seconds = {"read": time.perf_counter() - started}
        encoded = self.codec.encode(image, self.max_side)
        self._latent.publish(to_message(encoded, self.codec.name, message.header))
        return seconds | encoded.seconds, {"bits per pixel": encoded.bits_per_pixel}


def to_message(encoded: Encoded, model: str, header: HeaderMessage) -> CompressedLatent:
    """The message of a packet, with the header of its picture."""
    packed = encoded.header
    return CompressedLatent(
        header=header,
        model_name=model,
        fingerprint=np.frombuffer(packed.fingerprint, np.uint8),
        source_width=packed.source_size[0],
        source_height=packed.source_size[1],
        coded_width=packed.coded_size[0],
        coded_height=packed.coded_size[1],
        packet=array("B", encoded.packet),  # bytes would be checked one by one
    )


def main(args: list[str] | None = None) -> None:
    """Run the edge node."""
    run(EdgeNode, args)


if __name__ == "__main__":
    main()
