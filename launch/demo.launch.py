"""Camera, edge and server node: ros2 launch roi_anon_ros demo.launch.py input:=IMAGE, FOLDER or
VIDEO.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

HERE = Path(__file__).parent

ARGUMENTS = [
    DeclareLaunchArgument("input", description="An image, a folder of images, or a video"),
    DeclareLaunchArgument("rate", default_value="5.0", description="Images a second"),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the nodes and topics"
    ),
    DeclareLaunchArgument("model", default_value="roi", description="Model"),
    DeclareLaunchArgument(
        "image", default_value="image_raw", description="Topic of the camera's images"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def demo(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    shared = {name: value(name) for name in ("namespace", "model", "log_level")}
    camera = Node(
        package="roi_anon_ros",
        executable="camera_node",
        name="camera",
        namespace=value("namespace"),
        parameters=[{"input": value("input"), "rate": float(value("rate"))}],
        remappings=[("image_raw", value("image"))],
        output="screen",
    )
    return [
        camera,
        # The camera offers reliable; without it large images get lost on a busy machine.
        include("edge", image=value("image"), image_reliability="reliable", **shared),
        include("server", publish_annotated="true", publish_anonymized="true", **shared),
    ]


def include(name: str, **arguments: str) -> GroupAction:
    """Another launch file; in a group, for what it sets would count for the next one as well."""
    source = PythonLaunchDescriptionSource(str(HERE / f"{name}.launch.py"))
    included = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    return GroupAction([included], scoped=True)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=demo)])
