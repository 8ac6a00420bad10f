"""How the server does as cameras are added: real nodes in separate processes, over DDS.

The cameras of a row are one process that publishes a packet made beforehand, so that the server
alone is measured. In the last rows the cameras' raw images pass through an edge node each as well,
and on to the people node, up to the cloud that a robot stops for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.time import Time
from rich.console import Console
from rich.progress import track as progress
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from roi_anon_ros.codec import DEFAULT_MODEL, Codec
from roi_anon_ros.codec.engines import processor
from roi_anon_ros.codec.image import check_sides, resize
from roi_anon_ros.detect.choice import DEFAULT, find_detector
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.evaluate.latency.images import default_image, parse_sizes
from roi_anon_ros.evaluate.report.markdown import to_markdown
from roi_anon_ros.graph.cameras import RATES
from roi_anon_ros.graph.load_results import EDGE_RATE, EDGE_SIZE, make_table, summarise_answers
from roi_anon_ros.graph.processes import START_LIMIT, Graph
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.latents import to_message

#: Seconds that a camera may wait for its answers.
ANSWER_LIMIT = 60.0
#: Seconds between the first answers for all cameras and the measurement.
WARM_UP = 2.0
#: A camera of the site: 4 m over the ground, looks along x and a little down.
SITE_CAMERA = {
    "width": EDGE_SIZE[0],
    "height": EDGE_SIZE[1],
    "distortion_model": "plumb_bob",
    "d": [],
    "k": [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0],
    "position": [0.0, 0.0, 4.0],
    "orientation": [-0.594, 0.594, -0.384, 0.384],
}
#: Seconds after which the people node refuses an image: none is, for ages are measured here.
TOO_OLD = 600.0
#: Least and greatest values of what is asked for.
BOUNDS = {
    "cameras": (1, 64),
    "clouds": (1, 64),
    "rate": RATES,
    "seconds": (1, 3600),
    "max_batch": (1, 64),
}


@dataclass(frozen=True)
class Row:
    """What one row measures.

    Attributes:
        cameras: how many.
        raw: whether they give images, which edge nodes encode; otherwise packets.
        cloud: whether the answers are the people node's clouds; otherwise the server's detections.
    """

    cameras: int
    raw: bool = False
    cloud: bool = False

    @property
    def spaces(self) -> list[str]:
        """The cameras' namespaces."""
        return [f"camera{number}" for number in range(1, self.cameras + 1)]

    @property
    def answers(self) -> list[str]:
        """The topics of the answers, one a camera."""
        return [f"{space}/{'people' if self.cloud else 'detections'}" for space in self.spaces]


class Load(Graph):
    """The nodes and cameras of one row, and how old the answers are when they arrive.

    Args:
        row: what it measures.
        folder: for logs.

    Attributes:
        ages: of each camera's answers, seconds from the camera's stamp to their arrival, by that
            stamp (ns).
    """

    def __init__(self, row: Row, folder: Path) -> None:
        self.ages: list[dict[int, float]] = [{} for _ in row.answers]
        super().__init__(folder, name="load")
        kind = PointCloud2 if row.cloud else Detection2DArray
        for topic, ages in zip(row.answers, self.ages, strict=True):
            arrived = partial(self._arrived, ages)
            self.node.create_subscription(kind, topic, arrived, QoSProfile(depth=100))

    def _arrived(self, ages: dict[int, float], message: Detection2DArray | PointCloud2) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        ages[stamp] = (self.now() - stamp) / 1e9


def run(
    cameras: Sequence[int] = (1, 2, 4, 8, 16),
    clouds: Sequence[int] = (1, 4),
    rate: float = 15.0,
    seconds: float = 10.0,
    size: tuple[int, int] = (640, 480),
    model: str = DEFAULT_MODEL,
    detector: str = DEFAULT,
    max_batch: int = 1,
    engine: str = "auto",
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measure a server node with each number of cameras, one camera with an edge node before it,
    and numbers of cameras from the image to the cloud of people.

    Args:
        cameras: numbers of cameras, a row each.
        clouds: numbers of cameras whose images pass edge, server and people nodes, a row each.
        rate: frames a second of each.
        seconds: to measure each row, after its warm-up.
        size: width and height of their images.
        model: name or file of the codec's model.
        detector: of persons, the server's parameter.
        max_batch: the server's parameter.
        engine: the nodes' parameter; it makes the packets as well.
        track: wraps the rows, for progress.

    Returns:
        Results for JSON. ``rows`` has for each the frames that were ``published`` and those that
        were ``answered`` by detections or clouds, their ``share``, answers ``per_second`` and those
        of the camera that got the fewest (``least_per_second``), the longest time between two
        frames of a camera that were answered one after the other (``gap``, seconds by their
        stamps, None where no camera has two), ``median``, ``p95``, ``p99`` and
        ``max`` of the ``age`` of the answers (camera stamp to arrival, seconds; None where there
        are none), and how many were ``late``, older than 0.2 s. All these are about the frames that
        were stamped while it was measured; ``engines`` is what each node ran on. The rest says what
        was run, and where.

    Raises:
        ValueError: names the argument and the bound.
        ModelFileError: the model cannot be loaded.
        WeightsError: the weights cannot be had.
        GraphError: a process ended, reported an error or did not deliver.
    """
    _check(cameras=cameras, clouds=clouds, rate=[rate], seconds=[seconds], max_batch=[max_batch])
    if not cameras:
        raise ValueError("cameras: none, must be at least one number")
    check_sides(*size)
    codec = Codec.load(model, engine)
    sample, source = default_image()
    latent = to_message(codec.encode(resize(sample, *size)), codec.name, Header(frame_id="camera"))
    image = from_rgb(resize(sample, *EDGE_SIZE), Header(frame_id="camera"))
    common = {"model": model, "engine": engine, "autostart": "true"}
    weights = find_detector(detector)
    server = common | {"detector": weights, "max_batch": max_batch}

    def measure(row: Row) -> dict[str, Any]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "message").write_bytes(serialize_message(image if row.raw else latent))
            with Load(row, folder) as load:
                _start(load, row, folder, EDGE_RATE if row.raw else float(rate), server, common)
                begin, end = _measure(load, seconds)
                load.end(["cameras"])  # they write their stamps
            stamps = json.loads((folder / "stamps.json").read_text())
            summary = summarise_answers(stamps, load.ages, begin, end)
            return summary | {"raw": row.raw, "engines": load.engines}

    names = {_count(number): Row(number) for number in cameras}
    names["edge included"] = Row(1, raw=True)
    names |= {f"{_count(n)}, image to cloud": Row(n, raw=True, cloud=True) for n in clouds}
    rows = {name: measure(row) for name, row in track(list(names.items()))}
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
        "weights": weights.name,
        **machine,
        "rows": rows,
    }


def _check(**asked: Sequence[float]) -> None:
    """Refuse values that are not within :data:`BOUNDS`, by their names."""
    for name, values in asked.items():
        least, greatest = BOUNDS[name]
        for value in values:
            if not least <= value <= greatest:
                raise ValueError(f"{name}: {value}, must be from {least} to {greatest}")


def _count(cameras: int) -> str:
    return f"{cameras} camera{'s' * (cameras > 1)}"


def _start(
    load: Load, row: Row, folder: Path, rate: float, server: dict[str, Any], edge: dict[str, Any]
) -> None:
    """Start the nodes of a row, and its cameras.

    Args:
        load: that they belong to.
        row: what it measures.
        folder: with the message that the cameras publish; for their stamps.
        rate: messages a second of each camera.
        server: its parameters.
        edge: parameters of each edge node.
    """
    latents = _topics(row.spaces, "latent")
    load.start_module("server", "roi_anon_ros.nodes.server", latent_topics=latents, **server)
    publish: dict[str, Any] = {
        "message": folder / "message",
        "stamps": folder / "stamps.json",
        "rate": rate,
    }
    if row.raw:
        for space in row.spaces:
            reliable = {f"qos_overrides./{space}/image_raw.subscription.reliability": "reliable"}
            name = f"edge of {space}"
            namespace = {"__ns": f"/{space}"}
            load.start_module(name, "roi_anon_ros.nodes.edge", namespace, **edge, **reliable)
        publish |= {"topics": _topics(row.spaces, "image_raw"), "raw": "true"}
    else:
        publish |= {"topics": latents}
    if row.cloud:
        site = folder / "site.yaml"
        cameras = dict.fromkeys(row.spaces, SITE_CAMERA)
        site.write_text(json.dumps({"site": "load", "frame": "site", "cameras": cameras}))
        load.start_module(
            "people", "roi_anon_ros.nodes.people", site=site, autostart="true", dead_after=TOO_OLD
        )
    load.start_module("cameras", "roi_anon_ros.graph.cameras", **publish)


def _topics(spaces: Iterable[str], name: str) -> str:
    """A topic in each of several namespaces, as a parameter."""
    return f"[{', '.join(f'{space}/{name}' for space in spaces)}]"


def _measure(row: Load, seconds: float) -> tuple[int, int]:
    """Wait until all cameras are served, warm up, and measure.

    Returns:
        Stamps between which frames count. All that will ever be answered of them has been.
    """
    row.wait_for(lambda: all(row.ages), "answers for every camera", START_LIMIT, healthy=True)
    begin = row.now() + int(WARM_UP * 1e9)
    end = begin + int(seconds * 1e9)
    row.wait_for(lambda: row.now() >= end, "end", WARM_UP + seconds + ANSWER_LIMIT, healthy=True)
    # The cameras go on meanwhile: a server that may rest answers frames that it would not have come
    # to. A camera's frames are answered in their order.
    row.wait_for(
        lambda: all(max(ages) >= end for ages in row.ages),
        "answers for every camera",
        ANSWER_LIMIT,
        healthy=True,
    )
    return begin, end


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


def read_arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description="A server node with more and more cameras, over DDS."
    )
    parser.add_argument(
        "--cameras", default="1,2,4,8,16", help="numbers of cameras (default: %(default)s)"
    )
    parser.add_argument(
        "--clouds",
        default="1,4",
        help="numbers of cameras from image to cloud of people; '' for none (default: %(default)s)",
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
        "--detector", default=DEFAULT, help="the server's parameter (default: %(default)s)"
    )
    parser.add_argument(
        "--max-batch", type=int, default=1, help="the server's parameter (default: %(default)s)"
    )
    parser.add_argument(
        "--engine", default="auto", help="the nodes' parameter (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the table; the exit code is 1 where something did not deliver."""
    # The processes are ended then as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = read_arguments()
    console = Console(stderr=True)
    try:
        size, *more = parse_sizes(given.size)
        if more:
            raise ValueError(f"size: {given.size!r}, must be one")
        results = run(
            parse_cameras(given.cameras),
            parse_cameras(given.clouds) if given.clouds else [],
            given.rate,
            given.seconds,
            size,
            given.model,
            given.detector,
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
    print(to_markdown(make_table(results)))
    engines = {
        f"{name}: {engine}"
        for row in results["rows"].values()
        for name, engine in row["engines"].items()
    }
    print("; ".join([*sorted(engines), results["cpu"], f"{results['cores']} cores"]))


if __name__ == "__main__":
    main()
