"""``encode``: images and videos to packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Annotated

import typer

from roi_anon_ros.cli.plans import VIDEOS, execute_plan, keep_output, make_plan, tally_packets
from roi_anon_ros.cli.run import (
    Run,
    Tally,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_error,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

    from roi_anon_ros.codec import Codec, Header
    from roi_anon_ros.codec.hiding import Hiding
    from roi_anon_ros.codec.lookahead import StreamFrame
    from roi_anon_ros.seal import Sealer


@dataclass(frozen=True)
class Encoder:
    """A codec with what the command's options say."""

    codec: Codec
    max_side: int
    quality: float
    zones: list[list[list[float]]]
    hold: float
    turns: int
    sealer: Sealer | None

    def image(self, image: np.ndarray) -> StreamFrame:
        """An image that stands alone, encoded."""
        from roi_anon_ros.codec.lookahead import StreamFrame

        found = self.codec.find(image, self.max_side, self._hiding(), turns=self.turns)
        packet = self.codec.encode_found(found, self.quality).packet
        return StreamFrame(packet, Fraction(0), found)

    def seal(self, frame: StreamFrame) -> bytes:
        """The sealed part of a frame, for the officers."""
        cells = frame.found.hidden.regions.cells
        return self.sealer.seal(frame.packet, round(frame.time * 10**9), frame.found.image, cells)

    def stream(
        self, images: Iterable[tuple[np.ndarray, Fraction]], skip: int = 0
    ) -> Iterator[StreamFrame]:
        """A video's images, encoded; see ``codec/lookahead.py``."""
        from roi_anon_ros.codec.lookahead import encode_stream

        return encode_stream(
            self.codec, images, self._hiding(), self.max_side, self.quality, self.turns, skip
        )

    def _hiding(self) -> Hiding:
        from roi_anon_ros.codec.hiding import Hiding

        return Hiding(self.zones, self.hold)


@app.command()
def encode(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="An image, a video, or a folder of them.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .ran file, or a folder.")],
    model: Annotated[str, typer.Option(help="Name of an installed model, or a file.")] = "roi",
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Shrink images to this longest side before coding, pixels; 0: never.",
            show_default="640",
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            help="1 (fewest bits) to 8, of models that have every rate; 0: what fits the size."
        ),
    ] = None,
    zones: Annotated[
        Path | None,
        typer.Option(
            help="YAML list of polygons [[x, y], ...], pixels of the source: hidden always."
        ),
    ] = None,
    hold: Annotated[
        float,
        typer.Option(
            help="Seconds before and after a head is found for which its place is hidden in videos."
        ),
    ] = 0.5,
    rotation: Annotated[
        int, typer.Option(help="Degrees to turn clockwise to stand upright: 0, 90, 180, 270.")
    ] = 0,
    officers: Annotated[
        Path | None,
        typer.Option(help="Folder of public keys of those who may see what is hidden: seal it."),
    ] = None,
    threshold: Annotated[
        int, typer.Option(help="Officers that it takes together to open what was sealed.", min=1)
    ] = 1,
) -> None:
    """Encode images (.avif .bmp .jpg .jpeg .png .tif .tiff .webp) and videos (.mp4 .avi .m4v .mkv
    .mov .ts .webm).

    An image becomes a .ran file that holds the very packet the edge node would send; a video
    becomes one .ran file with a packet for each frame and its time. Images are read as 8-bit RGB
    and upright: EXIF orientation and the rotation of videos are applied, transparent pixels become
    black, more than 8 bits are brought to 8, stretched where they span less than half of 16. Of an
    animation the first image is read. Sound is dropped.

    What is lost of a video, damaged places and further streams of images, is said, and the exit
    code is 1; the rest of it is encoded. One whose size changes is not.

    With --officers a .seal file comes next to each .ran file: what was painted over, for key
    holders alone (docs/seal.md). An interrupted video then begins anew.

    A folder is searched with its subfolders, and OUT gets the same ones; what is left out of it is
    named. What a former run finished is kept where it is of the same source (by its modification
    time, which outputs take over), model and options. An interrupted video goes on after its last
    complete frame.
    """
    with interruptible():
        must_exist(source)
        if source.is_file() and source.suffix.lower() not in IMAGE_SUFFIXES + VIDEOS:
            usage_error(
                f"{source}: neither a folder nor one of {' '.join(IMAGE_SUFFIXES + VIDEOS)}"
            )
        plan = make_plan(source, out, IMAGE_SUFFIXES + VIDEOS, lambda _: (".ran",))
        quiet_libraries()
        from roi_anon_ros import files, storage
        from roi_anon_ros.codec import DEFAULT_MAX_SIDE, Codec, ModelFileError
        from roi_anon_ros.codec.hiding import Hiding
        from roi_anon_ros.codec.image import coded_size
        from roi_anon_ros.codec.latents import AUTO_QUALITY, check_quality, choose_quality

        side = DEFAULT_MAX_SIDE if max_side is None else max_side
        try:
            coded_size(1, 1, side)
        except ValueError as error:
            usage_error(f"--max-side: {error}")
        try:
            codec = Codec.load(model)
            rate = check_quality(AUTO_QUALITY if quality is None else quality)
            polygons = read_zones(zones)
            Hiding(polygons, hold)
        except (ModelFileError, ValueError) as error:
            usage_error(str(error))
        if rotation not in (0, 90, 180, 270):
            usage_error(f"rotation: got {rotation}, must be 0, 90, 180 or 270")
        turns = rotation // 90
        has_quality = codec.model.latents.has_quality
        if not has_quality and (quality is not None or zones is not None or turns):
            usage_error(f"model {model}: has one rate and does not paint")

        def belongs(header: Header) -> bool:
            size = header.source_size if turns % 2 == 0 else header.source_size[::-1]
            return (
                header.fingerprint.hex() == codec.fingerprint
                and coded_size(*size, side) == header.coded_size
                and header.turns == turns
                and header.quality
                == (choose_quality(rate, *header.coded_size) if has_quality else 0.0)
            )

        sealer = None
        if officers is not None:
            if not has_quality:
                usage_error(f"--officers: model {model} does not paint, nothing to seal")
            sealer = _make_sealer(officers, threshold)
        encoder = Encoder(codec, side, rate, polygons, hold, turns, sealer)

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            whole = sealer is None or _seal_of(target).is_file()
            if whole and keep_output(run, target, modified, target, belongs):
                return
            if source.suffix.lower() in VIDEOS:
                _encode_video(encoder, source, target, belongs, run)
                done = tally_packets(target, belongs)
            else:
                file = files.read_image(source)
                frame = encoder.image(file.image)
                storage.write_bytes(target, frame.packet, modified)
                if sealer is not None:
                    with _SealFile(target, modified) as seals:
                        seals.write(encoder.seal(frame))
                for note in file.notes:
                    run.note(source, note)
                done = Tally()
                done.add(frame.packet)
            run.tally += done

        execute_plan(plan, work, "encoded", resumes=source.is_dir())


def _make_sealer(officers: Path, threshold: int) -> Sealer:
    """What seals for the officers of a folder; a usage error where nothing does."""
    from roi_anon_ros.codec.engines.machine import require
    from roi_anon_ros.codec.errors import EngineError

    try:
        require("cryptography", "seal")
        from roi_anon_ros.seal import Sealer, SealError
    except EngineError as error:
        usage_error(f"--officers: {error}")
    try:
        return Sealer(officers, threshold)
    except (SealError, OSError) as error:
        usage_error(f"--officers: {officers}: {error}")


def _seal_of(target: Path) -> Path:
    """The file of what was sealed of the packets in a file."""
    return target.with_suffix(".seal")


class _SealFile:
    """Writes what is sealed of the packets in a file, next to it; a context that moves it into
    place where all went well.

    Args:
        target: the file of the packets.
        modified_ns: its time.
    """

    def __init__(self, target: Path, modified_ns: int) -> None:
        from roi_anon_ros import storage
        from roi_anon_ros.seal.file import SealedWriter

        self._path = _seal_of(target)
        self._modified_ns = modified_ns
        self._part = storage.part_of(self._path)
        self._writer = SealedWriter(self._part)

    def __enter__(self) -> _SealFile:
        return self

    def write(self, sealed: bytes) -> None:
        """Append the sealed part of the next packet."""
        self._writer.write(sealed)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from roi_anon_ros import storage

        with self._writer:
            if kind is None:
                self._writer.finish()
        if kind is None:
            storage.move_into_place(self._part, self._path, self._modified_ns)
        else:
            self._part.unlink(missing_ok=True)


def read_zones(file: Path | None) -> list[list[list[float]]]:
    """The polygons of a YAML file; none without a file.

    Raises:
        ValueError: the file is not readable, or names no polygons.
    """
    import yaml

    from roi_anon_ros.codec.hiding import check_zones

    if file is None:
        return []
    try:
        zones = yaml.safe_load(file.read_text())
        if not isinstance(zones, list):
            raise ValueError(f"got {type(zones).__name__}, must be a list of polygons")
        check_zones(zones)
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error
    return zones


def _encode_video(
    encoder: Encoder,
    source: Path,
    target: Path,
    belongs: Callable[[Header], bool],
    run: Run,
) -> None:
    """Encode a video, after the frames that an interrupted run left."""
    from roi_anon_ros import files, storage

    modified = source.stat().st_mtime_ns
    video = files.Video(source)
    part = storage.part_of(target)
    # What was sealed cannot be continued: its key was in memory only.
    fresh = encoder.sealer is not None
    left = _Left() if fresh else _left_over(part, video.rate, modified, belongs)

    def images(start: int) -> Iterator[tuple[np.ndarray, Fraction]]:
        total = max(video.announced - start, 0) or None
        for frame in run.track(video.frames(start), total, source.name):
            yield frame.image, frame.time - video.begin

    if left.times:
        # The last frame once more, with what was found in its hold: only if it comes out the same
        # is this the same video, coded the same way.
        start = left.index_before(encoder.hold)
        packets = encoder.stream(images(start), len(left.times) - 1 - start)
        again = next(packets, None)
        if again is not None and again.packet == left.last:
            run.note(source, f"continued after {len(left.times)} frames")
        else:
            left = _Left()
    if not left.times:
        packets = encoder.stream(images(0))
    count = len(left.times)
    last = left.times[-1] if left.times else None
    try:
        with (
            files.SequenceWriter(part, video.rate, left.end, last) as writer,
            _SealFile(target, modified) if fresh else nullcontext() as seals,
        ):
            for frame in packets:
                writer.write(frame.packet, frame.time)
                if seals is not None:
                    seals.write(encoder.seal(frame))
                count += 1
            if count:
                writer.finish()
        if not count:
            raise ValueError("not a readable video: no frame in it")
    except ValueError:  # not to be mended by going on
        part.unlink(missing_ok=True)
        raise
    for loss in video.losses:
        run.fail(source, loss)
    for note in video.notes:
        run.note(source, note)
    # One with losses does not count as done.
    storage.move_into_place(part, target, time_ns() if source in run.failed else modified)
    if count < video.announced and not video.losses:  # no error: some containers only estimate it
        run.note(source, f"{count} frames could be read, it announces {video.announced}")


@dataclass
class _Left:
    """What an interrupted run left that is of use.

    Attributes:
        times: of the complete frames, seconds.
        end: the byte after them.
        last: the last packet.
    """

    times: list[Fraction] = field(default_factory=list)
    end: int = 0
    last: bytes = b""

    def index_before(self, hold: float) -> int:
        """The frame from which on all must be searched to know what is hidden in the last one."""
        first = float(self.times[-1]) - hold - 0.001  # times in files are rounded
        return next(index for index, time in enumerate(self.times) if time >= first)


def _left_over(
    part: Path, rate: Fraction, modified_ns: int, belongs: Callable[[Header], bool]
) -> _Left:
    """The complete frames of an interrupted run; none where they are of another one."""
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError
    from roi_anon_ros.codec.packet import unpack
    from roi_anon_ros.files.packets import SEQUENCE_VERSION

    left = _Left()
    if not part.is_file() or part.stat().st_mtime_ns < modified_ns:
        return left
    try:
        sequence = files.Sequence(part)
        if sequence.rate != rate or sequence.version != SEQUENCE_VERSION:
            return left
        for packet, time in sequence.timed():
            if not belongs(unpack(packet)[0]):
                return _Left()
            left.times.append(time)
            left.end = sequence.end
            left.last = packet
    except PacketError:
        pass  # the frame at which it was interrupted: written again
    return left
