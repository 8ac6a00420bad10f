"""Videos with boxes for each frame: a COCO JSON whose images are frames."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.datasets.coco import image_folder
from roi_anon_ros.datasets.reading import KIND_OF, plain_name, read_content, to_corners


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        path: of its image.
        seconds: since the beginning.
        heads: float32 ``[n, 4]``, left, top, right, bottom of each annotated head, pixels; those
            to be ignored are left out.
        tracks: the track that each of them belongs to, n names.
    """

    path: Path
    seconds: float
    heads: np.ndarray
    tracks: list[str]


def read_sequences(
    annotations: Path, images: Path | None = None, rate: float = 15.0
) -> dict[str, list[Frame]]:
    """Read videos from a COCO JSON.

    Images have ``video_id`` (without it all are one video), ``frame_id`` (from 0, the order) and
    perhaps ``seconds``; annotations have ``track_id``. Only heads are read.

    Args:
        annotations: the JSON file.
        images: folder that ``file_name`` is relative to, as of ``read_coco``.
        rate: frames in a second, where images do not have ``seconds``.

    Returns:
        The frames of each video in order, by the video's name.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    if rate <= 0:
        raise ValueError(f"rate: got {rate} frames in a second, must be above 0")
    folder = image_folder(annotations, images)
    try:
        coco = json.loads(read_content(annotations))
        heads = _heads_of(coco)
        videos: dict[str, list[tuple[int, Frame]]] = defaultdict(list)
        for image in coco["images"]:
            number = int(image["frame_id"])
            seconds = float(image.get("seconds", number / rate))
            found = heads[image["id"]]
            corners = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
            tracks = [track for _, track in found]
            frame = Frame(folder / image["file_name"], seconds, corners, tracks)
            videos[str(image.get("video_id", annotations.stem))].append((number, frame))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations}: no COCO JSON of frames: {error!r}") from error
    if not videos:
        raise ValueError(f"{annotations}: images: got none, must be at least 1")
    ordered = {}
    for name, frames in videos.items():
        frames.sort(key=lambda numbered: numbered[0])
        ordered[name] = [frame for _, frame in frames]
    return ordered


def _heads_of(coco: dict[str, Any]) -> dict[Any, list[tuple[tuple[float, ...], str]]]:
    """Box and track of each head, by the number of its image."""
    kinds = {c["id"]: KIND_OF.get(plain_name(c["name"])) for c in coco["categories"]}
    if "head" not in kinds.values():
        raise ValueError("categories: none is a head")
    heads: dict[Any, list[tuple[tuple[float, ...], str]]] = defaultdict(list)
    for one in coco["annotations"]:
        if kinds[one["category_id"]] == "head" and not (one.get("ignore") or one.get("iscrowd")):
            heads[one["image_id"]].append((to_corners(one["bbox"]), str(one["track_id"])))
    return heads
