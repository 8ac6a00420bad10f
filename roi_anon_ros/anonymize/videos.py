"""Video files: each frame with its own time, upright, and the sound with them.

PyAV, since OpenCV knows neither sound nor the times of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

#: What a video is written with, by suffix: format, video codec and its options.
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mkv": ("matroska", "libx264", {"crf": "18"}),
    ".mov": ("mov", "libx264", {"crf": "18"}),
    ".mp4": ("mp4", "libx264", {"crf": "18", "movflags": "faststart"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
#: Videos that are read, by suffix; those that are not written become Matroska.
READABLE = (*CODECS, ".avi", ".m4v", ".ts")
#: Broken packets, at most.
MOST_DAMAGED = 1000


@dataclass
class Frame:
    """One frame.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        pts: its time, in units of the video's ``time_base``.
    """

    image: np.ndarray
    pts: int


class Video:
    """A video file to read.

    Attributes:
        time_base: seconds of a unit of time.
        announced: frames that the file says it has, 0 if unknown.
        notes: what the output will lack or had to leave out, for people.
        damaged: packets that could not be decoded.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            ValueError: no readable video.
            OSError: the file cannot be read.
        """
        self._path = path
        self.notes: list[str] = []
        self.damaged = 0
        with self._open() as container:
            if not container.streams.video:
                raise ValueError("not a readable video: it has no images")
            stream = container.streams.video[0]
            self.time_base = stream.time_base
            self.announced = stream.frames
            self.rate: Fraction = stream.average_rate or Fraction(25)
            others = len(container.streams.video) - 1
            if others:
                self.notes.append(
                    f"{others} further video streams are left out: the first one is treated"
                )
            kept = len(container.streams.video) + len(container.streams.audio)
            if len(container.streams) > kept:
                self.notes.append(
                    f"{len(container.streams) - kept} streams of other data are left out"
                )

    def _open(self) -> av.container.InputContainer:
        try:
            return av.open(str(self._path), metadata_errors="ignore")
        except FileNotFoundError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"not a readable video: {error}") from error

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order of their time.

        What cannot be decoded is counted in ``damaged`` and left out.

        Raises:
            ValueError: the size changes, times do not rise, or too much is damaged.
        """
        self.damaged = 0
        size: tuple[int, ...] | None = None
        last = -(2**63)
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in self._decoded(container):
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                image = _upright(frame)
                if size is not None and image.shape != size:
                    got = f"{image.shape[1]}x{image.shape[0]}"
                    raise ValueError(
                        f"size: got {got} at {frame.time:.2f} s, must stay {size[1]}x{size[0]}"
                    )
                size = image.shape
                if frame.pts is None or frame.pts <= last:
                    self.damaged += 1
                    continue
                last = frame.pts
                yield Frame(image, frame.pts)

    def _decoded(self, container: av.container.InputContainer) -> Iterator[VideoFrame]:
        packets = container.demux(container.streams.video[0])
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                raise ValueError(f"the video cannot be read on: {error}") from error
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                if self.damaged > MOST_DAMAGED:
                    raise ValueError(
                        f"damaged: got more than {MOST_DAMAGED} broken packets"
                    ) from None
                continue
            yield from decoded


def write_video(
    source: Path,
    part: Path,
    suffix: str,
    treat: Callable[[Frame], np.ndarray],
    sound: bool,
    video: Video,
) -> int:
    """Write a video whose frames are those of another one, treated, at the same times.

    Sound is copied as it is. Titles, places, chapters and streams of data are not.

    Args:
        source: the file that was read.
        part: the file to write; on an error it is removed.
        suffix: as in :data:`CODECS`.
        treat: a frame to an image of the same size.
        sound: whether sound is kept.
        video: the source, opened.

    Returns:
        Frames written.

    Raises:
        ValueError: as :meth:`Video.frames`, no frame, or the sound does not fit into this format.
    """
    kind, codec, options = CODECS[suffix.lower()]
    count = 0
    complete = False
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(part), "w", format=kind, options=_container_options(options)) as output:
            stream = None
            copied = None
            for frame in video.frames():
                image = treat(frame)
                if stream is None:
                    stream = _add_stream(output, codec, options, image, video)
                    copied = _Sound(source, output) if sound else None
                if copied is not None:
                    copied.copy_until(float(frame.pts * video.time_base))
                output.mux(
                    stream.encode(_to_frame(image, frame.pts, video.time_base, stream.pix_fmt))
                )
                count += 1
            if stream is None:
                raise ValueError("not a readable video: no frame in it")
            output.mux(stream.encode())
            if copied is not None:
                copied.copy_until(float("inf"))
        complete = True
    except av.FFmpegError as error:
        raise ValueError(f"cannot be written as {suffix}: {error}") from error
    finally:
        if not complete:
            part.unlink(missing_ok=True)
    return count


def _container_options(options: dict[str, str]) -> dict[str, str]:
    return {"movflags": options["movflags"]} if "movflags" in options else {}


def _add_stream(
    output: av.container.OutputContainer,
    codec: str,
    options: dict[str, str],
    image: np.ndarray,
    video: Video,
) -> av.VideoStream:
    height, width = image.shape[:2]
    encoder = {name: value for name, value in options.items() if name != "movflags"}
    stream = output.add_stream(codec, rate=video.rate.limit_denominator(100000), options=encoder)
    stream.width = width
    stream.height = height
    # Half the colours need even sides.
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    stream.time_base = video.time_base
    stream.codec_context.time_base = video.time_base
    stream.codec_context.thread_count = 1
    stream.codec_context.colorspace = 1  # BT.709
    stream.codec_context.color_range = 1  # limited
    return stream


def _to_frame(image: np.ndarray, pts: int, time_base: Fraction, pixels: str) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(
        format=pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame.pts = pts
    frame.time_base = time_base
    return frame


def _upright(frame: VideoFrame) -> np.ndarray:
    """The image of a frame, turned as its display matrix says."""
    quarters, odd = divmod(round(frame.rotation), 90)
    if odd:
        raise ValueError(f"rotation: got {frame.rotation} degrees, must be a multiple of 90")
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))


class _Sound:
    """Copies the sound of a file, packet by packet, between the images of another one."""

    def __init__(self, source: Path, output: av.container.OutputContainer) -> None:
        self._output = output
        self._container = av.open(str(source), metadata_errors="ignore")
        self._streams: dict[int, av.AudioStream] = {}
        for stream in self._container.streams.audio:
            try:
                copy = output.add_stream_from_template(stream)
            except (av.FFmpegError, ValueError) as error:
                kind = output.format.name
                raise ValueError(
                    f"sound: {stream.codec_context.name} cannot be in {kind}: {error}"
                ) from error
            copy.metadata.clear()
            self._streams[stream.index] = copy
        audio = list(self._container.streams.audio)
        self._packets = self._container.demux(audio) if audio else iter(())
        self._next = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        """Copy what sounds before this time."""
        while self._next is not None:
            packet = self._next
            if packet.dts is not None:
                if float(packet.dts * packet.time_base) >= seconds:
                    return
                packet.stream = self._streams[packet.stream.index]
                self._output.mux(packet)
            self._next = next(self._packets, None)
