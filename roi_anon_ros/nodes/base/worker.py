"""What the edge and the server node share: a lifecycle, a model, a thread that works on the newest frames."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.engines import Half
from roi_anon_ros.nodes.base.diagnostics import StreamHealth
from roi_anon_ros.nodes.base.mailbox import Mailbox

#: Seconds after which a node that starts by itself, and could not, tries again.
RETRY = 10.0
#: Seconds between two log entries about dropped frames; the diagnostics count them all.
LOG_PERIOD = 5.0


def newest_only() -> QoSProfile:
    """Best effort, depth 1: the newest frame wins. A fresh profile, for overrides change it."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    bounds: tuple[float, float] | None = None,
    **more: Any,
) -> Any:
    """Declare a parameter.

    Args:
        node: whose parameter.
        name: of the parameter.
        default: its value where nothing else is given, and its type.
        description: for ``ros2 param describe``.
        bounds: least and greatest value of a number.
        more: other fields of its descriptor.

    Returns:
        Its value.
    """
    descriptor = ParameterDescriptor(description=description, **more)
    if bounds and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=1)]
    elif bounds:
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
    return node.declare_parameter(name, default, descriptor).value


class WorkerNode(LifecycleNode):
    """A node that works on the newest frame of each topic in a thread of its own while it is active.

    Whatever goes wrong with a frame costs that frame: it is counted, named in the diagnostics, and the next
    one is tried. A subclass says what to load (:meth:`setup`) and what to do (:meth:`process`, or
    :meth:`process_batch` where frames of several topics are better worked on at once).

    Attributes:
        role: the node's default name, and the name of its status in the diagnostics.
        half: of the codec's work, which it does.
        max_batch: frames, each of another topic, that are worked on at once where so many wait.
        codec: the loaded model, while configured.
    """

    role: str
    half: Half
    max_batch: int = 1
    codec: Codec | None = None

    def __init__(self) -> None:
        super().__init__(self.role)
        self._settings: set[str] = set()
        self._state = "unconfigured"  # "" while active
        self._fault = ""
        self._health = {self.role: StreamHealth()}
        self._topics: dict[str, type] = {}
        self._outputs: list[Any] = []
        self._inputs: list[Any] = []
        self._mailbox: Mailbox[Any] | None = None
        self._thread: threading.Thread | None = None
        autostart = declare(self, "autostart", False, "Configure and activate at start-up, unasked", read_only=True)
        self.setting("model", "fast", "Name of an installed model, or path of a .safetensors file")
        self.setting("engine", "auto", "What runs the networks: torch, openvino, openvino-int8, onnxruntime, auto")
        self.add_on_set_parameters_callback(self._check_settable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Wall-clock seconds, also where the node follows a simulation's or a bag's time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self._starter = self.create_timer(0.0, self._start, clock=steady)
        if not autostart:
            self._starter.cancel()

    # For the subclass ---------------------------------------------------------------------------------------

    def setup(self) -> dict[str, type]:
        """Load what the work needs and create the outputs.

        Returns:
            The topics to listen to, with their message types.

        Raises:
            Exception: the node stays unconfigured, and says why.
        """
        raise NotImplementedError

    def process(self, topic: str, message: Any) -> tuple[float, dict[str, float]]:
        """Work on one message, in the node's thread, and publish what comes of it.

        Returns:
            Bits per pixel, and the seconds of each stage.

        Raises:
            Exception: the frame is dropped, and counted by the exception's ``reason``, or else its type.
        """
        raise NotImplementedError

    def process_batch(self, frames: list[tuple[str, Any]]) -> None:
        """Work on the newest messages of up to :attr:`max_batch` topics, here one after the other.

        Each frame is to be reported: by :meth:`sent`, or by an exception within :meth:`at_the_cost_of`.
        """
        for topic, message in frames:
            with self.at_the_cost_of([topic]):
                self.sent(topic, *self.process(topic, message))

    def sent(self, topic: str, bits_per_pixel: float, seconds: dict[str, float]) -> None:
        """Report a frame that went out, with the seconds that each stage took for it."""
        for health in self._streams(topic):
            health.sent(bits_per_pixel, seconds)

    @contextmanager
    def at_the_cost_of(self, topics: Sequence[str]) -> Iterator[None]:
        """Let an exception cost the frames of these topics, and nothing else.

        They are dropped, and counted by the exception's ``reason``, or else its type.
        """
        try:
            yield
        except Exception as error:
            if not self.context.ok():
                return  # the process is being ended: publishers fail then
            reason = getattr(error, "reason", type(error).__name__)
            for topic in topics:
                for health in self._streams(topic):
                    health.failed(reason, str(error))
            dropped = ", ".join(topics)
            self.get_logger().error(f"{dropped}: frame dropped: {error}", throttle_duration_sec=LOG_PERIOD)

    def setting(self, name: str, default: Any, description: str, bounds: tuple[float, float] | None = None) -> None:
        """Declare a parameter that is read while configuring, and cannot be set while configured."""
        declare(self, name, default, description, bounds, additional_constraints="Read by configure.")
        self._settings.add(name)

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def output(self, message_type: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that lives while the node is configured and publishes while it is active."""
        publisher = self.create_lifecycle_publisher(
            message_type, topic, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )
        self._outputs.append(publisher)
        return publisher

    # Transitions --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Configure and activate, and try again later where that fails."""
        self._starter.cancel()
        if self._state != "unconfigured":
            return  # somebody else was faster
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        else:
            self._starter.timer_period_ns = int(RETRY * 1e9)
            self._starter.reset()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and all else; on failure say why and stay unconfigured."""
        try:
            self.codec = Codec.load(self.value("model"), self.value("engine"))
            self._topics = self.setup()
            self.codec.warm_up(self.half)
        except Exception as error:
            self._fault = f"configure: {error}"
            self.get_logger().error(self._fault)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._fault = ""
        self._state = "inactive"
        # One status for the node, and with several topics one for each.
        names = [self.role, *self._topics] if len(self._topics) > 1 else [self.role]
        self._health = {name: StreamHealth() for name in names}
        engine = self.codec.engine.runs(self.half)
        self.get_logger().info(f"model {self.codec.name} {self.codec.fingerprint}; {self.half} on {engine}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and work; on failure say why and stay inactive."""
        # Callbacks run on the thread that runs this: no frame comes before the publishers are enabled.
        self._mailbox = Mailbox()
        self._thread = threading.Thread(target=self._work, args=(self._mailbox,), name="work")
        self._thread.start()
        try:
            for topic, message_type in self._topics.items():
                self._inputs.append(
                    self.create_subscription(
                        message_type,
                        topic,
                        partial(self._receive, topic),
                        newest_only(),
                        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                    )
                )
        except Exception as error:
            self._fault = f"activate: {error}"
            self.get_logger().error(self._fault)
            self._stop()
            return TransitionCallbackReturn.FAILURE
        self._fault = ""
        self._state = ""
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frames at work are finished first."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model and the publishers go."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, from any state."""
        self._release()
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured."""
        self._fault = f"transition from {state.label} failed"
        self.get_logger().error(self._fault)
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop, and destroy the node."""
        self._stop()
        super().destroy_node()

    def _stop(self) -> None:
        """Stop listening and working; returns when the thread has ended."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        if self._mailbox is not None and self._thread is not None:
            self._mailbox.close()
            self._thread.join()
        self._mailbox = self._thread = None

    def _release(self) -> None:
        self._stop()
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        self.codec = None
        self._state = "unconfigured"

    # Work ---------------------------------------------------------------------------------------------------

    def _streams(self, topic: str) -> list[StreamHealth]:
        return [self._health[name] for name in (self.role, topic) if name in self._health]

    def _receive(self, topic: str, message: Any) -> None:
        assert self._mailbox is not None  # there are subscriptions only while there is a mailbox
        replaced = self._mailbox.put(topic, message)
        for health in self._streams(topic):
            health.received()
            if replaced:
                health.replaced()

    def _work(self, mailbox: Mailbox[Any]) -> None:
        while frames := mailbox.take(self.max_batch):
            self.process_batch(frames)

    def _check_settable(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in self._settings and self.codec is not None:
                reason = f"{parameter.name} is read by configure: clean the node up before setting it"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        codec = self.codec
        for name, health in self._health.items():
            status = health.status(f"{self.get_fully_qualified_name()}: {name}", self._state)
            if self._fault:
                status.level, status.message = DiagnosticStatus.ERROR, self._fault
            status.values += [
                KeyValue(key="model", value=codec.name if codec else self.value("model")),
                KeyValue(key="fingerprint", value=codec.fingerprint if codec else ""),
                KeyValue(key="engine", value=codec.engine.runs(self.half) if codec else self.value("engine")),
            ]
            array.status.append(status)
        self._diagnostics.publish(array)


def run(node_type: type[Node], args: list[str] | None = None) -> None:
    """Run a node until SIGINT or SIGTERM, or until it shuts its context down."""
    # rclpy's own handlers end the spinning on both signals; Python's would raise KeyboardInterrupt anywhere.
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=args)
    try:
        node = node_type()
    except ParameterException as error:
        raise SystemExit(f"parameters: {error}") from None
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok():
            try:
                executor.spin()
            except ExternalShutdownException:
                break
            except Exception as error:  # as when a client asks for a transition that is not allowed
                if rclpy.ok():
                    node.get_logger().error(f"a request failed: {error}")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
