"""A lifecycle node that works on the newest frame of each of its topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from roi_anon_ros.nodes.base.health import Level
from roi_anon_ros.nodes.base.parameters import declare
from roi_anon_ros.nodes.base.worker import Worker

#: Seconds after which a node that starts by itself, and could not, tries again.
RETRY = 10.0
#: Least and greatest seconds between two diagnostics.
PERIODS = (0.05, 60.0)
#: Seconds between two log entries about dropped frames; the diagnostics count them all.
LOG_PERIOD = 5.0


def newest_only() -> QoSProfile:
    """Best effort, depth 1: the newest frame wins. A fresh profile, for overrides change it."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class NewestFramesNode(LifecycleNode):
    """A node that works on the newest frame of each topic in a thread of its own while it is
    active.

    Whatever goes wrong with a frame costs that frame: it is counted, named in the diagnostics, and
    the next one is tried. A subclass says what to load (:meth:`load`, :meth:`setup`) and what to do
    (:meth:`process`, or :meth:`process_batch` where frames of several topics are better worked on
    at once).

    Attributes:
        role: the node's default name, and the name of its status in the diagnostics.
        max_batch: frames, each of another topic, that are worked on at once where so many wait.
        worker: the thread that works, and how the frames fare.
    """

    role: str
    max_batch: int = 1

    def __init__(self) -> None:
        super().__init__(self.role)
        self._settings: set[str] = set()
        self._checks: dict[str, Callable[[Any], object]] = {}
        self._state = "unconfigured"  # "" while active
        self._fault = ""
        self._configured = False
        self.worker: Worker[Any] = Worker(self.role, [], self.process_batch, self._tell_of_drop)
        self._topics: dict[str, type] = {}
        self._outputs: list[Any] = []
        self._inputs: list[Any] = []
        autostart = declare(
            self, "autostart", False, "Configure and activate at start-up, unasked", read_only=True
        )
        period = declare(
            self,
            "diagnostics_period",
            1.0,
            "Seconds between two diagnostics",
            PERIODS,
            read_only=True,
        )
        self.add_on_set_parameters_callback(self._check_settable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Wall-clock seconds, also where the node follows a simulation's or a bag's time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(period, self._publish_diagnostics, clock=steady)
        self._starter = self.create_timer(0.0, self._start, clock=steady)
        if not autostart:
            self._starter.cancel()

    # For the subclass

    def load(self) -> None:
        """Load what :meth:`setup` needs; what it raises leaves the node unconfigured."""

    def setup(self) -> dict[str, type]:
        """Load what the work needs and create the outputs.

        Returns:
            The topics to listen to, with their message types.

        Raises:
            Exception: the node stays unconfigured, and says why.
        """
        raise NotImplementedError

    def warm_up(self) -> None:
        """Do once what the first frame would wait for."""

    def unload(self) -> None:
        """Let go what :meth:`load` and :meth:`setup` loaded."""

    def describe(self) -> dict[str, str]:
        """What the diagnostics say besides counts and times, by name."""
        return {}

    def process(self, topic: str, message: Any) -> tuple[dict[str, float], dict[str, float]]:
        """Work on one message, in the node's thread, and publish what comes of it.

        Returns:
            Seconds of each stage, and whatever else is measured on each frame, by name.

        Raises:
            Exception: the frame is dropped, and counted by the exception's ``reason``, or else its
                type.
        """
        raise NotImplementedError

    def process_batch(self, frames: list[tuple[str, Any]]) -> None:
        """Work on the newest messages of up to :attr:`max_batch` topics, here one after the other.

        Each frame is to be reported: see :class:`Worker`.
        """
        for topic, message in frames:
            with self.worker.at_the_cost_of([topic]):
                self.worker.sent(topic, *self.process(topic, message))

    def setting(
        self,
        name: str,
        default: Any,
        description: str,
        bounds: tuple[float, float] | None = None,
        check: Callable[[Any], object] | None = None,
    ) -> None:
        """Declare a parameter.

        Args:
            name: of the parameter.
            default: its value where nobody sets it.
            description: for `ros2 param describe`.
            bounds: smallest and largest value.
            check: raises a ValueError for what it must not be; with it the parameter may be set
                at any time and counts from the next frame. Without: configure reads it, and it
                cannot be set while configured.
        """
        when = "Counts from the next frame." if check else "Read by configure."
        declare(self, name, default, description, bounds, additional_constraints=when)
        if check is None:
            self._settings.add(name)
        else:
            self._checks[name] = check

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def output(self, message_type: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that lives while the node is configured and publishes while it is
        active.
        """
        publisher = self.create_lifecycle_publisher(
            message_type,
            topic,
            qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._outputs.append(publisher)
        return publisher

    # Transitions

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
            for name, check in self._checks.items():  # nobody checked what it was started with
                check(self.value(name))
            self.load()
            self._topics = self.setup()
            self.warm_up()
        except Exception as error:
            self._fault = f"configure: {error}"
            self.get_logger().error(self._fault)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._fault = ""
        self._state = "inactive"
        self._configured = True
        self.worker = Worker(
            self.role, list(self._topics), self.process_batch, self._tell_of_drop, self.max_batch
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and work; on failure say why and stay inactive."""
        # Callbacks run on the thread that runs this: no frame comes before the publishers are
        # enabled.
        self.worker.start()
        try:
            for topic, message_type in self._topics.items():
                self._inputs.append(
                    self.create_subscription(
                        message_type,
                        topic,
                        partial(self.worker.put, topic),
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
        self.worker.stop()

    def _release(self) -> None:
        self._stop()
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        self.unload()
        self._configured = False
        self._state = "unconfigured"

    # Work

    def _tell_of_drop(self, topics: Sequence[str], error: Exception) -> None:
        if self.context.ok():  # otherwise the process is being ended: publishers fail then
            dropped = ", ".join(topics)
            self.get_logger().error(
                f"{dropped}: frame dropped: {error}", throttle_duration_sec=LOG_PERIOD
            )

    def _check_settable(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in self._settings and self._configured:
                reason = (
                    f"{parameter.name} is read by configure: clean the node up before setting it"
                )
                return SetParametersResult(successful=False, reason=reason)
            if parameter.name in self._checks:
                try:
                    self._checks[parameter.name](parameter.value)
                except (ValueError, TypeError) as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        for name, health in self.worker.health.items():
            report = health.report(self._state)
            level = Level.ERROR if self._fault else report.level
            message = self._fault or report.message
            values = report.values | self.describe()
            status = DiagnosticStatus(
                name=f"{self.get_fully_qualified_name()}: {name}",
                level=bytes([level]),
                message=message,
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
            array.status.append(status)
        self._diagnostics.publish(array)
