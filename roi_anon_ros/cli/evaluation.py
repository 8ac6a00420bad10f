"""``evaluate``, ``attack``, ``identify``, ``bench`` and ``report``: what the project claims, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .run import Run, app, interruptible, must_exist, quiet_libraries, usage_error

OUT = Path("runs/evaluate")


@app.command()
def evaluate(
    annotations: Annotated[
        Path, typer.Argument(metavar="SET", help="Annotations: CrowdHuman, COCO, YOLO or Pascal VOC, file or folder.")
    ],
    images: Annotated[Path | None, typer.Option(help="The pictures' folder, where SET does not say it.")] = None,
    rows: Annotated[
        str,
        typer.Option(
            help="Models (name or file), jpeg:Q, avif:Q, webp:Q, the same behind blur+, pixelate+ or mask+, and "
            "attack:FILE; the original is always there."
        ),
    ] = "fast,avif:1,avif:5,avif:10,jpeg:1,jpeg:5,jpeg:10,blur+avif:10",
    weights: Annotated[str, typer.Option(help="The person detector's weights.")] = "yolov8n",
    yunet: Annotated[Path | None, typer.Option(help="Also look for faces with this YuNet .onnx.")] = None,
    limit: Annotated[int, typer.Option(help="Only so many pictures, spread over the set; 0: all.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
) -> None:
    """Measure rate, persons and faces of models, JPEG and AVIF side by side, on pictures that none of them saw.

    Persons are YOLOv8's at any score (average precision), faces MTCNN's and YuNet's, all against SET's boxes, or
    against what is found on the originals where SET has none. An interrupted run goes on picture by picture. Results:
    table.md, curve.png, results.json and the pictures of sheet/ in OUT, for roi-anon report.
    """
    with interruptible():
        must_exist(annotations)
        quiet_libraries()
        import cv2

        from .. import files
        from ..codec import ModelFileError
        from ..detect import MtcnnFaces, WeightsError, YoloPersons, YunetFaces
        from ..evaluate.curves import save_plot
        from ..evaluate.measure import LEAST_SCORE, Cache, environment, measure, summary, table
        from ..evaluate.rows import ORIGINAL, make_row
        from ..evaluate.sheet import pick, save_sheet
        from ..train.data import read_set, spread

        run = Run(resumes=True)
        try:
            reading = read_set(annotations, images)
            names = dict.fromkeys([ORIGINAL, *filter(None, rows.split(","))])
            compared = [make_row(name) for name in names]
            detectors = {
                "persons": YoloPersons(weights, confidence=LEAST_SCORE["persons"]),
                "mtcnn": MtcnnFaces(confidence=LEAST_SCORE["faces"]),
            }
            if yunet is not None:
                detectors["yunet"] = YunetFaces(yunet, confidence=LEAST_SCORE["faces"])
        except (ImportError, ValueError, OSError, WeightsError, ModelFileError, cv2.error) as error:
            usage_error(str(error))
        for problem in reading.problems:
            run.fail(annotations, problem)
        records = spread(reading.records, limit) if limit else reading.records
        if not records:
            usage_error(f"{annotations}: no pictures")
        results: dict[str, Any] = {}
        base = None
        with run.progress:
            for row in compared:
                key = f"{row.key} {Path(weights).stem} {sorted(detectors)}"
                with Cache(out / "cache", row.name, key) as cache:
                    pairs = list(run.track(measure(records, row, detectors, cache), len(records), row.name))
                base = base or pairs
                results[row.name] = summary(pairs, base)
            shown = pick(records)
            sheet = save_sheet(out / "sheet", run.track(compared, len(compared), "sheet"), shown)
        about = {
            "set": annotations.name,
            "pictures": len(records),
            "annotated_pictures": len(reading.records),
            "weights": Path(weights).stem,
            "environment": environment(),
            "rows": results,
            "sheet": sheet,
        }
        markdown = table(results)
        files.write_bytes(out / "table.md", markdown.encode())
        files.write_bytes(out / "results.json", json.dumps(about, indent=1).encode())
        save_plot(results, out / "curve.png")
        typer.echo(markdown)
        if run.failed:
            raise typer.Exit(1)
