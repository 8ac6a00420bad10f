"""The watch over files: the images in them, and how often a card says that a face may show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roi_anon_ros import files
from roi_anon_ros.codec import MAX_SIDE, Codec, Header
from roi_anon_ros.codec.packet import unpack
from roi_anon_ros.storage import IMAGE_SUFFIXES

#: What the command calls MTCNN; any other detector is a YuNet file.
MTCNN = "mtcnn"


@dataclass(frozen=True)
class Sight:
    """One image of a file.

    Attributes:
        number: of the image in its file, from 1.
        image: uint8 ``[H, W, 3]`` RGB, as a receiver sees it.
        painted: bool ``[H, W]``, where it shows paint; None: unknown.
    """

    number: int
    image: np.ndarray
    painted: np.ndarray | None


def read_sights(source: Path, find_codec: Callable[[Header], Codec], every: int) -> Iterator[Sight]:
    """Yield the images of a file of packets, an image or a video.

    Args:
        source: told apart by its suffix.
        find_codec: for a packet's header.
        every: step from one image that is taken to the next, from the first on; 1 or more.

    Raises:
        ValueError, OSError: it cannot be read on, or decoded.
    """
    if source.suffix.lower() == ".ran":
        many = files.is_sequence(source)
        packets: Iterable[bytes]
        packets = files.Sequence(source) if many else [files.read_packet(source)]
        for index, packet in enumerate(packets):
            if index % every == 0:
                yield _decode(index + 1, packet, find_codec)
    elif source.suffix.lower() in IMAGE_SUFFIXES:
        yield Sight(1, files.read_pixels(source), None)
    else:
        for index, frame in enumerate(files.Video(source).frames()):
            if index % every == 0:
                yield Sight(index + 1, frame.image, None)


def _decode(number: int, packet: bytes, find_codec: Callable[[Header], Codec]) -> Sight:
    header, _, _ = unpack(packet)
    decoded = find_codec(header).decode(packet, max_pixels=MAX_SIDE**2)
    return Sight(number, decoded.at_source_size(), decoded.painted_at_source_size())


def read_most(card: Path, detector: str) -> float:
    """How often a card says that an image may show a face, at most: the upper end of its interval.

    Args:
        card: ``card.json`` of ``roi-anon report --card``.
        detector: ``mtcnn`` or ``yunet``, the detector that the figure must be of.

    Returns:
        A share, 0 to 1.

    Raises:
        ValueError: it is no card, or has no such figure.
        OSError: it cannot be read.
    """
    try:
        figure = json.loads(card.read_text())["watchdog"][detector]
        interval = figure["interval"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card}: no privacy card with a figure of {detector}") from error
    if interval is None:
        raise ValueError(
            f"{card}: watchdog: has no figure of {detector}; {figure['command']} first"
        )
    return float(interval[1])
