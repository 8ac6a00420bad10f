"""An active edge node: ros2 launch roi_anon_ros edge.launch.py image:=/camera/image_raw."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

# The same in the source tree and in share/roi_anon_ros.
PARAMS_FILE = Path(__file__).parents[1] / "config" / "edge.yaml"

ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(PARAMS_FILE), description="File of parameters"
    ),
    DeclareLaunchArgument(
        "model", default_value="", description="Model; empty: as params_file says"
    ),
    DeclareLaunchArgument(
        "image", default_value="image_raw", description="Topic of the camera's raw pictures"
    ),
    DeclareLaunchArgument(
        "autostart", default_value="true", description="Configure and activate by itself"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def edge(context: LaunchContext) -> list[Node]:
    model, image = (LaunchConfiguration(name).perform(context) for name in ("model", "image"))
    # The node makes its transitions itself, and so also after a respawn.
    parameters = [
        LaunchConfiguration("params_file"),
        {"autostart": LaunchConfiguration("autostart")},
    ]
    if model:
        parameters.append({"model": model})
    node = Node(
        package="roi_anon_ros",
        executable="edge_node",
        name="edge",
        namespace=LaunchConfiguration("namespace"),
        parameters=parameters,
        remappings=[("image_raw", image), ("image_raw/compressed", f"{image}/compressed")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=True,
        respawn_delay=2.0,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=edge)])
