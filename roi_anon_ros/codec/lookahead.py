"""The images of a recorded video: a head is hidden before it is found as it is after."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from roi_anon_ros.codec.codec import Codec, Found
from roi_anon_ros.codec.hiding import Hiding


@dataclass(frozen=True)
class StreamFrame:
    """One image of a stream, encoded.

    Attributes:
        packet: of the image.
        time: of the image, seconds.
        found: the image before it was painted, and what is hidden in it.
    """

    packet: bytes
    time: Fraction
    found: Found


def encode_stream(
    codec: Codec,
    images: Iterable[tuple[np.ndarray, Fraction]],
    hiding: Hiding,
    max_side: int,
    quality: float,
    turns: int,
    skip: int = 0,
) -> Iterator[StreamFrame]:
    """Encode the images of one camera, each when the heads of the next seconds are known.

    Heads that are found up to ``hiding.hold`` seconds later and not in an image hide their place in
    it, grown as :class:`~roi_anon_ros.codec.hiding.Hiding` grows those of the past. Waiting in
    memory are the coded images of these seconds and no more.

    Args:
        codec: at work.
        images: uint8 ``[H, W, 3]`` RGB, and their times in seconds, rising.
        hiding: of this camera alone.
        max_side: as in :meth:`~roi_anon_ros.codec.codec.Codec.encode`; so are the next two.
        quality: of the packets.
        turns: of the camera.
        skip: how many images at the beginning are searched only, and give no packet.

    Yields:
        A frame for each image, in their order.

    Raises:
        ValueError: as from :meth:`~roi_anon_ros.codec.codec.Codec.encode`.
    """
    waiting: deque[tuple[Fraction, Found]] = deque()

    def encode_first() -> StreamFrame:
        time, found = waiting.popleft()
        if found.hidden is not None:
            later = [
                (float(other - time), ahead.hidden.found)
                for other, ahead in waiting
                if float(other - time) <= hiding.hold and ahead.hidden is not None
            ]
            found = replace(found, hidden=found.hidden.with_later(later))
        return StreamFrame(codec.encode_found(found, quality).packet, time, found)

    for index, (image, time) in enumerate(images):
        found = codec.find(image, max_side, hiding, float(time), turns)
        if index < skip:
            continue
        waiting.append((time, found))
        while float(time - waiting[0][0]) > hiding.hold:  # it has seen all that its hold reaches
            yield encode_first()
    while waiting:
        yield encode_first()
