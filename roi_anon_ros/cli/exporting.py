"""``export``: the networks of a model for other engines than torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roi_anon_ros.cli.run import (
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_errors,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES

if TYPE_CHECKING:
    pass


#: Images, at most, whose ranges the networks in int8 get.
CALIBRATION = 60


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of an installed model, or a file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder.", show_default="the model's own, where the engines look for them"
        ),
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write analysis and synthesis in int8 instead, for OpenVINO, after these images.",
        ),
    ] = None,
) -> None:
    """Write the networks of a model for other engines than torch, and compare what they find with
    torch.

    MODEL-analysis.onnx takes an image (uint8, 1 x H x W x 3, RGB, sides multiples of 16) to its
    symbols, MODEL-
    synthesis.onnx symbols to an image, at any size: for the engine onnxruntime.

    With --int8, MODEL-analysis-int8.xml and MODEL-synthesis-int8.xml (with .bin and .sha256) are
    the networks in integers of 8 bits, whose ranges are those of up to 60 images of the folder, and
    of their latents at three qualities: for the engine openvino-int8. Take images such as the
    cameras see.
    """
    with interruptible():
        if int8 is not None:
            must_exist(int8)
        quiet_libraries()
        from roi_anon_ros import files
        from roi_anon_ros.codec import DEFAULT_MAX_SIDE, Codec, engines, find_model, load_model
        from roi_anon_ros.codec.engines.graph_engine import GraphEngine
        from roi_anon_ros.codec.image import coded_size, resize

        with usage_errors():
            loaded = load_model(find_model(model))
            there = replace(loaded, path=(out or loaded.path.parent) / loaded.path.name)
            if int8 is None:
                written = engines.export(there)
                engine = "onnxruntime"
            else:
                found = sorted(
                    file for file in int8.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES
                )
                images = (
                    files.read_pixels(file) for file in found[:: -(-len(found) // CALIBRATION) or 1]
                )
                seen = (
                    resize(p, *coded_size(p.shape[1], p.shape[0], DEFAULT_MAX_SIDE)) for p in images
                )
                written = engines.calibrate(there, seen)
                engine = "openvino-int8"
            codec = Codec(there, engine)
            for half in written:
                codec.warm_up(half)
        assert isinstance(codec.engine, GraphEngine)  # one that runs what was written
        off = codec.engine.off
        for half, file in written.items():
            if half is engines.ANALYSIS:
                typer.echo(f"{file}: {off[half]:.3%} of the symbols differ from torch's")
            else:
                typer.echo(f"{file}: bytes differ from torch's by {off[half]:.4f} on average")
