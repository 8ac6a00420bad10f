"""The edge node: camera images in, anonymized latents out, and nothing else that anybody but a key
holder could read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from roi_anon_msgs.msg import CompressedLatent, SealedRegions
from roi_anon_ros.codec import DEFAULT_MAX_SIDE, MAX_SIDE, MIN_SIDE, Encoded
from roi_anon_ros.codec.codec import Found
from roi_anon_ros.codec.engines import ANALYSIS, HEADS
from roi_anon_ros.codec.engines.machine import require
from roi_anon_ros.codec.hiding import DEFAULT_HOLD, Hiding, check_zones
from roi_anon_ros.codec.image import coded_size
from roi_anon_ros.codec.latents import AUTO_QUALITY, check_quality
from roi_anon_ros.codec.packet import MAX_QUALITY
from roi_anon_ros.codec.rate import RateControl
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.image_inputs import declare_inputs, image_topic, levels, read_image
from roi_anon_ros.nodes.base.latents import to_message, to_sealed_message
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.process import run

if TYPE_CHECKING:
    from roi_anon_ros.seal import Sealer

#: Officers that it may take to open what was sealed.
THRESHOLDS = (1, 16)
#: Greatest bit rate that can be asked for, kilobits a second.
MAX_BITRATE = 1e6


class EdgeNode(CodecNode):
    """Encodes the newest image of ``image_raw`` to ``latent``; where there are officers, what was
    painted over goes out on ``sealed`` as well, for them alone.

    It fails closed: an image that cannot be encoded, for whatever reason, is dropped. One that
    cannot be sealed goes out without.
    """

    role = "edge"
    loss = True
    stage = ANALYSIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "max_side",
            DEFAULT_MAX_SIDE,
            f"Longer sides are shrunk to it before the coding, pixels, at least {MIN_SIDE}; 0: "
            "never",
            (0, MAX_SIDE),
        )
        self.setting(
            "quality",
            AUTO_QUALITY,
            "1 (fewest bits) to 8; 0: what fits the size; models of one rate have no choice",
            (AUTO_QUALITY, MAX_QUALITY),
            check_quality,
        )
        self.setting(
            "bitrate",
            0.0,
            "Kilobits a second to hold, of packets alone, by a quality for each image, quality at "
            "most; 0: every image has that quality",
            (0.0, MAX_BITRATE),
            float,
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
            "helmets",
            False,
            "Whether heads with a helmet are painted with one, for sites that look for helmets",
        )
        self.setting(
            "rotation",
            0,
            "How the camera is mounted: degrees by which its images are turned clockwise to stand "
            "upright, 0, 90, 180 or 270",
            (0, 270),
            read_rotation,
        )
        self.setting(
            "officers",
            "",
            "Folder of the public keys of those who may see what is hidden; empty: nothing is "
            "sealed",
        )
        self.setting(
            "officers_threshold",
            1,
            "Officers that it takes together to open what was sealed",
            THRESHOLDS,
        )
        declare_inputs(self)

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        self.max_side: int = self.value("max_side")
        coded_size(MIN_SIDE, MIN_SIDE, self.max_side)  # raises where it is out of bounds
        self._hiding: Hiding | None = None
        self._hiding_of: tuple[float, tuple[str, ...], bool] | None = None
        self._rate: RateControl | None = None
        self._rate_of = 0.0, AUTO_QUALITY
        self._follow_parameters()
        topics = image_topic(self)
        self._latent = self.output(CompressedLatent, "latent", newest_only())
        self._sealer = self._make_sealer()
        if self._sealer is not None:
            self._sealed = self.output(SealedRegions, "sealed", QoSProfile(depth=10))
        return topics

    def _make_sealer(self) -> Sealer | None:
        """What seals, where there are officers."""
        folder = self.value("officers")
        if not folder:
            return None
        if not self.codec.model.has_head_map:
            raise ValueError(f"officers: model {self.codec.name} does not paint, nothing to seal")
        require("cryptography", "seal")
        from roi_anon_ros.seal import Sealer

        return Sealer(Path(folder), self.value("officers_threshold"))

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
        turns = read_rotation(self.value("rotation"))
        found = self.codec.find(image, self.max_side, self._hiding, stamp, turns)
        quality = self.value("quality") if self._rate is None else self._rate.quality
        encoded = self.codec.encode_found(found, quality)
        self.check_age(message)
        figures = {"bits per pixel": encoded.bits_per_pixel} | levels(message)
        if self._sealer is None:
            self._latent.publish(to_message(encoded, self.codec.name, message.header))
        else:
            error = self._send_both(self._sealer, found, encoded, message)
            figures["share not sealed"] = float(error is not None)
            if error is not None:
                self.worker.warned(topic, f"not sealed: {error}")
        if encoded.hidden is not None:
            figures["share painted"] = encoded.hidden.regions.share
            figures["heads"] = encoded.hidden.heads
            figures["heads held"] = encoded.hidden.held
            figures["confidence of the head map"] = encoded.hidden.confidence
            figures["quality"] = encoded.header.quality
        if self._rate is not None:
            self._rate.spend(8 * len(encoded.packet), stamp)
            if not self._rate.is_held:
                self.worker.warned(topic, "bitrate: not held, quality 1 costs more")
        return seconds | encoded.seconds, figures

    def _send_both(
        self, sealer: Sealer, found: Found, encoded: Encoded, message: Image | CompressedImage
    ) -> Exception | None:
        """Send the latent, then its sealed part.

        Returns:
            Why there is no sealed part; None where there is.
        """
        from roi_anon_ros.seal import send_both

        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert found.hidden is not None  # see _make_sealer()
        cells = found.hidden.regions.cells
        latent = to_message(encoded, self.codec.name, message.header)
        return send_both(
            encoded.packet,
            partial(sealer.seal, encoded.packet, stamp_ns, found.image, cells),
            lambda _: self._latent.publish(latent),
            lambda sealed: self._sealed.publish(to_sealed_message(sealed, message.header)),
        )

    def _follow_parameters(self) -> None:
        """Make what hides, and what holds the bit rate, anew where their parameters were set;
        forget what was found before.
        """
        wanted = self.value("hold"), tuple(self.value("zones")), self.value("helmets")
        if wanted != self._hiding_of:
            hold, zones, helmets = wanted
            self._hiding = Hiding(read_zones(zones), hold, helmets=helmets)
            self._hiding_of = wanted
        rate = self.value("bitrate"), self.value("quality")
        if rate != self._rate_of:
            bitrate, quality = rate
            has_quality = self.codec.model.latents.has_quality
            most = MAX_QUALITY if quality == AUTO_QUALITY else quality
            self._rate = RateControl(bitrate, most) if bitrate and has_quality else None
            self._rate_of = rate


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
