"""What the images of a recording become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from roi_anon_ros.anonymize.anonymizer import Anonymizer
from roi_anon_ros.anonymize.regions import Region, Regions
from roi_anon_ros.anonymize.tracks import fill_gaps
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.files.bags.description import Becomes
from roi_anon_ros.files.bags.messages import COMPRESSED, LATENT, ImageMessage

if TYPE_CHECKING:
    from roi_anon_ros.codec import Codec


class TreatmentWay:
    """Regions are found and treated: each message keeps its topic and its type.

    Args:
        anonymizer: at work.
        hold: seconds that a region stays before and after its object was found, 0 or more.
    """

    def __init__(self, anonymizer: Anonymizer, hold: float) -> None:
        self._anonymizer = anonymizer
        self._hold = hold

    def becomes(self, topic: str, kind: str) -> Becomes:
        """What a topic is called afterwards."""
        return Becomes(topic)

    def find(self, image: np.ndarray) -> Regions:
        """The regions of an image."""
        return self._anonymizer.find(image)

    def follow(self, found: Sequence[Regions], times: Sequence[float]) -> list[Regions]:
        """The regions of a topic's images, in the order of their times, with gaps filled."""
        order = sorted(range(len(times)), key=lambda index: times[index])
        filled = fill_gaps([found[i] for i in order], [times[i] for i in order], self._hold)
        placed = dict(zip(order, filled, strict=True))
        return [placed[index] for index in range(len(times))]

    def message(self, topic: str, message: ImageMessage, regions: tuple[Region, ...]) -> bytes:
        """The message that is written."""
        height, width = message.image.shape[:2]
        treated = self._anonymizer.treat(message.image, Regions((width, height), regions), topic)
        return message.replaced(treated)


class CodecWay:
    """The project's codec, which finds heads by itself.

    Args:
        codec: at work.
        decoded: write the decoded image as ``CompressedImage``, to ``TOPIC/compressed``, instead of
            the packet as ``CompressedLatent``, to ``TOPIC/latent``.
        max_side: as in :meth:`~roi_anon_ros.codec.Codec.encode`.
    """

    def __init__(self, codec: Codec, decoded: bool, max_side: int) -> None:
        self._codec = codec
        self._decoded = decoded
        self._max_side = max_side
        self._hiding: dict[str, Hiding] = {}  # by topic: heads are held where they are missed

    def becomes(self, topic: str, kind: str) -> Becomes:
        """What a topic is called afterwards, and of which type."""
        plain = topic.removesuffix("/compressed") if kind == COMPRESSED else topic
        if self._decoded:
            return Becomes(f"{plain}/compressed", COMPRESSED)
        return Becomes(f"{plain}/latent", LATENT)

    def message(self, topic: str, message: ImageMessage, regions: Any) -> bytes:
        """The message that is written."""
        hiding = self._hiding.setdefault(topic, Hiding())
        encoded = self._codec.encode(
            message.image, self._max_side, hiding=hiding, stamp=message.seconds
        )
        if not self._decoded:
            return message.latent(self._codec.name, encoded)
        height, width = message.image.shape[:2]
        decoded = self._codec.decode(encoded.packet, max(width * height, 1) * 2)
        return message.compressed(decoded.at_source_size())
