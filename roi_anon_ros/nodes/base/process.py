"""A node as a process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from roi_anon_ros.nodes.base.discovery import announce_often

#: Threads of callbacks: a transition takes one for as long as it loads, the others answer.
THREADS = 4
#: Seconds that a node may take to end: `ros2 launch` sends SIGTERM after 5, and SIGKILL after 10.
END_LIMIT = 3.0


def run(node_type: Callable[[], Node], args: list[str] | None = None) -> None:
    """Run a node until SIGINT or SIGTERM, or until it shuts its context down.

    Where a frame or a transition is still at work after :data:`END_LIMIT`, the process ends without
    it. It ends here: exit handlers are not called.
    """
    # rclpy's own handlers end the spinning on both signals; Python's would raise KeyboardInterrupt
    # anywhere. A signal that comes before they are there must not be lost.
    asked_to_end = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: asked_to_end.set())
    announce_often()
    rclpy.init(args=args)
    if asked_to_end.is_set():
        _leave()
    try:
        node = node_type()
    except ParameterException as error:
        raise SystemExit(f"parameters: {error}") from None
    except Exception:
        if rclpy.ok():
            raise
        _leave()  # asked to end before it was made
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
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
    executor.shutdown(0)  # without waiting for callbacks; it holds what it waited for
    _destroy(node)
    # Nothing may hold the node any more: else others see it until its lease ends, for 20 s.
    del executor, node
    gc.collect()
    _leave()


def _destroy(node: Node) -> None:
    """Destroy a node, or leave it to the end of the process where that takes too long."""
    closing = threading.Thread(target=node.destroy_node, name="close", daemon=True)
    closing.start()
    closing.join(END_LIMIT)
    rclpy.try_shutdown()
    if closing.is_alive():
        print(f"{node.get_name()}: ends without what it was at work on", file=sys.stderr)


def _leave() -> NoReturn:
    """End the process at once.

    To unload the networks' libraries takes more than half a second of a processor: on a busy
    machine longer than `ros2 launch` waits. And a thread within a network cannot be ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
