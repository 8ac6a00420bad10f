"""The edge node: camera images in, anonymized latents out, and nothing else ever."""

from __future__ import annotations

import time
from collections.abc import Sequence

import yaml
from sensor_msgs.msg import CompressedImage, Image

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import MAX_SIDE, MAX_SIZE, MIN_SIZE
from roi_anon_ros.codec.engines import ANALYSIS, HEADS
from roi_anon_ros.codec.hiding import DEFAULT_HOLD, Hiding, check_zones
from roi_anon_ros.codec.image import coded_size
from roi_anon_ros.codec.latents import AUTO_QUALITY, check_quality
from roi_anon_ros.codec.packet import MAX_QUALITY
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.image_inputs import declare_inputs, image_topic, levels, read_image
from roi_anon_ros.nodes.base.latents import to_message
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.process import run


class EdgeNode(CodecNode):
    """Encodes the newest image of ``image_raw`` to ``latent``.

    It fails closed: an image that cannot be encoded, for whatever reason, is dropped.
    """

    role = "edge"
    loss = True
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
        self.setting(
            "quality",
            AUTO_QUALITY,
            "1 (fewest bits) to 8; 0: what fits the size; models of one rate have no choice",
            (AUTO_QUALITY, MAX_QUALITY),
            check_quality,
        )
        self.setting(
            "hold",
            DEFAULT_HOLD,
            "Seconds for which a head that is no longer found stays hidden",
            (0.0, 60.0),
            lambda hold: Hiding(hold=hold),
        )
        self.setting(
            "zones",
            [""],
            "Polygons in pixels of the source that are always hidden, each [[x, y], [x, y], ...]",
            check=read_zones,
        )
        self.setting(
            "rotation",
            0,
            "How the camera is mounted: degrees by which its images are turned clockwise to stand "
            "upright, 0, 90, 180 or 270",
            (0, 270),
            read_rotation,
        )
        declare_inputs(self)

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        self.max_side: int = self.value("max_side")
        coded_size(MIN_SIZE, MIN_SIZE, self.max_side)  # raises where it is out of bounds
        self._hiding = None
        self._hiding_of = None
        self._follow_parameters()
        topics = image_topic(self)
        self._latent = self.output(CompressedLatent, "latent", newest_only())
        return topics

    def warm_up(self) -> None:
        """Run the analysis once, and the head map where the model has one."""
        super().warm_up()
        if self.codec.model.has_head_map:
            self.codec.warm_up(HEADS)

    def process(
        self, topic: str, message: Image | CompressedImage
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Encode one image and send its latent."""
        started = time.perf_counter()
        image = read_image(message)
        seconds = {"read": time.perf_counter() - started}
        self._follow_parameters()
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        encoded = self.codec.encode(
            image,
            self.max_side,
            self.value("quality"),
            self._hiding,
            stamp,
            read_rotation(self.value("rotation")),
        )
        self.check_age(message)
        self._latent.publish(to_message(encoded, self.codec.name, message.header))
        figures = {"bits per pixel": encoded.bits_per_pixel} | levels(message)
        if encoded.hidden is not None:
            figures["share painted"] = encoded.hidden.regions.share
            figures["heads"] = encoded.hidden.heads
            figures["heads held"] = encoded.hidden.held
            figures["confidence of the head map"] = encoded.hidden.confidence
        return seconds | encoded.seconds, figures

    def _follow_parameters(self) -> None:
        """Make what hides anew where its parameters were set; forget what was found before."""
        wanted = self.value("hold"), tuple(self.value("zones"))
        if wanted != self._hiding_of:
            self._hiding = Hiding(read_zones(wanted[1]), wanted[0])
            self._hiding_of = wanted


def read_zones(texts: Sequence[str]) -> list[list[list[float]]]:
    """Polygons of their texts, each ``[[x, y], [x, y], ...]``; empty texts are none.

    Raises:
        ValueError: names the zone that is no polygon.
    """
    zones = []
    for number, text in enumerate(texts):
        if not text.strip():
            continue
        try:
            zones.append(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ValueError(f"zones[{number}]: got {text[:80]!r}: {error}") from error
    check_zones(zones)
    return zones


def read_rotation(degrees: int) -> int:
    """Quarter turns of a rotation in degrees.

    Raises:
        ValueError: it is none of 0, 90, 180 and 270.
    """
    if degrees not in (0, 90, 180, 270):
        raise ValueError(f"rotation: got {degrees}, must be 0, 90, 180 or 270")
    return degrees // 90


def main(args: list[str] | None = None) -> None:
    """Run the edge node."""
    run(EdgeNode, args)


if __name__ == "__main__":
    main()
