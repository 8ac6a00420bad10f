"""``evaluate``: what the project claims, measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from .run import Run, app, interruptible, must_exist, quiet_libraries, usage_error


@app.command()
def evaluate(
    annotations: Annotated[
        Path, typer.Argument(metavar="SET", help="Annotations: CrowdHuman, COCO, YOLO or Pascal VOC, file or folder.")
    ],
    images: Annotated[Path | None, typer.Option(help="The pictures' folder, where SET does not say it.")] = None,
    rows: Annotated[
        str, typer.Option(help="Models (name or file), jpeg:Q, avif:Q, webp:Q; the original is always there.")
    ] = "fast,avif:1,avif:10,jpeg:1,jpeg:10",
    weights: Annotated[str, typer.Option(help="The person detector's weights.")] = "yolov8n",
    yunet: Annotated[Path | None, typer.Option(help="Also look for faces with this YuNet .onnx.")] = None,
    limit: Annotated[int, typer.Option(help="Only so many pictures, spread over the set; 0: all.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/evaluate"),
) -> None:
    """Measure rate, persons and faces of models, JPEG and AVIF side by side, on pictures that none of them saw.

    Persons are YOLOv8's at any score (average precision), faces MTCNN's and YuNet's over a score of 0.5, all against
    SET's boxes. An interrupted run goes on picture by picture. Results: table.md and results.json in OUT.
    """
    with interruptible():
        must_exist(annotations)
        quiet_libraries()
        import cv2

        from .. import files
        from ..codec import ModelFileError
        from ..detect import MtcnnFaces, WeightsError, YoloPersons, YunetFaces
        from ..evaluate.measure import Cache, measure, summary, table
        from ..evaluate.rows import ORIGINAL, make_row
        from ..train.data import read_set, spread

        run = Run(resumes=True)
        try:
            reading = read_set(annotations, images)
            names = dict.fromkeys([ORIGINAL, *filter(None, rows.split(","))])
            compared = [make_row(name) for name in names]
            detectors = {"persons": YoloPersons(weights, confidence=0.001), "mtcnn": MtcnnFaces()}
            if yunet is not None:
                detectors["yunet"] = YunetFaces(yunet)
        except (ImportError, ValueError, OSError, WeightsError, ModelFileError, cv2.error) as error:
            usage_error(str(error))
        for problem in reading.problems:
            run.fail(annotations, problem)
        records = spread(reading.records, limit) if limit else reading.records
        results = {}
        with run.progress:
            for row in compared:
                key = f"{row.key} {Path(weights).stem} {sorted(detectors)}"
                with Cache(out / "cache", row.name, key) as cache:
                    pairs = measure(records, row, detectors, cache)
                    results[row.name] = summary(list(run.track(pairs, len(records), row.name)))
        markdown = table(results)
        files.write_bytes(out / "table.md", markdown.encode(), time.time_ns())
        about = {"set": str(annotations), "pictures": len(records), "weights": Path(weights).stem, "rows": results}
        files.write_bytes(out / "results.json", json.dumps(about, indent=1).encode(), time.time_ns())
        typer.echo(markdown)
        if run.failed:
            raise typer.Exit(1)
