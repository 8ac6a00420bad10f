"""``heads``: what a model paints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from roi_anon_ros.codec import Codec
    from roi_anon_ros.datasets import Frame, Record
    from roi_anon_ros.detect.poses import PoseNetwork
    from roi_anon_ros.evaluate.views import View


@app.command()
def heads(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name or file, after it perhaps @ and an engine, : and a quality."
        ),
    ],
    sets: Annotated[
        list[Path] | None, typer.Argument(metavar="[SET...]", help="Annotations, as evaluate's.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="The images' folder, once for each SET, where they do not say it."),
    ] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(
            help="A COCO JSON of frames: images with frame_id, perhaps video_id and seconds, "
            "boxes of heads with track_id. May be given several times."
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(help="Frames in a second, where they do not have seconds.")
    ] = 15.0,
    hold: Annotated[
        float, typer.Option(help="Seconds for which a head in a video stays hidden.")
    ] = 0.5,
    pose: Annotated[
        Path | None,
        typer.Option(
            help="Weights of an ultralytics pose network, such as yolo11n-pose.pt: in images in "
            "which nobody looked for heads, those that it finds are counted."
        ),
    ] = None,
    views: Annotated[
        str, typer.Option(help="As evaluate's --view, a list with commas.")
    ] = "upright,turned-90,turned-180,swapped,grey,close-up",
    limit: Annotated[
        int, typer.Option(help="Images of each kind, at most, spread over it; 0: all.", min=0)
    ] = 0,
    packets: Annotated[
        int, typer.Option(help="This many images of each kind are encoded for packets.", min=0)
    ] = 12,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = OUT,
) -> None:
    """Count the heads that a model paints: by height, kind of image and view, and in videos.

    Where it is annotated who wears a helmet, count the heads that are painted with one (--helmets).
    Also encode images again with noise, black and another image under the painted regions, and
    count the packets that stay the same. Results: heads.md and heads.json in OUT, for roi-anon
    report.
    """
    with interruptible("evaluate"):
        for path in [*(sets or []), *(video or []), *([pose] if pose else [])]:
            must_exist(path)
        if not sets and not video:
            usage_error("nothing to measure: name a SET, or a --video")
        quiet_libraries()
        from roi_anon_ros import storage
        from roi_anon_ros.codec.hiding import Hiding
        from roi_anon_ros.codec.latents import check_quality
        from roi_anon_ros.datasets import read_sequences
        from roi_anon_ros.detect.poses import PoseNetwork
        from roi_anon_ros.evaluate.comparison import read_kinds
        from roi_anon_ros.evaluate.heads import LEAST_POSE, check_paints
        from roi_anon_ros.evaluate.measure import environment
        from roi_anon_ros.evaluate.methods import Kind, parse_name
        from roi_anon_ros.evaluate.methods.making import load_codec
        from roi_anon_ros.evaluate.report.heads import tables
        from roi_anon_ros.evaluate.report.markdown import to_markdown
        from roi_anon_ros.evaluate.views import VIEWS, find_view

        run = Run(resumes=False)
        with usage_errors():
            name = parse_name(model)
            if name.kind is not Kind.MODEL:
                raise ValueError(f"{model}: is a {name.kind.value}, must be a model")
            codec = load_codec(name)
            check_paints(codec)
            network = None if pose is None else PoseNetwork(pose, LEAST_POSE)
            quality = check_quality(name.quality)
            Hiding(hold=hold)
            videos = {}
            for file in video or []:
                for label, frames in read_sequences(file, rate=rate).items():
                    videos[f"{file.stem}/{label}"] = frames
        about: dict[str, Any] = {
            "model": codec.name,
            "fingerprint": codec.fingerprint,
            "quality": quality,
            "pose": f"{pose.name}, {network.fingerprint}" if pose and network else None,
            "environment": environment(),
        }
        with run.progress:
            with usage_errors():
                chosen = {view: find_view(view) for view in views.split(",")}
                kinds = {}
                if sets:
                    kinds = read_kinds(sets, images or [], VIEWS["upright"], limit, run.fail)
                about["kinds"] = {}
                for kind, found in kinds.items():
                    records = found.records
                    by_pose = 0
                    if network is not None:
                        by_pose = sum("head" not in record.annotated for record in records)
                        records = _add_heads(records, network, kind, run)
                    about["kinds"][kind] = {
                        "by_pose": by_pose,
                        "views": _count_heads(codec, kind, records, chosen, run),
                        "helmets": _count_helmets(codec, kind, records, run),
                        "packets": _count_packets(codec, quality, records, packets, run),
                    }
                about["videos"] = _count_videos(codec, videos, hold, run)
        markdown = "\n".join(map(to_markdown, tables(about)))
        storage.write_bytes(out / "heads.md", markdown.encode())
        storage.write_bytes(out / "heads.json", json.dumps(about, indent=1).encode())
        typer.echo(markdown)
        if run.failed:
            raise typer.Exit(1)


def _add_heads(records: list[Record], network: PoseNetwork, kind: str, run: Run) -> list[Record]:
    """The records of one kind of images, with heads where nobody looked for them."""
    from roi_anon_ros.evaluate.heads import add_heads_of_poses

    steps = (add_heads_of_poses(record, network) for record in records)
    return list(run.track(steps, len(records), f"{kind}, poses"))


def _count_heads(
    codec: Codec, kind: str, records: list[Record], views: dict[str, View], run: Run
) -> dict[str, Any]:
    """What of the heads of one kind of images is painted, by the name of the view."""
    from roi_anon_ros.evaluate.heads import look_at_heads, sum_up_paint

    counted = {}
    for name, view in views.items():
        taken = [record for record in records if view.takes(record)]
        steps = look_at_heads(taken, codec, view)
        painted = list(run.track(steps, len(taken), f"{kind}, {name}"))
        if painted:
            counted[name] = sum_up_paint(painted)
    return counted


def _count_helmets(codec: Codec, kind: str, records: list[Record], run: Run) -> dict[str, int]:
    """What a model says of the helmets in one kind of images."""
    from roi_anon_ros.evaluate.helmets import Helmets, look_at_helmets

    steps = look_at_helmets(records, codec)
    counted = run.track(steps, len(records), f"{kind}, helmets")
    return asdict(sum(counted, Helmets()))


def _count_packets(
    codec: Codec, quality: float, records: list[Record], count: int, run: Run
) -> dict[str, Any]:
    """Packets of one kind of images that do not depend on what is hidden."""
    from roi_anon_ros.datasets import spread
    from roi_anon_ros.evaluate.interference import compare_packets, count_same
    from roi_anon_ros.files import read_pixels

    chosen = spread(records, count)
    images = (read_pixels(record.path) for record in chosen)
    steps = compare_packets(images, codec, quality)
    return count_same(run.track(steps, len(chosen), "packets"))


def _count_videos(
    codec: Codec, videos: dict[str, list[Frame]], hold: float, run: Run
) -> dict[str, Any]:
    """What of the heads in each video is painted, by the video's name."""
    from roi_anon_ros.evaluate.tracks import look_at_frames, sum_up_video

    counted = {}
    for name, frames in videos.items():
        steps = look_at_frames(frames, codec, hold)
        counted[name] = sum_up_video(list(run.track(steps, len(frames), name)))
    return counted
