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
    from roi_anon_ros.codec import Codec, Header


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
) -> None:
    """Encode pictures (.jpg .jpeg .png .bmp .webp .tif .tiff) and videos (.mp4 .avi .mkv .mov
    .webm).

    A picture becomes a .ran file that holds the very packet the edge node would send; a video
    becomes one .ran file with a packet for each frame. Pictures are read as 8-bit RGB: grey and 16
    bits are converted, alpha is dropped, EXIF orientation is applied.

    A folder is searched with its subfolders, and OUT gets the same ones. What a former run finished
    is kept where it is of the same source (by its modification time, which outputs take over),
    model and --max- side. An interrupted video goes on behind its last complete frame.
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
        from roi_anon_ros.codec.picture import coded_size

        side = MAX_SIDE if max_side is None else max_side
        try:
            coded_size(1, 1, side)
            codec = Codec.load(model)
        except ModelFileError as error:
            usage_error(str(error))
        except ValueError as error:
            usage_error(f"--max-side: {error}")

        def belongs(header: Header) -> bool:
            return (
                header.fingerprint.hex() == codec.fingerprint
                and coded_size(*header.source_size, side) == header.coded_size
            )

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            if keep_output(run, target, modified, target, belongs):
                return
            if source.suffix.lower() in VIDEOS:
                _encode_video(codec, source, target, side, belongs, run)
                done = tally_packets(target, belongs)
            else:
                packet = codec.encode(files.read_picture(source), side).packet
                storage.write_bytes(target, packet, modified)
                done = Tally()
                done.add(packet)
            run.tally += done

        execute_plan(plan, work, "encoded", resumes=source.is_dir())


def _encode_video(
    codec: Codec, source: Path, target: Path, side: int, belongs: Callable[[Header], bool], run: Run
) -> None:
    """Encode a video, behind the frames that an interrupted run left."""
    from roi_anon_ros import files, storage

    modified = source.stat().st_mtime_ns
    video = files.VideoReader(source)
    part = storage.part_of(target)
    count, end, last = _left_over(part, video.rate, modified, belongs)
    frames = video.frames(max(count - 1, 0))
    if count:
        # The last frame once more: only if it comes out the same is this the same video, coded the
        # same way.
        again = next(frames, None)
        if again is None or codec.encode(again, side).packet != last:
            count, end, frames = 0, 0, video.frames()
    if count:
        run.note(source, f"continued after {count} frames")
    with files.SequenceWriter(part, video.rate, end) as writer:
        for image in run.track(frames, max(video.announced - count, 0) or None, source.name):
            writer.write(codec.encode(image, side).packet)
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
