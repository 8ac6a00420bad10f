"""What the launch files start, and that a node understands it."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from launch_emulation import Node, launched

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
CONFIG = ROOT / "config"


def start(monkeypatch: pytest.MonkeyPatch, name: str, **arguments: str) -> list[Node]:
    return launched(monkeypatch, LAUNCH / f"{name}.launch.py", **arguments)


def test_the_demos_nodes_have_their_own_parameter_files(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {node.name: node for node in start(monkeypatch, "demo", input="bus.jpg")}
    assert list(nodes) == ["camera", "edge", "server"]
    assert nodes["edge"].files == [str(CONFIG / "edge.yaml")]
    assert nodes["server"].files == [str(CONFIG / "server.yaml")]
    assert nodes["edge"].values["image_reliability"] == "reliable"
    assert nodes["server"].values["publish_annotated"] is True
    assert nodes["server"].values["model"] == nodes["edge"].values["model"] == "roi"


def test_arguments_become_parameters_of_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    (edge,) = start(
        monkeypatch, "edge", quality="5", max_side="320", engine="torch", use_sim_time="true"
    )
    assert edge.values == {
        "autostart": True,
        "quality": 5.0,
        "max_side": 320,
        "engine": "torch",
        "use_sim_time": True,
    }
    assert isinstance(edge.values["quality"], float)
    (server,) = start(monkeypatch, "server", latent_topics="[a/latent]", confidence="1")
    assert server.values == {"autostart": True, "latent_topics": ["a/latent"], "confidence": 1.0}
    assert isinstance(server.values["confidence"], float)


def test_many_cameras_in_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = start(monkeypatch, "edge", cameras="[front, rear]", namespace="robot")
    assert [edge.namespace for edge in edges] == ["robot/front", "robot/rear"]
    (server,) = start(monkeypatch, "server", cameras="[front, rear]", namespace="robot")
    assert server.values["latent_topics"] == ["front/latent", "rear/latent"]
    # Without brackets, too: a text's letters are no cameras.
    for cameras, count in (("front", 1), ("front, rear", 2)):
        assert start(monkeypatch, "edge", cameras=cameras, namespace="robot") == edges[:count]
        (server,) = start(monkeypatch, "server", cameras=cameras)
        assert server.values["latent_topics"] == ["front/latent", "rear/latent"][:count]
        anonymizers = start(monkeypatch, "anonymizer", cameras=cameras, namespace="robot")
        found = [node.namespace for node in anonymizers]
        assert found == ["robot/front", "robot/rear"][:count]


def test_an_argument_of_a_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, argument in (("edge", "max_side"), ("server", "confidence")):
        with pytest.raises(ValueError, match=f"{argument}: got 'much'"):
            start(monkeypatch, name, **{argument: "much"})


@pytest.mark.parametrize("name", ["edge", "server"])
def test_a_process_that_cannot_start_is_given_up(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (node,) = start(monkeypatch, name)
    assert node.respawn and 0 < node.respawn_max_retries < 1000
    assert "--enclave" not in node.ros_arguments
    (node,) = start(monkeypatch, name, enclave="/roi_anon/x")
    assert node.ros_arguments[-2:] == ["--enclave", "/roi_anon/x"]


def test_the_cameras_enclave_may_publish_latents_and_no_image() -> None:
    policy = ElementTree.parse(CONFIG / "security" / "camera.policy.xml")
    topics = {
        topic.text
        for topic in policy.findall(
            "enclaves/enclave[@path='/roi_anon/camera']//topics[@publish='ALLOW']/topic"
        )
    }
    assert topics == {
        "latent",
        "/diagnostics",
        "/rosout",
        "/parameter_events",
        "~/transition_event",
    }
    server = ElementTree.parse(CONFIG / "security" / "server.policy.xml")
    heard = {topic.text for topic in server.findall(".//topics[@subscribe='ALLOW']/topic")}
    assert heard == {"latent", "/clock"}


def test_what_the_launch_files_and_docs_name_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools")
    said: dict[str, object] = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **words: said.update(words))
    runpy.run_path(str(ROOT / "setup.py"))
    installed = {file for _, files in said["data_files"] for file in files}
    for folder in ("launch", "config", "models"):
        there = {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*.*")}
        missing = {file for file in there - installed if (ROOT / file).is_file()}
        assert not missing, folder


@pytest.mark.slow
def test_an_edge_has_the_parameters_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
    from rcl_interfaces.srv import GetParameters

    from roi_anon_ros.graph.probe import Probe
    from roi_anon_ros.graph.processes import START_LIMIT

    (edge,) = start(
        monkeypatch, "edge", cameras="[front]", quality="5", autostart="false", engine="torch"
    )
    with Probe(tmp_path) as probe:
        probe.start("edge", "-m", "roi_anon_ros.nodes.edge", *edge.arguments())
        name = "/front/edge: edge"
        probe.wait_for(lambda: name in probe.diagnostics, "diagnostics", START_LIMIT)
        assert probe.report(name)["message"] == "unconfigured"
        names = ["quality", "hold", "image_reliability", "engine"]
        request = GetParameters.Request(names=names)
        values = probe.call(GetParameters, "/front/edge/get_parameters", request).values
        assert [values[0].double_value, values[1].double_value] == [5.0, 0.5]
        assert [values[2].string_value, values[3].string_value] == ["auto", "torch"]
