"""Person detectors side by side, on originals and on decoded images, by height and kind.

python -m roi_anon_ros.evaluate.detectors SET.json --methods original,fast --detectors persons
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roi_anon_ros.datasets import Boxes, Record, read_set
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.choice import make_detector
from roi_anon_ros.detect.matching import overlaps
from roi_anon_ros.evaluate.methods import make_method
from roi_anon_ros.evaluate.precision import Judged, average_precision, judge
from roi_anon_ros.files import read_pixels

#: Detections from this score on are asked for: curves of precision over recall get whole.
LEAST_SCORE = 0.001
#: Least overlap of a detection with the person that it finds.
OVERLAP = 0.5
#: Heights of persons, pixels of the image: more than, and up to.
HEIGHTS = ((0, 32), (32, 64), (64, 128), (128, 256), (256, math.inf))


@dataclass(frozen=True)
class Figures:
    """What one detector did in one group of persons.

    Attributes:
        persons: how many there are to find.
        precision: average precision at an overlap of 0.5.
        recall: share found at the server's score.
        false: false boxes an image at that score.
    """

    persons: int
    precision: float
    recall: float
    false: float


def sum_up(judged: list[Judged], score: float) -> Figures:
    """Sum up the images of a group.

    Args:
        judged: each image.
        score: from which the server publishes a detection.
    """
    persons = sum(len(one.sizes) for one in judged)
    found = sum(int((one.found >= score).sum()) for one in judged)
    false = sum(int((one.scores[~one.correct] >= score).sum()) for one in judged)
    recall = found / persons if persons else math.nan
    return Figures(persons, average_precision(judged), recall, false / max(len(judged), 1))


def judge_height(found: Detections, truth: Boxes, above: float, up_to: float) -> Judged:
    """Judge the detections on one image by the persons of some height alone.

    Persons of other heights are ignored, and so is a detection of another height that finds none of
    these.
    """
    heights = truth.xyxy[:, 3] - truth.xyxy[:, 1]
    counted = (heights > above) & (heights <= up_to) & ~truth.ignore
    seen = found.boxes[:, 3] - found.boxes[:, 1]
    near = overlaps(found.boxes, truth.xyxy[counted]).max(1, initial=0) >= OVERLAP
    kept = ((seen > above) & (seen <= up_to)) | near
    some = Detections(found.boxes[kept], found.scores[kept], ["person"] * int(kept.sum()))
    return judge(some, Boxes(truth.xyxy, ~counted), OVERLAP)


def group_images(
    records: list[Record], found: list[Detections]
) -> Iterator[tuple[str, list[Judged]]]:
    """Yield each group's name and its images, judged: all, each kind, each height.

    An image's kind is what its file name says before the first underscore.
    """
    kinds: dict[str, list[Judged]] = defaultdict(list)
    for record, of_image in zip(records, found, strict=True):
        judged = judge(of_image, record.persons, OVERLAP)
        kinds["all"].append(judged)
        kinds[record.path.name.partition("_")[0]].append(judged)
    yield from kinds.items()
    for above, up_to in HEIGHTS:
        pairs = zip(records, found, strict=True)
        name = f"{above} to {up_to} px" if up_to < math.inf else f"over {above} px"
        yield name, [judge_height(one, record.persons, above, up_to) for record, one in pairs]


def compare(records: list[Record], methods: list[str], detectors: list[str], score: float) -> str:
    """Return a table in Markdown: a line for each group of each method, columns for each detector.

    Args:
        records: images on which people drew all persons.
        methods: how images are sent, see `make_method`.
        detectors: names or files, see `make_detector`.
        score: from which the server publishes a detection.
    """
    finders = {name: make_detector(name, LEAST_SCORE) for name in detectors}
    titles = [
        f"{Path(name).stem}: {one}" for name in detectors for one in ("AP50", "recall", "false")
    ]
    lines = [f"| method | group | persons | {' | '.join(titles)} |"]
    lines.append("|" + "---|" * (3 + len(titles)))
    for name in methods:
        method = make_method(name)
        images = [method.decode(method.encode(read_pixels(record.path))) for record in records]
        groups: dict[str, list[Figures]] = defaultdict(list)
        for find in finders.values():
            found = [find([image])[0] for image in images]
            for group, judged in group_images(records, found):
                groups[group].append(sum_up(judged, score))
        for group, figures in groups.items():
            shown = [f"{f.precision:.3f} | {f.recall:.3f} | {f.false:.2f}" for f in figures]
            lines.append(f"| {name} | {group} | {figures[0].persons} | {' | '.join(shown)} |")
    return "\n".join(lines)


def read_judged(annotations: Path, kinds: list[str]) -> list[Record]:
    """Return the images of a set on which people drew all persons; of some kinds, or of all."""
    records = read_set(annotations).records
    by_hand = [r for r in records if "person" in r.annotated and "person" not in r.by_detector]
    return [r for r in by_hand if not kinds or r.path.name.partition("_")[0] in kinds]


def main() -> None:
    """Print the table of a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--kinds", default="", help="file names' beginnings, with commas; all")
    parser.add_argument("--methods", default="original", help="as roi-anon evaluate takes them")
    parser.add_argument("--detectors", default="yolov8n,persons")
    parser.add_argument("--score", type=float, default=0.25)
    asked = parser.parse_args()
    records = read_judged(asked.annotations, [one for one in asked.kinds.split(",") if one])
    if not records:
        parser.error(f"{asked.annotations}: people drew all persons on none of these images")
    print(compare(records, asked.methods.split(","), asked.detectors.split(","), asked.score))


if __name__ == "__main__":
    main()
