"""Heads in videos: the frame of each track in which the least of the head is painted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.datasets import Frame
from roi_anon_ros.files import read_pixels

#: Heads of this height count, pixels.
LEAST_HEIGHT = 32


@dataclass(frozen=True)
class FramePaint:
    """What of one frame is painted.

    Attributes:
        tracks: of the heads that are tall enough, ``n`` names.
        centres: whether the centre of each of them is painted, bool ``[n]``.
        shares: of each head's box that is painted, ``[n]``, 0 to 1.
    """

    tracks: list[str]
    centres: np.ndarray
    shares: np.ndarray


def look_at_frames(frames: Iterable[Frame], codec: Codec, hold: float) -> Iterator[FramePaint]:
    """Yield what a model paints in each frame of one video, with what it remembers of those before.

    Args:
        frames: in order.
        codec: of a model that paints.
        hold: seconds for which a head stays hidden, see :class:`Hiding`.

    Raises:
        OSError, ValueError: a frame cannot be read.
    """
    hiding = Hiding(hold=hold)
    for frame in frames:
        image = read_pixels(frame.path)
        height, width = image.shape[:2]
        _, hidden = hiding.find(codec.find_heads, image, [], (1.0, 1.0), frame.seconds)
        yield judge_frame(hidden.regions.mask(width, height), frame)


def judge_frame(mask: np.ndarray, frame: Frame) -> FramePaint:
    """Which heads of a frame a mask of painted pixels, bool ``[H, W]``, hides."""
    tracks = []
    centres = []
    shares = []
    height, width = mask.shape
    for (x1, y1, x2, y2), track in zip(frame.heads.tolist(), frame.tracks, strict=True):
        x = int((x1 + x2) / 2)
        y = int((y1 + y2) / 2)
        if y2 - y1 < LEAST_HEIGHT or not (0 <= x < width and 0 <= y < height):
            continue
        left = max(math.floor(x1), 0)
        top = max(math.floor(y1), 0)
        tracks.append(track)
        centres.append(bool(mask[y, x]))
        shares.append(float(mask[top : math.ceil(y2), left : math.ceil(x2)].mean()))
    return FramePaint(tracks, np.array(centres, bool), np.array(shares))


def sum_up_video(painted: list[FramePaint]) -> dict[str, Any]:
    """The figures of one video.

    Returns:
        ``frames``; ``frames_with_heads`` tall enough; ``frames_unpainted``, in which the centre of
        such a head is not painted; ``unpainted_share``, of all frames; ``tracks``, the worst first:
        ``track``, ``frames`` it is in, ``unpainted``, frames in which its centre is not painted,
        ``worst_frame``, its number from 0, and ``worst_share``, what of the head's box is painted
        there.
    """
    of_track: dict[str, list[tuple[float, int, bool]]] = defaultdict(list)
    for number, frame in enumerate(painted):
        rows = zip(frame.tracks, frame.shares.tolist(), frame.centres.tolist(), strict=True)
        for track, share, centre in rows:
            of_track[track].append((share, number, centre))
    tracks: list[dict[str, Any]] = []
    for track, seen in of_track.items():
        worst_share, worst_frame, _ = min(seen)
        tracks.append(
            {
                "track": track,
                "frames": len(seen),
                "unpainted": sum(not centre for _, _, centre in seen),
                "worst_frame": worst_frame,
                "worst_share": worst_share,
            }
        )
    tracks.sort(key=lambda track: (-track["unpainted"], track["worst_share"]))
    unpainted = sum(not frame.centres.all() for frame in painted)
    return {
        "frames": len(painted),
        "frames_with_heads": sum(len(frame.tracks) > 0 for frame in painted),
        "frames_unpainted": unpainted,
        "unpainted_share": unpainted / len(painted),
        "tracks": tracks,
    }
