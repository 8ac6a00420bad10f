"""``attack``, ``bench`` and ``report``: what the project claims, measured."""

from __future__ import annotations

import json
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

#: Where results go.
OUT = Path("runs/evaluate")


@app.command()
def attack(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="What to attack: a method of roi-anon evaluate.")
    ],
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="SET",
            help="The attacker's own images: annotations with heads, as evaluate's.",
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="The images' folder, where SET does not say it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write.", show_default="runs/attack/METHOD.safetensors"),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Budget; the same for methods that are compared.", min=1)
    ] = 2000,
    keep_at: Annotated[
        str,
        typer.Option(
            help="Steps after which the attacker so far is written as well, to FILE-STEPS: a "
            "learning curve from one training, such as 250,1000,4000."
        ),
    ] = "",
    identity: Annotated[
        Path | None,
        typer.Option(
            help="A face recogniser, such as w600k_mbf.onnx: what is recovered is also to be the "
            "same person to it. Judge by another one."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Images, at most, spread over the set.", min=1)] = 600,
    seed: Annotated[int, typer.Option(help="Of weights and crops.")] = 0,
) -> None:
    """Train a decoder that brings the heads back from what a method sends: an attacker who has the
    encoder.

    Evaluate or identify with the method attack:FILE shows what detectors and recognisers make of
    what it recovers. Take images that the evaluation does not use. The same command goes on with an
    interrupted training.
    """
    with interruptible("evaluate"):
        must_exist(annotations)
        quiet_libraries()
        from roi_anon_ros.datasets import read_set
        from roi_anon_ros.detect.recogniser_torch import TorchRecogniser
        from roi_anon_ros.evaluate.attack.pairs import choose, gather
        from roi_anon_ros.evaluate.attack.storage import read_attack
        from roi_anon_ros.evaluate.attack.training import train
        from roi_anon_ros.evaluate.methods import make_method, slug

        run = Run(resumes=True)
        target = out or Path("runs/attack") / f"{slug(method)}.safetensors"
        if method.startswith("attack:"):
            usage_error(f"{method}: is an attack already; name the method that it attacks")
        with usage_errors():
            attacked = make_method(method)
            reading = read_set(annotations, images)
            records = choose(reading.records, limit)
            recogniser = None if identity is None else TorchRecogniser(identity)
        for problem in reading.problems:
            run.fail(annotations, problem)
        kept = set()
        with usage_errors("--keep-at: "):
            kept = {int(step) for step in filter(None, keep_at.split(","))}
        if not all(0 < step < steps for step in kept):
            usage_error(f"--keep-at: got {keep_at}, must be from 1 to {steps - 1}")
        if target.exists():
            usage_error(f"{target}: is there already; remove it, or name another one with --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        with run.progress:
            pairs = list(run.track(gather(records, attacked), len(records), f"{method}: sent"))
            if len(pairs) < len(records):
                run.fail(
                    annotations, f"{len(records) - len(pairs)} images could not be read or sent"
                )
            with usage_errors():
                training = train(
                    pairs, attacked, target, steps, seed, keep_at=kept, recogniser=recogniser
                )
                for _ in run.track(training, steps, f"{method}: attacked"):
                    pass
        losses = read_attack(target)[1]["losses"]
        typer.echo(
            f"{target}: loss on heads {losses['heads']:.4f}, on their edges {losses['edges']:.4f}"
        )
        if run.failed:
            raise typer.Exit(1)


@app.command()
def bench(
    image: Annotated[
        Path | None,
        typer.Option(
            help="What to encode.", show_default="ultralytics' bus.jpg, or a synthetic one"
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="The first one is what the others are compared with. As evaluate's, and paper: "
            "the paper's network "
            "the paper's way; paper-here: the same network through this package."
        ),
    ] = "paper,paper-here,paper-here@openvino,roi,roi@openvino,fast,fast@openvino,"
    "jpeg:10,avif:10,webp:10",
    sizes: Annotated[str, typer.Option(help="WIDTHxHEIGHT, one or more.")] = "512x512",
    rounds: Annotated[int, typer.Option(help="In each, every method has one turn.", min=2)] = 30,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.", show_default="as many as cores", min=1)
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also each method's peak memory, in a new process.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
) -> None:
    """Time encoding and decoding, memory to memory, all methods taking turns in one run; ratios
    first.

    Results: bench.json in OUT, for roi-anon report.
    """
    with interruptible("evaluate"):
        if image is not None:
            must_exist(image)
        quiet_libraries()
        from roi_anon_ros import files, storage
        from roi_anon_ros.evaluate.latency import images as of_images
        from roi_anon_ros.evaluate.latency.run import run as run_benchmark
        from roi_anon_ros.evaluate.latency.tables import notes, stage_tables, tables
        from roi_anon_ros.evaluate.latency.ways import make_timed
        from roi_anon_ros.evaluate.report.markdown import to_markdown

        progress = Run(resumes=False)
        with usage_errors():
            shown, source = (
                of_images.default_image()
                if image is None
                else (files.read_pixels(image), image.name)
            )
            timed = [make_timed(name, shown) for name in filter(None, methods.split(","))]
            with progress.progress:
                results = run_benchmark(
                    timed,
                    shown,
                    of_images.parse_sizes(sizes),
                    rounds,
                    threads=threads,
                    source=source,
                    memory=memory,
                    track=lambda steps: progress.track(steps, len(steps), "rounds"),
                )
        storage.write_bytes(out / "bench.json", json.dumps(results, indent=1).encode())
        for table in [*tables(results), *stage_tables(results)]:
            typer.echo(to_markdown(table))
        for note in notes(results):
            typer.echo(note)


@app.command()
def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[OUT...]",
            help="Folders of evaluate, heads, identify and bench.",
            show_default=str(OUT),
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Write the privacy card of this model, name or file, into the first folder "
            "instead: card.json and card.html.",
        ),
    ] = None,
) -> None:
    """Write report.html, one page that needs no network, and report.md from the results in each
    folder; or the privacy card of a model from all of them.

    A card is of one model: results of a model with another fingerprint are refused.
    """
    with interruptible("evaluate"):
        places = folders or [OUT]
        for folder in places:
            must_exist(folder)
        if card is not None:
            _write_card(places, card)
            return
        for folder in places:
            _write_report(folder)


def _write_report(folder: Path) -> None:
    """Write the pages of one folder."""
    from roi_anon_ros import storage
    from roi_anon_ros.evaluate.report.page import html, markdown, read_results

    with _results_of(folder):
        found = read_results(folder)
        pages = {"report.md": markdown(found, folder), "report.html": html(found, folder)}
    for name, page in pages.items():
        storage.write_bytes(folder / name, page.encode())
    typer.echo(folder / "report.html")


def _write_card(folders: list[Path], name: str) -> None:
    """Write the privacy card of a model."""
    quiet_libraries()
    from roi_anon_ros import storage
    from roi_anon_ros.codec import Codec
    from roi_anon_ros.evaluate.card.card import make_card, to_html
    from roi_anon_ros.evaluate.card.results import Model, read_all

    with usage_errors():
        codec = Codec.load(name)
    with _results_of(*folders):
        results = read_all(folders, Model(codec.name, codec.fingerprint))
        made = make_card(results)
        page = to_html(made)
    storage.write_bytes(folders[0] / "card.json", json.dumps(made, indent=1).encode())
    storage.write_bytes(folders[0] / "card.html", page.encode())
    typer.echo(folders[0] / "card.html")


@contextmanager
def _results_of(*folders: Path) -> Iterator[None]:
    """Turn what is wrong with results in folders into a line and exit code 2."""
    try:
        yield
    except (OSError, ValueError) as error:
        usage_error(str(error))
    except KeyError as error:
        said = ", ".join(map(str, folders))
        usage_error(f"{said}: results of another release, without {error}; run the commands again")
