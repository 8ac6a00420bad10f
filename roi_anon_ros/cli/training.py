"""``train``, ``budget`` and ``label``: your own models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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
def budget(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="A training with utility, of a codec or a pixel anonymizer, a YAML file.",
        ),
    ],
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="SET",
            help="Images for tests, with persons annotated; for a pixel anonymizer a folder of "
            "clips, of which those are taken whose origins the training does not see.",
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="The images' folder, where SET does not say it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for trainings and results.")] = Path(
        "runs/budget"
    ),
    budgets: Annotated[
        str, typer.Option(help="Budgets in place of those of utility; none is always there.")
    ] = "0.2,0.3,0.5,0.8",
    limit: Annotated[
        int, typer.Option(help="Images for tests, at most, spread over SET; clips: all.", min=4)
    ] = 200,
    attack_steps: Annotated[
        int, typer.Option(help="Of the attacker who links persons to originals.", min=1)
    ] = 400,
    detector: Annotated[
        str,
        typer.Option(
            help="Finds persons: persons (the package's own), yolov8n, or a file; take one that "
            "utility does not name. In clips it says who is to be linked."
        ),
    ] = "yolov8n",
    judge: Annotated[
        Path | None,
        typer.Option(
            help="Tells actions in clips: a file of roi-anon train config/train/actions.yaml; take "
            "one that the training does not name."
        ),
    ] = None,
) -> None:
    """Train a codec, or a pixel anonymizer, once for each utility budget and once without, and show
    what a tighter budget gives back in persons found, or actions told, and what it costs in persons
    linked to their originals.

    The same command goes on with an interrupted run, budget by budget. Results: budget.md,
    budget.png and budget.json in OUT.
    """
    with interruptible("evaluate"), trainings():
        must_exist(config)
        must_exist(annotations)
        quiet_libraries()
        from roi_anon_ros import storage
        from roi_anon_ros.evaluate.report.budgets import describe_budgets, plot, table
        from roi_anon_ros.evaluate.report.markdown import to_markdown
        from roi_anon_ros.train.pixels import PixelsConfig
        from roi_anon_ros.train.trainer import read_config

        run = Run(resumes=True)
        with usage_errors("budgets: "):
            numbers = [float(one) for one in budgets.split(",")]
        with usage_errors():
            of_clips = isinstance(read_config(config), PixelsConfig)
        if not of_clips:
            about = _compare_images(
                run, config, annotations, images, out, numbers, limit, attack_steps, detector
            )
        elif judge is None:
            usage_error("--judge: got none, must be a network of actions, for clips")
        else:
            about = _compare_clips(
                run, config, annotations, out, numbers, attack_steps, detector, judge
            )
        markdown = f"{describe_budgets(about)}\n\n{to_markdown(table(about)).rstrip()}\n"
        storage.write_bytes(out / "budget.md", markdown.encode())
        storage.write_bytes(out / "budget.json", json.dumps(about, indent=1).encode())
        plot(about).savefig(out / "budget.png", dpi=110)
        typer.echo(markdown, nl=False)
        if run.failed:
            raise typer.Exit(1)


def _compare_images(
    run: Run,
    config: Path,
    annotations: Path,
    images: Path | None,
    out: Path,
    budgets: list[float],
    limit: int,
    attack_steps: int,
    detector: str,
) -> dict[str, Any]:
    """The budgets of a codec, see :func:`budget`."""
    from roi_anon_ros import storage
    from roi_anon_ros.datasets import read_set, spread
    from roi_anon_ros.detect.choice import find_detector, make_detector
    from roi_anon_ros.evaluate.measure import LEAST_SCORE
    from roi_anon_ros.study.budgets import describe, judge_budgets, train_budgets

    with usage_errors():
        reading = read_set(annotations, images)
        records = spread(reading.records, limit)
        find = make_detector(detector, LEAST_SCORE["persons"])
        mark = storage.digest(find_detector(detector))
    for problem in reading.problems:
        run.fail(annotations, problem)
    with usage_errors(f"{config}: "):
        methods = train_budgets(config, budgets, out)
    with usage_errors(), run.progress:
        figures = judge_budgets(methods, records, find, mark, attack_steps, out, run.track)
        judged = {"detector": Path(detector).stem, "images": len(records)}
        return describe(config, figures, "ap50", judged, attack_steps)


def _compare_clips(
    run: Run,
    config: Path,
    folder: Path,
    out: Path,
    budgets: list[float],
    attack_steps: int,
    detector: str,
    judge: Path,
) -> dict[str, Any]:
    """The budgets of a pixel anonymizer, see :func:`budget`."""
    from roi_anon_ros import storage
    from roi_anon_ros.detect.actions import load_actions
    from roi_anon_ros.detect.choice import make_detector
    from roi_anon_ros.study.budgets import describe, train_budgets
    from roi_anon_ros.study.clips import describe_clips, judge_clips, read_held_clips
    from roi_anon_ros.train.pixels import PixelsConfig
    from roi_anon_ros.train.trainer import read_config

    with usage_errors(), run.progress:
        read = read_config(config)
        assert isinstance(read, PixelsConfig)  # or it is compared on images
        tells = load_actions(judge)
        clips = read_held_clips(folder, read, tells, make_detector(detector), run.track)
    with usage_errors(f"{config}: "):
        methods = train_budgets(config, budgets, out)
    with usage_errors(), run.progress:
        mark = storage.digest(judge)
        figures = judge_clips(methods, clips, tells, mark, attack_steps, out, run.track)
        judged = describe_clips(clips, judge.stem)
        return describe(config, figures, "top1", judged, attack_steps)


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
