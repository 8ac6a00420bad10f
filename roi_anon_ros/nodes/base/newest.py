"""A lifecycle node that works on the newest frame of each of its topics."""

from __future__ import annotations

import platform
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import SetBool

from roi_anon_ros.nodes.base.health import AgeError, Level, cut
from roi_anon_ros.nodes.base.settings import SettingsNode
from roi_anon_ros.nodes.base.worker import Worker

#: Seconds after which a node that starts by itself, and could not, tries again.
RETRY = 10.0
#: Least and greatest seconds between two diagnostics.
PERIODS = (0.05, 60.0)
#: Seconds between two log entries about dropped frames; the diagnostics count them all.
LOG_PERIOD = 5.0
#: Seconds between two lines that sum up how the frames fared.
SUMMARY_PERIOD = 60.0
#: Greatest age of an image that can be asked for, seconds.
MAX_AGE = 3600.0
MUTED = "muted: nothing leaves"
FINALIZED = "finalized: the process must be started anew"
#: What a node asks of the publishers of its topics; None: reliable where all of them offer it.
RELIABILITIES = {
    "auto": None,
    "reliable": ReliabilityPolicy.RELIABLE,
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
}


def newest_only() -> QoSProfile:
    """Best effort, depth 1: the newest frame wins. A fresh profile, for overrides change it."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class NewestFramesNode(SettingsNode):
    """A node that works on the newest frame of each topic in its own thread while it is
    active.

    Whatever goes wrong with a frame costs that frame: it is counted, named in the diagnostics, and
    the next one is tried. A subclass says what to load (:meth:`load`, :meth:`setup`) and what to do
    (:meth:`process`, or :meth:`process_batch` where frames of several topics are better worked on
    at once).

    Attributes:
        role: the node's default name, and the name of its status in the diagnostics.
        loss: whether frames that never arrive are worth a warning.
        in_order: whether frames that come late are dropped; otherwise the subclass judges stamps.
        max_batch: frames, each of another topic, that are worked on at once where that many wait.
        reliability: of :data:`RELIABILITIES`, that :meth:`setup` may set.
        worker: the thread that works, and how the frames fare.
    """

    role: str
    loss: bool = False
    in_order: bool = True
    max_batch: int = 1
    reliability: str = "best_effort"

    def __init__(self) -> None:
        super().__init__(self.role)
        self._state = "unconfigured"  # "" while active
        self._fault = ""
        self._enabled = False
        self._muted = False
        self._changing = threading.RLock()  # held by what starts and stops the work
        self.worker: Worker[Any] = Worker(self.role, [], self.process_batch, self._tell_of_drop)
        self._topics: dict[str, type] = {}
        self._outputs: list[Any] = []
        self._inputs: dict[str, Any] = {}
        self._asked: dict[str, ReliabilityPolicy] = {}
        self._summed: tuple[int, int, Counter[str]] = (0, 0, Counter())
        self._frames = MutuallyExclusiveCallbackGroup()  # frames stay in order
        self._reports = MutuallyExclusiveCallbackGroup()
        autostart = self.declare_checked(
            "autostart", False, "Configure and activate at start-up, unasked", read_only=True
        )
        period = self.declare_checked(
            "diagnostics_period", 1.0, "Seconds between two diagnostics", PERIODS, read_only=True
        )
        self._hardware_id: str = self.declare_checked(
            "hardware_id",
            "",
            "What the diagnostics name as the hardware; empty: this machine's name",
            read_only=True,
        )
        self.setting(
            "max_age",
            0.0,
            "Results of images that are older by then are withheld, seconds; 0: none are",
            (0.0, MAX_AGE),
            float,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/mute", self._mute)
        # Wall-clock seconds, also where the node follows a simulation's or a bag's time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(period, self._report, clock=steady, callback_group=self._reports)
        self.create_timer(SUMMARY_PERIOD, self._sum_up, clock=steady, callback_group=self._reports)
        self._starter = self.create_timer(
            0.0, self._start, clock=steady, callback_group=MutuallyExclusiveCallbackGroup()
        )
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
                seconds, figures = self.process(topic, message)
                self.worker.sent(topic, seconds, figures, self.age_of(message))

    def say(self, step: str) -> None:
        """Tell the log and the diagnostics what configure does now."""
        self._state = f"configuring: {step}"
        self.get_logger().info(self._state)

    def age_of(self, message: Any) -> float:
        """Seconds from a message's stamp until now, by the node's clock."""
        return self._now() - _stamp_of(message)

    def check_age(self, message: Any) -> None:
        """Refuse a frame whose result would go out too late.

        Raises:
            AgeError: it is older than ``max_age``.
        """
        most = self.value("max_age")
        age = self.age_of(message)
        if most and age > most:
            raise AgeError(f"{age:.3f} s old, must be at most {most}: max_age")

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
        if self._enabled:  # as the others were when the node became active
            publisher.on_activate(None)
        return publisher

    def close_output(self, publisher: Any) -> None:
        """Destroy a publisher that is no longer wanted."""
        self._outputs.remove(publisher)
        self.destroy_lifecycle_publisher(publisher)

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
        with self._changing:
            try:
                self.settled = True
                if self.misset:
                    raise ValueError("; ".join(self.misset.values()))
                self.load()
                self._topics = self.setup()
                self.warm_up()
            except Exception as error:
                self._fail(f"configure: {error}")  # before the state goes: a report tells it
                self._release()
                return TransitionCallbackReturn.FAILURE
            self._fault = ""
            self._state = "inactive"
            self.worker = Worker(
                self.role,
                list(self._topics),
                self.process_batch,
                self._tell_of_drop,
                self.max_batch,
                self.loss,
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and work; on failure say why and stay inactive."""
        enabled = super().on_activate(state)  # before the first frame comes
        with self._changing:
            self._enabled = True
            if not self._muted:
                self.worker.start()
            try:
                for topic in self._topics:
                    self._listen(topic, self._reliability_for(topic))
            except Exception as error:
                self._fail(f"activate: {error}")
                self._stop()
                return TransitionCallbackReturn.FAILURE
            self._fault = ""
            self._state = ""
        return enabled

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frames at work are finished first."""
        with self._changing:
            self._stop()
            self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model and the publishers go."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, from any state."""
        self._release(FINALIZED)
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured."""
        self._fail(f"transition from {state.label} failed")
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop, and destroy the node."""
        self._stop()
        super().destroy_node()

    def _fail(self, fault: str) -> None:
        self._fault = cut(fault)
        if self.context.ok():
            self.get_logger().error(self._fault)

    def _stop(self) -> None:
        """Stop listening and working; returns when the thread has ended."""
        with self._changing:
            for subscription in self._inputs.values():
                self.destroy_subscription(subscription)
            self._inputs.clear()
            self._asked.clear()
            self.worker.stop()
            self._enabled = False

    def _release(self, state: str = "unconfigured") -> None:
        """Let go what configure loaded, and be in this state from then on."""
        with self._changing:
            self._stop()
            for publisher in self._outputs:
                self.destroy_lifecycle_publisher(publisher)
            self._outputs.clear()
            self.unload()
            self.settled = False
            self._state = state

    def _mute(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Let nothing leave, from the answer on, or all again; frames are dropped meanwhile."""
        with self._changing:
            self._muted = request.data
            if self._muted:
                self.worker.stop()  # the frames at work are finished, and go out, first
            elif not self._state:
                self.worker.stop()
                self.worker.start()
        self.get_logger().warning(MUTED if self._muted else "no longer muted")
        response.success = True
        response.message = MUTED if self._muted else "not muted"
        return response

    # Inputs

    def _listen(self, topic: str, reliability: ReliabilityPolicy) -> None:
        self._asked[topic] = reliability
        self._inputs[topic] = self.create_subscription(
            self._topics[topic],
            topic,
            partial(self._take, topic),
            QoSProfile(depth=1, reliability=reliability),
            # Not the reliability: an override would stay what was asked for first.
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
            callback_group=self._frames,
        )

    def _take(self, topic: str, message: Any) -> None:
        stamp = _stamp_of(message) if self.in_order else None
        self.worker.put(topic, message, stamp, self._now())

    def _reliability_for(self, topic: str) -> ReliabilityPolicy:
        """What to ask of the publishers of a topic, of whom some may not be known yet."""
        fixed = RELIABILITIES[self._override_of(topic) or self.reliability]
        if fixed is not None:
            return fixed
        offered = {
            info.qos_profile.reliability for info in self.get_publishers_info_by_topic(topic)
        }
        if offered == {ReliabilityPolicy.RELIABLE}:
            return ReliabilityPolicy.RELIABLE
        if not offered and topic in self._asked:
            return self._asked[topic]
        return ReliabilityPolicy.BEST_EFFORT

    def _override_of(self, topic: str) -> str:
        """What the parameter for a topic's reliability says; empty where nobody gave it."""
        name = f"qos_overrides.{self.resolve_topic_name(topic)}.subscription.reliability"
        if not self.has_parameter(name):
            described = "Reliability to ask of the publishers; empty: as the node has it"
            self.declare_checked(name, "", described, read_only=True)
        override: str = self.value(name)
        if override and override not in RELIABILITIES:
            raise ValueError(f"{name}: got {override!r}, must be one of {', '.join(RELIABILITIES)}")
        return override

    def _follow_publishers(self) -> None:
        """Listen anew where publishers came that offer more, or less, than was asked of them."""
        for topic, subscription in list(self._inputs.items()):
            wanted = self._reliability_for(topic)
            if wanted != self._asked[topic]:
                self.destroy_subscription(subscription)
                self._listen(topic, wanted)
                self.get_logger().info(f"{topic}: listens {wanted.name.lower()} from now on")

    # Work

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _tell_of_drop(self, topics: Sequence[str], error: Exception) -> None:
        if self.context.ok():  # otherwise the process is being ended: publishers fail then
            dropped = ", ".join(topics)
            self.get_logger().error(
                cut(f"{dropped}: frame dropped: {error}"), throttle_duration_sec=LOG_PERIOD
            )

    def _sum_up(self) -> None:
        """Log how the frames of the last minute fared."""
        if self._state:
            return
        came, sent, dropped = self.worker.health[self.role].counts()
        if came < self._summed[0]:  # a worker that is new
            self._summed = (0, 0, Counter())
        reasons = dropped - self._summed[2]
        why = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
        self.get_logger().info(
            f"last minute: {came - self._summed[0]} frames in, {sent - self._summed[1]} sent, "
            f"{reasons.total()} dropped{f' ({why})' if why else ''}"
        )
        self._summed = (came, sent, dropped)

    def _report(self) -> None:
        """Publish the diagnostics."""
        if self._changing.acquire(blocking=False):  # otherwise a transition is on its way
            try:
                self._follow_publishers()
            finally:
                self._changing.release()
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        state = self._state
        fault = FINALIZED if state == FINALIZED else self._fault
        if not fault and state == "unconfigured":  # also where nobody asked it to configure yet
            fault = "; ".join(self.misset.values())
        muted = self._muted and not state
        for name, health in self.worker.health.items():
            report = health.report(MUTED if muted else state)
            level = report.level
            if fault:
                level = Level.ERROR
            elif muted:
                level = max(level, Level.WARN)
            values = report.values | self.describe()
            status = DiagnosticStatus(
                name=f"{self.get_fully_qualified_name()}: {name}",
                hardware_id=self._hardware_id or platform.node(),
                level=bytes([level]),
                message=fault or report.message,
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
            array.status.append(status)
        self._diagnostics.publish(array)


def _stamp_of(message: Any) -> float:
    stamp = message.header.stamp
    return stamp.sec + 1e-9 * stamp.nanosec
