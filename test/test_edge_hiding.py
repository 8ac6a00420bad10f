"""What the edge node hides, over DDS: a model that paints, and parameters set while it runs."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ros_graph import BEST_EFFORT, Probe, make_model  # first: it skips where there is no ROS

from gained_model import make_gained_model  # isort: skip
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # isort: skip
from rcl_interfaces.msg import SetParametersResult  # isort: skip
from rcl_interfaces.srv import SetParameters  # isort: skip
from sensor_msgs.msg import Image  # isort: skip

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.engines import trial_image
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.packet import unpack

pytestmark = pytest.mark.ros

OK, WARN, ERROR = 0, 1, 2
DARK = trial_image(96, 64) // 2
WHITE = DARK.copy()
WHITE[24:40, 48:64] = 255
ZONE = "[[18, 10], [38, 10], [38, 29], [18, 29]]"
CORNERS = [[18, 10], [38, 10], [38, 29], [18, 29]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    make_gained_model(folder / "gained.safetensors")
    make_model(folder / "one_rate.safetensors")
    return folder


@pytest.fixture(scope="module")
def probe(folder: Path) -> Iterator[Probe]:
    with Probe(folder) as probe:
        reliable = {"qos_overrides./image_raw.subscription.reliability": "reliable"}
        probe.start_node("edge", model=folder / "gained.safetensors", hold=0.0, **reliable)
        yield probe


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return Codec.load(str(folder / "gained.safetensors"))


class Edge:
    """The node under test: parameters are set, images are sent and their latents awaited."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.start()
        self.latents = probe.listen(CompressedLatent, "latent", BEST_EFFORT)
        self.camera = probe.talk(Image, "image_raw")
        probe.connect(lambda: self.publish(DARK).header, self.latents)

    def start(self) -> None:
        assert self.probe.transit("edge", "configure") and self.probe.transit("edge", "activate")

    def stop(self) -> None:
        assert self.probe.transit("edge", "deactivate") and self.probe.transit("edge", "cleanup")

    def set(self, **values: object) -> SetParametersResult:
        """Set one parameter."""
        ((name, value),) = values.items()
        kinds = {
            float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
            int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
            str: (ParameterType.PARAMETER_STRING, "string_value"),
            list: (ParameterType.PARAMETER_STRING_ARRAY, "string_array_value"),
        }
        kind, field = kinds[type(value)]
        parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
        request = SetParameters.Request(parameters=[parameter])
        return self.probe.call(SetParameters, "/edge/set_parameters", request).results[0]

    def publish(self, image: np.ndarray, later: int = 0) -> Image:
        """Send an image, of ``later`` seconds from its turn."""
        height, width = image.shape[:2]
        header = self.probe.header()
        header.stamp.sec += later
        message = Image(
            header=header,
            width=width,
            height=height,
            step=3 * width,
            encoding="rgb8",
            data=array("B", image.tobytes()),
        )
        self.camera.publish(message)
        return message

    def encode(self, image: np.ndarray) -> bytes:
        """Send an image and return its packet."""
        sent = self.publish(image)
        (latent,) = self.probe.wait_for(lambda: self.latents, "the latent")
        self.latents.clear()
        assert latent.header == sent.header
        return latent.packet.tobytes()

    def report(self) -> dict[str, str]:
        return self.probe.report("/edge: edge")


@pytest.fixture(scope="module")
def edge(probe: Probe) -> Edge:
    return Edge(probe)


def test_heads_are_painted_and_counted(edge: Edge, codec: Codec) -> None:
    assert edge.encode(DARK) == codec.encode(DARK).packet
    expected = codec.encode(WHITE)
    assert expected.hidden.heads >= 1
    assert edge.encode(WHITE) == expected.packet
    report = edge.report()
    assert report["level"] == OK
    for figure in ("share painted", "heads", "heads held", "confidence of the head map"):
        assert any(key.startswith(figure) for key in report), figure


def test_quality_counts_from_the_next_frame(edge: Edge, codec: Codec) -> None:
    for quality in (1.0, 8.0, 0.0):
        assert edge.set(quality=quality).successful
        assert edge.encode(DARK) == codec.encode(DARK, quality=quality).packet


def test_a_bit_rate_is_held_by_the_quality(edge: Edge) -> None:
    noise = np.random.default_rng(0).integers(0, 256, DARK.shape, np.uint8)
    before = unpack(edge.encode(noise))[0].quality
    assert edge.set(bitrate=0.01).successful
    report = edge.report()
    while "bitrate: not held" not in report["message"]:
        edge.encode(noise)
        report = edge.report()
    assert report["level"] == WARN
    assert unpack(edge.encode(noise))[0].quality == 1.0
    assert edge.set(bitrate=0.0).successful
    assert unpack(edge.encode(noise))[0].quality == before
    assert not edge.set(bitrate=-1.0).successful


def test_zones_are_painted_from_the_next_frame(edge: Edge, codec: Codec) -> None:
    assert edge.set(zones=[ZONE]).successful
    first = edge.encode(DARK)
    assert first == codec.encode(DARK, hiding=Hiding([CORNERS])).packet
    noise = DARK.copy()
    noise[8:32, 16:40] = np.random.default_rng(0).integers(0, 256, (24, 24, 3))
    assert edge.encode(noise) == first, "what is in a zone must not count"
    assert codec.decode(first).regions.cells[1:4, 2:5].all()
    assert edge.set(zones=[""]).successful
    assert edge.encode(DARK) == codec.encode(DARK).packet


def test_rotation_turns_from_the_next_frame(edge: Edge, codec: Codec) -> None:
    for rotation in (90, 180, 270, 0):
        assert edge.set(rotation=rotation).successful
        packet = edge.encode(DARK)
        assert packet == codec.encode(DARK, turns=rotation // 90).packet
        assert unpack(packet)[0].turns == rotation // 90


def test_what_is_lost_is_held(edge: Edge) -> None:
    assert edge.set(hold=60.0).successful
    seen = unpack(edge.encode(WHITE))[2]
    assert bytes(seen)
    # The stamps of the probe are a second apart.
    assert len(unpack(edge.encode(DARK))[2]) > 0
    assert edge.set(hold=0.0).successful
    assert len(unpack(edge.encode(DARK))[2]) == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"quality": 8.5}, "quality"),
        ({"quality": 0.5}, "quality: got 0.5, must be 0 or from 1.0 to 8.0"),
        ({"hold": -0.1}, "hold"),
        ({"hold": 61.0}, "hold"),
        ({"rotation": 45}, "rotation: got 45, must be 0, 90, 180 or 270"),
        ({"rotation": 360}, "rotation"),
        ({"zones": [ZONE, "[[0, 0], [9, 9]]"]}, "zones[1]: got shape (2, 2), must be"),
        ({"zones": ["[[0, 0], [9, 9], [9, .nan]]"]}, "zones[0]: got a corner that is not finite"),
        ({"zones": ["[[0, 0], [9"]}, "zones[0]: got '[[0, 0], [9'"),
        ({"zones": ["everything"]}, "zones[0]: got 'everything', must be [[x, y]"),
    ],
)
def test_a_value_out_of_bounds_is_rejected_and_the_old_one_stays(
    edge: Edge, codec: Codec, values: dict[str, object], reason: str
) -> None:
    result = edge.set(**values)
    assert not result.successful and reason in result.reason
    assert edge.encode(DARK) == codec.encode(DARK).packet


def test_what_a_model_of_one_rate_cannot_hide_costs_every_frame(edge: Edge, folder: Path) -> None:
    """It fails closed: no packet of an image whose zone would not be painted."""
    edge.stop()
    assert edge.set(model=str(folder / "one_rate.safetensors")).successful
    assert edge.set(zones=[ZONE]).successful
    edge.start()
    report = edge.report()
    while report["frames dropped"] == "0":
        edge.publish(DARK)
        report = edge.report()
    assert report["level"] == ERROR and "does not paint" in report["message"]
    assert report["frames sent"] == "0" and not edge.latents


def test_what_it_is_started_with_is_checked(probe: Probe, folder: Path) -> None:
    model = folder / "gained.safetensors"
    probe.end(["edge"])
    probe.start_node("edge", model=model, rotation=45)
    assert not probe.transit("edge", "configure")
    message = probe.report("/edge: edge")["message"]
    assert message.startswith("configure: ")
    assert "rotation: got 45, must be 0, 90, 180 or 270" in message
