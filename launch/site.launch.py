"""A whole site in one: an edge node for each camera of the site file, one server, one people node.

ros2 launch roi_anon_ros site.launch.py site:=/PATH/site.yaml page_port:=8008

Each camera's driver publishes CAMERA/image_raw; where there is none, `inputs` plays files:
inputs:="{north: /PATH/north.avi, south: /PATH/south.avi}".
"""

from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter

HERE = Path(__file__).parent
SITE_FILE = HERE.parent / "config" / "site.yaml"

ARGUMENTS = [
    DeclareLaunchArgument("site", default_value=str(SITE_FILE), description="Site file"),
    DeclareLaunchArgument("model", default_value="roi", description="Model"),
    DeclareLaunchArgument(
        "inputs",
        default_value="{}",
        description="Files to play instead of cameras: {CAMERA: IMAGE, FOLDER or VIDEO, ...}",
    ),
    DeclareLaunchArgument("rate", default_value="5.0", description="Images a second of inputs"),
    DeclareLaunchArgument("page_port", default_value="0", description="Port of the page; 0: none"),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def site(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    cameras = list(yaml.safe_load(Path(value("site")).read_text())["cameras"])
    inputs = yaml.safe_load(value("inputs"))
    unknown = sorted(set(inputs) - set(cameras))
    if unknown:
        raise ValueError(f"inputs: got {', '.join(unknown)}, must be of {', '.join(cameras)}")
    shared = {name: value(name) for name in ("model", "log_level")}
    # camera_node offers reliable; without it large images get lost on a busy machine.
    reliable = [
        SetParameter(f"qos_overrides./{name}/image_raw.subscription.reliability", "reliable")
        for name in inputs
    ]
    players = [
        Node(
            package="roi_anon_ros",
            executable="camera_node",
            name="camera",
            namespace=name,
            parameters=[
                {"input": file, "rate": float(value("rate")), "frame_id": f"{name}_optical"}
            ],
            output="screen",
        )
        for name, file in inputs.items()
    ]
    edges = [include("edge", namespace=name, **shared) for name in cameras]
    latents = ", ".join(f"{name}/latent" for name in cameras)
    server = include("server", latent_topics=f"[{latents}]", **shared)
    people = include(
        "people",
        site=value("site"),
        page_port=value("page_port"),
        log_level=value("log_level"),
    )
    return [*reliable, *players, *edges, server, people]


def include(name: str, **arguments: str) -> GroupAction:
    """Scoped: what one file declares, params_file above all, must not reach the next."""
    source = PythonLaunchDescriptionSource(str(HERE / f"{name}.launch.py"))
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=site)])
