"""An active server node: ros2 launch roi_anon_ros server.launch.py latent_topics:="[a/latent,
b/latent]".
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

# The same in the source tree and in share/roi_anon_ros.
PARAMS_FILE = Path(__file__).parents[1] / "config" / "server.yaml"

#: Arguments that are parameters of the node; where they are empty, the parameters' file decides.
OVERRIDES = {
    "model": "Model of the cameras",
    "latent_topics": "Cameras, as in [cam1/latent, cam2/latent]",
    "publish_anonymized": "true: publish the decoded pictures",
    "publish_annotated": "true: publish the decoded pictures with boxes",
}
ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(PARAMS_FILE), description="File of parameters"
    ),
    *(
        DeclareLaunchArgument(
            name, default_value="", description=f"{text}; empty: as params_file says"
        )
        for name, text in OVERRIDES.items()
    ),
    DeclareLaunchArgument(
        "autostart", default_value="true", description="Configure and activate by itself"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def server(context: LaunchContext) -> list[Node]:
    # The node makes its transitions itself, and so also after a respawn.
    parameters = [
        LaunchConfiguration("params_file"),
        {"autostart": LaunchConfiguration("autostart")},
    ]
    for name in OVERRIDES:
        if LaunchConfiguration(name).perform(context):
            parameters.append({name: LaunchConfiguration(name)})
    node = Node(
        package="roi_anon_ros",
        executable="server_node",
        name="server",
        namespace=LaunchConfiguration("namespace"),
        parameters=parameters,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=True,
        respawn_delay=2.0,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=server)])
