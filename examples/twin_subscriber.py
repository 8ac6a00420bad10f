"""Print who is where. No people mean nobody only while every camera is alive.

python examples/twin_subscriber.py --ros-args -r twin:=/yard/twin
"""

import json

import rclpy
from rclpy.executors import ExternalShutdownException
from std_msgs.msg import String


def show(message: String) -> None:
    """Print a line for each cycle."""
    cycle = json.loads(message.data)
    places = {person["id"]: person["position"] for person in cycle["people"]}
    nobody = "nobody" if cycle["complete"] else "a camera is missing"
    print(cycle["time"], places or nobody, flush=True)


rclpy.init()
node = rclpy.create_node("twin_subscriber")
node.create_subscription(String, "twin", show, 10)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
except RuntimeError:  # the interrupt came between two messages
    if rclpy.ok():
        raise
