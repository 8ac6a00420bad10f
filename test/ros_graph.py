"""Nodes as processes of their own, and a probe that talks to them over DDS."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
pytest.importorskip("roi_anon_msgs", reason="needs the message packages: make env, or colcon build")

import torch  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from roi_anon_ros.codec import save_model  # noqa: E402
from roi_anon_ros.codec.networks import PaperCodec  # noqa: E402

#: Seconds until a process must be up, and until anything else must have happened, on a machine that is busy.
START, PATIENCE = 120.0, 60.0

RELIABLE = QoSProfile(depth=50)
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def make_model(path: Path, seed: int = 0, change: Callable[[PaperCodec], None] = lambda net: None) -> Path:
    """Write a tiny random model, louder than they are by nature: other pictures give other packets."""
    torch.manual_seed(seed)
    net = PaperCodec(N=8, M=2)
    net.update()
    with torch.no_grad():
        net.g_a[-1].weight *= 100
        net.g_s[-2].weight *= 30
        change(net)
    save_model(net, path, name="tiny")
    return path


class Process:
    """A process whose output goes to a file."""

    def __init__(self, command: list[str], domain: int, log: Path, more: dict[str, str]) -> None:
        self.log = log
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"} | more
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, to its children as well, as a terminal does, and return the exit code."""
        if self.alive:
            os.killpg(self._process.pid, number)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise


class Probe:
    """A node in the test, with what it has received."""

    def __init__(self, folder: Path) -> None:
        # Both are read when a context is made; the range also by the processes that are started.
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.domain = random.SystemRandom().randint(1, 101)
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._folder = folder
        self.processes: list[Process] = []
        self.environment: dict[str, str] = {}  # more of it, for processes to come
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self._reports: dict[str, int] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._stamps = 0

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.diagnostics[status.name] = status
            self._reports[status.name] = self._reports.get(status.name, 0) + 1

    def close(self) -> None:
        for process in self.processes:
            process.end()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def start(self, *command: str) -> Process:
        """Start ``python ARGUMENTS...`` in the probe's domain."""
        log = self._folder / f"process{len(self.processes)}.log"
        self.processes.append(Process([sys.executable, *command], self.domain, log, self.environment))
        return self.processes[-1]

    def start_node(self, module: str, **parameters: Any) -> Process:
        """Start one of the nodes, by default with the engine that is there at once, and wait for its services."""
        if module in ("edge", "server"):
            parameters = {"engine": "torch"} | parameters
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        process = self.start("-m", f"roi_anon_ros.nodes.{module}", "--ros-args", *arguments)
        client = self.node.create_client(GetState, f"/{module}/get_state")
        self.wait_for(client.service_is_ready, f"{module} to be up", START)
        return process

    def wait_for(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Spin until a condition holds, and return its value."""
        end = time.monotonic() + patience
        while not (value := condition()):
            for process in self.processes:
                assert process.alive, f"waiting for {what}, a process ended:\n{process.output}"
            logs = "\n".join(process.output[-2000:] for process in self.processes)
            assert time.monotonic() < end, f"waited {patience:.0f} s for {what}\n{self.diagnostics}\n{logs}"
            self._executor.spin_once(timeout_sec=0.1)
        return value

    def settle(self) -> None:
        """Take what is already there."""
        for _ in range(10):
            self._executor.spin_once(timeout_sec=0.05)

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(service_type, name)
        self.wait_for(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.wait_for(future.done, f"an answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def transit(self, node: str, transition: str) -> bool:
        """Ask a lifecycle node for a transition; returns whether it succeeded."""
        request = ChangeState.Request(transition=Transition(label=transition))
        return self.call(ChangeState, f"/{node}/change_state", request).success

    def state(self, node: str) -> str:
        return self.call(GetState, f"/{node}/get_state", GetState.Request()).current_state.label

    def listen(self, message_type: type, topic: str, qos: QoSProfile, matched: bool = True) -> list[Any]:
        """Subscribe, wait for the publisher, and return the list that messages are appended to."""
        messages: list[Any] = []
        subscription = self.node.create_subscription(message_type, topic, messages.append, qos)
        if matched:
            self.wait_for(subscription.get_publisher_count, f"a publisher of {topic}")
        return messages

    def talk(self, message_type: type, topic: str) -> Any:
        """Create a publisher, and wait for its subscriber."""
        publisher = self.node.create_publisher(message_type, topic, RELIABLE)
        self.wait_for(publisher.get_subscription_count, f"a subscriber of {topic}")
        return publisher

    def connect(self, send: Callable[[], Header], received: list[Any]) -> None:
        """Send until it comes out at the other end: that a peer is seen does not mean that it sees us yet.

        Args:
            send: sends one message, and returns its header.
            received: what comes of the messages; cleared.
        """
        for _ in range(round(PATIENCE)):
            header = send()
            end = time.monotonic() + 1
            while not received and time.monotonic() < end:
                self._executor.spin_once(timeout_sec=0.1)
            if received:
                break
        self.wait_for(lambda: received and received[-1].header == header, "the connection")
        received.clear()

    def header(self) -> Header:
        """A header with a stamp of its own."""
        self._stamps += 1
        return Header(stamp=Time(sec=1_700_000_000 + self._stamps, nanosec=123_456_789), frame_id="optical")

    def report(self, name: str) -> dict[str, str]:
        """Wait for the next report of this name, and return its values, with its level and message."""
        count = self._reports.get(name, 0)
        self.wait_for(lambda: self._reports.get(name, 0) > count, f"diagnostics of {name}")
        status = self.diagnostics[name]
        values = {pair.key: pair.value for pair in status.values}
        return values | {"level": int.from_bytes(status.level, "little"), "message": status.message}


@contextmanager
def probing(folder: Path) -> Iterator[Probe]:
    """A probe, whose processes are ended with it."""
    probe = Probe(folder)
    try:
        yield probe
    finally:
        probe.close()
