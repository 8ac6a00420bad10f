"""The image topic of a node: its transport, its reliability, its messages as RGB."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from roi_anon_ros.nodes.base.images import decompress, levels_of, to_rgb
from roi_anon_ros.nodes.base.newest import RELIABILITIES, NewestFramesNode

#: Topic and message type of each transport.
TRANSPORTS = {
    "raw": ("image_raw", Image),
    "compressed": ("image_raw/compressed", CompressedImage),
}


def declare_inputs(node: NewestFramesNode) -> None:
    """Declare the parameters of a node that listens to an image topic."""
    node.setting("input_transport", "raw", "raw: image_raw; compressed: image_raw/compressed")
    node.setting(
        "image_reliability",
        "auto",
        "What is asked of the images' publisher: reliable, best_effort, or auto: reliable where "
        "the publisher offers it",
    )


def image_topic(node: NewestFramesNode) -> dict[str, type]:
    """The topic that the parameters ask for, with its message type; sets the reliability.

    Raises:
        ValueError: there is no such transport, or reliability.
    """
    transport = node.value("input_transport")
    if transport not in TRANSPORTS:
        raise ValueError(f"input_transport: {transport!r}, must be one of {', '.join(TRANSPORTS)}")
    reliability = node.value("image_reliability")
    if reliability not in RELIABILITIES:
        raise ValueError(
            f"image_reliability: {reliability!r}, must be one of {', '.join(RELIABILITIES)}"
        )
    node.reliability = reliability
    topic, message_type = TRANSPORTS[transport]
    return {topic: message_type}


def read_image(message: Image | CompressedImage) -> np.ndarray:
    """The image of a message, uint8 ``[H, W, 3]`` RGB.

    Raises:
        ImageError: names the field and the bound.
    """
    return to_rgb(message) if isinstance(message, Image) else decompress(message)


def levels(message: Image | CompressedImage) -> dict[str, float]:
    """See :func:`levels_of`; empty for compressed images, which have 8 bits."""
    return levels_of(message) if isinstance(message, Image) else {}
