"""``decode``: packets to images and videos."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roi_anon_ros.cli.information import installed_models
from roi_anon_ros.cli.plans import PACKETS, execute_plan, keep_output, make_plan
from roi_anon_ros.cli.run import (
    Run,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_errors,
)

if TYPE_CHECKING:
    import numpy as np

    from roi_anon_ros.codec import Codec, Header


@app.command()
def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .ran file, or a folder of them.")],
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A .png, .mp4, .mkv, .mov or .webm file, or a folder."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Name or file; by default the installed model that wrote the packet."),
    ] = None,
) -> None:
    """Decode .ran files: images to .png at the size of their source, videos to .mp4 (or .mkv, .mov,
    .webm), each frame at its time.

    Files are told apart by what is in them. A damaged frame of a video is reported and left out; of
    a video that was cut off, the complete frames are decoded. A folder is searched with its
    subfolders, and OUT gets the same ones; what a former run finished is kept.
    """
    with interruptible():
        must_exist(source)
        quiet_libraries()
        from roi_anon_ros import files, storage
        from roi_anon_ros.codec import MAX_SIDE, PacketError
        from roi_anon_ros.codec.packet import unpack

        def suffixes(source: Path) -> tuple[str, ...]:
            try:
                return tuple(files.VIDEO_CODECS) if files.is_sequence(source) else (".png",)
            except OSError:  # reported when its turn comes
                return (".png",)

        plan = make_plan(source, out, PACKETS, suffixes)
        with usage_errors():
            codecs = Codecs(model)

        def decode_packet(packet: bytes) -> np.ndarray:
            header, _, _ = unpack(packet)
            # Whatever encode writes, at any --max-side, decodes.
            return codecs.of(header).decode(packet, max_pixels=MAX_SIDE**2).at_source_size()

        def frames(sequence: files.Sequence, source: Path, run: Run) -> Iterator[files.Frame]:
            try:
                for number, (packet, seconds) in enumerate(sequence.timed(), 1):
                    try:
                        image = decode_packet(packet)
                    except PacketError as error:
                        if error.reason == "fingerprint":
                            raise
                        run.fail(source, f"frame {number}: {error}")
                        continue
                    run.tally.add(packet)
                    yield files.Frame(image, seconds)
            except PacketError as error:
                run.fail(source, error)

        def belongs(header: Header) -> bool:
            return codecs.of(header).fingerprint == header.fingerprint.hex()

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            if keep_output(run, target, modified, source, belongs):
                return
            if files.is_sequence(source):
                sequence = files.Sequence(source)
                images = run.track(frames(sequence, source, run), None, source.name)
                draft = storage.draft_of(target)
                files.write_video(draft, target.suffix, images, sequence.rate)
                # One with gaps does not count as done.
                storage.move_into_place(
                    draft, target, time.time_ns() if source in run.failed else modified
                )
            else:
                packet = files.read_packet(source)
                storage.write_bytes(target, files.png(decode_packet(packet)), modified)
                run.tally.add(packet)

        execute_plan(plan, work, "decoded", resumes=source.is_dir())


class Codecs:
    """The codec for a packet: the one that was asked for, or the installed one that wrote it."""

    def __init__(self, model: str | None) -> None:
        from roi_anon_ros.codec import Codec

        self._given = Codec.load(model) if model is not None else None
        self._installed = installed_models() if model is None else {}
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
