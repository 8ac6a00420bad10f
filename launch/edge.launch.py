"""Active edge nodes: ros2 launch roi_anon_ros edge.launch.py image:=/camera/image_raw, or
cameras:="[front, rear]" for a node in the namespace of each camera.
"""

import inspect
import posixpath
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteLocal, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from roi_anon_ros.launching import given_parameters, names, truth

# The same in the source tree and in share/roi_anon_ros.
PARAMS_FILE = Path(__file__).parents[1] / "config" / "edge.yaml"

#: Arguments that are parameters of the node, with their types; where they are empty, the
#: parameters' file decides.
OVERRIDES = {
    "model": (str, "Model"),
    "engine": (str, "auto, torch, openvino, openvino-int8 or onnxruntime"),
    "max_side": (int, "Longest side that is coded, pixels"),
    "quality": (float, "1 to 8"),
    "bitrate": (float, "Kilobits a second to hold"),
    "input_transport": (str, "raw or compressed"),
    "image_reliability": (str, "auto, reliable or best_effort"),
    "use_sim_time": (truth, "true: follow /clock"),
}
ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="As in [front, rear]: a node in a namespace for each, within namespace",
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(PARAMS_FILE), description="File of parameters"
    ),
    *(
        DeclareLaunchArgument(
            name, default_value="", description=f"{text}; empty: as params_file says"
        )
        for name, (_, text) in OVERRIDES.items()
    ),
    DeclareLaunchArgument(
        "image", default_value="image_raw", description="Topic of the camera's raw images"
    ),
    DeclareLaunchArgument(
        "autostart", default_value="true", description="Configure and activate by itself"
    ),
    DeclareLaunchArgument(
        "enclave", default_value="", description="Of SROS 2, as in /roi_anon/camera"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]
# A process that ends at once each time is given up, where launch can count (not in Humble).
RESPAWN = {"respawn": True, "respawn_delay": 1.0}
if "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters:
    RESPAWN["respawn_max_retries"] = 100


def edges(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # The node makes its transitions itself, and so also after a respawn.
    parameters = {"autostart": truth(value("autostart"))}
    parameters |= given_parameters(OVERRIDES, value)
    arguments = ["--log-level", value("log_level")]
    if value("enclave"):
        arguments += ["--enclave", value("enclave")]
    image = value("image")
    nodes = []
    for camera in names(value("cameras")) if value("cameras") else [""]:
        node = Node(
            package="roi_anon_ros",
            executable="edge_node",
            name="edge",
            namespace=posixpath.join(value("namespace"), camera),
            parameters=[value("params_file"), parameters],
            remappings=[("image_raw", image), ("image_raw/compressed", f"{image}/compressed")],
            ros_arguments=arguments,
            output="screen",
            **RESPAWN,
        )
        nodes.append(node)
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=edges)])
