"""``bag``: recordings with their images anonymized."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roi_anon_ros.cli.anonymize import (
    FEATHER,
    GROW,
    HOLD,
    KEY_FILE,
    MATCH,
    POSE,
    REGION,
    TREATMENT,
    anonymizer_of,
)
from roi_anon_ros.cli.run import Run, app, interruptible, must_exist, quiet_libraries, usage_error

if TYPE_CHECKING:
    from roi_anon_ros.anonymize import Anonymizer
    from roi_anon_ros.anonymize.bags import CodecWay, TreatmentWay

TO = ("latent", "compressed")


@app.command()
def bag(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A rosbag2 folder, or an .mcap file.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The same kind, not there yet.")],
    topic: Annotated[
        list[str],
        typer.Option(
            help="A topic of images, raw or compressed, that is anonymized; more than once."
        ),
    ] = [],  # noqa: B006  typer copies it
    keep: Annotated[
        list[str], typer.Option(help="A topic with images that is copied as it is; more than once.")
    ] = [],  # noqa: B006
    region: REGION = ["face"],  # noqa: B006
    treatment: TREATMENT = "blur",
    grow: GROW = None,
    feather: FEATHER = 0.06,
    hold: HOLD = 0.5,
    pose: POSE = None,
    match: MATCH = "mean",
    key: KEY_FILE = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Anonymize by this model of the codec, instead of by region and treatment."
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="With --model: latent (CompressedLatent) or compressed (CompressedImage, decoded)."
        ),
    ] = "latent",
    max_side: Annotated[
        int, typer.Option(help="With --model: longest side that is coded, pixels; 0: any.")
    ] = 640,
) -> None:
    """Anonymize the images of a recording: rosbag2 (SQLite or MCAP) and MCAP files. No ROS is
    needed.

    Topics that were not named are copied byte for byte, with stamps, QoS, types and metadata. Those
    among them that carry images are dropped, unless --keep names them; distances (16UC1, 32FC1,
    compressedDepth) stay.

    OUT stands there when it is complete. Interrupted, the same command uses again what was found so
    far. OUT.report.json says what became of each topic. Images that cannot be read are dropped,
    counted, and the exit code is 1.
    """
    with interruptible("anonymize"):
        must_exist(source)
        quiet_libraries()
        _check(source, out, to)
        settings: dict[str, Any] = {"topic": topic, "keep": keep}
        if model is None:
            settings |= {"region": region, "treatment": treatment, "grow": grow, "hold": hold}
            settings |= {"feather": feather, "match": match, "pose": str(pose)}
            anonymizer = anonymizer_of(region, treatment, grow, feather, pose, match, key)
            way: TreatmentWay | CodecWay = _treatment_way(anonymizer, hold)
        else:
            settings |= {"model": model, "to": to, "max_side": max_side}
            way = _codec_way(model, to, max_side)
        _write(source, out, settings, way)


def _check(source: Path, out: Path, to: str) -> None:
    """End the command where its arguments make no sense together."""
    if out.exists():
        usage_error(f"{out}: is there already")
    if source.is_dir() == (out.suffix.lower() == ".mcap"):
        kind = "a folder" if source.is_dir() else "an .mcap file"
        usage_error(f"{out}: must be {kind}, as {source} is")
    if to not in TO:
        usage_error(f"to: got {to!r}, must be one of {', '.join(TO)}")


def _write(source: Path, out: Path, settings: dict[str, Any], way: TreatmentWay | CodecWay) -> None:
    """Write the recording and its report."""
    from roi_anon_ros import storage
    from roi_anon_ros.anonymize.bags import Recording, anonymize_recording

    started = time.monotonic()
    run = Run(resumes=True)
    try:
        with Recording(source) as recording, run.progress:
            report = anonymize_recording(
                recording, out, settings["topic"], settings["keep"], way, settings, run.track
            )
    except (ValueError, OSError) as error:
        usage_error(str(error))
    content = {
        "source": str(source),
        "settings": settings,
        "seconds": round(time.monotonic() - started, 1),
        "topics": report.topics,
        "attachments_dropped": report.attachments,
    }
    text = json.dumps(content, indent=1)
    storage.write_bytes(out.with_name(out.name + ".report.json"), text.encode())
    _say(content, run, source)


def _treatment_way(anonymizer: Anonymizer, hold: float) -> TreatmentWay:
    from roi_anon_ros.anonymize.bags import TreatmentWay

    return TreatmentWay(anonymizer, hold)


def _codec_way(model: str, to: str, max_side: int) -> CodecWay:
    from roi_anon_ros.anonymize.bags import CodecWay
    from roi_anon_ros.codec import Codec, ModelFileError
    from roi_anon_ros.codec.image import coded_size

    try:
        coded_size(1, 1, max_side)
        return CodecWay(Codec.load(model), to == "compressed", max_side)
    except ModelFileError as error:
        usage_error(str(error))
    except ValueError as error:
        usage_error(f"--max-side: {error}")


def _say(content: dict[str, Any], run: Run, source: Path) -> None:
    """One line a topic; exit code 1 where an image of a named topic is missing."""
    topics = content["topics"]
    for name, entry in topics.items():
        output = entry.get("output", name)
        renamed = f" as {output}" if output != name else ""
        counted = f"{entry['written']} of {entry['messages']} messages"
        typer.echo(f"{entry['action']:<11} {name}{renamed}: {counted}")
        for reason, count in entry.get("reasons", {}).items():
            if entry["action"] == "anonymized":
                run.fail(source, f"{name}: {count} messages dropped: {reason}")
    for name in content["attachments_dropped"]:
        typer.echo(f"dropped     attachment {name}")
    images = sum(entry["written"] for entry in topics.values() if entry["action"] == "anonymized")
    run.sum_up(f"anonymized {images} images in {content['seconds']} s", 1)
