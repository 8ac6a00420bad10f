"""What :mod:`~roi_anon_ros.graph.load` measured: figures of a row, and the table of all."""

from __future__ import annotations

from typing import Any

import numpy as np

from roi_anon_ros.evaluate.report.markdown import Table
from roi_anon_ros.graph.processes import GraphError

#: Answers older than this, in seconds, are late.
LATE = 0.2
#: Width and height of the cameras in front of edge nodes.
EDGE_SIZE = (640, 480)
#: Images a second of the cameras in front of edge nodes.
EDGE_RATE = 15.0


def make_table(results: dict[str, Any]) -> Table:
    """The rows as a table.

    Args:
        results: of :func:`~roi_anon_ros.graph.load.run`.
    """
    width, height = results["size"]
    rate = results["rate"]
    lines = [
        [
            f"{width}x{height}, {rate:g} Hz",
            "answers a second",
            "of the slowest camera",
            "longest gap of a camera, ms",
            "frames answered",
        ]
    ]
    lines[0] += ["age, ms: median", "95 % below", "99 % below", "at most"]
    lines[0].append(f"older than {1e3 * LATE:.0f} ms")
    for name, row in results["rows"].items():
        if row["raw"]:
            name += " ({}x{}, {:g} Hz)".format(*EDGE_SIZE, EDGE_RATE)
        ages = ("–" if age is None else f"{1e3 * age:.0f}" for age in row["age"].values())
        line = [
            name,
            f"{row['per_second']:.1f}",
            f"{row['least_per_second']:.1f}",
            "–" if row["gap"] is None else f"{1e3 * row['gap']:.0f}",
            f"{row['share']:.0%}",
        ]
        lines.append([*line, *ages, f"{row['late']} of {row['answered']}"])
    return lines


def summarise_answers(
    stamps: list[list[int]], ages: list[dict[int, float]], begin: int, end: int
) -> dict[str, Any]:
    """One row of the results.

    Args:
        stamps: of the frames that each camera published, ns.
        ages: of each camera's answers, seconds, by the frame's stamp.
        begin: stamp from which frames count.
        end: stamp up to which they count.

    Raises:
        GraphError: no frame counts.
    """
    published = sum(begin <= stamp < end for camera in stamps for stamp in camera)
    if not published:
        raise GraphError("the cameras' process came to publish nothing: the machine is too busy")
    counted: list[list[float]] = []
    for answers in ages:
        counted.append([age for stamp, age in answers.items() if begin <= stamp < end])
    every = np.array([age for camera in counted for age in camera])
    seconds = (end - begin) / 1e9
    gaps: list[float] = []
    for answers in ages:
        gaps += _gaps(sorted(answers), begin, end)
    figures: list[float | None] = [None] * 4
    if every.size:
        figures = np.percentile(every, (50, 95, 99, 100)).tolist()
    return {
        "cameras": len(stamps),
        "published": published,
        "answered": len(every),
        "share": len(every) / published,
        "per_second": len(every) / seconds,
        "least_per_second": min(map(len, counted)) / seconds,
        "gap": max(gaps, default=None),
        "age": dict(zip(("median", "p95", "p99", "max"), figures, strict=True)),
        "late": int((every > LATE).sum()),
    }


def _gaps(stamps: list[int], begin: int, end: int) -> list[float]:
    """Seconds between stamps (ns, rising) that follow each other, of those that touch a time."""
    pairs = zip(stamps, stamps[1:], strict=False)
    return [(later - stamp) / 1e9 for stamp, later in pairs if later > begin and stamp < end]
