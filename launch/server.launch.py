"""An active server node: ros2 launch roi_anon_ros server.launch.py cameras:="[front, rear]"."""

import inspect
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteLocal, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from roi_anon_ros.launching import given_parameters, names, truth

# The same in the source tree and in share/roi_anon_ros.
PARAMS_FILE = Path(__file__).parents[1] / "config" / "server.yaml"

#: Arguments that are parameters of the node, with their types; where they are empty, the
#: parameters' file decides.
OVERRIDES = {
    "model": (str, "Model of the cameras"),
    "engine": (str, "auto, torch, openvino or onnxruntime"),
    "detector": (str, "persons, yolov8n, or a file of weights"),
    "confidence": (float, "Least score of a detection, 0 to 1"),
    "latent_topics": (yaml.safe_load, "As in [cam1/latent, cam2/latent]"),
    "max_pixels": (int, "Packets with more coded pixels are refused"),
    "publish_anonymized": (truth, "true: publish the decoded images"),
    "publish_annotated": (truth, "true: publish the decoded images with boxes"),
    "use_sim_time": (truth, "true: follow /clock"),
}
ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="As in [front, rear]: listen to front/latent and rear/latent",
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
        "autostart", default_value="true", description="Configure and activate by itself"
    ),
    DeclareLaunchArgument(
        "enclave", default_value="", description="Of SROS 2, as in /roi_anon/server"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]
# A process that ends at once each time is given up, where launch can count (not in Humble).
RESPAWN = {"respawn": True, "respawn_delay": 1.0}
if "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters:
    RESPAWN["respawn_max_retries"] = 100


def server(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # The node makes its transitions itself, and so also after a respawn.
    parameters = {"autostart": truth(value("autostart"))}
    parameters |= given_parameters(OVERRIDES, value)
    if value("cameras"):
        parameters["latent_topics"] = [f"{camera}/latent" for camera in names(value("cameras"))]
    arguments = ["--log-level", value("log_level")]
    if value("enclave"):
        arguments += ["--enclave", value("enclave")]
    node = Node(
        package="roi_anon_ros",
        executable="server_node",
        name="server",
        namespace=value("namespace"),
        parameters=[value("params_file"), parameters],
        ros_arguments=arguments,
        output="screen",
        **RESPAWN,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=server)])
