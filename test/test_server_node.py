from __future__ import annotations

import random
import signal
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ros_graph import (  # first: it skips without ROS
    BEST_EFFORT,
    DEFAULT_MODEL,
    LATCHED,
    QUICK_ENGINE,
    RELIABLE,
    Probe,
    make_model,
)

from rcl_interfaces.srv import DescribeParameters, SetParameters  # isort: skip
from rclpy.parameter import Parameter  # isort: skip
from sensor_msgs.msg import Image  # isort: skip
from std_msgs.msg import Header  # isort: skip

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")

from roi_anon_msgs.msg import CompressedLatent  # noqa: E402
from roi_anon_ros.codec import Codec  # noqa: E402
from roi_anon_ros.codec import packet as packets  # noqa: E402
from roi_anon_ros.detect import Detections, WeightsError, YoloPersons, find_weights  # noqa: E402
from roi_anon_ros.detect.choice import make_latent_detector  # noqa: E402
from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD  # noqa: E402
from roi_anon_ros.nodes.base.health import REPLACED  # noqa: E402
from roi_anon_ros.nodes.base.images import to_rgb  # noqa: E402

pytestmark = pytest.mark.ros

OK, WARN, ERROR = 0, 1, 2
SCALE = np.array([200 / 96, 152 / 73] * 2)  # from coded to source pixels
CONFIDENCE = 0.0005  # low enough that the detector sees persons in noise


def make_image(seed: int, width: int = 200, height: int = 152) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def latent_of(
    codec: Codec, packet: bytes, header: packets.Header, stamp: Header
) -> CompressedLatent:
    return CompressedLatent(
        header=stamp,
        model_name=codec.name,
        fingerprint=np.frombuffer(header.fingerprint, np.uint8),
        source_width=header.source_size[0],
        source_height=header.source_size[1],
        coded_width=header.coded_size[0],
        coded_height=header.coded_size[1],
        packet=array("B", packet),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(DEFAULT_MODEL, QUICK_ENGINE)


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("ultralytics", reason="needs the 'server' extra")
    try:
        return find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")


@pytest.fixture(scope="module")
def probe(folder: Path, codec: Codec, weights: Path) -> Iterator[Probe]:
    with Probe(folder) as probe:
        images = {f"publish_{what}": "true" for what in ("anonymized", "annotated")}
        probe.start_node(
            "server",
            model=DEFAULT_MODEL,
            engine=QUICK_ENGINE,
            detector=weights,
            confidence=CONFIDENCE,
            latent_topics="[cam1/latent, /cam2/latent]",
            threads=1,
            autostart="true",
            **images,
        )
        probe.cameras = [probe.talk(CompressedLatent, f"cam{i}/latent") for i in (1, 2)]
        probe.detections = [
            probe.listen(vision_msgs.Detection2DArray, f"cam{i}/detections", RELIABLE)
            for i in (1, 2)
        ]
        for camera in (0, 1):
            connect(probe, codec, camera)
        yield probe


def connect(probe: Probe, codec: Codec, camera: int) -> None:
    def send() -> Header:
        probe.cameras[camera].publish(latent := good(probe, codec))
        return latent.header

    probe.connect(send, probe.detections[camera])


def arrives(probe: Probe, camera: int, latent: CompressedLatent) -> vision_msgs.Detection2DArray:
    """Wait for the detections of one latent; nothing else may have arrived from that camera."""
    messages = probe.detections[camera]
    (found,) = probe.wait_for(lambda: messages, f"detections of {latent.header}")
    messages.clear()
    assert found.header == latent.header
    return found


def check_boxes(
    found: vision_msgs.Detection2DArray,
    expected: Detections,
    latent: CompressedLatent,
    scale: np.ndarray,
) -> None:
    """Compare what was published for a latent with what the detector finds in its image."""
    assert found.header == latent.header
    assert len(found.detections) == len(expected.boxes) > 0
    for detection, box, score in zip(
        found.detections, expected.boxes, expected.scores, strict=True
    ):
        assert detection.header == latent.header and detection.id == ""
        (result,) = detection.results
        assert result.hypothesis.class_id == "person"
        assert result.hypothesis.score == pytest.approx(score, rel=1e-3)
        centre, size = (
            detection.bbox.center.position,
            (detection.bbox.size_x, detection.bbox.size_y),
        )
        ours = (
            centre.x - size[0] / 2,
            centre.y - size[1] / 2,
            centre.x + size[0] / 2,
            centre.y + size[1] / 2,
        )
        assert ours == pytest.approx(box * scale, abs=0.1)
        assert 0 <= ours[0] < ours[2] <= 200 and 0 <= ours[1] < ours[3] <= 152


def good(probe: Probe, codec: Codec, seed: int = 0, max_side: int = 96) -> CompressedLatent:
    encoded = codec.encode(make_image(seed), max_side)
    return latent_of(codec, encoded.packet, encoded.header, probe.header())


def counted(probe: Probe, name: str, key: str, count: int) -> dict[str, str]:
    """Wait for the report in which a count has been reached."""
    for _ in range(60):
        if (report := probe.report(name)).get(key) == str(count):
            return report
    raise AssertionError(f"{key} is not {count}: {report}")


def errors(report: dict[str, str]) -> dict[str, str]:
    """How often frames were dropped, by reason, other than for a newer one."""
    return {
        key: n
        for key, n in report.items()
        if key.startswith("dropped, ") and key != f"dropped, {REPLACED}"
    }


def test_detections_are_the_detectors_in_source_pixels(
    probe: Probe, codec: Codec, weights: Path
) -> None:
    probe.cameras[0].publish(latent := good(probe, codec))
    found = arrives(probe, 0, latent)
    decoded = codec.decode(latent.packet.tobytes())
    assert decoded.image.shape == (73, 96, 3)
    (expected,) = YoloPersons(str(weights), CONFIDENCE, engine=QUICK_ENGINE)([decoded.image])
    check_boxes(found, expected, latent, SCALE)


def test_parameters_are_described_and_the_config_names_them(probe: Probe) -> None:
    config = Path(__file__).parents[1] / "config" / "server.yaml"
    names = list(yaml.safe_load(config.read_text())["/**"]["ros__parameters"])
    request = DescribeParameters.Request(names=names)
    described = probe.call(DescribeParameters, "/server/describe_parameters", request).descriptors
    assert [d.name for d in described if d.description] == names
    ranges = {d.name for d in described if d.integer_range or d.floating_point_range}
    bounds = {"max_pixels", "max_source_pixels", "max_age", "max_batch", "threads"}
    assert ranges == bounds | {"confidence"}


def test_labels_wait_for_late_comers(probe: Probe) -> None:
    labels = probe.listen(vision_msgs.LabelInfo, "cam2/label_info", LATCHED)
    (info,) = probe.wait_for(lambda: labels, "the labels")
    assert [label.class_name for label in info.class_map] == ["person"]
    assert info.threshold == pytest.approx(CONFIDENCE)


def test_images_go_out_at_the_size_of_the_source(probe: Probe, codec: Codec) -> None:
    images = {
        name: probe.listen(Image, f"cam2/image_{name}", BEST_EFFORT)
        for name in ("anonymized", "annotated")
    }
    latent = good(probe, codec)

    for _ in range(20):  # best effort may lose one
        probe.cameras[1].publish(latent)
        arrives(probe, 1, latent)
        probe.settle()
        if all(images.values()):
            break
    plain, drawn = (images[name][-1] for name in ("anonymized", "annotated"))
    assert plain.header == drawn.header == latent.header
    assert plain.encoding == drawn.encoding == "rgb8"
    decoded = codec.decode(latent.packet.tobytes()).at_source_size()
    assert np.abs(to_rgb(plain).astype(int) - decoded).max() <= 1
    assert decoded.shape == to_rgb(drawn).shape and (to_rgb(drawn) != to_rgb(plain)).any()


def test_bad_packets_are_dropped_counted_and_survived(
    probe: Probe, codec: Codec, folder: Path
) -> None:
    encoded = codec.encode(make_image(3), 96)
    packet, header = encoded.packet, encoded.header
    foreign = Codec.load(str(make_model(folder / "foreign.safetensors"))).encode(make_image(3), 96)
    noise = random.Random(0)
    flipped = bytearray(packet)
    flipped[40] ^= 0x10
    # A hostile writer knows how to make a CRC.
    regions = encoded.hidden.regions.to_bytes()
    hostile = packets.pack(header, noise.randbytes(len(packet) - packets.OVERHEAD), regions)
    newer = bytearray(packet[:-4])
    newer[4] = 9
    newer += zlib.crc32(newer).to_bytes(4, "little")
    bad = {
        "length": [b"", packet[:-1], packet[:20], packet + b"\0"],
        "magic": [noise.randbytes(len(packet))],
        "crc": [bytes(flipped)],
        "version": [bytes(newer)],
        "fingerprint": [foreign.packet],
        "payload": [hostile],
    }
    name = "/server: cam1/latent"
    for reason, several in bad.items():
        for count, data in enumerate(several, start=1):
            probe.cameras[0].publish(latent_of(codec, data, header, probe.header()))
            report = counted(probe, name, f"dropped, {reason}", count)
            assert report["level"] == ERROR and report["message"].startswith(f"{reason}: ")
            assert report["model"] == DEFAULT_MODEL and report["fingerprint"] == codec.fingerprint
    liar = latent_of(codec, packet, header, probe.header())
    liar.source_width += 1
    probe.cameras[0].publish(liar)
    assert "source size" in counted(probe, name, "dropped, contradiction", 1)["message"]
    assert not probe.detections[0]
    # The other camera is not to blame, and the overall status names the failure.
    assert probe.report("/server: /cam2/latent")["frames dropped"] == "0"
    assert probe.report("/server: server")["level"] == ERROR
    probe.cameras[0].publish(latent := good(probe, codec))
    arrives(probe, 0, latent)
    assert probe.report(name)["level"] == OK


def test_two_cameras_at_once(probe: Probe, codec: Codec) -> None:
    latents = [good(probe, codec, seed) for seed in (4, 5)]
    for camera, latent in zip(probe.cameras, latents, strict=True):
        camera.publish(latent)
    for i, latent in enumerate(latents):
        arrives(probe, i, latent)
    for stage in ("unpack", "entropy", "synthesis", "detect"):
        assert float(probe.report("/server: server")[f"{stage} median (ms)"]) > 0


def set_parameters(probe: Probe, settings: dict[str, object]) -> None:
    parameters = [
        Parameter(name, value=value).to_parameter_msg() for name, value in settings.items()
    ]
    request = SetParameters.Request(parameters=parameters)
    answer = probe.call(SetParameters, "/server/set_parameters", request)
    assert all(one.successful for one in answer.results)


def test_it_stays_up_where_it_cannot_be_configured(
    probe: Probe, codec: Codec, folder: Path, weights: Path
) -> None:
    good_settings = {
        "model": DEFAULT_MODEL,
        "detector": str(weights),
        "latent_topics": ["cam1/latent", "/cam2/latent"],
    }

    assert probe.transit("server", "deactivate") and probe.transit("server", "cleanup")
    for name, value, complaint in (
        ("model", str(folder / "no.safetensors"), "no.safetensors"),
        ("latent_topics", ["a/latent", "a/other"], "latent_topics"),
        ("detector", str(folder / "no.pt"), "no.pt"),
    ):
        set_parameters(probe, good_settings | {name: value})
        assert not probe.transit("server", "configure")
        assert probe.state("server") == "unconfigured"
        report = probe.report("/server: server")
        assert report["level"] == ERROR and complaint in report["message"]
    set_parameters(probe, good_settings | {"latent_topics": ["cam1/no topic"]})
    assert probe.transit("server", "configure") and not probe.transit("server", "activate")
    assert probe.state("server") == "inactive"
    report = probe.report("/server: server")
    assert report["level"] == ERROR and "topic name must not" in report["message"]
    assert probe.transit("server", "cleanup")
    set_parameters(probe, good_settings)
    assert probe.transit("server", "configure") and probe.transit("server", "activate")
    connect(probe, codec, 0)
    assert probe.report("/server: server")["level"] == OK


def test_persons_of_latents_need_no_image(probe: Probe, codec: Codec) -> None:
    for transition in ("deactivate", "cleanup"):
        assert probe.transit("server", transition)
    set_parameters(probe, {"detector": "latent"})
    for transition in ("configure", "activate"):
        assert probe.transit("server", transition)
    connect(probe, codec, 0)
    probe.cameras[0].publish(latent := good(probe, codec, 8))
    found = arrives(probe, 0, latent)
    opened = codec.open(latent.packet.tobytes())
    (expected,) = make_latent_detector("latent", codec.model, CONFIDENCE, QUICK_ENGINE)([opened])
    check_boxes(found, expected, latent, SCALE)
    # Nobody looks at the first camera's images, and so none was made of its packets.
    report = probe.report("/server: cam1/latent")
    assert float(report["detect last (ms)"]) > 0 and "synthesis last (ms)" not in report
    images = probe.listen(Image, "cam1/image_anonymized", RELIABLE)

    def send() -> Header:
        probe.cameras[0].publish(latent := good(probe, codec, 9))
        return latent.header

    probe.connect(send, images)  # somebody does
    assert float(probe.report("/server: cam1/latent")["synthesis last (ms)"]) > 0


def test_it_ends_cleanly_on_sigterm(probe: Probe) -> None:
    process = probe.processes.pop("server")
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.output and f"server]: model {DEFAULT_MODEL}" in process.output


GATED = """
import os, time
from pathlib import Path
import numpy as np
from roi_anon_ros.detect import Detections, YoloPersons
from roi_anon_ros.nodes import server

class Clock:
    "The node's clock: two seconds pass with each call of the detector."
    seconds = 0.0
    def perf_counter():
        return Clock.seconds

def pass_gate(images):
    print("CALL", len(images), images[0].shape[1], flush=True)
    while not Path(os.environ["GATE"]).exists():  # whatever comes meanwhile waits together
        time.sleep(0.01)
    Clock.seconds += 2.0

class Gated(YoloPersons):
    def __call__(self, images):
        pass_gate(images)
        return super().__call__(images)

class RaisesForSmall:
    def __init__(self, weights, confidence, engine):
        pass
    def __call__(self, images):
        pass_gate(images)
        if images[0].shape[1] < 96:
            raise RuntimeError("the detector broke")
        nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [])
        return [nobody for _ in images]

server.time = Clock
server.make_detector_or_ours = {}
server.main()
"""


class Batching:
    """A server with what stands for its detector, whose calls are in its output, and wait where the
    gate is closed.

    Args:
        probe: that it is started in.
        folder: for the gate.
        made: the class of the detector.
        cameras: how many.
        space: the server's namespace.
        parameters: of the server.
    """

    def __init__(
        self,
        probe: Probe,
        folder: Path,
        made: str,
        cameras: int,
        space: str = "",
        **parameters: object,
    ) -> None:
        self.probe = probe
        self.space = space
        self.gate = folder / "gate"
        self.gate.touch()
        probe.environment["GATE"] = str(self.gate)
        topics = [f"cam{i}/latent" for i in range(1, cameras + 1)]
        parameters |= {"latent_topics": f"[{', '.join(topics)}]", "max_batch": 8, "threads": 1}
        parameters |= {"model": DEFAULT_MODEL, "engine": QUICK_ENGINE, "autostart": "true"}
        parameters |= {"diagnostics_period": DIAGNOSTICS_PERIOD}
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        words += ["-r", f"__ns:=/{space}"]
        self.process = probe.start("server", "-c", GATED.replace("{}", made), "--ros-args", *words)
        probe.cameras = [probe.talk(CompressedLatent, f"{space}/{topic}") for topic in topics]
        probe.detections = [
            probe.listen(vision_msgs.Detection2DArray, f"{space}/cam{i}/detections", RELIABLE)
            for i in range(1, cameras + 1)
        ]

    def calls(self) -> list[str]:
        """The detector's calls so far: "CALL", how many images, their width."""
        return [line for line in self.process.output.splitlines() if line.startswith("CALL")]

    def name(self, camera: int) -> str:
        """What the report of a camera, which counts from 1, is called."""
        space = f"/{self.space}" if self.space else ""
        return f"{space}/server: cam{camera}/latent"

    def send_together(self, codec: Codec, latents: list[CompressedLatent]) -> None:
        """Send a latent from each camera while the detector is busy with another one."""
        numbers = range(1, len(latents) + 1)
        expected = {i: int(self.probe.report(self.name(i))["frames in"]) + 1 for i in numbers}
        expected[1] += 1
        before = len(self.calls())
        self.gate.unlink()
        self.probe.cameras[0].publish(plug := good(self.probe, codec))
        self.probe.wait_for(lambda: len(self.calls()) > before, "the detector to be busy")
        for camera, latent in zip(self.probe.cameras, latents, strict=True):
            latent.header = self.probe.header()  # newer than what keeps the detector busy
            camera.publish(latent)
        for i in numbers:
            counted(self.probe, self.name(i), "frames in", expected[i])
        self.gate.touch()
        arrives(self.probe, 0, plug)


def test_a_batch_of_cameras_is_answered_as_each_alone(
    tmp_path: Path, codec: Codec, weights: Path
) -> None:
    detect = YoloPersons(str(weights), CONFIDENCE, engine=QUICK_ENGINE)
    with Probe(tmp_path) as probe:
        server = Batching(probe, tmp_path, "Gated", 4, detector=weights, confidence=CONFIDENCE)
        for camera in (0, 1, 3):
            connect(probe, codec, camera)
        # Two cameras of one size, one that sends garbage, one of another size.
        latents = [
            good(probe, codec, seed, side) for seed, side in ((4, 96), (5, 96), (6, 96), (7, 64))
        ]
        latents[2].packet = array("B", random.Random(0).randbytes(len(latents[2].packet)))
        server.send_together(codec, latents)
        for camera in (0, 1, 3):
            decoded = codec.decode(latents[camera].packet.tobytes())
            (expected,) = detect([decoded.image])
            scale = np.array([200 / decoded.image.shape[1], 152 / decoded.image.shape[0]] * 2)
            check_boxes(arrives(probe, camera, latents[camera]), expected, latents[camera], scale)
        assert server.calls()[-2:] == ["CALL 1 64", "CALL 2 96"]  # large ones last
        report = counted(probe, server.name(3), "dropped, magic", 1)
        assert report["level"] == ERROR and report["frames sent"] == "0" and not probe.detections[2]
        # Each of the two images of one call has half its time.
        for camera, share in ((1, 1000), (2, 1000), (4, 2000)):
            report = probe.report(server.name(camera))
            assert not errors(report) and report["level"] != ERROR
            assert float(report["detect last (ms)"]) == share


def test_a_detector_that_raises_costs_its_call_and_no_other(tmp_path: Path, codec: Codec) -> None:
    with Probe(tmp_path) as probe:
        server = Batching(probe, tmp_path, "RaisesForSmall", 3, space="house")
        connect(probe, codec, 0)
        latents = [good(probe, codec, seed, side) for seed, side in ((4, 96), (5, 64), (6, 64))]
        server.send_together(codec, latents)
        assert arrives(probe, 0, latents[0]).detections == [], "nobody is an empty array"
        for camera in (2, 3):
            report = counted(probe, server.name(camera), "dropped, RuntimeError", 1)
            assert (
                report["level"] == ERROR and report["message"] == "RuntimeError: the detector broke"
            )
        assert "CALL 2 64" in server.calls()
        assert not errors(probe.report(server.name(1)))
        assert errors(probe.report("/house/server: server")) == {"dropped, RuntimeError": "2"}
        assert not probe.detections[1] and not probe.detections[2]
        # The next good frame of such a camera is answered, and all is well again.
        connect(probe, codec, 1)
        for name in ("/house/server: server", server.name(2)):
            assert probe.report(name)["level"] == OK
        assert server.process.end() == 0
