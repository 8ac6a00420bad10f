"""How soon nodes deliver after their start and after kill -9, and what memory they hold: real nodes
in separate processes, over DDS.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rclpy.qos import QoSProfile
from rclpy.time import Time
from rich.console import Console
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import DEFAULT_MODEL
from roi_anon_ros.codec.engines import processor
from roi_anon_ros.codec.image import resize
from roi_anon_ros.detect.choice import DEFAULT
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.evaluate.latency.images import default_image
from roi_anon_ros.evaluate.report.markdown import Table, to_markdown
from roi_anon_ros.files import png
from roi_anon_ros.graph.processes import START_LIMIT, Graph
from roi_anon_ros.nodes.base.newest import newest_only

#: Width and height of the camera's images.
SIZE = (640, 480)
#: Images that the camera sends a second.
RATE = 5.0
#: Rounds that fill the caches and do not count.
WARM_UP = 1
#: Outputs after which a node holds what memory it will.
SETTLED = 30
#: Seconds after which `ros2 launch` starts a process again, see ``launch/``.
RESPAWN_DELAY = 1.0
#: Nodes, and the topic and type of what they put out.
OUTPUTS: dict[str, tuple[str, type]] = {
    "camera": ("image_raw", Image),
    "edge": ("latent", CompressedLatent),
    "server": ("detections", Detection2DArray),
}


class Startup(Graph):
    """A camera, an edge and a server, and when what they put out arrived.

    Args:
        folder: for the camera's image and the logs.
        parameters: of each node, by its name.

    Attributes:
        stamps: of what each node has put out, nanoseconds, in the order of arrival.
    """

    def __init__(self, folder: Path, parameters: dict[str, dict[str, Any]]) -> None:
        self.stamps: dict[str, list[int]] = {name: [] for name in OUTPUTS}
        self._parameters = parameters
        super().__init__(folder, name="startup")
        self._listen("edge")
        self._listen("server")

    def _listen(self, name: str) -> Any:
        topic, kind = OUTPUTS[name]
        qos = newest_only() if kind is CompressedLatent else QoSProfile(depth=10)

        def take(message: Any) -> None:
            self.stamps[name].append(Time.from_msg(message.header.stamp).nanoseconds)

        return self.node.create_subscription(kind, topic, take, qos)

    def measure(self, name: str) -> dict[str, float]:
        """Start a node and wait until it has settled.

        Args:
            name: of the node; what it listens to runs already.

        Returns:
            ``wall`` seconds from its start to its first output, ``processor`` seconds that it took
            until then, and the resident memory ``memory`` once it has settled, MB.

        Raises:
            GraphError: it ended, reported an error or put out nothing.
        """
        # The camera sends only to listeners; nobody reads its images here once it is measured.
        images = self._listen(name) if name == "camera" else None
        before = len(self.stamps[name])
        begun = time.monotonic()
        process = self.start_module(name, f"roi_anon_ros.nodes.{name}", **self._parameters[name])
        self._wait_for_outputs(name, before + 1)
        wall = time.monotonic() - begun
        busy = processor_seconds(process.pid)
        self._wait_for_outputs(name, before + SETTLED)
        if images is not None:
            self.node.destroy_subscription(images)
        return {"wall": wall, "processor": busy, "memory": resident_memory(process.pid)}

    def kill(self, name: str) -> float:
        """Kill a node, and start it again as `ros2 launch` does.

        Args:
            name: "edge" or "server".

        Returns:
            Seconds from the kill until detections of a later image arrive.

        Raises:
            GraphError: see :meth:`measure`.
        """
        self.processes.pop(name).end(SIGKILL)
        begun = time.monotonic()
        stamp = self.now()
        while time.monotonic() < begun + RESPAWN_DELAY:
            self.spin(0.05)
        self.start_module(name, f"roi_anon_ros.nodes.{name}", **self._parameters[name])
        detections = self.stamps["server"]
        self.wait_for(
            lambda: detections and detections[-1] > stamp,
            f"detections after the {name} was killed",
            START_LIMIT,
        )
        return time.monotonic() - begun

    def _wait_for_outputs(self, name: str, count: int) -> None:
        topic, _ = OUTPUTS[name]
        self.wait_for(
            lambda: len(self.stamps[name]) >= count,
            f"{count} messages on {topic}",
            START_LIMIT,
            healthy=True,
        )


def processor_seconds(pid: int) -> float:
    """Seconds of all processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user = int(fields[11])
    system = int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def resident_memory(pid: int) -> float:
    """Resident memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(
    rounds: int = 3, model: str = DEFAULT_MODEL, detector: str = DEFAULT, engine: str = "auto"
) -> dict[str, Any]:
    """Measure the nodes, after a round that fills the caches and does not count.

    Args:
        rounds: that count, 1 to 100.
        model: name or file of the codec's model.
        detector: of persons, the server's parameter.
        engine: the nodes' parameter.

    Returns:
        The medians: ``nodes`` has what :meth:`Startup.measure` returns, by name; ``again`` the
        seconds until detections come again, by the node that was killed; ``engines`` what each node
        ran on.

    Raises:
        ValueError: names the argument and the bound.
        GraphError: a process ended, reported an error or did not deliver.
    """
    if not 1 <= rounds <= 100:
        raise ValueError(f"rounds: got {rounds}, must be from 1 to 100")
    measured = []
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        image.write_bytes(png(resize(default_image()[0], *SIZE)))
        coding: dict[str, Any] = {"model": model, "engine": engine, "autostart": "true"}
        parameters: dict[str, dict[str, Any]] = {
            "camera": {"input": image, "rate": RATE},
            "edge": coding,
            "server": coding | {"detector": detector},
        }
        for _ in range(WARM_UP + rounds):
            with Startup(Path(folder), parameters) as graph:
                nodes = {name: graph.measure(name) for name in OUTPUTS}
                again = {name: graph.kill(name) for name in ("edge", "server")}
                measured.append((nodes, again, graph.engines))
    counted = measured[WARM_UP:]
    figures: dict[str, dict[str, float]] = {}
    for name in OUTPUTS:
        taken = [nodes[name] for nodes, _, _ in counted]
        figures[name] = {}
        for key in taken[0]:
            figures[name][key] = median(one[key] for one in taken)
    back: dict[str, float] = {}
    for name in counted[0][1]:
        back[name] = median(again[name] for _, again, _ in counted)
    return {"nodes": figures, "again": back, "engines": counted[-1][2]}


def table(results: dict[str, Any]) -> Table:
    """The results as a table.

    Args:
        results: of :func:`run`.
    """
    lines = [["", "first output, s", "processor time until then, s", "resident memory, MB"]]
    for name, node in results["nodes"].items():
        figures = [f"{node['wall']:.1f}", f"{node['processor']:.1f}", f"{node['memory']:.0f}"]
        lines.append([f"`{name}_node`", *figures])
    for name, seconds in results["again"].items():
        lines.append([f"detections again after kill -9 of `{name}_node`", f"{seconds:.1f}", "", ""])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table; the exit code is 1 where something did not deliver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="that count (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the nodes' (default: %(default)s)")
    parser.add_argument("--detector", default=DEFAULT, help="the server's (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="the nodes' (default: %(default)s)")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        results = run(given.rounds, given.model, given.detector, given.engine)
    except (RoiAnonError, ValueError, OSError) as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
    print(to_markdown(table(results)))
    engines = [f"{name}: {engine}" for name, engine in sorted(results["engines"].items())]
    print("; ".join([*engines, processor(), f"{len(os.sched_getaffinity(0))} cores"]))


if __name__ == "__main__":
    main()
