"""Videos in files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.files.packets import MAX_RATE

#: What a decoded video is written as, by suffix.
VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


class VideoReader:
    """A video file.

    Attributes:
        rate: frames a second; the average where the rate varies.
        announced: frames that the file says it has; an estimate in some containers, 0 if unknown.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            ValueError: no readable video, or its frame rate is out of bounds.
        """
        self._path = path
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
            raise ValueError(f"frame rate: {rate}, must be above 0 and at most {MAX_RATE}")
        # 1001 keeps 30000/1001 and its like exact.
        self.rate = Fraction(rate).limit_denominator(1001)
        if self.rate == 0:
            raise ValueError(f"frame rate: {rate}, too low")
        self.announced = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        # Named, lest a file name with a % is taken for a series of pictures.
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise ValueError("not a readable video")
        return capture

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the frames from number ``start`` on, uint8 ``[H, W, 3]`` RGB, upright."""
        capture = self._open()
        try:
            for _ in range(start):
                if not capture.grab():
                    return
            while True:
                there, image = capture.read()
                if not there:
                    return
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()


def write_video(target: Path, frames: Iterator[np.ndarray], rate: Fraction) -> Path:
    """Write a video next to its place; :func:`storage.move_into_place` moves it there.

    Args:
        target: ``.mp4`` (MPEG-4) or ``.avi`` (Motion JPEG).
        frames: uint8 ``[H, W, 3]`` RGB, all of one size. Where it is odd, the video lacks the last
            column or row: its format has even sides only.
        rate: frames a second.

    Returns:
        The file beside it.

    Raises:
        ValueError: no frames, frames of several sizes, or the video could not be written.
    """
    first = next(frames, None)
    if first is None:
        raise ValueError("no frame to write")
    height, width = first.shape[:2]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.stem}.part{target.suffix}")  # OpenCV goes by the suffix
    fourcc = cv2.VideoWriter_fourcc(*VIDEO_CODECS[target.suffix.lower()])
    writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, fourcc, float(rate), (width, height))
    complete = False
    try:
        if not writer.isOpened():
            raise ValueError(
                f"{target.suffix} cannot be written with {width}x{height} pixels at {rate} Hz"
            )
        count = 0
        image: np.ndarray | None = first
        while image is not None:
            if image.shape != first.shape:
                size = f"{image.shape[1]}x{image.shape[0]}"
                raise ValueError(
                    f"frame {count + 1}: {size} pixels, the first has {width}x{height}"
                )
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            count += 1
            image = next(frames, None)
        writer.release()
        written = VideoReader(part).announced
        if written != count:  # OpenCV does not tell when a frame could not be written
            raise ValueError(f"{written} of {count} frames were written")
        complete = True
    finally:
        writer.release()
        if not complete:
            part.unlink(missing_ok=True)
    return part
