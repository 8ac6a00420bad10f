"""What a model paints, as tables: heads by height, kind and view; packets; videos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from roi_anon_ros.evaluate.heads import HEAD_HEIGHTS
from roi_anon_ros.evaluate.report.markdown import Table

#: How many tracks of a video are shown, the worst first.
TRACKS = 10


def order_kinds(kinds: Mapping[str, Any]) -> list[str]:
    """Names of the kinds, first the one with the smallest share of heads of 32 px and more painted
    in any view; those without such heads last.
    """

    def worst_share(kind: str) -> float:
        views = kinds[kind]["views"].values()
        shares = [view["by_height"]["32 px and more"]["share"] for view in views]
        return min((share for share in shares if share is not None), default=math.inf)

    return sorted(kinds, key=worst_share)


def tables(about: Mapping[str, Any]) -> list[Table]:
    """All tables: heads painted, packets compared, videos."""
    found = []
    if about["kinds"]:
        found.append(paint_table(about["kinds"]))
        if any(has_helmets(kind) for kind in about["kinds"].values()):
            found.append(helmet_table(about["kinds"]))
        found.append(packet_table(about["kinds"]))
    if about["videos"]:
        found += [video_table(about["videos"]), track_table(about["videos"])]
    return found


def paint_table(kinds: Mapping[str, Any]) -> Table:
    """Share of the heads whose centre is painted, by height, in each view of each kind."""
    table = [["kind", "view", "images", *HEAD_HEIGHTS, "painted", "painted outside heads"]]
    for kind in order_kinds(kinds):
        for view, figures in kinds[kind]["views"].items():
            cells = [_share(counted) for counted in figures["by_height"].values()]
            outside = figures["outside"]
            rest = [f"{figures['share']:.3f}", "–" if outside is None else f"{outside:.3f}"]
            name = f"{kind}, heads by poses" if kinds[kind].get("by_pose") else kind
            table.append([name, view, str(figures["images"]), *cells, *rest])
    return table


def has_helmets(figures: Mapping[str, Any]) -> bool:
    """Whether it is known of a head of this kind if it wears a helmet."""
    helmets = figures.get("helmets", {})
    return helmets.get("worn", 0) + helmets.get("bare", 0) > 0


def helmet_table(kinds: Mapping[str, Any]) -> Table:
    """Painted heads with and without a helmet, and how many of both are painted with one."""
    table = [["painted with a helmet", "of heads with a helmet", "of heads without"]]
    for kind, figures in kinds.items():
        if has_helmets(figures):
            found = figures["helmets"]
            with_one = f"{found['kept']} of {found['worn']}"
            table.append([kind, with_one, f"{found['added']} of {found['bare']}"])
    return table


def packet_table(kinds: Mapping[str, Any]) -> Table:
    """Packets that stayed the same when what is under the regions was replaced, of all."""
    replacements = list(next(iter(kinds.values()))["packets"])
    table = [["packets identical, under the regions:", *replacements]]
    for kind, figures in kinds.items():
        counted = figures["packets"].values()
        table.append([kind, *(f"{one['same']} of {one['packets']}" for one in counted)])
    return table


def video_table(videos: Mapping[str, Any]) -> Table:
    """Frames in which a head of 32 px or more is unpainted, the worst video first."""
    table = [["video", "frames", "with heads of 32 px and more", "with one of them unpainted"]]
    for name, video in sorted(videos.items(), key=lambda item: -item[1]["unpainted_share"]):
        unpainted = f"{video['frames_unpainted']} ({video['unpainted_share']:.4f})"
        table.append([name, str(video["frames"]), str(video["frames_with_heads"]), unpainted])
    return table


def track_table(videos: Mapping[str, Any]) -> Table:
    """The worst frame of each track, the worst tracks of each video."""
    table = [["video", "track", "frames", "unpainted", "worst frame", "of the head painted there"]]
    for name, video in videos.items():
        for track in video["tracks"][:TRACKS]:
            line = [name, track["track"], str(track["frames"]), str(track["unpainted"])]
            table.append([*line, str(track["worst_frame"]), f"{track['worst_share']:.2f}"])
    return table


def sections(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The page's section, see ``page.sections``."""
    text = [
        f"Model {about['model']}, fingerprint {about['fingerprint']}. A head counts as painted "
        "where the pixel at its centre is. By height of the annotated head, in pixels of the "
        "image that is coded; in brackets 95 % of bootstrap resamples of the images, then the "
        "number of heads. Turned and swapped images are as a camera sends them that is mounted so "
        "or whose driver takes red for blue. A close-up is a crop in which the largest head is "
        "0.5 to 1.5 times as high as the image.",
        "Packets: each image is encoded again with other pixels under the same regions.",
        "Videos: frames in which the centre of an annotated head of 32 px or more is not painted.",
    ]
    if about.get("pose"):
        text.append(
            "Heads by poses: in images in which nobody looked for heads, those count that a pose "
            f"network finds by the points of their faces ({about['pose']}). Heads from behind are "
            "not among them."
        )
    worst = order_kinds(about["kinds"])[0] if about["kinds"] else ""
    title = "What is painted" + (f"; the worst kind: {worst}" if worst else "")
    return [{"title": title, "text": text, "tables": tables(about)}]


def _share(counted: Mapping[str, Any]) -> str:
    """A share with its interval and the number of heads."""
    if counted["share"] is None:
        return "–"
    low, high = counted["share_interval"]
    return f"{counted['share']:.3f} ({low:.3f} to {high:.3f}) of {counted['heads']}"
