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


def read_topics(name: str, given: object, least: int = 1) -> list[str]:
    """The topics that a parameter names: a list, or one without brackets; empty names are none.

    Args:
        name: of the parameter.
        given: its value.
        least: topics that it must name.

    Raises:
        ValueError: it is something else, or names too few.
    """
    topics = [given] if isinstance(given, str) else given
    if isinstance(topics, (list, tuple)) and all(isinstance(topic, str) for topic in topics):
        names = [topic.strip() for topic in topics if topic.strip()]
        if len(names) >= least:
            return names
    raise ValueError(f"{name}: got {cut(repr(given))}, must be {least} or more topics")
