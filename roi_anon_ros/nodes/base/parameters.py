"""Parameters with descriptions and bounds."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


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
