"""How a detector on latents does beside detectors on decoded images, on the same packets.

python -m roi_anon_ros.evaluate.latents SET... --limit 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from roi_anon_ros.codec import DEFAULT_MODEL, Codec, Opened
from roi_anon_ros.datasets import Record
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.detect.choice import DEFAULT, LATENT, OURS, make_detector, make_latent_detector
from roi_anon_ros.detect.latent_persons import LatentPersons
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.evaluate.comparison import read_kinds
from roi_anon_ros.evaluate.measure import LEAST_SCORE
from roi_anon_ros.evaluate.precision import Judged, average_precision, judge, recall
from roi_anon_ros.evaluate.report.markdown import Table, to_markdown
from roi_anon_ros.evaluate.summary import (
    HEIGHTS,
    OVERLAP,
    PERSON_SCORE,
    PERSON_SCORES,
    at_score,
    truth_of,
)
from roi_anon_ros.evaluate.views import VIEWS
from roi_anon_ros.files import read_pixels

Found = dict[str, list[Detections]]


def look_at_packets(
    records: list[Record],
    codec: Codec,
    latents: LatentPersons,
    detectors: Mapping[str, Detector],
    quality: float,
) -> Found:
    """Encode images, and find the persons in each packet and in the image that it decodes to.

    Args:
        records: the images.
        codec: that codes them.
        latents: the detector on latents; its results are called `LATENT`.
        detectors: on decoded images, by name.
        quality: of the codec, 0: what fits the size.

    Returns:
        By name, of each image, the boxes in its own pixels.
    """
    found: Found = {name: [] for name in (LATENT, *detectors)}
    for record in records:
        opened = codec.open(codec.encode(read_pixels(record.path), quality=quality).packet)
        found[LATENT].append(_to_source(latents([opened])[0], opened))
        for name, detector in detectors.items():
            (seen,) = detector([codec.synthesise(opened).image])
            found[name].append(_to_source(seen, opened))
    return found


def _to_source(found: Detections, opened: Opened) -> Detections:
    return Detections(opened.header.to_source(found.boxes), found.scores, found.labels)


def judge_all(
    records: list[Record], found: list[Detections], heights: tuple[float, float] = (0, np.inf)
) -> list[Judged]:
    """Judge what was found in images by people's boxes; images without any do not count."""
    judged = []
    for record, one in zip(records, found, strict=True):
        truth = truth_of(record, "persons")
        if truth is not None:
            judged.append(judge(one, truth, OVERLAP["persons"], heights))
    return judged


def tables(kinds: Mapping[str, tuple[list[Record], Found]]) -> tuple[Table, Table]:
    """Return the figures of each kind and detector, and the same by the persons' height."""
    scores = [f"{name} at {score}" for score in PERSON_SCORES for name in ("recall", "false")]
    whole: Table = [["images (persons)", "detector", "AP", *scores]]
    names = next(iter(kinds.values()))[1]
    high: Table = [["AP and recall at 0.25 by height (persons)", *names]]
    for kind, (records, found) in kinds.items():
        for name, of_name in found.items():
            judged = judge_all(records, of_name)
            persons = sum(len(one.sizes) for one in judged)
            row = [f"{kind}, {len(judged)} ({persons})", name, f"{average_precision(judged):.2f}"]
            for score in PERSON_SCORES:
                figures = at_score(judged, score)
                row += [f"{figures['recall']:.2f}", f"{figures['false']:.1f}"]
            whole.append(row)
        for label, heights in HEIGHTS.items():
            parts = [judge_all(records, of_name, heights) for of_name in found.values()]
            persons = sum(len(one.sizes) for one in parts[0])
            if persons:
                figures_of = [
                    f"{average_precision(part):.2f}, {recall(part, PERSON_SCORE):.2f}"
                    for part in parts
                ]
                high.append([f"{kind}, {label} ({persons})", *figures_of])
    return whole, high


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description="A detector on latents beside detectors on decoded images."
    )
    parser.add_argument("sets", nargs="+", type=Path, help="annotations, of people's boxes")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="(default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="of all networks (default: %(default)s)")
    parser.add_argument("--latent", default=LATENT, help="name or file (default: %(default)s)")
    parser.add_argument(
        "--detectors", default=f"{OURS},{DEFAULT}", help="on images (default: %(default)s)"
    )
    parser.add_argument("--quality", type=float, default=0, help="0: what fits (default)")
    parser.add_argument("--limit", type=int, default=0, help="images of each kind; 0: all")
    given = parser.parse_args()
    console = Console(stderr=True)
    least = LEAST_SCORE["persons"]
    try:
        codec = Codec.load(given.model, given.engine)
        latents = make_latent_detector(given.latent, codec.model, least, given.engine)
        detectors = {}
        for name in filter(None, given.detectors.split(",")):
            detectors[Path(name).stem] = make_detector(name, least, given.engine)
        read = read_kinds(
            given.sets,
            [],
            VIEWS["upright"],
            given.limit,
            lambda path, error: console.print(f"{path}: {error}", markup=False),
        )
        kinds = {}
        for name, kind in track(read.items(), "kinds", console=console, transient=True):
            records = [one for one in kind.records if truth_of(one, "persons") is not None]
            if records:
                seen = look_at_packets(records, codec, latents, detectors, given.quality)
                kinds[name] = (records, seen)
        if not kinds:
            raise ValueError("sets: got no image on which people drew persons, must be 1 at least")
    except (RoiAnonError, ImportError, OSError, ValueError) as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    for table in tables(kinds):
        print(to_markdown(table))


if __name__ == "__main__":
    main()
