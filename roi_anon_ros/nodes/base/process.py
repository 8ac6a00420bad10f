"""A node as a process."""

from __future__ import annotations

import signal

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


def run(node_type: type[Node], args: list[str] | None = None) -> None:
    """Run a node until SIGINT or SIGTERM, or until it shuts its context down."""
    # rclpy's own handlers end the spinning on both signals; Python's would raise KeyboardInterrupt
    # anywhere.
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
