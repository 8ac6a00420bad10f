"""``identify``: is anybody recognised, by the face or by the whole person."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    usage_error,
    usage_errors,
)

#: Heights in pixels of what is placed in a scene.
HEAD_SIZES = "64,128"
BODY_SIZES = "128"


@dataclass(frozen=True)
class Asked:
    """What is measured of faces besides recognition.

    Attributes:
        discrimination: faces picked out of candidates.
        attributes: the network for sex and age; None: these are not.
        closed_set: faces named by a recogniser that is trained on what is sent.
    """

    discrimination: bool = False
    attributes: Path | None = None
    closed_set: bool = False


@app.command()
def identify(
    people: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Images of faces in folders by a person's name; with --bodies of persons, "
            "PERSON_cCAMERA... or PERSON/CAMERA_....",
        ),
    ],
    recogniser: Annotated[
        list[Path],
        typer.Option(
            help="An ArcFace .onnx, such as w600k_mbf.onnx; with --bodies networks for "
            "re-identification, once for each: .onnx (OSNet) or .xml (OpenVINO)."
        ),
    ],
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Whole persons, by re-identification.")
    ] = False,
    yunet: Annotated[
        Path | None, typer.Option(help="A YuNet .onnx, which finds eyes, nose and mouth of faces.")
    ] = None,
    discrimination: Annotated[
        bool,
        typer.Option(
            "--discrimination", help="Also pick each face out of ten, by encoding all of them."
        ),
    ] = False,
    attributes: Annotated[
        Path | None,
        typer.Option(help="Also tell sex and age, by an age-gender-recognition .xml of OpenVINO."),
    ] = None,
    closed_set: Annotated[
        bool,
        typer.Option(
            "--closed-set",
            help="Also train a recogniser straight on what is sent, latents or images, on all "
            "photos of everybody but one, and let it name that one.",
        ),
    ] = False,
    methods: Annotated[
        str, typer.Option(help="As evaluate's; the original is always there.")
    ] = "roi,avif:10,blur+avif:10",
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Of heads, or persons, in the scenes that are sent, pixels, one or more.",
            show_default=f"{HEAD_SIZES}; with --bodies {BODY_SIZES}",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="People, at most; 0: all.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
) -> None:
    """Try to recognise people in what each method sends: by their faces, or as whole persons.

    Each face becomes the head of a person in a scene, as a colour camera and as a monochrome one
    sees it: verification and identification. With --bodies each person stands in a scene, and is
    looked for among the images of other cameras: rank 1 and mean average precision. A method that
    was measured before is not measured again. Results: identity.json or bodies.json in OUT, for
    roi-anon report.
    """
    with interruptible("evaluate"):
        for path in (people, *recogniser, yunet, attributes):
            if path is not None:
                must_exist(path)
        quiet_libraries()
        asked = Asked(discrimination, attributes, closed_set)
        if bodies and asked != Asked():
            usage_error(
                "--discrimination, --attributes, --closed-set: are of faces, must not be with "
                "--bodies"
            )
        if bodies:
            _identify_bodies(people, recogniser, methods, sizes or BODY_SIZES, limit, out)
            return
        if len(recogniser) > 1:
            usage_error(f"--recogniser: got {len(recogniser)}, must be one without --bodies")
        if yunet is None:
            usage_error("--yunet: is missing, must be a YuNet .onnx without --bodies")
        sizes = sizes or HEAD_SIZES
        _identify_faces(people, recogniser[0], yunet, asked, methods, sizes, limit, out)


def _identify_bodies(
    people: Path, recognisers: list[Path], methods: str, sizes: str, limit: int, out: Path
) -> None:
    """Look for whole persons."""
    from roi_anon_ros import storage
    from roi_anon_ros.datasets.bodies import read_bodies
    from roi_anon_ros.detect.bodies import BodyRecogniser
    from roi_anon_ros.evaluate.bodies import BodyScene, Judge, measure_bodies
    from roi_anon_ros.evaluate.measure import environment
    from roi_anon_ros.evaluate.methods import fingerprints, make_methods
    from roi_anon_ros.evaluate.report.bodies import tables
    from roi_anon_ros.evaluate.report.markdown import to_markdown

    run = Run(resumes=True)
    with usage_errors():
        images = read_bodies(people, limit)
        compared = make_methods(methods)
        judges = []
        for path in recognisers:
            network = BodyRecogniser(path)
            judges.append(Judge(path.stem, network.fingerprint, network))
        scenes = {f"{size} px": BodyScene(int(size)) for size in sizes.split(",")}
    with run.progress, usage_errors():
        figures = measure_bodies(images, compared, judges, scenes, out / "cache", run.track)
    about = {"environment": environment(), "fingerprints": fingerprints(compared), **figures}
    storage.write_bytes(out / "bodies.json", json.dumps(about, indent=1).encode())
    for table in tables(about):
        typer.echo(to_markdown(table))


def _identify_faces(
    people: Path,
    recogniser: Path,
    yunet: Path,
    asked: Asked,
    methods: str,
    sizes: str,
    limit: int,
    out: Path,
) -> None:
    """Compare faces."""
    from roi_anon_ros import storage
    from roi_anon_ros.detect.attributes import FaceAttributes
    from roi_anon_ros.detect.recogniser import FaceRecogniser, YunetLandmarks
    from roi_anon_ros.evaluate.faces import measure_faces
    from roi_anon_ros.evaluate.identity import Scene, find_faces, read_people
    from roi_anon_ros.evaluate.measure import environment
    from roi_anon_ros.evaluate.methods import fingerprints, make_methods

    run = Run(resumes=True)
    with usage_errors():
        images = read_people(people, limit)
        compared = make_methods(methods)
        network = FaceRecogniser(recogniser)
        teller = None if asked.attributes is None else FaceAttributes(asked.attributes)
        finder = YunetLandmarks(yunet)
        scenes = {
            f"{size} px, {look}": Scene(int(size), look == "grey")
            for size in sizes.split(",")
            for look in ("colour", "grey")
        }
    with run.progress:
        with usage_errors():
            found = list(run.track(find_faces(images, finder), len(images), "faces"))
        faces = [face for face in found if face is not None]
        names = {face.name for face in faces}
        if not 1 < len(names) < len(faces):
            usage_error(
                f"{people}: YuNet finds {len(names)} people on {len(faces)} images, too few"
            )
        figures = measure_faces(
            faces,
            compared,
            network,
            scenes,
            out / "cache",
            run.track,
            teller,
            asked.discrimination,
            asked.closed_set,
        )
    about = {
        "images": len(faces),
        "left_out": len(found) - len(faces),
        "recogniser": recogniser.stem,
        "environment": environment(),
        "fingerprints": fingerprints(compared),
        "scenes": figures,
    }
    storage.write_bytes(out / "identity.json", json.dumps(about, indent=1).encode())
    _show_faces(figures)


def _show_faces(figures: dict[str, dict[str, Any]]) -> None:
    """Print the tables of all scenes."""
    from roi_anon_ros.evaluate.report.markdown import to_markdown
    from roi_anon_ros.evaluate.report.tables import attacks_on_faces, identities

    for name, methods in figures.items():
        for table in [identities(name, methods), *attacks_on_faces(name, methods)]:
            typer.echo(to_markdown(table))
