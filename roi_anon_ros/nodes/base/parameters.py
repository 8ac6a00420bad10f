"""Parameters with descriptions and bounds."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from roi_anon_ros.nodes.base.health import cut


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    bounds: tuple[float, float] | None = None,
    ignore_override: bool = False,
    **more: Any,
) -> Any:
    """Declare a parameter.

    Args:
        node: whose parameter.
        name: of the parameter.
        default: its value where nothing else is given, and its type.
        description: for ``ros2 param describe``.
        bounds: least and greatest value of a number.
        ignore_override: whether it has its default, whatever value was given at the start.
        more: other fields of its descriptor.

    Returns:
        Its value.
    """
    descriptor = ParameterDescriptor(description=description, **more)
    if bounds and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=1)]
    elif bounds:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=bounds[0], to_value=bounds[1])
        ]
    return node.declare_parameter(name, default, descriptor, ignore_override).value


def read_list(name: str, given: object, what: str, least: int = 1) -> list[str]:
    """The names that a parameter lists, or the one without brackets; empty names are none.

    Args:
        name: of the parameter.
        given: its value.
        what: is named, such as ``"topics"``.
        least: how many it must name.

    Raises:
        ValueError: it is something else, or names too few.
    """
    listed = [given] if isinstance(given, str) else given
    if isinstance(listed, (list, tuple)) and all(isinstance(one, str) for one in listed):
        names = [one.strip() for one in listed if one.strip()]
        if len(names) >= least:
            return names
    raise ValueError(f"{name}: got {cut(repr(given))}, must be {least} or more {what}")
