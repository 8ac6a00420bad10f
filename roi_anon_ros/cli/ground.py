"""``calibrate``, ``twin`` and ``evaluate-ground``: people in metres."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roi_anon_ros.cli.run import (
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    usage_error,
    usage_errors,
)

if TYPE_CHECKING:  # the real imports stand in the commands
    from roi_anon_ros.ground.cameras import Camera
    from roi_anon_ros.ground.page.server import Live

PETS_VIDEO = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


@app.command()
def calibrate(
    points: Annotated[
        Path,
        typer.Argument(metavar="POINTS", help="A YAML of pixels and places; see docs/people.md."),
    ],
    name: Annotated[str, typer.Option(help="The camera's name in site.yaml.")] = "camera",
    image: Annotated[Path | None, typer.Option(help="An image of the camera, for --grid.")] = None,
    grid: Annotated[
        Path | None, typer.Option(help="Draw a metre grid on the image (or on grey) as this .png.")
    ] = None,
) -> None:
    """Find where a camera hangs, from 4 or more pixels whose places in metres are known.

    Prints the camera's entry for site.yaml to stdout, and its errors in pixels and, by distance, in
    centimetres on the ground to stderr. Without k in POINTS the focal length is found too.
    """
    with interruptible():
        must_exist(points)
        quiet_libraries()
        from roi_anon_ros.ground import calibrate as calibration

        with usage_errors():
            found = calibration.calibrate(name, calibration.read_points(points))
            if grid is not None:
                _save_grid(found.camera, image, grid)
        typer.echo(calibration.describe(found), err=True)
        typer.echo(found.to_site(), nl=False)


def _save_grid(camera: Camera, image: Path | None, grid: Path) -> None:
    import cv2

    from roi_anon_ros.ground.calibrate import draw_grid
    from roi_anon_ros.storage import write_bytes

    seen = None
    if image is not None:
        must_exist(image)
        seen = cv2.imread(str(image))
        if seen is None:
            usage_error(f"{image}: not a readable image")
    write_bytes(grid, cv2.imencode(".png", draw_grid(camera, seen))[1].tobytes())


@app.command()
def twin(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="CYCLES", help="A .jsonl of the twin's cycles to replay; -: live, from stdin."
        ),
    ],
    port: Annotated[int, typer.Option(help="Of the page.", min=1, max=65535)] = 8008,
    host: Annotated[
        str,
        typer.Option(help="Address to serve on; another than this machine shows people to others."),
    ] = "127.0.0.1",
) -> None:
    """Show a site from above in a browser: cameras, zones and people, and no image of anybody.

    A camera is calibrated on the same page by clicks on an image.
    """
    with interruptible("twin"):
        import uvicorn

        from roi_anon_ros.ground.page.server import Live, check_recording, make_app

        live = None
        path = None
        if recording == "-":
            live = Live()
            threading.Thread(target=_publish_lines, args=(live,), daemon=True).start()
        else:
            path = Path(recording)
            must_exist(path)
            with usage_errors():
                check_recording(path)
        hosts = ("127.0.0.1", "localhost") if host in ("127.0.0.1", "localhost") else ("*",)
        typer.echo(f"http://{host}:{port}", err=True)
        uvicorn.run(make_app(path, live, hosts), host=host, port=port, log_level="warning")


def _publish_lines(live: Live) -> None:
    for line in sys.stdin:
        if line.strip().startswith("{"):
            live.publish(line)


@app.command()
def evaluate_ground(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="pets_s2l1.csv, wildtrack.json.gz and their calibrations."
        ),
    ],
    sequence: Annotated[
        str, typer.Option(help="pets, wildtrack, or both with a comma.")
    ] = "pets,wildtrack",
    detections: Annotated[
        Path | None,
        typer.Option(
            help="A detector's boxes, JSON lines of frame, camera, boxes; instead of the annotated."
        ),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Instead: a detector on the images of pets, and on what this model makes of them.",
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(help="Of --through: persons (the package's own), yolov8n, or a file."),
    ] = "yolov8n",
    video: Annotated[
        Path, typer.Option(help="The images of pets, for --through; of Debian's opencv-doc.")
    ] = PETS_VIDEO,
    limit: Annotated[int, typer.Option(help="Only the first moments; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Of what is dropped, moved and delayed.")] = 0,
) -> None:
    """Measure how well people are placed and tracked: error in metres, MODA, IDF1, as tables.

    Annotated boxes are played as a detector's: as they are, with boxes dropped and moved and false
    ones added, and late as well. Boxes of --detections are played as they are.
    """
    with interruptible("evaluate"):
        must_exist(folder)
        if through is not None:
            _evaluate_through(folder, through, detector, video, limit)
            return
        from roi_anon_ros.evaluate.ground import measure, play, sequences

        readers = {"pets": sequences.read_pets, "wildtrack": sequences.read_wildtrack}
        scores = []
        for name in sequence.split(","):
            if name not in readers:
                usage_error(f"--sequence: got {name!r}, must be of {', '.join(readers)}")
            with usage_errors():
                played = sequences.take_first(readers[name](folder), limit)
                if detections is None:
                    source = play.annotated(played)
                    faults: tuple[play.Fault, ...] = play.FAULTS
                else:
                    source = play.read_detections(detections)
                    faults = (play.Fault(detections.stem),)
            scores += [measure.run(played, source, fault, seed=seed) for fault in faults]
        typer.echo(measure.to_markdown(scores))


def _evaluate_through(folder: Path, model: str, detector: str, video: Path, limit: int) -> None:
    """Compare one detector on originals and through a codec."""
    must_exist(video)
    quiet_libraries()
    import numpy as np

    from roi_anon_ros.codec import Codec
    from roi_anon_ros.detect.choice import make_detector
    from roi_anon_ros.evaluate.ground import measure, sequences
    from roi_anon_ros.evaluate.ground.play import Fault
    from roi_anon_ros.evaluate.ground.through import annotated_area, detect_through

    with usage_errors():
        whole = sequences.read_pets(folder)
        played = sequences.take_first(whole, limit)
        codec = Codec.load(model)
        find_persons = make_detector(detector, engine="torch")
        for found in detect_through(played, video, codec, find_persons):
            progress = f"\r{len(found.sizes)} of {len(played.moments)} images"
            typer.echo(progress, err=True, nl=False)
    typer.echo("", err=True)
    area = annotated_area(whole)
    judge = Path(detector).stem
    names = {"originals": f"{judge} on originals", "decoded": f"{judge} through {codec.name}"}
    scores = [
        measure.run(played, source, Fault(names[kind]), floor=area)
        for kind, source in found.sources().items()
    ]
    typer.echo(measure.to_markdown(scores))
    kilobytes = np.mean(found.sizes) / 1000
    model = f"{codec.name} ({codec.fingerprint})"
    typer.echo(f"\n{len(found.sizes)} images, {kilobytes:.1f} kB each through {model}.")
