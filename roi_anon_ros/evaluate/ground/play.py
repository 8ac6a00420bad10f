"""Boxes played as a real detector and a real network would deliver them: some lost, moved, late.

The source of detections is anything that gives, for a moment's number, the boxes of each camera:
the sequence's own, or a file of a detector that saw original or decoded images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roi_anon_ros.evaluate.ground.sequences import Sequence

#: Of a moment's number: boxes (N, 5) of each camera.
Source = Callable[[int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Fault:
    """What happens to boxes on their way.

    Attributes:
        name: for tables.
        drop: share of the boxes that a detector misses.
        jitter: standard deviation of each edge, in parts of the box's height.
        false_alarms: boxes of nobody in each frame, on average.
        delay: greatest delay of a camera's frame, seconds; uniform, so frames overtake each other.
        lost: share of whole frames that never arrive.
    """

    name: str
    drop: float = 0.0
    jitter: float = 0.0
    false_alarms: float = 0.0
    delay: float = 0.0
    lost: float = 0.0


#: What the annotated boxes are played with.
FAULTS = (
    Fault("as annotated"),
    Fault("drop 20 %, jitter 3 %, 0.5 false", drop=0.2, jitter=0.03, false_alarms=0.5),
    Fault(
        "and 10 % of the frames lost, late up to 0.6 s",
        drop=0.2,
        jitter=0.03,
        false_alarms=0.5,
        delay=0.6,
        lost=0.1,
    ),
)


@dataclass(frozen=True)
class Arrival:
    """A camera's boxes as they arrive.

    Attributes:
        at: when, seconds.
        stamp: of the image, seconds.
        camera: name.
        boxes: (N, 5).
    """

    at: float
    stamp: float
    camera: str
    boxes: np.ndarray


def annotated(sequence: Sequence) -> Source:
    """The sequence's own boxes."""
    return lambda number: sequence.moments[number].boxes


def read_detections(path: Path) -> Source:
    """Detections of a file of JSON lines: {"frame": 0, "camera": "View_001", "boxes": [[5], ...]}.

    Raises:
        ValueError: a line is not of this form; names the line.
    """
    found: dict[int, dict[str, np.ndarray]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            boxes = np.asarray(entry["boxes"], float).reshape(-1, 5)
            found.setdefault(int(entry["frame"]), {})[str(entry["camera"])] = boxes
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: {error!r}") from None
    return lambda number: found.get(number, {})


def play(sequence: Sequence, source: Source, fault: Fault, seed: int = 0) -> Iterator[Arrival]:
    """Yield what arrives, in the order of arrival."""
    random = np.random.default_rng(seed)
    arrivals = []
    for number, moment in enumerate(sequence.moments):
        for name, boxes in source(number).items():
            late = random.uniform(0, fault.delay) if fault.delay else 0.0
            spoiled = _spoil(boxes, sequence, name, fault, random)
            if random.uniform() >= fault.lost:
                arrivals.append(Arrival(moment.stamp + late, moment.stamp, name, spoiled))
    yield from sorted(arrivals, key=lambda arrival: arrival.at)


def _spoil(
    boxes: np.ndarray, sequence: Sequence, name: str, fault: Fault, random: np.random.Generator
) -> np.ndarray:
    lens = sequence.cameras[name].lens
    spoiled = boxes[random.uniform(size=len(boxes)) >= fault.drop].copy()
    heights = spoiled[:, 3:4] - spoiled[:, 1:2]
    spoiled[:, :4] += random.normal(size=(len(spoiled), 4)) * fault.jitter * heights
    count = random.poisson(fault.false_alarms)
    height = random.uniform(0.1, 0.4, count) * lens.height
    x0 = random.uniform(0, lens.width, count)
    y1 = random.uniform(0.3 * lens.height, lens.height, count)
    confidence = random.uniform(0.3, 0.7, count)
    alarms = np.column_stack([x0, y1 - height, x0 + 0.4 * height, y1, confidence])
    return np.concatenate([spoiled, alarms])
