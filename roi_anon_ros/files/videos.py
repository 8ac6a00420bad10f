"""Videos in files: each frame upright and with its own time, and the sound with them.

PyAV, since OpenCV knows neither sound nor the times of frames, and is silent about damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from roi_anon_ros.files.images import scale_to_8_bits
from roi_anon_ros.files.packets import MAX_RATE
from roi_anon_ros.transparency import lay_on_black

#: What a video is written with, by suffix: format, video codec and its options.
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("mp4", "libx264", {"crf": "18", "movflags": "faststart"}),
    ".mkv": ("matroska", "libx264", {"crf": "18"}),
    ".mov": ("mov", "libx264", {"crf": "18"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
#: Videos that are read, by suffix.
READABLE = (*CODECS, ".avi", ".m4v", ".ts")
#: Broken packets, at most.
MOST_DAMAGED = 1000
#: Seconds of a unit of time of written videos: usual frame rates are whole numbers of it.
TIME_BASE = Fraction(1, 90000)
#: Seconds between two frames where no times are known.
_PERIOD = Fraction(1, 25)

av.logging.set_level(None)  # what is wrong with a file is reported by whom it concerns


@dataclass
class Frame:
    """One frame.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        time: of the file's clock, seconds.
    """

    image: np.ndarray
    time: Fraction


class Video:
    """A video file to read: its first stream of images.

    Attributes:
        time_base: seconds of a unit of time.
        announced: frames that the file says it has, 0 if unknown.
        rate: frames a second, the average where it varies.
        others: further streams of images, which are left out.
        begin: time of the first frame, seconds; 0 before it was read.
        notes: what is left out without being damage, for people; all after :meth:`frames`.
        damaged: places that could not be decoded in the last run of :meth:`frames`.
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
        self.begin = Fraction(0)
        with self._open() as container:
            stream = _images_of(container)
            self.time_base = _time_base_of(stream)
            self.announced: int = stream.frames
            rate = stream.average_rate or stream.guessed_rate or 1 / _PERIOD
            self.rate = min(Fraction(rate).limit_denominator(100_000), Fraction(MAX_RATE))
            if self.rate <= 0:
                raise ValueError(f"frame rate: got {rate}, must be above 0")
            self.others = len([s for s in container.streams.video if not _is_cover(s)]) - 1
            sounds = len(container.streams.audio)
            data = len(container.streams) - len(container.streams.video) - sounds
            if data:
                self.notes.append(f"{data} streams of other data are left out")

    @property
    def losses(self) -> list[str]:
        """What of the images is lost, a line each; complete after :meth:`frames`."""
        lines = []
        if self.others > 0:
            lines.append(f"{self.others} further video streams are left out: the first one is read")
        if self.damaged:
            lines.append(f"damaged: {self.damaged} places could not be decoded and are left out")
        return lines

    def _open(self) -> av.container.InputContainer:
        # The whole path, and no protocol but files: a playlist must not reach beyond this machine.
        path = str(self._path.absolute())
        try:
            return av.open(path, metadata_errors="ignore", options={"protocol_whitelist": "file"})
        except FileNotFoundError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"not a readable video: {error}") from error

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Yield the frames from number ``start`` on, in order of their time.

        What cannot be decoded is counted in ``damaged`` and left out. A frame without a time, or
        with one that does not rise, comes a period after the one before it.

        Raises:
            ValueError: the size changes, or too much is damaged.
        """
        self.damaged = 0
        size: tuple[int, ...] | None = None
        last: int | None = None
        period = max(round(1 / (self.rate * self.time_base)), 1)
        index = 0
        with self._open() as container:
            stream = _images_of(container)
            stream.thread_type = "AUTO"
            for frame in self._decoded(container, stream):
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + period
                last = pts
                shape = (frame.height, frame.width)
                if size is not None and shape != size:
                    got = f"{shape[1]}x{shape[0]}"
                    seconds = float(pts * self.time_base)
                    raise ValueError(
                        f"size: got {got} at {seconds:.2f} s, must stay {size[1]}x{size[0]}"
                    )
                if size is None:
                    self.begin = pts * self.time_base
                size = shape
                if index >= start:
                    yield Frame(self._image(frame), pts * self.time_base)
                index += 1

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[VideoFrame]:
        packets = container.demux(stream)
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

    def _image(self, frame: VideoFrame) -> np.ndarray:
        """The image of a frame, uint8 ``[H, W, 3]`` RGB, upright."""
        if frame.format.name.startswith("gray16"):  # thermal and machine-vision cameras
            notes: list[str] = []
            grey = scale_to_8_bits(frame.to_ndarray(format="gray16le"), notes)
            if notes and not any(note.startswith("16 bits") for note in self.notes):
                self.notes.append("16 bits of grey: each frame is stretched to 0 to 255")
            image = np.dstack([grey] * 3)
        elif any(component.is_alpha for component in frame.format.components):
            image = lay_on_black(frame.to_ndarray(format="rgba"))
        else:
            image = frame.to_ndarray(format="rgb24")
        return _upright(image, frame)


def write_video(
    draft: Path,
    suffix: str,
    frames: Iterable[Frame],
    rate: Fraction,
    time_base: Fraction = TIME_BASE,
    sound_of: Path | None = None,
) -> int:
    """Write a video. Titles, places, chapters and streams of data are in none.

    Args:
        draft: the file to write; on an error it is removed.
        suffix: as in :data:`CODECS`.
        frames: of one size, their times rising.
        rate: frames a second, for players; the times count.
        time_base: seconds of a unit of time.
        sound_of: a video whose sound is copied as it is; None: there is none.

    Returns:
        Frames written.

    Raises:
        ValueError: no frames, frames of several sizes, or the video cannot be written.
    """
    kind, codec, options = CODECS[suffix.lower()]
    count = 0
    complete = False
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(draft), "w", format=kind, options=_container_options(options)) as output:
            stream = None
            sound = None
            last = None
            for frame in frames:
                height, width = frame.image.shape[:2]
                if stream is None:
                    stream = _add_stream(output, codec, options, frame.image, rate, time_base)
                    sound = _Sound(sound_of, output) if sound_of is not None else None
                if (width, height) != (stream.width, stream.height):
                    first = f"{stream.width}x{stream.height}"
                    raise ValueError(
                        f"frame {count + 1}: {width}x{height} pixels, the first has {first}"
                    )
                if sound is not None:
                    sound.copy_until(float(frame.time))
                pts = round(frame.time / time_base)
                pts = pts if last is None else max(pts, last + 1)
                last = pts
                output.mux(stream.encode(_to_frame(frame.image, pts, time_base)))
                count += 1
            if stream is None:
                raise ValueError("not a readable video: no frame in it")
            output.mux(stream.encode())
            if sound is not None:
                sound.copy_until(float("inf"))
        complete = True
    except av.FFmpegError as error:
        raise ValueError(f"cannot be written as {suffix}: {error}") from error
    finally:
        if not complete:
            draft.unlink(missing_ok=True)
    return count


def _images_of(container: av.container.InputContainer) -> av.VideoStream:
    """The first stream of images that is not the cover of a piece of music."""
    for stream in container.streams.video:
        if not _is_cover(stream):
            return stream
    raise ValueError("not a readable video: it has no images")


def _time_base_of(stream: av.VideoStream) -> Fraction:
    """Seconds of a tick of a stream's times."""
    if stream.time_base is None:
        raise ValueError("not a readable video: its times have no unit")
    return stream.time_base


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _container_options(options: dict[str, str]) -> dict[str, str]:
    return {"movflags": options["movflags"]} if "movflags" in options else {}


def _add_stream(
    output: av.container.OutputContainer,
    codec: str,
    options: dict[str, str],
    image: np.ndarray,
    rate: Fraction,
    time_base: Fraction,
) -> av.VideoStream:
    height, width = image.shape[:2]
    encoder = {name: value for name, value in options.items() if name != "movflags"}
    stream = output.add_stream(codec, rate=rate.limit_denominator(100_000), options=encoder)
    assert isinstance(stream, av.VideoStream)  # as every codec of CODECS makes
    stream.width = width
    stream.height = height
    stream.pix_fmt = _pixel_format(image)
    stream.time_base = time_base
    stream.codec_context.time_base = time_base
    stream.codec_context.thread_count = 1
    stream.codec_context.colorspace = 1  # BT.709
    stream.codec_context.color_range = 1  # limited
    return stream


def _pixel_format(image: np.ndarray) -> str:
    """Half the colours need even sides."""
    height, width = image.shape[:2]
    return "yuv444p" if width % 2 or height % 2 else "yuv420p"


def _to_frame(image: np.ndarray, pts: int, time_base: Fraction) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(
        format=_pixel_format(image),
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )
    frame.pts = pts
    frame.time_base = time_base
    return frame


def _upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """The image of a frame, turned and mirrored as its display matrix says.

    The matrix ``[[a, b], [c, d]]`` takes a pixel ``(x, y)`` to ``(a x + c y, b x + d y)``.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return image
    numbers = np.frombuffer(bytes(matrix), "<i4").reshape(3, 3)[:2, :2] / 65536
    ((a, b), (c, d)) = np.rint(numbers / max(np.abs(numbers).max(), 1e-9)).astype(int).tolist()
    if (abs(a), abs(b), abs(c), abs(d)) not in ((1, 0, 0, 1), (0, 1, 1, 0)):
        raise ValueError(f"rotation: got {frame.rotation} degrees, must be a multiple of 90")
    if b:
        image = image.swapaxes(0, 1)
    if a + c < 0:
        image = image[:, ::-1]
    if b + d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


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
