"""A node as a process."""

from __future__ import annotations

import os
import signal
import sys
import threading

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

#: Threads of callbacks: a transition takes one for as long as it loads, the others answer.
THREADS = 4
#: Seconds that a node may take to end: `ros2 launch` sends SIGTERM after 5, and SIGKILL after 10.
END_LIMIT = 3.0


def run(node_type: type[Node], args: list[str] | None = None) -> None:
    """Run a node until SIGINT or SIGTERM, or until it shuts its context down.

    Where a frame or a transition is still at work after :data:`END_LIMIT`, the process ends without
    it.
    """
    # rclpy's own handlers end the spinning on both signals; Python's would raise KeyboardInterrupt
    # anywhere.
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=args)
    try:
        node = node_type()
    except ParameterException as error:
        raise SystemExit(f"parameters: {error}") from None
    except Exception:
        if rclpy.ok():
            raise
        return  # asked to end before it was made
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    try:
        while rclpy.ok():
            try:
                executor.spin()
            except ExternalShutdownException:
                break
            except InvalidHandle:  # what another thread destroyed while this one waited for it
                continue
            except Exception as error:  # as when a client asks for a transition that is not allowed
                if rclpy.ok():
                    node.get_logger().error(f"a request failed: {error}")
    finally:
        _end(node)


def _end(node: Node) -> None:
    """Destroy a node, or leave it to the end of the process where that takes too long."""
    closing = threading.Thread(target=node.destroy_node, name="close", daemon=True)
    closing.start()
    closing.join(END_LIMIT)
    rclpy.try_shutdown()
    if closing.is_alive():
        print(f"{node.get_name()}: ends without what it was at work on", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a thread within a network cannot be ended, and would be waited for
