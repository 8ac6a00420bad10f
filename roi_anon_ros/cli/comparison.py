"""``evaluate``: every method on every kind of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
def evaluate(
    sets: Annotated[
        list[Path],
        typer.Argument(
            metavar="SET...",
            help="Annotations: CrowdHuman, COCO, YOLO or Pascal VOC, file or folder.",
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Option(help="The images' folder, once for each SET, where they do not say it."),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods: models (name or file, after it perhaps @ and an engine, then : and a "
            "quality), jpeg:Q, avif:Q, webp:Q, the same after a treatment of faces, heads or "
            "persons (blur+, head.mask+, person.silhouette+), stamps+ or stamps:MODEL+, and "
            "attack:FILE; the original is always there. The kinds of images are ordered by the "
            "first one."
        ),
    ] = "roi,avif:1,avif:5,avif:10,jpeg:1,jpeg:5,jpeg:10,blur+avif:10",
    detector: Annotated[
        str,
        typer.Option(
            help="Finds persons: persons (the package's own), yolov8n, or a file (.safetensors, "
            ".pt, .onnx); after it perhaps @ and an engine."
        ),
    ] = "yolov8n",
    judge: Annotated[
        str | None,
        typer.Option(help="A second person detector, likewise, that did not guide a training."),
    ] = None,
    yunet: Annotated[
        Path | None, typer.Option(help="Also look for faces with this YuNet .onnx.")
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Images of each kind, at most, spread over it; 0: all.", min=0)
    ] = 0,
    view: Annotated[
        str,
        typer.Option(
            help="How the camera sees the scenes: upright, turned-90, turned-180, swapped (red "
            "and blue), grey, close-up."
        ),
    ] = "upright",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
) -> None:
    """Measure rate, persons and faces of models, JPEG and AVIF side by side, on images that none of
    them saw, each kind of images alone, the worst kind first.

    Persons are the detector's at any score (average precision) and from the server's score on
    (recall, precision, false boxes), faces MTCNN's and YuNet's, all against SET's boxes, or against
    what is found on the originals where a kind has none. An image's kind is its source in a COCO
    JSON, else the set's name. An interrupted run goes on image by image. Results: table.md,
    curve-KIND.png, results.json and the images of sheet/ in OUT, for roi-anon report.
    """
    with interruptible("evaluate"):
        for annotations in sets:
            must_exist(annotations)
        quiet_libraries()

        from roi_anon_ros.evaluate.comparison import compare, read_kinds
        from roi_anon_ros.evaluate.judges import make_judges
        from roi_anon_ros.evaluate.measure import environment
        from roi_anon_ros.evaluate.methods import fingerprints, make_methods
        from roi_anon_ros.evaluate.views import find_view

        run = Run(resumes=True)
        with usage_errors():
            seen = find_view(view)
            compared = make_methods(methods)
            detectors, marks = make_judges(detector, judge, yunet)
            kinds = read_kinds(sets, images or [], seen, limit, run.fail)
        with run.progress:
            results = compare(kinds, compared, detectors, marks, (view, seen), out, run.track)
        about = {
            "sets": [annotations.name for annotations in sets],
            "view": view,
            "weights": Path(detector).stem,
            "judge": Path(judge).stem if judge else None,
            "claim": compared[min(1, len(compared) - 1)].name,
            "environment": environment(),
            "fingerprints": fingerprints(compared),
            "attacks": {method.name: method.attack for method in compared if method.attack},
            "kinds": results,
        }
        typer.echo(_write(about, out))
        if run.failed:
            raise typer.Exit(1)


def _write(about: dict[str, Any], out: Path) -> str:
    """Write the results, and return the tables as Markdown, the worst kind first."""
    from roi_anon_ros import storage
    from roi_anon_ros.evaluate.methods import ORIGINAL
    from roi_anon_ros.evaluate.report.curves import save_plot
    from roi_anon_ros.evaluate.report.markdown import to_markdown
    from roi_anon_ros.evaluate.report.tables import (
        claims,
        detectors_of,
        found_persons,
        heights,
        overview,
        titles,
    )

    kinds = about["kinds"]
    named = titles(about)
    lines = [f"Worst kind of images: {next(iter(kinds))}", ""]
    lines.append(to_markdown(claims(kinds, about["claim"], named)))
    for name, results in kinds.items():
        methods = results["methods"]
        base = methods[ORIGINAL]
        lines += [f"{name}, {results['images']} images", ""]
        tables = []
        for detector in detectors_of(base):
            tables.append(heights(methods, detector, named[detector]))
            tables.append(found_persons(methods, detector, named[detector]))
        lines += map(to_markdown, [*tables, *overview(methods, base)])
        save_plot(methods, named, out / f"curve-{name}.png")
    markdown = "\n".join(lines)
    storage.write_bytes(out / "table.md", markdown.encode())
    storage.write_bytes(out / "results.json", json.dumps(about, indent=1).encode())
    return markdown
