"""``encode``: images and videos to packets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roi_anon_ros.cli.plans import VIDEOS, execute_plan, keep_output, make_plan, tally_packets
from roi_anon_ros.cli.run import (
    Run,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_error,
    usage_errors,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from roi_anon_ros.seal import Sealer


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
    helmets: Annotated[
        bool, typer.Option("--helmets", help="Paint heads with a helmet as such.")
    ] = False,
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
        from roi_anon_ros.codec import DEFAULT_MAX_SIDE, Codec
        from roi_anon_ros.codec.latents import AUTO_QUALITY
        from roi_anon_ros.files.encoding import (
            Encoder,
            encode_image_file,
            encode_video_file,
            seal_of,
        )

        with usage_errors():
            encoder = Encoder(
                Codec.load(model),
                DEFAULT_MAX_SIDE if max_side is None else max_side,
                AUTO_QUALITY if quality is None else quality,
                read_zones(zones),
                hold,
                rotation,
                helmets,
            )
        if officers is not None:
            if not encoder.paints:
                usage_error(f"--officers: model {model} does not paint, nothing to seal")
            encoder = replace(encoder, sealer=_make_sealer(officers, threshold))

        def work(source: Path, target: Path, run: Run) -> None:
            modified = source.stat().st_mtime_ns
            whole = officers is None or seal_of(target).is_file()
            if whole and keep_output(run, target, modified, target, encoder.is_own):
                return
            if source.suffix.lower() in VIDEOS:
                done = encode_video_file(encoder, source, target, run.track)
            else:
                done = encode_image_file(encoder, source, target)
            for loss in done.losses:
                run.fail(source, loss)
            for note in done.notes:
                run.note(source, note)
            tally = tally_packets(target, encoder.is_own)
            if tally is not None:
                run.tally += tally

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
