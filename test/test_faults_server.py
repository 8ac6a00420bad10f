"""A server that is told what to do while it runs, and that no packet of a camera stops."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from ros_graph import LATCHED, RELIABLE, START_LIMIT, Probe, make_model  # first: it skips

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # isort: skip
from rcl_interfaces.srv import SetParameters  # isort: skip
from sensor_msgs.msg import Image  # isort: skip
from std_msgs.msg import Header  # isort: skip

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")

from roi_anon_msgs.msg import CompressedLatent  # noqa: E402
from roi_anon_ros.codec import Codec  # noqa: E402
from roi_anon_ros.codec import packet as packets  # noqa: E402
from roi_anon_ros.codec.codec import Encoded  # noqa: E402
from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD  # noqa: E402
from roi_anon_ros.nodes.base.latents import to_message  # noqa: E402

pytestmark = pytest.mark.ros

#: A server whose detector finds one person of score 0.5 in the middle of every image.
SERVER = """
import numpy as np
from roi_anon_ros.detect import Detections
from roi_anon_ros.nodes import server

class OnePerson:
    def __init__(self, weights, confidence, engine):
        self.confidence = confidence
    def __call__(self, images):
        return [self.find(image) for image in images]
    def find(self, image):
        if self.confidence > 0.5:
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [])
        box = np.array([[10, 20, 30, 60]], np.float32)
        return Detections(box, np.array([0.5], np.float32), ["person"])

server.make_detector_or_ours = OnePerson
server.main()
"""
NAME = "/server: server"


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    folder = tmp_path_factory.mktemp("server")
    return Codec.load(str(make_model(folder / "model.safetensors")))


@pytest.fixture(scope="module")
def probe(codec: Codec) -> Iterator[Probe]:
    with Probe(codec.model.path.parent) as probe:
        parameters = {
            "model": codec.model.path,
            "engine": "torch",
            "autostart": "true",
            "diagnostics_period": DIAGNOSTICS_PERIOD,
            "latent_topics": "front/latent",  # one as a text
        }
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        probe.start("server", "-c", SERVER, "--ros-args", *words)
        probe.wait_for(lambda: NAME in probe.diagnostics, "diagnostics", START_LIMIT)
        probe.wait_for(
            lambda: probe.diagnostics[NAME].message == "no frame yet", "the server", START_LIMIT
        )
        yield probe


def set_parameter(probe: Probe, name: str, **value: object) -> None:
    kind = {"double_value": "DOUBLE", "bool_value": "BOOL"}[next(iter(value))]
    typed = ParameterValue(type=getattr(ParameterType, f"PARAMETER_{kind}"), **value)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=typed)])
    (result,) = probe.call(SetParameters, "/server/set_parameters", request).results
    assert result.successful, result.reason


def dropped(probe: Probe, count: int) -> dict[str, str]:
    for _ in range(60):
        report = probe.report(NAME)
        if report.get("dropped, size") == str(count):
            return report
    raise AssertionError(report)


def test_it_is_told_while_it_runs_and_no_packet_stops_it(probe: Probe, codec: Codec) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (19, 25, 3), np.uint8)
    encoded = codec.encode(cv2.resize(noise, (200, 152)), 96)
    camera = probe.talk(CompressedLatent, "front/latent")
    arrays = probe.listen(vision_msgs.Detection2DArray, "front/detections", RELIABLE)
    labels = probe.listen(vision_msgs.LabelInfo, "front/label_info", LATCHED)

    def send(packet: Encoded = encoded) -> Header:
        camera.publish(message := to_message(packet, codec.name, probe.header()))
        return message.header

    def answered() -> vision_msgs.Detection2DArray:
        header = send()
        (array,) = probe.wait_for(lambda: arrays, "detections")
        arrays.clear()
        assert array.header == header
        return array

    probe.connect(send, arrays)
    (detection,) = answered().detections
    assert detection.id == "" and detection.header.frame_id == "optical"
    assert labels[-1].header.frame_id == "optical" and labels[-1].threshold == 0.25
    # Another least score counts from the next frame, and is told.
    set_parameter(probe, "confidence", double_value=0.75)
    assert not answered().detections
    probe.wait_for(lambda: labels[-1].threshold == 0.75, "the new threshold")
    # Images are published from when they are asked for, to viewers that ask for reliable.
    set_parameter(probe, "publish_anonymized", bool_value=True)
    answered()
    images = probe.listen(Image, "front/image_anonymized", RELIABLE)
    for _ in range(60):  # until the server knows of the viewer
        answered()
        probe.settle()
        if images:
            break
    assert (images[-1].width, images[-1].height) == (200, 152)
    # Packets of 48 bytes that promise much are refused by their sizes, and cost nothing else.
    mark = codec.model.fingerprint
    wide = packets.Header(mark, (4096, 2160), (4096, 2160), (0, 0))
    send(Encoded(packets.pack(wide, bytes(16)), wide, {}))
    assert "max_pixels" in dropped(probe, 1)["message"]
    source = packets.Header(mark, (8192, 8192), (96, 96), (0, 0))
    send(Encoded(packets.pack(source, bytes(16)), source, {}))
    report = dropped(probe, 2)
    assert "max_source_pixels" in report["message"] and float(report["frames sent"]) > 3
    answered()
    set_parameter(probe, "publish_anonymized", bool_value=False)
    answered()
    # The graph learns of it a little later.
    topics = probe.node.get_publisher_names_and_types_by_node
    publisher = ("/front/image_anonymized", ["sensor_msgs/msg/Image"])
    probe.wait_for(lambda: publisher not in topics("server", "/"), "the publisher's end")
    process = probe.processes.pop("server")
    assert process.end() == 0 and "Traceback" not in process.output
