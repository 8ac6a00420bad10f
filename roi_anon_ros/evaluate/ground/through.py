"""What anonymization and compression cost on the ground: one detector on a video's images as they
are, and on what a codec makes of them, from the edge's packet to the server's boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.evaluate.ground.play import Source
from roi_anon_ros.evaluate.ground.sequences import Sequence
from roi_anon_ros.files import Video
from roi_anon_ros.ground.floor import Floor

#: Metres around the places of the truth in which people are annotated.
MARGIN = 0.5


def annotated_area(sequence: Sequence) -> Floor:
    """A floor that ends where nobody is annotated: people beyond would count as false alarms."""
    places = np.concatenate([list(moment.truth.values()) for moment in sequence.moments])
    corners = MARGIN * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    around = (places[:, None] + corners).reshape(-1, 2)
    return Floor(area=around[ConvexHull(around).vertices])


class Through:
    """Boxes of one detector on the originals and on the decoded images of one camera's video.

    Attributes:
        camera: name.
        original: boxes (N, 5) of each frame.
        decoded: boxes (N, 5) of each frame, in pixels of the original.
        sizes: bytes of each frame's packet.
    """

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.original: list[np.ndarray] = []
        self.decoded: list[np.ndarray] = []
        self.sizes: list[int] = []

    def sources(self) -> dict[str, Source]:
        """Both, as detections to play, by what they were found in."""
        found = {"originals": self.original, "decoded": self.decoded}
        return {name: self._play(boxes) for name, boxes in found.items()}

    def _play(self, boxes: list[np.ndarray]) -> Source:
        return lambda number: {self.camera: boxes[number]}


def detect_through(
    sequence: Sequence, video: Path, codec: Codec, detect: Detector
) -> Iterator[Through]:
    """Find persons in each moment's image and in what the codec makes of it.

    Args:
        sequence: of one camera; moment i is frame i of the video.
        video: the images.
        codec: at work with its defaults, hiding heads over time as an edge node does.
        detect: in images.

    Yields:
        What was found so far, after each frame.

    Raises:
        ValueError: several cameras, no readable video, or one that is shorter than the sequence.
    """
    if len(sequence.cameras) != 1:
        raise ValueError(f"cameras: got {len(sequence.cameras)}, must be 1")
    (camera,) = sequence.cameras
    found = Through(camera)
    hiding = Hiding()
    frames = Video(video).frames()
    for moment in sequence.moments:
        frame = next(frames, None)
        if frame is None:
            frames_there = len(found.sizes)
            wanted = len(sequence.moments)
            raise ValueError(f"{video}: got {frames_there} frames, must be {wanted} or more")
        encoded = codec.encode(frame.image, hiding=hiding, stamp=moment.stamp)
        decoded = codec.decode(encoded.packet)
        seen = detect([decoded.image])[0]
        seen.boxes = decoded.header.to_source(seen.boxes)
        found.original.append(_with_scores(detect([frame.image])[0]))
        found.decoded.append(_with_scores(seen))
        found.sizes.append(len(encoded.packet))
        yield found


def _with_scores(found: Detections) -> np.ndarray:
    """(N, 5): x0, y0, x1, y1, confidence."""
    return np.column_stack([found.boxes.reshape(-1, 4), found.scores]).astype(float)
