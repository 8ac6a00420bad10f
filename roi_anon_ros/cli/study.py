"""``study``: what it costs to train on anonymized images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from roi_anon_ros.cli.evaluation import OUT
from roi_anon_ros.cli.run import (
    Run,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_errors,
)


@app.command()
def study(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A YAML file, see docs/study.md.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for images, weights and the results.")] = OUT,
) -> None:
    """Train a detector on anonymized images, one training for each way to anonymize and each seed,
    and test it on originals and on anonymized ones: what does anonymizing cost who trains on it?

    An interrupted run goes on arm by arm, and another arm costs only itself. Results: study.md,
    study.png and study.json in OUT, for roi-anon report. Trains through ultralytics (AGPL-3.0).
    """
    with interruptible("evaluate"):
        must_exist(config)
        quiet_libraries()
        from roi_anon_ros import storage
        from roi_anon_ros.evaluate.report.markdown import to_markdown
        from roi_anon_ros.evaluate.report.study import plot, sections
        from roi_anon_ros.study import read_config, run_study

        run = Run(resumes=True)
        with usage_errors(f"{config}: "):
            plan = read_config(config)
            with run.progress:
                about = run_study(plan, out, run.track, run.fail)
        (section,) = sections(about)
        tables = [to_markdown(table) for table in section["tables"]]
        markdown = "\n".join([*(f"{text}\n" for text in section["text"]), *tables])
        storage.write_bytes(out / "study.md", markdown.encode())
        storage.write_bytes(out / "study.json", json.dumps(about, indent=1).encode())
        plot(about).savefig(out / "study.png", dpi=110)
        typer.echo(markdown)
        if run.failed:
            raise typer.Exit(1)
