"""A node that talks to nodes under test: services, messages in both directions, diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from roi_anon_ros.graph.processes import Graph, Process

#: Seconds until anything must have happened, on a machine that is busy.
PATIENCE = 600.0
#: Seconds between two diagnostics of a node under test.
DIAGNOSTICS_PERIOD = 0.2

RELIABLE = QoSProfile(depth=50)
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Probe(Graph):
    """A graph under test, and what was received of it.

    Args:
        folder: for the logs of the processes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="probe")
        self.environment["OMP_NUM_THREADS"] = "1"
        self._reported: dict[str, int] = {}  # when, by name, nanoseconds
        self._stamps = 0

    def on_diagnostics(self, array: DiagnosticArray) -> None:
        """Note what nodes say of themselves, and when they said it."""
        super().on_diagnostics(array)
        stamp = array.header.stamp
        for status in array.status:
            self._reported[status.name] = stamp.sec * 10**9 + stamp.nanosec

    def start_node(self, name: str, **parameters: Any) -> Process:
        """Start one of the nodes, by default with the engine that is there at once, and wait for
        its services.
        """
        if name in ("edge", "server"):
            parameters = {"engine": "torch", "diagnostics_period": DIAGNOSTICS_PERIOD} | parameters
        process = self.start_module(self._free(name), f"roi_anon_ros.nodes.{name}", **parameters)
        client = self.node.create_client(GetState, f"/{name}/get_state")
        self.wait_for(client.service_is_ready, f"{name} node")
        return process

    def _free(self, name: str) -> str:
        """A name that no process has, for its log."""
        number = len(self.processes)
        return f"{name}{number}" if number else name

    def wait_for(
        self,
        condition: Callable[[], Any],
        what: str,
        limit: float = PATIENCE,
        healthy: bool = False,
    ) -> Any:
        """See :meth:`Graph.wait_for`."""
        return super().wait_for(condition, what, limit, healthy)

    def settle(self) -> None:
        """Take what is already there."""
        for _ in range(10):
            self.spin(0.05)

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
        """The state of a lifecycle node."""
        return self.call(GetState, f"/{node}/get_state", GetState.Request()).current_state.label

    def listen(
        self, message_type: type, topic: str, qos: QoSProfile, matched: bool = True
    ) -> list[Any]:
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

    def until(self, act: Callable[[], object], condition: Callable[[], Any], what: str) -> Any:
        """Do something again and again until a condition holds, and return its value.

        A busy machine loses a message now and then. The pauses grow, so that one which works slowly
        is not kept from its answer by ever more work.

        Args:
            act: what to do, at once and after 1, 2, 4, ... seconds.
            condition: to become true.
            what: it stands for, in an error.

        Raises:
            GraphError: see :meth:`wait_for`.
        """
        pause = 1.0
        acted = time.monotonic()
        act()

        def holds() -> Any:
            nonlocal pause, acted
            value = condition()
            if not value and time.monotonic() - acted > pause:
                pause *= 2
                acted = time.monotonic()
                act()
            return value

        return self.wait_for(holds, what)

    def connect(self, send: Callable[[], Header], received: list[Any]) -> None:
        """Send until it comes out at the other end: that a peer is seen does not mean that it sees
        us yet.

        Args:
            send: sends one message, and returns its header.
            received: what comes of the messages; cleared.
        """
        sent: list[Header] = []
        self.until(
            lambda: sent.append(send()),
            lambda: any(message.header == sent[-1] for message in received),
            "the connection",
        )
        received.clear()

    def header(self) -> Header:
        """A header with a stamp that no other has."""
        self._stamps += 1
        return Header(
            stamp=Time(sec=1_700_000_000 + self._stamps, nanosec=123_456_789), frame_id="optical"
        )

    def report(self, name: str) -> dict[str, str]:
        """Wait for a report of this name that was made from now on, not one that was on its way;
        return its values, level and message.
        """
        asked = self.now()
        self._reported.pop(name, None)
        self.wait_for(lambda: self._reported.get(name, -1) >= asked, f"diagnostics of {name}")
        status = self.diagnostics[name]
        values = {pair.key: pair.value for pair in status.values}
        return values | {"level": int.from_bytes(status.level, "little"), "message": status.message}
