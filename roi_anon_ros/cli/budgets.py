"""``budget``: what a utility budget gives back, and what it costs privacy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from roi_anon_ros.cli.training import trainings

if TYPE_CHECKING:
    from roi_anon_ros.study.judges import Judges


@dataclass(frozen=True)
class Comparison:
    """What is compared, and by whom.

    Attributes:
        config: of the trainings, a YAML file.
        tests: what is judged on, a set of images or a folder of clips.
        out: folder for trainings and results.
        budgets: that are compared.
        attack_steps: of the attacker who links persons.
        detector: of persons.
        judges: of what else is asked for.
    """

    config: Path
    tests: Path
    out: Path
    budgets: list[float]
    attack_steps: int
    detector: str
    judges: Judges


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
    recogniser: Annotated[
        Path | None,
        typer.Option(
            help="Also identify persons, by a network for re-identification: .onnx (OSNet) or .xml "
            "(OpenVINO)."
        ),
    ] = None,
    pose: Annotated[
        Path | None,
        typer.Option(
            help="Also judge poses, by weights of ultralytics such as yolo11n-pose.pt; not in "
            "clips."
        ),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(
            help="Also tell the sex of annotated faces, by an age-gender-recognition .xml of "
            "OpenVINO; not in clips."
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
        from roi_anon_ros.evaluate.report.budgets import plot, to_page
        from roi_anon_ros.train.pixels import PixelsConfig
        from roi_anon_ros.train.trainer import read_config

        run = Run(resumes=True)
        with usage_errors("budgets: "):
            numbers = [float(one) for one in budgets.split(",")]
        with usage_errors():
            of_clips = isinstance(read_config(config), PixelsConfig)
            judges = _make_judges(recogniser, pose, attributes)
        asked = Comparison(config, annotations, out, numbers, attack_steps, detector, judges)
        if not of_clips:
            about = _compare_images(run, asked, images, limit)
        elif judge is None:
            usage_error("--judge: got none, must be a network of actions, for clips")
        elif pose is not None or attributes is not None:
            usage_error(
                "--pose, --attributes: must not be with clips: people in them are too small"
            )
        else:
            about = _compare_clips(run, asked, judge)
        markdown = to_page(about)
        storage.write_bytes(out / "budget.md", markdown.encode())
        storage.write_bytes(out / "budget.json", json.dumps(about, indent=1).encode())
        plot(about).savefig(out / "budget.png", dpi=110)
        typer.echo(markdown, nl=False)
        if run.failed:
            raise typer.Exit(1)


def _make_judges(recogniser: Path | None, pose: Path | None, attributes: Path | None) -> Judges:
    """The networks that are asked for."""
    from roi_anon_ros.detect.attributes import FaceAttributes
    from roi_anon_ros.detect.bodies import BodyRecogniser
    from roi_anon_ros.detect.poses import PoseNetwork
    from roi_anon_ros.evaluate.measure import LEAST_SCORE
    from roi_anon_ros.study.judges import Judges

    return Judges(
        None if pose is None else PoseNetwork(pose, LEAST_SCORE["persons"]),
        None if recogniser is None else BodyRecogniser(recogniser),
        None if attributes is None else FaceAttributes(attributes),
    )


def _compare_images(run: Run, asked: Comparison, images: Path | None, limit: int) -> dict[str, Any]:
    """The budgets of a codec, see :func:`budget`."""
    from roi_anon_ros import storage
    from roi_anon_ros.datasets import read_set, spread
    from roi_anon_ros.detect.choice import find_detector, make_detector
    from roi_anon_ros.evaluate.measure import LEAST_SCORE
    from roi_anon_ros.study.budgets import describe, judge_budgets, train_budgets

    with usage_errors():
        reading = read_set(asked.tests, images)
        records = spread(reading.records, limit)
        find = make_detector(asked.detector, LEAST_SCORE["persons"])
        mark = storage.digest(find_detector(asked.detector))
    for problem in reading.problems:
        run.fail(asked.tests, problem)
    with usage_errors(f"{asked.config}: "):
        methods = train_budgets(asked.config, asked.budgets, asked.out)
    steps = asked.attack_steps
    with usage_errors(), run.progress:
        figures = judge_budgets(
            methods, records, find, mark, asked.judges, steps, asked.out, run.track
        )
        judged = {"detector": Path(asked.detector).stem, "images": len(records)}
        return describe(asked.config, figures, "ap50", judged, steps)


def _compare_clips(run: Run, asked: Comparison, judge: Path) -> dict[str, Any]:
    """The budgets of a pixel anonymizer, see :func:`budget`."""
    from roi_anon_ros import storage
    from roi_anon_ros.detect.actions import load_actions
    from roi_anon_ros.detect.choice import make_detector
    from roi_anon_ros.study.budgets import describe, train_budgets
    from roi_anon_ros.study.clips import describe_clips, judge_clips, read_held_clips
    from roi_anon_ros.train.pixels import PixelsConfig
    from roi_anon_ros.train.trainer import read_config

    with usage_errors(), run.progress:
        read = read_config(asked.config)
        assert isinstance(read, PixelsConfig)  # or it is compared on images
        tells = load_actions(judge)
        detector = make_detector(asked.detector)
        clips = read_held_clips(asked.tests, read, tells, detector, run.track)
    with usage_errors(f"{asked.config}: "):
        methods = train_budgets(asked.config, asked.budgets, asked.out)
    steps = asked.attack_steps
    with usage_errors(), run.progress:
        mark = storage.digest(judge)
        recogniser = asked.judges.recogniser
        figures = judge_clips(methods, clips, tells, mark, recogniser, steps, asked.out, run.track)
        judged = describe_clips(clips, judge.stem)
        return describe(asked.config, figures, "top1", judged, steps)
