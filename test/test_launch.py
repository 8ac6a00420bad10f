from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from ros_graph import (  # first: it skips where there is no ROS
    BEST_EFFORT,
    START_LIMIT,
    Probe,
    make_model,
)

pytest.importorskip("launch_ros", reason="needs launch_ros, which is not on PyPI")

from sensor_msgs.msg import Image, PointCloud2  # isort: skip
from std_msgs.msg import String  # isort: skip

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.detect import WeightsError, find_weights
from roi_anon_ros.files import png
from roi_anon_ros.nodes.base.images import from_rgb

pytestmark = pytest.mark.ros

LAUNCH = Path(__file__).parents[1] / "launch"
#: As `ros2 launch FILE NAME:=VALUE ...` does it.
SERVICE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(word.split(":=")) for word in sys.argv[2:]]
service = LaunchService()
included = IncludeLaunchDescription(source, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    """A probe, and the package as an installation lays it out, run from the source tree."""
    prefix = tmp_path / "install"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "roi_anon_ros").touch()
    (prefix / "lib" / "roi_anon_ros").mkdir(parents=True)
    for name in ("edge", "server", "camera", "people"):
        script = prefix / "lib" / "roi_anon_ros" / f"{name}_node"
        script.write_text(
            f"#!{sys.executable}\nfrom roi_anon_ros.nodes.{name} import main\nmain()\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(LAUNCH.parent), prepend=":")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    with Probe(tmp_path) as probe:
        yield probe


def launch(probe: Probe, name: str, **arguments: object) -> None:
    words = [f"{key}:={value}" for key, value in arguments.items()]
    probe.start(name, "-c", SERVICE, str(LAUNCH / f"{name}.launch.py"), *words)


def test_edge_alone_becomes_active(probe: Probe, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model.safetensors")
    launch(probe, "edge", namespace="house", model=model, image="front/image_raw")
    image = np.zeros((64, 96, 3), np.uint8)
    camera = probe.node.create_publisher(Image, "/house/front/image_raw", 1)
    latents: list[CompressedLatent] = []
    probe.node.create_subscription(CompressedLatent, "/house/latent", latents.append, BEST_EFFORT)

    def latent_comes() -> bool:
        camera.publish(from_rgb(image, probe.header()))
        return bool(latents)

    probe.wait_for(latent_comes, "a latent", START_LIMIT)
    assert probe.report("/house/edge: edge")["message"] == "frames flow"
    (process,) = probe.processes.values()
    assert process.end() == 0
    assert "finished cleanly" in process.output and "Traceback" not in process.output


def test_demo_brings_detections(probe: Probe, tmp_path: Path) -> None:
    vision_msgs = pytest.importorskip(
        "vision_msgs.msg", reason="needs vision_msgs: make env, or apt"
    )
    try:
        find_weights("yolov8n")
    except (ImportError, WeightsError) as error:
        pytest.skip(f"no detector: {error}")
    model = make_model(tmp_path / "model.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    (tmp_path / "image.png").write_bytes(png(noise))
    launch(probe, "demo", input=tmp_path / "image.png", model=model, rate=2)
    arrays: list[vision_msgs.Detection2DArray] = []
    probe.node.create_subscription(vision_msgs.Detection2DArray, "detections", arrays.append, 10)
    probe.wait_for(lambda: len(arrays) >= 2, "detections", START_LIMIT)
    assert all(array.header.frame_id == "camera" for array in arrays)
    assert probe.report("/server: server")["frames sent"] != "0"


def test_site_brings_a_twin_with_its_camera_alive(probe: Probe, tmp_path: Path) -> None:
    vision_msgs = pytest.importorskip(
        "vision_msgs.msg", reason="needs vision_msgs: make env, or apt"
    )
    if not hasattr(vision_msgs, "Detection3DArray"):
        pytest.skip("needs vision_msgs with Detection3DArray: make env")
    try:
        find_weights("yolov8n")
    except (ImportError, WeightsError) as error:
        pytest.skip(f"no detector: {error}")
    model = make_model(tmp_path / "model.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    (tmp_path / "image.png").write_bytes(png(noise))
    site = yaml.safe_load((LAUNCH.parent / "config" / "site.yaml").read_text())
    del site["cameras"]["south"]
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    inputs = f"{{north: {tmp_path / 'image.png'}}}"
    launch(probe, "site", site=tmp_path / "site.yaml", inputs=inputs, model=model)
    twins: list[String] = []
    clouds: list[PointCloud2] = []
    probe.node.create_subscription(String, "twin", twins.append, 10)
    probe.node.create_subscription(PointCloud2, "people_fused", clouds.append, 10)
    probe.wait_for(
        lambda: any(json.loads(twin.data)["complete"] for twin in twins), "a twin", START_LIMIT
    )
    probe.wait_for(lambda: clouds, "a cloud", START_LIMIT)
    assert clouds[0].header.frame_id == "site"
