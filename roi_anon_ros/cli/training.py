"""``train`` and ``label``: your own models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

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
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A YAML file, see config/train/.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints, logs, sheets and the model.",
            show_default="runs/NAME OF CONFIG",
        ),
    ] = None,
) -> None:
    """Train a model, or a detector of persons; the same command continues an interrupted training.

    Under torchrun every process takes part: torchrun --nproc-per-node=4 -m roi_anon_ros.cli train
    CONFIG
    """
    with interruptible():
        must_exist(config)
        with trainings():
            from roi_anon_ros.train import trainer

            with usage_errors(f"{config}: "):
                trainer.read_config(config)
                typer.echo(trainer.train(config, out or Path("runs") / config.stem))


@contextmanager
def trainings() -> Iterator[None]:
    """Name the extra that trains where it is missing, and pass Ctrl-C on as such."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("roi_anon_ros"):
            raise
        usage_error(
            f"{error.name} is not installed: training needs pip install 'roi_anon_ros[train]'"
        )
    except SystemExit as error:  # how Lightning passes on Ctrl-C
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@app.command()
def label(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    out: Annotated[
        Path | None, typer.Option(help="The COCO JSON to write.", show_default="DIR/labels.json")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="What is annotated already: CrowdHuman, COCO, YOLO or Pascal VOC, file or folder."
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="Finds persons: persons (the package's own), yolov8n, or a file.")
    ] = "yolov8n",
    yunet: Annotated[
        Path | None, typer.Option(help="Find faces with this YuNet .onnx, not with MTCNN.")
    ] = None,
) -> None:
    """Find persons and faces in images of your own, as a COCO JSON to train on.

    A folder is searched with its subfolders. Kinds that --annotations has on an image stay as they
    are; boxes that detectors found carry "origin": "pseudo" and a score. A JSON that is there is
    never written over: it may have been corrected by hand. The same command goes on with an
    interrupted run.
    """
    with interruptible():
        must_exist(folder)
        found = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )
        images = {file.relative_to(folder).as_posix(): file for file in found}
        if not images:
            usage_error(f"{folder}: no folder with files that end in {' '.join(IMAGE_SUFFIXES)}")
        target = out or folder / "labels.json"
        if target.suffix != ".json":
            usage_error(f"{target}: must end in .json")
        if target.exists():
            usage_error(f"{target}: is there already; remove it, or name another one with --out")
        quiet_libraries()

        from roi_anon_ros.datasets import read_set
        from roi_anon_ros.detect import MtcnnFaces, YunetFaces
        from roi_anon_ros.detect.choice import make_detector
        from roi_anon_ros.train.label import CONFIDENCE, label_images, list_lacking

        run = Run(resumes=True)
        records = {}
        if annotations is not None:
            with usage_errors():
                reading = read_set(annotations, folder)
            for problem in reading.problems:
                run.fail(annotations, problem)
            at = {record.path.resolve(): record for record in reading.records}
            records = {
                name: at[file.resolve()] for name, file in images.items() if file.resolve() in at
            }
        make = {
            "person": lambda: make_detector(detector, CONFIDENCE, "torch"),
            "face": lambda: YunetFaces(yunet) if yunet else MtcnnFaces(),
        }
        lacking = set().union(*list_lacking(images, records).values())
        with usage_errors():
            detectors = {kind: make[kind]() for kind in sorted(lacking)}
        made_by = {"person": detector, "face": yunet.name if yunet else "mtcnn"}
        with run.progress:
            done = label_images(images, target, detectors, made_by, records, run.track, run.fail)
        run.kept = done.kept
        run.sum_up(f"labelled {done.images} images, {done.boxes} boxes", len(images))
