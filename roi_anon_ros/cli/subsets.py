"""``subset``: a part of a COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from roi_anon_ros.cli.run import app, interruptible, must_exist, usage_error, usage_errors


@app.command()
def subset(
    annotations: Annotated[Path, typer.Argument(metavar="SET", help="A COCO JSON.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The COCO JSON to write.")],
    images: Annotated[
        Path | None, typer.Option(help="The images' folder, where SET does not say it.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Take images of these sources, a list with commas.", metavar="LIST")
    ] = "",
    below: Annotated[
        int,
        typer.Option(
            help="Take images whose name's SHA-256 begins with a byte below this: a split that "
            "depends on nothing else. 256: all.",
        ),
    ] = 256,
    kind: Annotated[
        str, typer.Option(help="What evaluations call these images, instead of their source.")
    ] = "",
) -> None:
    """Write a part of a set, named by rules, as a set; images stay where they are.

    OUT names them relative to its own folder.
    """
    with interruptible():
        must_exist(annotations)
        if target.exists() and target.samefile(annotations):
            usage_error(f"{target}: would be written over its own source")
        if target.with_suffix("").is_dir():
            usage_error(f"{target}: readers would look for images in {target.with_suffix('')}")
        from roi_anon_ros import storage
        from roi_anon_ros.datasets import select_images

        sources = [name.strip() for name in only.split(",") if name.strip()]
        with usage_errors():
            selected = select_images(annotations, target, images, sources, below, kind)
        storage.write_bytes(target, json.dumps(selected).encode())
        typer.echo(
            f"{target}: {len(selected['images'])} images, {len(selected['annotations'])} boxes"
        )
