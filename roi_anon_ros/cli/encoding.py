"""``encode``: images and videos to packets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

    from roi_anon_ros.codec import Header

#: Encodes one image with its stamp in seconds, or with none, to a packet.
Encode = Callable[["np.ndarray", "float | None"], bytes]


@app.command()
def encode(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A picture, a video, or a folder of them.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .ran file, or a folder.")],
    model: Annotated[str, typer.Option(help="Name of an installed model, or a file.")] = "fast",
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Shrink pictures to this longest side before coding, pixels; 0: never.",
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
            help="Seconds for which a head that is no longer found stays hidden in videos."
        ),
    ] = 0.5,
    rotation: Annotated[
        int, typer.Option(help="Degrees to turn clockwise to stand upright: 0, 90, 180, 270.")
    ] = 0,
) -> None:
    """Encode pictures (.jpg .jpeg .png .bmp .webp .tif .tiff) and videos (.mp4 .avi .mkv .mov
    .webm).

    A picture becomes a .ran file that holds the very packet the edge node would send; a video
    becomes one .ran file with a packet for each frame. Pictures are read as 8-bit RGB: grey and 16
    bits are converted, alpha is dropped, EXIF orientation is applied.

    A folder is searched with its subfolders, and OUT gets the same ones. What a former run finished
    is kept where it is of the same source (by its modification time, which outputs take over),
    model and options. An interrupted video goes on behind its last complete frame.
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
        from roi_anon_ros.codec import MAX_SIDE, Codec, ModelFileError
        from roi_anon_ros.codec.hiding import Hiding
        from roi_anon_ros.codec.latents import AUTO_QUALITY, check_quality, choose_quality
        from roi_anon_ros.codec.picture import coded_size

        side = MAX_SIDE if max_side is None else max_side
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

        def encoder() -> Encode:
            """What encodes the images of one file, one after the other."""
            hiding = Hiding(polygons, hold)

            def code(image: np.ndarray, stamp: float | None) -> bytes:
                return codec.encode(image, side, rate, hiding, stamp, turns).packet

            return code

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            if keep_output(run, target, modified, target, belongs):
                return
            if source.suffix.lower() in VIDEOS:
                _encode_video(encoder(), source, target, belongs, run)
                done = tally_packets(target, belongs)
            else:
                packet = encoder()(files.read_picture(source), None)
                storage.write_bytes(target, packet, modified)
                done = Tally()
                done.add(packet)
            run.tally += done

        execute_plan(plan, work, "encoded", resumes=source.is_dir())


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
    encode_image: Encode,
    source: Path,
    target: Path,
    belongs: Callable[[Header], bool],
    run: Run,
) -> None:
    """Encode a video, behind the frames that an interrupted run left."""
    from roi_anon_ros import files, storage

    modified = source.stat().st_mtime_ns
    video = files.VideoReader(source)
    part = storage.part_of(target)
    count, end, last = _left_over(part, video.rate, modified, belongs)
    period = float(1 / video.rate)
    frames = video.frames(max(count - 1, 0))
    if count:
        # The last frame once more: only if it comes out the same is this the same video, coded the
        # same way. What was held when it was coded first is not known any more: where something
        # was, all begins again.
        again = next(frames, None)
        if again is None or encode_image(again, (count - 1) * period) != last:
            count = 0
            end = 0
            frames = video.frames()
    if count:
        run.note(source, f"continued after {count} frames")
    with files.SequenceWriter(part, video.rate, end) as writer:
        for image in run.track(frames, max(video.announced - count, 0) or None, source.name):
            writer.write(encode_image(image, count * period))
            count += 1
        if count:
            writer.finish()
    if not count:
        part.unlink()
        raise ValueError("not a readable video: no frame in it")
    storage.move_into_place(part, target, modified)
    if count < video.announced:  # no error: some containers only estimate it
        run.note(source, f"{count} frames could be read, it announces {video.announced}")


def _left_over(
    part: Path, rate: Any, modified_ns: int, belongs: Callable[[Header], bool]
) -> tuple[int, int, bytes]:
    """What an interrupted run left that is of use: complete frames, the byte behind them, the last
    packet.
    """
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError
    from roi_anon_ros.codec.packet import unpack

    count, end, last = 0, 0, b""
    if not part.is_file() or part.stat().st_mtime_ns < modified_ns:
        return count, end, last
    try:
        sequence = files.Sequence(part)
        if sequence.rate != rate:
            return count, end, last
        for packet in sequence:
            if not belongs(unpack(packet)[0]):
                return 0, 0, b""
            count, end, last = count + 1, sequence.end, packet
    except PacketError:
        pass  # the frame at which it was interrupted: written again
    return count, end, last
