"""A lifecycle node whose parameters are checked, and that stays up where one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from roi_anon_ros.nodes.base.health import cut
from roi_anon_ros.nodes.base.parameters import declare


class SettingsNode(LifecycleNode):
    """A node with settings: parameters that configure reads, or that count from the next frame.

    A parameter that was given a value of a wrong type or out of its bounds has its default, and is
    named in :attr:`misset` until it is set anew: the node is up, and refuses to be configured.

    Args:
        name: of the node.

    Attributes:
        misset: what is wrong with parameters as they were given at the start, by name.
        settled: whether configure has begun to read the settings.
    """

    def __init__(self, name: str) -> None:
        self._answering = ReentrantCallbackGroup()
        self._read_by_configure: set[str] = set()
        self._checks: dict[str, Callable[[Any], object]] = {}
        self.misset: dict[str, str] = {}
        self.settled = False
        super().__init__(name)
        self.add_on_set_parameters_callback(self._check_settable)

    @property
    def default_callback_group(self) -> CallbackGroup:
        """Reentrant: services answer while a transition, a callback of one of them, still runs."""
        return self._answering

    def setting(
        self,
        name: str,
        default: Any,
        description: str,
        bounds: tuple[float, float] | None = None,
        check: Callable[[Any], object] | None = None,
        **more: Any,
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
            more: other fields of its descriptor.
        """
        when = "Counts from the next frame." if check else "Read by configure."
        if check is None:
            self._read_by_configure.add(name)
        else:
            self._checks[name] = check
        self.declare_checked(
            name, default, description, bounds, additional_constraints=when, **more
        )

    def declare_checked(
        self,
        name: str,
        default: Any,
        description: str,
        bounds: tuple[float, float] | None = None,
        **more: Any,
    ) -> Any:
        """Declare a parameter; what is wrong with its value goes to :attr:`misset`.

        Args:
            name: see :func:`declare`, as the rest.

        Returns:
            Its value.
        """
        try:
            return declare(self, name, default, description, bounds, **more)
        except ParameterException as error:
            value = declare(self, name, default, description, bounds, ignore_override=True, **more)
            reason = cut(str(error).removesuffix(f": {name}"))  # which it says twice
            self.misset[name] = f"parameter {name}: {reason}"
            self.get_logger().error(self.misset[name])
            return value

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def _check_settable(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in self._read_by_configure and self.settled:
                reason = (
                    f"{parameter.name} is read by configure: clean the node up before setting it"
                )
                return SetParametersResult(successful=False, reason=reason)
            if parameter.name in self._checks:
                try:
                    self._checks[parameter.name](parameter.value)
                except (ValueError, TypeError) as error:
                    return SetParametersResult(successful=False, reason=cut(str(error)))
        for parameter in parameters:
            self.misset.pop(parameter.name, None)
        return SetParametersResult(successful=True)
