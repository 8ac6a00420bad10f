"""Error in metres, misses, false alarms and identities of people on the ground.

Truth and estimate belong together within `MATCH` metres. MODA = 1 - (misses + false alarms) / truth
(Kasturi et al., 2009); IDF1 as in Ristani et al. (2016). Both come of motmetrics' counts.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import motmetrics
import numpy as np
from scipy.optimize import linear_sum_assignment

from roi_anon_ros.evaluate.ground.play import Fault, Source, play
from roi_anon_ros.evaluate.ground.sequences import Sequence
from roi_anon_ros.ground.floor import Floor
from roi_anon_ros.ground.locate import BodyPrior, Sighting, locate
from roi_anon_ros.ground.tracks import Frame, Key, Motion, Track, TrackSet

#: Metres within which an estimate is a person's, WILDTRACK's own bound.
MATCH = 0.5
#: Metres within which a single sighting is a person's; an error beyond is a miss.
SIGHTING_MATCH = 2.0


@dataclass
class Score:
    """What came out of one sequence under one fault.

    Attributes:
        sequence: name.
        fault: name.
        sighting_errors: metres of single sightings to the nearest person.
        sources: how each of them was placed: feet, head or bearing.
        inside: share of sightings whose person is within the 95 % ellipse.
        track_errors: metres of tracks to their persons.
        counts: of motmetrics: num_objects, num_misses, num_false_positives, num_switches, idf1.
        refused: boxes without place, by reason.
        late: frames that came after the window.
    """

    sequence: str
    fault: str
    sighting_errors: np.ndarray
    sources: np.ndarray
    inside: float
    track_errors: np.ndarray
    counts: dict[str, float]
    refused: dict[str, int] = field(default_factory=dict)
    late: int = 0

    @property
    def moda(self) -> float:
        """1 - (misses + false alarms) / truth."""
        wrong = self.counts["num_misses"] + self.counts["num_false_positives"]
        return 1 - wrong / self.counts["num_objects"]


@dataclass
class _Tally:
    errors: list[float] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    late: int = 0

    def inside(self) -> float:
        """Share of the squares below the 95 % quantile of chi-square of 2; NaN of none."""
        if not self.squares:
            return float("nan")
        return float(np.mean(np.asarray(self.squares) < -2 * np.log(0.05)))

    def add(self, sightings: list[Sighting], reasons: list[str], truth: np.ndarray) -> None:
        for reason in reasons:
            self.refused[reason] = self.refused.get(reason, 0) + 1
        if not sightings or not len(truth):
            return
        places = np.stack([sighting.place for sighting in sightings])
        away = np.linalg.norm(places[:, None] - truth[None], axis=2)
        rows, columns = linear_sum_assignment(np.minimum(away, SIGHTING_MATCH))
        for row, column in zip(rows, columns, strict=True):
            if away[row, column] < SIGHTING_MATCH:
                sighting = sightings[row]
                miss = truth[column] - sighting.place
                self.errors.append(float(away[row, column]))
                self.sources.append(sighting.source)
                self.squares.append(float(miss @ np.linalg.solve(sighting.covariance, miss)))


def run(
    sequence: Sequence,
    source: Source,
    fault: Fault,
    floor: Floor | None = None,
    motion: Motion | None = None,
    seed: int = 0,
) -> Score:
    """Play a sequence into tracks and compare them with the truth at every moment.

    A moment is judged when everything of it has arrived, so a delay costs what comes beyond the
    window, not what a robot would have missed meanwhile: that is in the latency.
    """
    floor = floor or Floor()
    tracks = TrackSet(floor, motion)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    tally = _Tally()
    numbers: dict[Key, int] = {}  # motmetrics wants numbers for names
    truths = {moment.stamp: moment.truth for moment in sequence.moments}
    waiting = [moment.stamp for moment in sequence.moments]
    settle = fault.delay + 1e-6
    for arrival in play(sequence, source, fault, seed):
        while waiting and waiting[0] + settle < arrival.at:
            stamp = waiting.pop(0)
            _judge(accumulator, truths[stamp], _believed(tracks, stamp), numbers)
        camera = sequence.cameras[arrival.camera]
        sightings, reasons = locate(camera, arrival.boxes, floor, BodyPrior())
        truth = np.array(list(truths[arrival.stamp].values())).reshape(-1, 2)
        tally.add(sightings, reasons, truth)
        frame = Frame(arrival.stamp, camera, tuple(sightings))
        tally.late += not tracks.add(frame)
    for stamp in waiting:
        _judge(accumulator, truths[stamp], _believed(tracks, stamp), numbers)
    events = accumulator.mot_events
    matched = events[events["Type"].isin(["MATCH", "SWITCH"])]
    return Score(
        sequence=sequence.name,
        fault=fault.name,
        sighting_errors=np.asarray(tally.errors),
        sources=np.asarray(tally.sources),
        inside=tally.inside(),
        track_errors=matched["D"].to_numpy(float),
        counts=_counts(accumulator),
        refused=tally.refused,
        late=tally.late,
    )


def _believed(tracks: TrackSet, stamp: float) -> list[Track]:
    return [track for track in tracks.at(stamp) if track.log_odds >= tracks.motion.confirmed]


def _judge(
    accumulator: motmetrics.MOTAccumulator,
    truth: dict[int, np.ndarray],
    tracks: list[Track],
    numbers: dict[Key, int],
) -> None:
    """Compare one moment."""
    places = np.array([track.state[:2] for track in tracks]).reshape(-1, 2)
    true = np.array(list(truth.values())).reshape(-1, 2)
    away = np.linalg.norm(true[:, None] - places[None], axis=2)
    away[away > MATCH] = np.nan
    names = [numbers.setdefault(track.key, len(numbers)) for track in tracks]
    accumulator.update(list(truth), names, away)


def _counts(accumulator: motmetrics.MOTAccumulator) -> dict[str, float]:
    names = ["num_objects", "num_misses", "num_false_positives", "num_switches", "idf1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = motmetrics.metrics.create().compute(accumulator, metrics=names, name="run")
    return {name: float(table[name].iloc[0]) for name in names}


def to_markdown(scores: list[Score]) -> str:
    """Tables of sightings and of tracks, Markdown."""
    lines = [
        "| sequence | detections | placed by | boxes | median error, m | 95 %, m | in ellipse |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        for source in ("feet", "head", "bearing"):
            errors = score.sighting_errors[score.sources == source]
            if len(errors):
                covered = f"{score.inside:.1%}" if source == "feet" else ""
                cells = [score.sequence, score.fault, source, f"{len(errors)}"]
                cells += [*_percentiles(errors), covered]
                lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| sequence | detections | median error, m | 95 %, m | MODA | misses | false | IDF1 "
        "| switches |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        total = score.counts["num_objects"]
        cells = [score.sequence, score.fault, *_percentiles(score.track_errors)]
        cells.append(f"{score.moda:.1%}")
        cells.append(f"{score.counts['num_misses'] / total:.1%}")
        cells.append(f"{score.counts['num_false_positives'] / total:.1%}")
        cells.append(f"{score.counts['idf1']:.1%}")
        cells.append(f"{score.counts['num_switches']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percentiles(errors: np.ndarray) -> list[str]:
    """Median and 95 %, metres; dashes of none."""
    if not len(errors):
        return ["-", "-"]
    return [f"{value:.3f}" for value in np.percentile(errors, [50, 95])]
