"""``anonymize``: images, folders and videos with faces, persons or zones hidden."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roi_anon_ros.cli.run import Run, app, interruptible, must_exist, quiet_libraries, usage_error

if TYPE_CHECKING:
    from roi_anon_ros.anonymize import Anonymizer
    from roi_anon_ros.anonymize.jobs import Treated

#: Results on a contact sheet, at most.
ON_SHEET = 48

REGION = Annotated[
    list[str],
    typer.Option(
        help="What is hidden; more than once: all of them. face (MTCNN), face:FILE.onnx (YuNet), "
        "head (the codec's head map, from all sides), head:MODEL, "
        "person (yolov8n), person:persons (the package's own), person:WEIGHTS, "
        "annotated:KIND:SET (face, head or person boxes of a set), polygon:FILE.json (zones: "
        "[[[x, y], ...], ...] in shares of the image, 0 to 1)."
    ),
]
TREATMENT = Annotated[
    str,
    typer.Option(
        help="blur, blur:PIXELS, pixelate, pixelate:CELLS, mask, mask:GREY, silhouette, inpaint, "
        "face (a mean of faces of nobody), face:FILE (of this DCGAN), body (mannequin), "
        "deepprivacy:FILE (an installed DeepPrivacy2 with this configuration)."
    ),
]
GROW = Annotated[
    float | None,
    typer.Option(
        help="What found boxes are grown by, 1 to 4.",
        show_default="face 1.42, person 1.1, body mask 1.06",
    ),
]
FEATHER = Annotated[
    float, typer.Option(help="Width of the soft edge outside of a region, over its longer side.")
]
HOLD = Annotated[
    float, typer.Option(help="Seconds that a region stays where its object is missed.", min=0)
]
POSE = Annotated[
    Path | None,
    typer.Option(help="MediaPipe's pose_landmark_*.tflite: persons become masks instead of boxes."),
]
MATCH = Annotated[
    str,
    typer.Option(
        help="Light and colour of realistic faces: mean, histogram, latent (DCGAN in torch), none."
    ),
]
KEY_FILE = Annotated[
    Path | None,
    typer.Option(
        help="File of 16 or more secret bytes that decide who becomes which face.",
        show_default="drawn anew",
    ),
]


@app.command()
def anonymize(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="An image, a video, or a folder of them.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="A file of the same kind, or a folder.")
    ],
    region: REGION = ["face"],  # noqa: B006  typer copies it
    treatment: TREATMENT = "blur",
    grow: GROW = None,
    feather: FEATHER = 0.06,
    hold: HOLD = 0.5,
    pose: POSE = None,
    match: MATCH = "mean",
    key: KEY_FILE = None,
    sound: Annotated[
        bool, typer.Option(help="Keep the sound of videos; a voice is personal too.")
    ] = True,
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata", help="Keep the EXIF of images, GPS included; never a thumbnail."
        ),
    ] = False,
) -> None:
    """Hide faces, persons or zones in images (.jpg .jpeg .png .bmp .webp .tif .tiff) and videos
    (.mp4 .mov .mkv .webm).

    Images come out upright and without metadata. Frames of a video keep their times; objects are
    followed forward and backward, so that one that is missed for a moment stays hidden. What cannot
    be read is reported and not written.

    A folder is searched with its subfolders, and OUT gets the same ones. What a former run with the
    same settings finished is kept; an interrupted video goes on after the frames that were
    searched. Beside the results stand OUT.json, what was hidden where, and OUT.sheet.jpg, some of
    the results (in a folder: anonymized.json and .sheet.jpg).
    """
    with interruptible("anonymize"):
        must_exist(source)
        quiet_libraries()
        run = Run(resumes=True)
        plan = _plan(source, Path(out), out.endswith(os.sep), run)
        anonymizer = anonymizer_of(region, treatment, grow, feather, pose, match, key)
        settings = {
            "region": region,
            "treatment": treatment,
            "grow": grow,
            "feather": feather,
            "hold": hold,
            "pose": str(pose) if pose else None,
            "match": match,
            "sound": sound,
            "keep_metadata": keep_metadata,
        }
        report = next(iter(plan)) if not source.is_dir() else Path(out) / "anonymized"
        with run.progress:
            _work(plan, anonymizer, settings, report, run)


def anonymizer_of(
    region: list[str],
    treatment: str,
    grow: float | None,
    feather: float,
    pose: Path | None,
    match: str,
    key: Path | None,
) -> Anonymizer:
    """An anonymizer of what the options say; a usage error where they make no sense."""
    from roi_anon_ros.anonymize import make_anonymizer
    from roi_anon_ros.detect import WeightsError

    try:
        return make_anonymizer(region, treatment, grow, feather, pose, match, key)
    except ModuleNotFoundError:
        raise
    except (ImportError, ValueError, OSError, WeightsError) as error:
        usage_error(str(error))


def _plan(source: Path, out: Path, folder: bool, run: Run) -> dict[Path, Path]:
    """What is written, from what: files keep their names, and suffixes that can be written."""
    from roi_anon_ros.anonymize.jobs import taken
    from roi_anon_ros.files.images import FORMATS
    from roi_anon_ros.files.videos import CODECS, READABLE

    suffixes = " ".join([*FORMATS, *READABLE])
    if source.is_dir():
        if out.exists() and not out.is_dir():
            usage_error(f"{out}: must be a folder, as {source} is one")
        if out.resolve().is_relative_to(source.resolve()):
            usage_error(f"{out}: must not lie in {source}, whose files are read")
        plan: dict[Path, Path] = {}
        for file in sorted(source.rglob("*")):
            if file.is_dir():
                continue
            if not file.is_file() or taken(file) is None:
                run.note(file, f"left out: no file that ends in {suffixes}")
                continue
            target = out / _writable(file.relative_to(source))
            if target in plan:
                usage_error(f"{target}: would be written from {plan[target]} and from {file}")
            plan[target] = file
        if not plan:
            usage_error(f"{source}: nothing in it ends in {suffixes}")
        return plan
    if taken(source) is None:
        usage_error(f"{source}: must end in one of {suffixes}")
    target = out / _writable(Path(source.name)) if folder or out.is_dir() else out
    ends = FORMATS if taken(source) == "image" else CODECS
    if target.suffix.lower() not in ends:
        usage_error(f"{target}: must end in one of {' '.join(ends)}, or be a folder")
    if target.exists() and target.samefile(source):
        usage_error(f"{target}: would be written over its own source")
    return {target: source}


def _writable(name: Path) -> Path:
    from roi_anon_ros.files.images import FORMATS
    from roi_anon_ros.files.videos import CODECS

    return name if name.suffix.lower() in (*FORMATS, *CODECS) else name.with_suffix(".mkv")


def _work(
    plan: dict[Path, Path],
    anonymizer: Anonymizer,
    settings: dict[str, Any],
    report: Path,
    run: Run,
) -> None:
    """Anonymize all files, and write the report and the sheet."""
    from roi_anon_ros import storage
    from roi_anon_ros.anonymize.jobs import sheet
    from roi_anon_ros.files.images import image_bytes
    from roi_anon_ros.files.journals import JsonLines

    journal = report.with_name(report.name + ".jsonl.part")
    thumbs: list[Any] = []
    results = []
    with JsonLines(journal, settings) as lines:
        done = {entry["file"]: entry for entry in lines.entries} | _finished(report, settings)
        for target, source in run.track(plan.items(), len(plan), "anonymized"):
            state = [source.stat().st_size, source.stat().st_mtime_ns]
            entry = done.get(str(source))
            if entry and entry["source"] == state and entry["sha256"] == _sha256(target):
                run.kept += 1
                results.append(entry)
                continue
            treated = _treat_file(source, target, anonymizer, settings, run)
            if treated is None:
                continue
            entry = {
                "file": str(source),
                "source": state,
                "sha256": _sha256(target),
                "output": str(target),
                "images": treated.images,
                "damaged": treated.damaged,
                "notes": treated.notes,
                "regions": treated.regions,
            }
            lines.write(entry)
            results.append(entry)
            thumbs += treated.thumbs[: max(ON_SHEET - len(thumbs), 0)]
    failed = sorted(str(path) for path in run.failed)
    content = {"settings": settings, "files": results, "failed": failed}
    text = json.dumps(content, indent=1)
    storage.write_bytes(report.with_name(report.name + ".json"), text.encode())
    if thumbs:
        page = image_bytes(sheet(thumbs), ".jpg", {})
        storage.write_bytes(report.with_name(report.name + ".sheet.jpg"), page)
    journal.unlink()
    images = sum(entry["images"] for entry in results)
    hidden = sum(len(image["regions"]) for entry in results for image in entry["regions"])
    run.sum_up(f"anonymized {images} images, {hidden} regions", len(plan))


def _treat_file(
    source: Path, target: Path, anonymizer: Anonymizer, settings: dict[str, Any], run: Run
) -> Treated | None:
    """Anonymize one file; None where it was reported instead."""
    from roi_anon_ros.anonymize import jobs

    try:
        if jobs.taken(source) == "image":
            keep = settings["keep_metadata"]
            treated = jobs.anonymize_image(anonymizer, source, target, keep)
        else:
            sound = settings["sound"]
            hold = settings["hold"]
            treated = jobs.anonymize_video(
                anonymizer, source, target, sound, hold, settings, run.track
            )
    except (OSError, ValueError) as error:
        run.fail(source, error)
        return None
    for note in treated.notes:
        run.note(source, note)
    for loss in treated.losses:
        run.fail(source, loss)
    return treated


def _finished(report: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Entries by file of a former run's report, if it had the same settings."""
    try:
        content = json.loads(report.with_name(report.name + ".json").read_text())
        if content["settings"] == settings:
            return {entry["file"]: entry for entry in content["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
