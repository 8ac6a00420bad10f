"""The one way to start real nodes: processes in their own domain, and what they say of
themselves.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals
from types import TracebackType
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.nodes.base.discovery import announce_often

G = TypeVar("G", bound="Graph")

#: Seconds that nodes may take to come up on a busy machine (one that ends or reports an error is
#: noticed at once), and that a process may take to end.
START_LIMIT = 600.0
END_LIMIT = 60.0
#: Domains whose ports no system gives to anybody else.
DOMAINS = range(1, 102)
#: UDP port of the first participant of domain 0, and what each further domain adds (RTPS 9.6.1.1).
FIRST_PORT = 7410
PORTS_OF_A_DOMAIN = 250
#: Characters at the end of a log that are quoted in an error.
QUOTED = 2000


class GraphError(RoiAnonError, RuntimeError):
    """A process ended, a node reported an error, or something did not come in time; the message
    says which.
    """


def choose_domain(domains: Sequence[int] = DOMAINS) -> int:
    """A random domain of DDS, so that no robot on the network is disturbed, in which nobody is on
    this machine.

    Args:
        domains: to choose from; where all are in use, any of them.
    """
    shuffled = random.SystemRandom().sample(domains, len(domains))
    return next(filter(is_free, shuffled), shuffled[0])


def is_free(domain: int) -> bool:
    """Whether no participant of a domain of DDS holds the first one's port on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", FIRST_PORT + PORTS_OF_A_DOMAIN * domain))
        except OSError:
            return False
    return True


class Process:
    """A process whose output goes to a file.

    Args:
        name: in messages.
        command: program and arguments.
        environment: of the process.
        log: the file.
    """

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def signal(self, number: Signals = SIGINT) -> None:
        """Send a signal to it and to its children, as a terminal does."""
        if self.alive:
            os.killpg(self._process.pid, number)

    def end(self, number: Signals = SIGINT) -> int:
        """Send a signal, and wait for the end; see :meth:`wait`."""
        self.signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end.

        Returns:
            The exit code.

        Raises:
            GraphError: it did not end in time, and was killed.
        """
        try:
            return self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, SIGKILL)
            self._process.wait()
            raise GraphError(
                f"the {self.name} did not end within {END_LIMIT:.0f} s, and was killed"
            ) from None


class Graph:
    """Processes in their own domain, and a node that listens to them; a context that ends the
    processes.

    Args:
        folder: for the logs of the processes, ``NAME.log``.
        domain: of DDS; None: see :func:`choose_domain`.
        name: of the node that listens.

    Attributes:
        domain: of DDS.
        node: for the caller's publishers and subscriptions.
        processes: that were started and not yet ended by :meth:`end`, by name.
        environment: variables, besides those of this process, for processes to come.
        diagnostics: the newest status of each name.
        failures: what the nodes whose newest status is ERROR say, by node.
    """

    def __init__(self, folder: Path, domain: int | None = None, name: str = "graph") -> None:
        # Read when a context is made, and by the processes.
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        announce_often()
        self.domain = choose_domain() if domain is None else domain
        self.processes: dict[str, Process] = {}
        self.environment: dict[str, str] = {}
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.failures: dict[str, str] = {}
        self._folder = folder
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, 10)

    def __enter__(self: G) -> G:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        try:
            self.end(list(self.processes))
        finally:
            self._executor.shutdown()
            self.node.destroy_node()
            self._context.try_shutdown()

    def start(self, name: str, *command: str) -> Process:
        """Start ``python COMMAND...`` in this domain, under a name that no other process has."""
        environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain)} | self.environment
        log = self._folder / f"{name}.log"
        self.processes[name] = Process(name, [sys.executable, *command], environment, log)
        return self.processes[name]

    def start_module(
        self, name: str, module: str, remap: Mapping[str, str] | None = None, **parameters: Any
    ) -> Process:
        """Start the node of a module.

        Args:
            name: of the process.
            module: that is run.
            remap: other names of topics, or of ``__ns``, by their names.
            parameters: of the node.
        """
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        for old, new in (remap or {}).items():
            words += ["-r", f"{old}:={new}"]
        return self.start(name, "-m", module, "--ros-args", *words)

    def end(self, names: Iterable[str]) -> None:
        """End processes, all at the same time, and wait for them.

        Raises:
            GraphError: one did not end in time; all have ended by then.
        """
        ending = [self.processes.pop(name) for name in names]
        for process in ending:
            process.signal()
        late = []
        for process in ending:
            try:
                process.wait()
            except GraphError as error:
                late.append(error)
        if late:
            raise late[0]

    def now(self) -> int:
        """Nanoseconds of the clock that stamps are of."""
        return self.node.get_clock().now().nanoseconds

    def spin(self, seconds: float) -> None:
        """Take what arrives next, within this many seconds."""
        self._executor.spin_once(timeout_sec=seconds)

    def wait_for(
        self, condition: Callable[[], Any], what: str, limit: float, healthy: bool = False
    ) -> Any:
        """Take what arrives until a condition holds, and return its value.

        Args:
            condition: to become true.
            what: it stands for, in an error.
            limit: seconds.
            healthy: whether a node that reports an error ends the wait.

        Raises:
            GraphError: it takes too long, a process ended, or a node reported an error.
        """
        deadline = time.monotonic() + limit
        while not (value := condition()):
            self.spin(0.05)
            for process in self.processes.values():
                if not process.alive:
                    said = process.output[-QUOTED:]
                    raise GraphError(
                        f"no {what}: the {process.name} ended with code {process.code}: {said}"
                    )
            if healthy and self.failures:
                raise GraphError("; ".join(self.failures.values()))
            if time.monotonic() > deadline:
                said = "; ".join(self.failures.values()) or "no node reports an error"
                raise GraphError(
                    f"no {what} within {limit:.0f} s: {said}; see the logs in {self._folder}"
                )
        return value

    @property
    def engines(self) -> dict[str, str]:
        """What the nodes say that they run on, by node."""
        said = {}
        for status in self.diagnostics.values():
            for pair in status.values:
                if pair.key == "engine":
                    said[status.name.partition(":")[0].strip("/")] = pair.value
        return said

    def on_diagnostics(self, array: DiagnosticArray) -> None:
        """Note what nodes say of themselves."""
        for status in array.status:
            node = status.name.partition(":")[0]
            self.diagnostics[status.name] = status
            self.failures.pop(node, None)
            if status.level == DiagnosticStatus.ERROR:
                self.failures[node] = f"{status.name}: {status.message}"
