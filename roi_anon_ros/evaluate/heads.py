"""Which of the annotated heads a model paints, by height, kind of image and view."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.regions import Regions
from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect.poses import FIRST_OF_BODY, PoseNetwork, Poses
from roi_anon_ros.evaluate.precision import count_draws, to_interval
from roi_anon_ros.evaluate.views import View
from roi_anon_ros.files import read_pixels

#: Heights of heads: pixels from, and below.
HEAD_HEIGHTS = {
    "8 to 16 px": (8, 16),
    "16 to 32 px": (16, 32),
    "32 px and more": (32, math.inf),
}


#: Least score of a person whose pose is asked for, and least sureness of a point of it.
LEAST_POSE = 0.4
LEAST_POINT = 0.5
#: Points of the face (eyes, ears, nose) that a head needs, and the least width of one, pixels.
LEAST_POINTS = 2
NARROWEST = 8
#: Width of a head in widths of what is seen of its face, of its shoulders, and in heights of the
#: person: the largest counts, and at most this share of the person's width. And its height in
#: widths.
OF_FACE = 1.35
OF_SHOULDERS = 0.55
OF_PERSON = 0.11
OF_PERSONS_WIDTH = 0.9
TALL = 1.2


@dataclass(frozen=True)
class Painted:
    """What of one image is painted.

    Attributes:
        heights: of the annotated heads that count, pixels, ``[n]``.
        centres: whether the centre of each of them is painted, bool ``[n]``.
        share: of the image's pixels that are painted, 0 to 1.
        outside: of the pixels outside all annotated heads that are painted, 0 to 1; nan where heads
            are not annotated.
    """

    heights: np.ndarray
    centres: np.ndarray
    share: float
    outside: float


def find_regions(codec: Codec, image: np.ndarray) -> Regions:
    """What a model paints in an image that stands alone, uint8 ``[H, W, 3]`` RGB."""
    _, hidden = Hiding().find(codec.find_heads, image, [], (1.0, 1.0))
    return hidden.regions


def check_paints(codec: Codec) -> None:
    """Refuse a model that has no head map.

    Raises:
        ValueError: it has none.
    """
    if not codec.model.latents.has_quality:
        raise ValueError(f"model {codec.name}: has no head map, paints nothing")


def heads_of_poses(poses: Poses) -> Boxes:
    """Heads of the persons in an image, where their faces are seen, at least from the side."""
    boxes = []
    for box, points, seen in zip(poses.boxes, poses.points, poses.seen, strict=True):
        sure = seen > LEAST_POINT
        face = points[:FIRST_OF_BODY][sure[:FIRST_OF_BODY]]
        if len(face) < LEAST_POINTS:
            continue
        apart = points[FIRST_OF_BODY] - points[FIRST_OF_BODY + 1]
        both = sure[FIRST_OF_BODY : FIRST_OF_BODY + 2].all()
        shoulders = np.hypot(*apart) if both else 0.0
        wide, tall = box[2:] - box[:2]
        width = max(OF_FACE * np.ptp(face[:, 0]), OF_SHOULDERS * shoulders, OF_PERSON * tall)
        width = min(width, OF_PERSONS_WIDTH * wide)
        if width < NARROWEST:
            continue
        half = np.array([width, TALL * width]) / 2
        centre = face.mean(axis=0)
        boxes.append([*(centre - half), *(centre + half)])
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return Boxes(found, np.zeros(len(found), bool))


def add_heads_of_poses(record: Record, network: PoseNetwork) -> Record:
    """A record with the heads that a pose network finds, where nobody looked for heads.

    They are not all that there are: those from behind are missing.
    """
    if "head" in record.annotated:
        return record
    return replace(record, heads=heads_of_poses(network(read_pixels(record.path))))


def look_at_heads(records: Iterable[Record], codec: Codec, view: View) -> Iterator[Painted]:
    """Yield what a model paints in each image.

    Args:
        records: images with their heads.
        codec: of the model.
        view: how the camera sees them.
    """
    for record in records:
        scene, shown = view.see(record)
        image = view.send(scene)
        height, width = image.shape[:2]
        mask = view.undo(find_regions(codec, image).mask(width, height))
        yield judge_paint(mask, shown)


def judge_paint(mask: np.ndarray, record: Record) -> Painted:
    """Which heads of an image a mask of painted pixels, bool ``[H, W]``, hides."""
    height, width = mask.shape
    heads = record.heads.xyxy
    x = ((heads[:, 0] + heads[:, 2]) / 2).astype(int).clip(0, width - 1)
    y = ((heads[:, 1] + heads[:, 3]) / 2).astype(int).clip(0, height - 1)
    counted = ~record.heads.ignore
    bare = np.ones(mask.shape, bool)
    for x1, y1, x2, y2 in heads.tolist():
        bare[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = False
    annotated = "head" in record.annotated and bare.any()
    return Painted(
        heights=(heads[:, 3] - heads[:, 1])[counted],
        centres=mask[y, x][counted],
        share=float(mask.mean()),
        outside=float(mask[bare].mean()) if annotated else math.nan,
    )


def sum_up_paint(painted: list[Painted]) -> dict[str, Any]:
    """The figures over the images of one kind.

    Returns:
        ``images``; ``share`` of all pixels that is painted; ``outside``, of those outside annotated
        heads (None: no image is annotated with heads); ``by_height``: for each of ``HEAD_HEIGHTS``
        ``heads``, their number, and ``share``, of those whose centre is painted (None without any),
        with its ``share_interval``, 95 % by bootstrap over the images.
    """
    outside = [one.outside for one in painted if not math.isnan(one.outside)]
    return {
        "images": len(painted),
        "share": float(np.mean([one.share for one in painted])),
        "outside": float(np.mean(outside)) if outside else None,
        "by_height": {
            label: _count_heads(painted, bounds) for label, bounds in HEAD_HEIGHTS.items()
        },
    }


def _count_heads(painted: list[Painted], bounds: tuple[float, float]) -> dict[str, Any]:
    """Heads of some heights, and the share of them whose centre is painted."""
    heads = []
    hidden = []
    for one in painted:
        of_height = (one.heights >= bounds[0]) & (one.heights < bounds[1])
        heads.append(int(of_height.sum()))
        hidden.append(int(one.centres[of_height].sum()))
    total = sum(heads)
    if total == 0:
        return {"heads": 0, "share": None, "share_interval": None}
    times = count_draws(len(painted))
    drawn = times @ np.array(heads)
    shares = (times @ np.array(hidden)) / np.where(drawn == 0, np.nan, drawn)
    return {
        "heads": total,
        "share": sum(hidden) / total,
        "share_interval": to_interval(shares),
    }
