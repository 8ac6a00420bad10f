"""Camera, edge and server node: ros2 launch roi_anon_ros demo.launch.py input:=PICTURE, FOLDER or
VIDEO.
"""

import posixpath
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter

HERE = Path(__file__).parent

ARGUMENTS = [
    DeclareLaunchArgument("input", description="A picture, a folder of pictures, or a video"),
    DeclareLaunchArgument("rate", default_value="5.0", description="Pictures a second"),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the nodes and topics"
    ),
    DeclareLaunchArgument("model", default_value="fast", description="Model"),
    DeclareLaunchArgument(
        "image", default_value="image_raw", description="Topic of the camera's pictures"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def demo(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    shared = {name: value(name) for name in ("namespace", "model", "log_level")}
    # The camera offers reliable; without it large pictures get lost on a busy machine.
    image = posixpath.join("/", value("namespace"), value("image"))
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
        SetParameter(f"qos_overrides.{image}.subscription.reliability", "reliable"),
        camera,
        include("edge", image=value("image"), **shared),
        include("server", publish_annotated="true", publish_anonymized="true", **shared),
    ]


def include(name: str, **arguments: str) -> IncludeLaunchDescription:
    source = PythonLaunchDescriptionSource(str(HERE / f"{name}.launch.py"))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=demo)])
