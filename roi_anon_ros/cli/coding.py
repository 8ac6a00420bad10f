"""``encode``, ``decode`` and ``info``: pictures and videos to packets and back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roi_anon_ros.cli.run import (
    Run,
    Tally,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    reason,
    usage_error,
    usage_errors,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

    from roi_anon_ros.codec import Codec, Header

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
PACKETS = (".ran",)
#: Pictures, at most, whose ranges the analysis in int8 gets.
CALIBRATION = 60


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, a video, or a folder of them.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .ran file, or a folder.")],
    model: Annotated[str, typer.Option(help="Name of an installed model, or a file.")] = "fast",
    max_side: Annotated[
        int | None,
        typer.Option(help="Shrink pictures to this longest side before coding, pixels; 0: never.", show_default="640"),
    ] = None,
) -> None:
    """Encode pictures (.jpg .jpeg .png .bmp .webp .tif .tiff) and videos (.mp4 .avi .mkv .mov .webm).

    A picture becomes a .ran file that holds the very packet the edge node would send; a video becomes one
    .ran file with a packet for each frame. Pictures are read as 8-bit RGB: grey and 16 bits are converted,
    alpha is dropped, EXIF orientation is applied.

    A folder is searched with its subfolders, and OUT gets the same ones. What a former run finished is kept
    where it is of the same source (by its modification time, which outputs take over), model and --max-
    side. An interrupted video goes on behind its last complete frame.
    """
    with interruptible():
        must_exist(source)
        if source.is_file() and source.suffix.lower() not in IMAGE_SUFFIXES + VIDEOS:
            usage_error(f"{source}: neither a folder nor one of {' '.join(IMAGE_SUFFIXES + VIDEOS)}")
        plan = _plan(source, out, IMAGE_SUFFIXES + VIDEOS, lambda _: (".ran",))
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
            if _kept(run, target, modified, target, belongs):
                return
            if source.suffix.lower() in VIDEOS:
                _encode_video(codec, source, target, side, belongs, run)
                done = _tally(target, belongs)
            else:
                packet = codec.encode(files.read_picture(source), side).packet
                storage.write_bytes(target, packet, modified)
                done = Tally()
                done.add(packet)
            run.tally += done

        _execute(plan, work, "encoded", resumes=source.is_dir())


@app.command()
def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .ran file, or a folder of them.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .png, .mp4 or .avi file, or a folder.")],
    model: Annotated[
        str | None, typer.Option(help="Name or file; by default the installed model that wrote the packet.")
    ] = None,
) -> None:
    """Decode .ran files: pictures to .png at the size of their source, videos to .mp4 (or .avi: Motion JPEG).

    Files are told apart by what is in them. A damaged frame of a video is reported and left out; of a video
    that was cut off, the complete frames are decoded. A folder is searched with its subfolders, and OUT
    gets the same ones; what a former run finished is kept. Videos have even sides: an odd last row or
    column is lost.
    """
    with interruptible():
        must_exist(source)
        quiet_libraries()
        from roi_anon_ros import files, storage
        from roi_anon_ros.codec import MAX_SIZE, PacketError
        from roi_anon_ros.codec.packet import unpack

        def suffixes(source: Path) -> tuple[str, ...]:
            try:
                return tuple(files.VIDEO_CODECS) if files.is_sequence(source) else (".png",)
            except OSError:  # reported when its turn comes
                return (".png",)

        plan = _plan(source, out, PACKETS, suffixes)
        with usage_errors():
            codecs = _Codecs(model)

        def picture(packet: bytes) -> np.ndarray:
            header, _ = unpack(packet)
            # Whatever encode writes, at any --max-side, decodes.
            return codecs.of(header).decode(packet, max_pixels=MAX_SIZE**2).at_source_size()

        def frames(sequence: files.Sequence, source: Path, run: Run) -> Iterator[np.ndarray]:
            try:
                for number, packet in enumerate(sequence, 1):
                    try:
                        image = picture(packet)
                    except PacketError as error:
                        if error.reason == "fingerprint":
                            raise
                        run.fail(source, f"frame {number}: {error}")
                        continue
                    run.tally.add(packet)
                    yield image
            except PacketError as error:
                run.fail(source, error)

        def belongs(header: Header) -> bool:
            return codecs.of(header).fingerprint == header.fingerprint.hex()

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            if _kept(run, target, modified, source, belongs):
                return
            if files.is_sequence(source):
                sequence = files.Sequence(source)
                images = run.track(frames(sequence, source, run), None, source.name)
                part = files.write_video(target, images, sequence.rate)
                # One with gaps does not count as done.
                storage.move_into_place(part, target, time.time_ns() if source in run.failed else modified)
            else:
                packet = files.read_packet(source)
                storage.write_bytes(target, files.png(picture(packet)), modified)
                run.tally.add(packet)

        _execute(plan, work, "decoded", resumes=source.is_dir())


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of an installed model, or a file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder.", show_default="the model's own, where the engines look for them"),
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the analysis in int8 instead, for OpenVINO, after these pictures."),
    ] = None,
) -> None:
    """Write the networks of a model for other engines than torch, and compare what they find with torch.

    MODEL-analysis.onnx takes a picture (uint8, 1 x H x W x 3, RGB, sides multiples of 16) to its symbols, MODEL-
    synthesis.onnx symbols to a picture, at any size: for the engine onnxruntime.

    With --int8, MODEL-analysis-int8.xml (with .bin and .sha256) is the analysis in integers of 8 bits, whose ranges are
    those of up to 60 pictures of the folder: for the engine openvino-int8. Take pictures such as the cameras see.
    """
    with interruptible():
        if int8 is not None:
            must_exist(int8)
        quiet_libraries()
        from roi_anon_ros import files
        from roi_anon_ros.codec import MAX_SIDE, Codec, engines, find_model, load_model
        from roi_anon_ros.codec.picture import coded_size, resize

        with usage_errors():
            loaded = load_model(find_model(model))
            there = replace(loaded, path=(out or loaded.path.parent) / loaded.path.name)
            if int8 is None:
                written, engine = engines.export(there), "onnxruntime"
            else:
                found = sorted(file for file in int8.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
                pictures = (files.read_picture(file) for file in found[:: -(-len(found) // CALIBRATION) or 1])
                seen = (resize(p, *coded_size(p.shape[1], p.shape[0], MAX_SIDE)) for p in pictures)
                written, engine = {engines.ANALYSIS: engines.calibrate(there, seen)}, "openvino-int8"
            codec = Codec(there, engine)
            for half in written:
                codec.warm_up(half)
        off = codec.engine.off
        for half, file in written.items():
            if half is engines.ANALYSIS:
                typer.echo(f"{file}: {off[half]:.3%} of the symbols differ from torch's")
            else:
                typer.echo(f"{file}: bytes differ from torch's by {off[half]:.4f} on average")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ran file or a model (.safetensors).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a .ran file or a model file, after checking it."""
    with interruptible():
        must_exist(file)
        if file.is_dir():
            usage_error(f"{file}: a folder, must be a file")
        quiet_libraries()
        from roi_anon_ros import files
        from roi_anon_ros.codec.packet import MAGIC

        errors: list[str] = []
        content: dict[str, Any] = {}
        try:
            with file.open("rb") as stream:
                begin = stream.read(4)
            if begin == files.SEQUENCE_MAGIC:
                content = _sequence_info(file, errors)
            elif begin == MAGIC or file.suffix.lower() in PACKETS:
                content = _packet_info(files.read_packet(file))
            else:
                content = _model_info(file)
        except (OSError, ValueError) as error:
            errors.append(reason(error))
        if content:
            content = {"file": str(file), "bytes": file.stat().st_size, **content}
            typer.echo(json.dumps(content, indent=2) if as_json else _lines(content))
        for error in errors:
            typer.echo(f"{file}: {error}", err=True)
        if errors:
            raise typer.Exit(1)


def _execute(plan: dict[Path, list[Path]], work: Callable[[Path, Path, Run], None], verb: str, resumes: bool) -> None:
    """Do the work for each target; report, skip and go on where it fails; sum up."""
    run = Run(resumes)
    with run.progress:
        for target, sources in run.track(plan.items(), len(plan), verb):
            if len(sources) > 1:
                for source in sources:
                    others = ", ".join(str(other) for other in sources if other != source)
                    run.fail(source, f"skipped: {others} would be written to the same {target}")
                continue
            try:
                work(sources[0], target, run)
            except (OSError, ValueError) as error:  # the codec's errors are ValueErrors
                run.fail(sources[0], error)
    t = run.tally
    run.sum_up(f"{verb} {t.pictures} pictures, {t.bytes} bytes, {t.mean:.4f} bits per pixel", len(plan))


def _plan(
    source: Path, out: str, taken: tuple[str, ...], suffixes: Callable[[Path], tuple[str, ...]]
) -> dict[Path, list[Path]]:
    """What is to be written, and from what.

    Args:
        source: file, or folder that is searched for suffixes in ``taken``.
        out: file or folder.
        taken: suffixes, lower case.
        suffixes: those that an output of this source may have; the first is the default.
    """
    target = Path(out)
    if source.is_dir():
        if target.exists() and not target.is_dir():
            usage_error(f"{target}: must be a folder, as {source} is one")
        plan: dict[Path, list[Path]] = {}
        for file in sorted(source.rglob("*")):
            if file.suffix.lower() in taken and file.is_file():
                name = file.relative_to(source).with_suffix(suffixes(file)[0])
                plan.setdefault(target / name, []).append(file)
        if not plan:
            usage_error(f"{source}: nothing in it ends in {' '.join(taken)}")
        return plan
    allowed = suffixes(source)
    if out.endswith(os.sep) or target.is_dir():
        target = target / (source.stem + allowed[0])
    elif target.suffix.lower() not in allowed:
        usage_error(f"{target}: must be a folder, or end in {' or '.join(allowed)}")
    if target.exists() and target.samefile(source):
        usage_error(f"{target}: would be written over its own source")
    return {target: [source]}


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
        # The last frame once more: only if it comes out the same is this the same video, coded the same way.
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


def _left_over(part: Path, rate: Any, modified_ns: int, belongs: Callable[[Header], bool]) -> tuple[int, int, bytes]:
    """What an interrupted run left that is of use: complete frames, the byte behind them, the last packet."""
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


def _kept(run: Run, target: Path, modified_ns: int, packets: Path, belongs: Callable[[Header], bool]) -> bool:
    """Whether a former run finished this output: it has its source's time, and the packets in the file belong.

    Then it is counted, and stays.
    """
    if not (run.resumes and target.is_file() and target.stat().st_mtime_ns == modified_ns):
        return False
    done = _tally(packets, belongs)
    if done is None:
        return False
    run.keep(done)
    return True


def _tally(file: Path, belongs: Callable[[Header], bool]) -> Tally | None:
    """Count the packets of a file; None if it is damaged, or a packet does not belong."""
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError

    tally = Tally()
    try:
        for packet in files.Sequence(file) if files.is_sequence(file) else [files.read_packet(file)]:
            if not belongs(tally.add(packet)):
                return None
    except PacketError:
        return None
    return tally


class _Codecs:
    """The codec for a packet: the one that was asked for, or the installed one that wrote it."""

    def __init__(self, model: str | None) -> None:
        from roi_anon_ros.codec import Codec

        self._given = Codec.load(model) if model is not None else None
        self._installed = _installed() if model is None else {}
        self._loaded: dict[str, Codec] = {}

    def of(self, header: Header) -> Codec:
        """Raise a ModelFileError if its model is not installed."""
        from roi_anon_ros.codec import Codec, ModelFileError

        if self._given:
            return self._given
        mark = header.fingerprint.hex()
        if mark not in self._installed:
            raise ModelFileError(f"model {mark} is not installed; name its file with --model")
        if mark not in self._loaded:
            self._loaded[mark] = Codec.load(str(self._installed[mark]))
        return self._loaded[mark]


def _installed() -> dict[str, Path]:
    """Files of the installed models by fingerprint; what cannot be read is reported."""
    from safetensors import SafetensorError, safe_open

    from roi_anon_ros.codec import list_models

    found = {}
    for path in list_models().values():
        try:
            with safe_open(path, "pt") as file:
                found[json.loads(file.metadata()["roi_anon"])["fingerprint"]] = path
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            typer.echo(f"{path}: passed over, no model: {error}", err=True)
    return found


def _header_info(header: Header) -> dict[str, Any]:
    mark = header.fingerprint.hex()
    model = _installed().get(mark)
    return {
        "version": header.version,
        "fingerprint": mark,
        "model": model.stem if model else None,
        "source_size": list(header.source_size),
        "coded_size": list(header.coded_size),
        "padding": list(header.padding),
    }


def _packet_info(packet: bytes) -> dict[str, Any]:
    from roi_anon_ros.codec.packet import unpack

    header, payload = unpack(packet)
    return {
        "kind": "picture",
        **_header_info(header),
        "payload_bytes": len(payload),
        "bits_per_pixel": header.bits_per_pixel(len(packet)),
    }


def _sequence_info(file: Path, errors: list[str]) -> dict[str, Any]:
    """Of a sequence; the header's fields are those of its first good frame."""
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError

    sequence = files.Sequence(file)
    tally = Tally()
    first: Header | None = None
    try:
        for number, packet in enumerate(sequence, 1):
            try:
                header = tally.add(packet)
            except PacketError as error:
                errors.append(f"frame {number}: {error}")
                continue
            first = first or header
    except PacketError as error:
        errors.append(str(error))
    return {
        "kind": "sequence",
        "frames": tally.pictures,
        "rate": f"{sequence.rate.numerator}/{sequence.rate.denominator}",
        "seconds": float(tally.pictures / sequence.rate),
        "bits_per_pixel": tally.mean,
        "complete": not errors,
        **(_header_info(first) if first else {}),
    }


def _model_info(file: Path) -> dict[str, Any]:
    from roi_anon_ros.codec import load_model

    return {"kind": "model", **load_model(file).metadata}


def _lines(content: dict[str, Any], prefix: str = "") -> str:
    """Aligned lines of a nested dict."""
    lines = []
    for key, value in content.items():
        if isinstance(value, dict):
            lines.append(_lines(value, f"{prefix}{key}.") if value else f"{prefix + key:<28} -")
        else:
            if isinstance(value, list) and len(value) == 2:
                value = f"{value[0]} x {value[1]}" if key.endswith("size") else f"{value[0]}, {value[1]}"
            elif key == "model" and value is None:
                value = "not installed"
            elif isinstance(value, float):
                value = f"{value:.4f}"
            lines.append(f"{prefix + key:<28} {value}")
    return "\n".join(lines)
