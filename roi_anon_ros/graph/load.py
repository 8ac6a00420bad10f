"""How the server does as cameras are added: real nodes in processes of their own, over DDS.

The cameras of a row are one process that publishes a packet made beforehand, so that the server
alone is measured. In the last row a camera's raw images pass through an edge node as well.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.time import Time
from rich.console import Console
from rich.progress import track as progress
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from roi_anon_ros.codec import DEFAULT_MODEL, Codec
from roi_anon_ros.codec.engines import processor
from roi_anon_ros.codec.image import check_sides, resize
from roi_anon_ros.detect import find_weights
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.evaluate.latency.images import default_image, parse_sizes
from roi_anon_ros.evaluate.report.tables import Table, to_markdown
from roi_anon_ros.graph.cameras import RATES
from roi_anon_ros.graph.processes import START_LIMIT, Graph, GraphError
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.latents import to_message

#: Seconds that a camera may wait for detections.
ANSWER_LIMIT = 60.0
#: Seconds between the first detections of all cameras and the measurement.
WARM_UP = 2.0
#: Detections older than this, in seconds, are late.
LATE = 0.2
#: The camera in front of the edge node: width and height, images a second.
EDGE_SIZE, EDGE_RATE = (640, 480), 15.0
#: Least and greatest values of what is asked for.
BOUNDS = {"cameras": (1, 64), "rate": RATES, "seconds": (1, 3600), "max_batch": (1, 64)}


class Load(Graph):
    """The nodes and cameras of one row, and how old detections are when they arrive.

    Args:
        topics: of detections, one a camera.
        folder: for logs.

    Attributes:
        ages: of each camera's detections, seconds from the camera's stamp to their arrival, by that
            stamp (ns).
        engines: what the nodes say that they run on, by node.
    """

    def __init__(self, topics: Sequence[str], folder: Path) -> None:
        self.ages: list[dict[int, float]] = [{} for _ in topics]
        self.engines: dict[str, str] = {}
        super().__init__(folder, name="load")
        for topic, ages in zip(topics, self.ages, strict=True):
            arrived = partial(self._arrived, ages)
            self.node.create_subscription(Detection2DArray, topic, arrived, QoSProfile(depth=100))

    def on_diagnostics(self, array: DiagnosticArray) -> None:
        """Note what nodes say of themselves, and what they run on."""
        super().on_diagnostics(array)
        for status in array.status:
            for pair in status.values:
                if pair.key == "engine":
                    self.engines[status.name.partition(":")[0].strip("/")] = pair.value

    def _arrived(self, ages: dict[int, float], message: Detection2DArray) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        ages[stamp] = (self.now() - stamp) / 1e9


def run(
    cameras: Sequence[int] = (1, 2, 4, 8, 16),
    rate: float = 15.0,
    seconds: float = 10.0,
    size: tuple[int, int] = (640, 480),
    model: str = DEFAULT_MODEL,
    weights: str = "yolov8n",
    max_batch: int = 1,
    engine: str = "auto",
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measure a server node with each number of cameras, and one camera with an edge node before
    it.

    Args:
        cameras: numbers of cameras, a row each.
        rate: frames a second of each.
        seconds: to measure each row, after its warm-up.
        size: width and height of their images.
        model: name or file of the codec's model.
        weights: of the person detector.
        max_batch: the server's parameter.
        engine: the nodes' parameter.
        track: wraps the rows, for progress.

    Returns:
        Results for JSON. ``rows`` has for each the frames that were ``published`` and those that
        were ``answered`` by detections, their ``share``, detections ``per_second`` and those of the
        camera that got the fewest (``least_per_second``), ``median``, ``p95`` and ``max`` of the
        ``age`` of detections (camera stamp to arrival, seconds; None where there are none), and how
        many were ``late``, older than 0.2 s. All these are about the frames that were stamped while
        it was measured; ``engines`` is what each node ran on. The rest says what was run, and
        where.

    Raises:
        ValueError: names the argument and the bound.
        ModelFileError: the model cannot be loaded.
        WeightsError: the weights cannot be had.
        GraphError: a process ended, reported an error or did not deliver.
    """
    asked = [("cameras", number) for number in cameras]
    asked += [("rate", rate), ("seconds", seconds), ("max_batch", max_batch)]
    for name, value in asked:
        least, greatest = BOUNDS[name]
        if not least <= value <= greatest:
            raise ValueError(f"{name}: {value}, must be from {least} to {greatest}")
    if not cameras:
        raise ValueError("cameras: none, must be at least one number")
    check_sides(*size)
    codec = Codec.load(model)
    sample, source = default_image()
    latent = to_message(codec.encode(resize(sample, *size)), codec.name, Header(frame_id="camera"))
    image = from_rgb(resize(sample, *EDGE_SIZE), Header(frame_id="camera"))
    server = {"model": model, "weights": find_weights(weights), "max_batch": max_batch}
    server |= {"engine": engine, "autostart": "true"}
    edge = {
        "model": model,
        "engine": engine,
        "autostart": "true",
        "qos_overrides./image_raw.subscription.reliability": "reliable",
    }

    def row_of(number: int | None) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "message"
            file.write_bytes(serialize_message(image if number is None else latent))
            publish = {"message": file, "stamps": Path(folder) / "stamps.json"}
            if number is None:
                publish |= {"topics": "[image_raw]", "raw": "true", "rate": EDGE_RATE}
                spaces = [""]
            else:
                spaces = [f"camera{i}/" for i in range(1, number + 1)]
                publish |= {"topics": _topics(spaces, "latent"), "rate": float(rate)}
            with Load([f"{space}detections" for space in spaces], Path(folder)) as row:
                row.start_module(
                    "server",
                    "roi_anon_ros.nodes.server",
                    latent_topics=_topics(spaces, "latent"),
                    **server,
                )
                if number is None:
                    row.start_module("edge", "roi_anon_ros.nodes.edge", **edge)
                row.start_module("cameras", "roi_anon_ros.graph.cameras", **publish)
                begin, end = _measure(row, seconds)
                row.end(["cameras"])  # they write their stamps
            stamps = json.loads(publish["stamps"].read_text())
            return _summary(stamps, row.ages, begin, end) | {"engines": row.engines}

    names = {f"{number} camera{'s' * (number > 1)}": number for number in cameras} | {
        "edge included": None
    }
    rows = {name: row_of(number) for name, number in track(list(names.items()))}
    asked_for = {"rate": rate, "seconds": seconds, "size": list(size), "max_batch": max_batch}
    coded = {
        "model": codec.name,
        "fingerprint": codec.fingerprint,
        "packet_bytes": len(latent.packet),
    }
    machine = {"cpu": processor(), "cores": len(os.sched_getaffinity(0))}
    return {
        "image": source,
        **asked_for,
        **coded,
        "weights": server["weights"].name,
        **machine,
        "rows": rows,
    }


def table(results: dict[str, Any]) -> Table:
    """The rows as a table.

    Args:
        results: of :func:`run`.
    """
    (width, height), rate = results["size"], results["rate"]
    lines = [
        [
            f"{width}x{height}, {rate:g} Hz",
            "detections a second",
            "of the slowest camera",
            "frames answered",
        ]
    ]
    lines[0] += ["age, ms: median", "95 % below", "at most", f"older than {1e3 * LATE:.0f} ms"]
    for name, row in results["rows"].items():
        if name == "edge included":
            name += " ({}x{}, {:g} Hz)".format(*EDGE_SIZE, EDGE_RATE)
        ages = ("–" if age is None else f"{1e3 * age:.0f}" for age in row["age"].values())
        line = [
            name,
            f"{row['per_second']:.1f}",
            f"{row['least_per_second']:.1f}",
            f"{row['share']:.0%}",
        ]
        lines.append([*line, *ages, f"{row['late']} of {row['answered']}"])
    return lines


def _topics(spaces: Iterable[str], name: str) -> str:
    """A topic in each of several namespaces, as a parameter."""
    return f"[{', '.join(f'{space}{name}' for space in spaces)}]"


def _measure(row: Load, seconds: float) -> tuple[int, int]:
    """Wait until all cameras are served, warm up, and measure.

    Returns:
        Stamps between which frames count. All that will ever be answered of them has been.
    """
    row.wait_for(lambda: all(row.ages), "detections for every camera", START_LIMIT, healthy=True)
    begin = row.now() + int(WARM_UP * 1e9)
    end = begin + int(seconds * 1e9)
    row.wait_for(lambda: row.now() >= end, "end", WARM_UP + seconds + ANSWER_LIMIT, healthy=True)
    # The cameras go on meanwhile: a server that may rest answers frames that it would not have come
    # to. A camera's frames are answered in their order.
    row.wait_for(
        lambda: all(max(ages) >= end for ages in row.ages),
        "detections for every camera",
        ANSWER_LIMIT,
        healthy=True,
    )
    return begin, end


def _summary(
    stamps: list[list[int]], ages: list[dict[int, float]], begin: int, end: int
) -> dict[str, Any]:
    """One row of the results."""
    published = sum(begin <= stamp < end for camera in stamps for stamp in camera)
    if not published:
        raise GraphError("the cameras' process came to publish nothing: the machine is too busy")
    counted = [[age for stamp, age in camera.items() if begin <= stamp < end] for camera in ages]
    every = np.array([age for camera in counted for age in camera])
    seconds = (end - begin) / 1e9
    figures: Iterable[float | None] = (None, None, None)
    if every.size:
        figures = (
            float(value) for value in (np.median(every), np.percentile(every, 95), every.max())
        )
    return {
        "cameras": len(stamps),
        "published": published,
        "answered": len(every),
        "share": len(every) / published,
        "per_second": len(every) / seconds,
        "least_per_second": min(map(len, counted)) / seconds,
        "age": dict(zip(("median", "p95", "max"), figures, strict=True)),
        "late": int((every > LATE).sum()),
    }


def parse_cameras(text: str) -> list[int]:
    """Numbers of cameras from a list such as ``1,2,4``.

    Raises:
        ValueError: names what is no number.
    """
    numbers = [number.strip() for number in text.split(",")]
    for number in numbers:
        if not number.isdecimal():
            raise ValueError(f"cameras: {number!r}, must be a number")
    return list(dict.fromkeys(map(int, numbers)))


def main() -> None:
    """Measure, and print the table; the exit code is 1 where something did not deliver."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # the processes are ended then as well
    parser = argparse.ArgumentParser(
        description="A server node with more and more cameras, over DDS."
    )
    parser.add_argument(
        "--cameras", default="1,2,4,8,16", help="numbers of cameras (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=15.0, help="frames a second of each (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="to measure each row (default: %(default)s)"
    )
    parser.add_argument(
        "--size", default="640x480", help="WIDTHxHEIGHT of the images (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="name or file of the codec's model (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", default="yolov8n", help="the person detector's weights (default: %(default)s)"
    )
    parser.add_argument(
        "--max-batch", type=int, default=1, help="the server's parameter (default: %(default)s)"
    )
    parser.add_argument(
        "--engine", default="auto", help="the nodes' parameter (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args()
    console = Console(stderr=True)
    try:
        size, *more = parse_sizes(given.size)
        if more:
            raise ValueError(f"size: {given.size!r}, must be one")
        results = run(
            parse_cameras(given.cameras),
            given.rate,
            given.seconds,
            size,
            given.model,
            given.weights,
            given.max_batch,
            given.engine,
            track=lambda rows: progress(rows, "rows", console=console, transient=True),
        )
    except (RoiAnonError, ValueError, OSError) as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(to_markdown(table(results)))
    engines = {
        f"{name}: {engine}"
        for row in results["rows"].values()
        for name, engine in row["engines"].items()
    }
    print("; ".join([*sorted(engines), results["cpu"], f"{results['cores']} cores"]))


if __name__ == "__main__":
    main()
