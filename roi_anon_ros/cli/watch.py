"""``watch``: whether faces show in files, more often than they should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from roi_anon_ros.cli.plans import PACKETS, VIDEOS
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


@app.command()
def watch(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...", help="Images, videos, .ran files of packets, or folders of them."
        ),
    ],
    detector: Annotated[
        str, typer.Option(help="What finds faces: mtcnn, or a YuNet .onnx file.")
    ] = "mtcnn",
    most: Annotated[
        float | None,
        typer.Option(
            help="Share of the images that may show a face.", min=0, max=0.99, show_default="0.02"
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="Take it from a model's card.json: the upper end of the interval."),
    ] = None,
    every: Annotated[
        int, typer.Option(help="Of this many images of a video or a sequence, look at one.", min=1)
    ] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="Name or file; by default the installed model that wrote the packet."),
    ] = None,
) -> None:
    """Look for faces in anonymized images, as watchdog_node does, and end with exit code 1 where
    more of them show one than should.

    In packets of models that paint, a face on the paint is nobody's and does not count; in images
    and videos nothing is known of paint, and every face counts. It knows nobody, and keeps no
    image.
    """
    with interruptible("evaluate"):
        for source in sources:
            must_exist(source)
        if most is not None and card is not None:
            usage_error("--most, --card: got both, must be one of them")
        quiet_libraries()
        from roi_anon_ros.cli.decoding import Codecs
        from roi_anon_ros.detect import MtcnnFaces, YunetFaces
        from roi_anon_ros.evaluate.watchdog import DEFAULT_MOST, Watchdog
        from roi_anon_ros.evaluate.watching import MTCNN, read_most, read_sights

        run = Run(resumes=False)
        with usage_errors():
            limit = DEFAULT_MOST if most is None else most
            if card is not None:
                limit = read_most(card, MTCNN if detector == MTCNN else "yunet")
            find_faces = MtcnnFaces() if detector == MTCNN else YunetFaces(detector)
            codecs = Codecs(model)
            watchdog = Watchdog(find_faces)
        with run.progress:
            for file in run.track(list(_find_files(sources)), None, "watched"):
                try:
                    for sight in read_sights(file, codecs.of, every):
                        look = watchdog.look(sight.image, sight.painted)
                        if look.faces:
                            run.note(file, f"image {sight.number}: {look.faces} faces")
                except (OSError, ValueError) as error:  # the codec's errors are ValueErrors
                    run.fail(file, error)
        if not watchdog.images:
            usage_error(f"{', '.join(map(str, sources))}: no image could be looked at")
        alarm = watchdog.shown > limit * watchdog.images
        typer.echo(
            f"{watchdog.images} images looked at, {watchdog.shown} show a face "
            f"({watchdog.shown / watchdog.images:.1%}), must be at most {limit:.1%}; "
            f"{watchdog.stamps} faces on paint, nobody's"
        )
        if alarm or run.failed:
            raise typer.Exit(1)


def _find_files(sources: list[Path]) -> Iterator[Path]:
    """The files to look at, those of folders in order."""
    taken = (*PACKETS, *IMAGE_SUFFIXES, *VIDEOS)
    for source in sources:
        if source.is_dir():
            inside = (file for file in sorted(source.rglob("*")) if file.is_file())
            yield from (file for file in inside if file.suffix.lower() in taken)
        else:
            yield source
