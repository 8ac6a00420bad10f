"""An active people node: ros2 launch roi_anon_ros people.launch.py site:=/PATH/site.yaml."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

# The same in the source tree and in share/roi_anon_ros.
PARAMS_FILE = Path(__file__).parents[1] / "config" / "people.yaml"

ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(PARAMS_FILE), description="File of parameters"
    ),
    DeclareLaunchArgument(
        "site", default_value="", description="Site file; empty: as params_file says"
    ),
    DeclareLaunchArgument(
        "page_port", default_value="", description="Port of the page; empty: as params_file says"
    ),
    DeclareLaunchArgument(
        "autostart", default_value="true", description="Configure and activate by itself"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def people(context: LaunchContext) -> list[Node]:
    # The node makes its transitions itself, and so also after a respawn.
    parameters = [
        LaunchConfiguration("params_file"),
        {"autostart": LaunchConfiguration("autostart")},
    ]
    for name in ("site", "page_port"):
        if LaunchConfiguration(name).perform(context):
            parameters.append({name: LaunchConfiguration(name)})
    node = Node(
        package="roi_anon_ros",
        executable="people_node",
        name="people",
        namespace=LaunchConfiguration("namespace"),
        parameters=parameters,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=True,
        respawn_delay=1.0,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=people)])
