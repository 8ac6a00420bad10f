"""How the server does as cameras are added: real nodes in processes of their own, over DDS.

The cameras of a row are one process that publishes a packet made beforehand, so that the server alone is measured. In
the last row a camera's raw pictures pass through an edge node as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.time import Time
from rich.console import Console
from rich.progress import track as progress
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import MAX_SIZE, MIN_SIZE, Codec
from roi_anon_ros.codec.engines import processor
from roi_anon_ros.codec.picture import resize
from roi_anon_ros.detect import find_weights
from roi_anon_ros.evaluate.bench import default_picture, parse_sizes
from roi_anon_ros.evaluate.tables import Table, to_markdown
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.worker import declare, newest_only
from roi_anon_ros.nodes.base.worker import run as run_node
from roi_anon_ros.nodes.edge import to_message

#: Seconds that the nodes may take to come up, that a camera may wait for detections, and a process to end.
START_LIMIT, ANSWER_LIMIT, END_LIMIT = 180.0, 60.0, 20.0
#: Seconds between the first detections of all cameras and the measurement.
WARM_UP = 2.0
#: Detections older than this, in seconds, are late.
LATE = 0.2
#: The camera in front of the edge node: width and height, pictures a second.
EDGE_SIZE, EDGE_RATE = (640, 480), 15.0
#: Least and greatest values of what is asked for.
BOUNDS = {"cameras": (1, 64), "rate": (1.0, 1000.0), "seconds": (1, 3600), "max_batch": (1, 64)}


class ServerBenchError(RuntimeError):
    """A process ended, reported an error or did not deliver; the message says which."""


class Cameras(Node):
    """Publishes one message to each of several topics in turn, stamped anew each time.

    When it ends, it writes the stamps of each topic, in nanoseconds, into a JSON file.
    """

    def __init__(self) -> None:
        super().__init__("cameras")
        file = declare(self, "message", "", "File of the message to publish, serialized", read_only=True)
        topics = declare(self, "topics", ["latent"], "Where to publish it", read_only=True)
        raw = declare(self, "raw", False, "It is an Image, not a CompressedLatent", read_only=True)
        rate = declare(self, "rate", 15.0, "Messages a second on each topic", BOUNDS["rate"], read_only=True)
        self._stamps_file = Path(declare(self, "stamps", "", "File for the stamps", read_only=True))
        self._message = deserialize_message(Path(file).read_bytes(), Image if raw else CompressedLatent)
        # Raw pictures are reliable, as from camera_node; latents as from an edge node.
        qos = QoSProfile(depth=1) if raw else newest_only()
        self._outputs = [self.create_publisher(type(self._message), topic, qos) for topic in topics]
        self._stamps: list[list[int]] = [[] for _ in topics]
        self._published = 0
        self.create_timer(1 / (rate * len(topics)), self._publish_next)  # one at a time: their phases differ

    def _publish_next(self) -> None:
        camera = self._published % len(self._outputs)
        now = self.get_clock().now()
        self._message.header.stamp = now.to_msg()
        self._outputs[camera].publish(self._message)
        self._stamps[camera].append(now.nanoseconds)
        self._published += 1

    def destroy_node(self) -> None:
        """Write the stamps, and destroy the node."""
        self._stamps_file.write_text(json.dumps(self._stamps))
        super().destroy_node()


def cameras_main() -> None:
    """Run the cameras, in a process of their own."""
    run_node(Cameras)


class Graph:
    """The processes of one row in a domain of their own, and what is published there.

    Attributes:
        ages: of each camera's detections, seconds from the camera's stamp to their arrival, by that stamp (ns).
        engines: what the nodes say that they run on, by node.
    """

    def __init__(self, topics: Sequence[str], folder: Path) -> None:
        self.ages: list[dict[int, float]] = [{} for _ in topics]
        self.engines: dict[str, str] = {}
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._error = ""
        # Of its own, so that no robot on the network is disturbed; the processes are given the same.
        self._domain = random.SystemRandom().randint(1, 101)
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=self._domain)
        self._node = rclpy.create_node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for topic, ages in zip(topics, self.ages, strict=True):
            arrived = partial(self._arrived, ages)
            self._node.create_subscription(Detection2DArray, topic, arrived, QoSProfile(depth=100))
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)

    def start(self, name: str, main: str, **parameters: Any) -> None:
        """Start a node in a process of its own: ``main`` is its function, in the form ``module.function``."""
        module, function = main.split(".")
        command = [sys.executable, "-c", f"from roi_anon_ros.nodes import {module}; {module}.{function}()"]
        command += ["--ros-args", *(word for key, value in parameters.items() for word in ("-p", f"{key}:={value}"))]
        environment = os.environ | {"ROS_DOMAIN_ID": str(self._domain)}
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._processes[name] = process

    def end(self, names: Iterable[str]) -> None:
        """End processes, and wait for them."""
        ending = [self._processes.pop(name) for name in names]
        for process in ending:
            process.terminate()
        for process in ending:
            try:
                process.wait(END_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End everything."""
        try:
            self.end(list(self._processes))
        finally:
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.try_shutdown()

    def now(self) -> int:
        """Nanoseconds of the clock that stamps are of."""
        return self._node.get_clock().now().nanoseconds

    def wait_for(self, condition: Callable[[], bool], what: str, limit: float) -> None:
        """Take what arrives until a condition holds.

        Raises:
            ServerBenchError: it takes more than ``limit`` seconds, a process ended, or a node reported an error.
        """
        deadline = time.monotonic() + limit
        while not condition():
            self._executor.spin_once(timeout_sec=0.05)
            for name, process in self._processes.items():
                if process.poll() is not None:
                    said = self._log(name).read_text(errors="replace")[-2000:]
                    raise ServerBenchError(f"the {name} ended with code {process.returncode}: {said}")
            if self._error:
                raise ServerBenchError(self._error)
            if time.monotonic() > deadline:
                raise ServerBenchError(f"no {what} within {limit:.0f} s")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _arrived(self, ages: dict[int, float], message: Detection2DArray) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        ages[stamp] = (self.now() - stamp) / 1e9

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.level == DiagnosticStatus.ERROR:
                self._error = f"{status.name}: {status.message}"
            for pair in status.values:
                if pair.key == "engine":
                    self.engines[status.name.partition(":")[0].strip("/")] = pair.value


@contextmanager
def graph(topics: Sequence[str], folder: Path) -> Iterator[Graph]:
    """A graph whose processes end with it, whatever happens."""
    made = Graph(topics, folder)
    try:
        yield made
    finally:
        made.close()


def run(
    cameras: Sequence[int] = (1, 2, 4, 8, 16),
    rate: float = 15.0,
    seconds: float = 10.0,
    size: tuple[int, int] = (640, 480),
    model: str = "fast",
    weights: str = "yolov8n",
    max_batch: int = 1,
    engine: str = "auto",
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measure a server node with each number of cameras, and one camera with an edge node before it.

    Args:
        cameras: numbers of cameras, a row each.
        rate: frames a second of each.
        seconds: to measure each row, after its warm-up.
        size: width and height of their pictures.
        model: name or file of the codec's model.
        weights: of the person detector.
        max_batch: the server's parameter.
        engine: the nodes' parameter.
        track: wraps the rows, for progress.

    Returns:
        Results for JSON. ``rows`` has for each the frames that were ``published`` and those that were ``answered`` by
        detections, their ``share``, detections ``per_second`` and those of the camera that got the fewest
        (``least_per_second``), ``median``, ``p95`` and ``max`` of the ``age`` of detections (camera stamp to arrival,
        seconds; None where there are none), and how many were ``late``, older than 0.2 s. All these are about the
        frames that were stamped while it was measured; ``engines`` is what each node ran on. The rest says what was
        run, and where.

    Raises:
        ValueError: names the argument and the bound.
        ModelFileError: the model cannot be loaded.
        WeightsError: the weights cannot be had.
        ServerBenchError: a process ended, reported an error or did not deliver.
    """
    asked = [("cameras", number) for number in cameras]
    asked += [("rate", rate), ("seconds", seconds), ("max_batch", max_batch)]
    for name, value in asked:
        least, greatest = BOUNDS[name]
        if not least <= value <= greatest:
            raise ValueError(f"{name}: {value}, must be from {least} to {greatest}")
    if not cameras:
        raise ValueError("cameras: none, must be at least one number")
    for name, side in zip(("width", "height"), size, strict=True):
        if not MIN_SIZE <= side <= MAX_SIZE:
            raise ValueError(f"{name}: {side} pixels, must be from {MIN_SIZE} to {MAX_SIZE}")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # read by the processes, and for the context here
    codec = Codec.load(model)
    picture, source = default_picture()
    latent = to_message(codec.encode(resize(picture, *size)), codec.name, Header(frame_id="camera"))
    image = from_rgb(resize(picture, *EDGE_SIZE), Header(frame_id="camera"))
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
            with graph([f"{space}detections" for space in spaces], Path(folder)) as row:
                row.start("server node", "server.main", latent_topics=_topics(spaces, "latent"), **server)
                if number is None:
                    row.start("edge node", "edge.main", **edge)
                row.start("cameras", "bench.cameras_main", **publish)
                begin, end = _measure(row, seconds)
                row.end(["cameras"])  # they write their stamps
            stamps = json.loads(publish["stamps"].read_text())
            return _summary(stamps, row.ages, begin, end) | {"engines": row.engines}

    names = {f"{number} camera{'s' * (number > 1)}": number for number in cameras} | {"edge included": None}
    rows = {name: row_of(number) for name, number in track(list(names.items()))}
    asked_for = {"rate": rate, "seconds": seconds, "size": list(size), "max_batch": max_batch}
    coded = {"model": codec.name, "fingerprint": codec.fingerprint, "packet_bytes": len(latent.packet)}
    machine = {"cpu": processor(), "cores": len(os.sched_getaffinity(0))}
    return {"picture": source, **asked_for, **coded, "weights": server["weights"].name, **machine, "rows": rows}


def table(results: dict[str, Any]) -> Table:
    """The rows as a table.

    Args:
        results: of :func:`run`.
    """
    (width, height), rate = results["size"], results["rate"]
    lines = [[f"{width}x{height}, {rate:g} Hz", "detections a second", "of the slowest camera", "frames answered"]]
    lines[0] += ["age, ms: median", "95 % below", "at most", f"older than {1e3 * LATE:.0f} ms"]
    for name, row in results["rows"].items():
        if name == "edge included":
            name += " ({}x{}, {:g} Hz)".format(*EDGE_SIZE, EDGE_RATE)
        ages = ("–" if age is None else f"{1e3 * age:.0f}" for age in row["age"].values())
        line = [name, f"{row['per_second']:.1f}", f"{row['least_per_second']:.1f}", f"{row['share']:.0%}"]
        lines.append([*line, *ages, f"{row['late']} of {row['answered']}"])
    return lines


def _topics(spaces: Iterable[str], name: str) -> str:
    """A topic in each of several namespaces, as a parameter."""
    return f"[{', '.join(f'{space}{name}' for space in spaces)}]"


def _measure(row: Graph, seconds: float) -> tuple[int, int]:
    """Wait until all cameras are served, warm up, and measure.

    Returns:
        Stamps between which frames count. All that will ever be answered of them has been.
    """
    row.wait_for(lambda: all(row.ages), "detections for every camera", START_LIMIT)
    begin = row.now() + int(WARM_UP * 1e9)
    end = begin + int(seconds * 1e9)
    row.wait_for(lambda: row.now() >= end, "end", WARM_UP + seconds + ANSWER_LIMIT)
    # The cameras go on meanwhile: a server that may rest answers frames that it would not have come to. A camera's
    # frames are answered in their order.
    row.wait_for(lambda: all(max(ages) >= end for ages in row.ages), "detections for every camera", ANSWER_LIMIT)
    return begin, end


def _summary(stamps: list[list[int]], ages: list[dict[int, float]], begin: int, end: int) -> dict[str, Any]:
    """One row of the results."""
    published = sum(begin <= stamp < end for camera in stamps for stamp in camera)
    if not published:
        raise ServerBenchError("the cameras' process came to publish nothing: the machine is too busy")
    counted = [[age for stamp, age in camera.items() if begin <= stamp < end] for camera in ages]
    every = np.array([age for camera in counted for age in camera])
    seconds = (end - begin) / 1e9
    figures: Iterable[float | None] = (None, None, None)
    if every.size:
        figures = (float(value) for value in (np.median(every), np.percentile(every, 95), every.max()))
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the processes are ended then as well
    parser = argparse.ArgumentParser(description="A server node with more and more cameras, over DDS.")
    parser.add_argument("--cameras", default="1,2,4,8,16", help="numbers of cameras (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=15.0, help="frames a second of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure each row (default: %(default)s)")
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT of the pictures (default: %(default)s)")
    parser.add_argument("--model", default="fast", help="name or file of the codec's model (default: %(default)s)")
    parser.add_argument("--weights", default="yolov8n", help="the person detector's weights (default: %(default)s)")
    parser.add_argument("--max-batch", type=int, default=1, help="the server's parameter (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="the nodes' parameter (default: %(default)s)")
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
    except (RuntimeError, ValueError, OSError) as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(to_markdown(table(results)))
    engines = {f"{name}: {engine}" for row in results["rows"].values() for name, engine in row["engines"].items()}
    print("; ".join([*sorted(engines), results["cpu"], f"{results['cores']} cores"]))


if __name__ == "__main__":
    main()
