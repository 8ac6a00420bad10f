from __future__ import annotations

import io
import signal
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image as PilImage
from ros_graph import BEST_EFFORT, Probe, make_model  # first: it skips where there is no ROS

from lifecycle_msgs.msg import Transition  # isort: skip
from lifecycle_msgs.srv import ChangeState  # isort: skip
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # isort: skip
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters  # isort: skip
from sensor_msgs.msg import CompressedImage, Image  # isort: skip
from std_msgs.msg import Header  # isort: skip

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.engines import ENGINES
from roi_anon_ros.nodes.base.images import ENCODINGS, ImageError, decompress, to_rgb

pytestmark = pytest.mark.ros

OK, WARN, ERROR = 0, 1, 2
RED_OF = {  # one pixel, or two of them where the colour is shared
    "rgb8": (255, 0, 0),
    "bgr8": (0, 0, 255),
    "rgba8": (255, 0, 0, 255),
    "bgra8": (0, 0, 255, 255),
    "mono8": (81,),
    "yuv422": (90, 81, 240, 81),
    "uyvy": (90, 81, 240, 81),
    "yuv422_yuy2": (81, 90, 81, 240),
    "yuyv": (81, 90, 81, 240),
}


def make_image(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def message(image: np.ndarray, padding: int = 0, **fields: object) -> Image:
    """An rgb8 message of an RGB image, with padded rows, and with some fields as given."""
    height, width = image.shape[:2]
    rows = np.pad(image.reshape(height, -1), ((0, 0), (0, padding)), constant_values=255)
    good = {"width": width, "height": height, "step": rows.shape[1], "encoding": "rgb8"}
    return Image(**(good | {"data": array("B", rows.tobytes())} | fields))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size, and has no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def compressed(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


GOOD = make_image(0)
NAN = np.full((64, 96, 3), np.nan, np.float32)
#: What is wrong, and the word it must be counted by.
BAD_RAW = {
    "bad encoding": (message(GOOD, encoding="rgb9"), "encoding"),
    "no encoding": (message(GOOD, encoding=""), "encoding"),
    "NaN pixels": (
        message(GOOD, encoding="32FC3", step=96 * 12, data=array("B", NAN.tobytes())),
        "encoding",
    ),
    "depths": (message(GOOD, encoding="32FC1"), "encoding"),
    "short step": (message(GOOD, step=96 * 3 - 1), "step"),
    "no step": (message(GOOD, step=0), "step"),
    "long step": (message(GOOD, step=96 * 3 + 1), "data"),
    "huge step": (message(GOOD, step=2**32 - 1), "data"),
    "no data": (message(GOOD, data=array("B")), "data"),
    "truncated data": (message(GOOD, data=message(GOOD).data[:-1]), "data"),
    "too much data": (message(GOOD, data=message(GOOD).data + array("B", [0])), "data"),
    "no size": (message(GOOD, width=0, height=0, step=0, data=array("B")), "size"),
    "too small": (message(make_image(0, 96, 8)), "size"),
    "too large": (message(GOOD, width=8193), "size"),
    "huge size": (message(GOOD, width=2**32 - 1, height=2**32 - 1), "size"),
    "odd width": (message(GOOD, encoding="yuv422", width=95), "size"),
}
OVER_DDS = (
    "bad encoding",
    "NaN pixels",
    "short step",
    "no data",
    "truncated data",
    "no size",
    "too large",
    "huge size",
)
JPEG = compressed(GOOD)
BAD_COMPRESSED = {
    "nothing": (b"", "data"),
    "noise": (bytes(range(256)), "data"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "data"),
    "head of a JPEG": (JPEG[:20], "data"),
    "damaged PNG": (compressed(GOOD, ".png")[:-40], "data"),
    "PNG that promises too much": (png_header(8193, 16), "size"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), "data"),
    "another format": (compressed(GOOD, ".bmp"), "data"),
    "16 bits": (cv2.imencode(".png", np.zeros((64, 96), np.uint16))[1].tobytes(), "format"),
}


# Without a graph


@pytest.mark.parametrize("encoding", RED_OF)
def test_every_encoding_shows_the_same_colour_with_padded_rows(encoding: str) -> None:
    pixel = np.array(RED_OF[encoding], np.uint8)
    row = np.tile(pixel, 32 * ENCODINGS[encoding].channels // len(pixel))
    rows = np.full((16, len(row) + 5), 255, np.uint8)
    rows[:, :-5] = row
    data = array("B", rows.tobytes())
    image = to_rgb(Image(width=32, height=16, step=rows.shape[1], encoding=encoding, data=data))
    assert image.shape == (16, 32, 3) and image.dtype == np.uint8
    red = (81, 81, 81) if encoding == "mono8" else (255, 0, 0)
    assert np.abs(image.astype(int) - red).max() <= 2


@pytest.mark.parametrize("what", BAD_RAW)
def test_a_bad_raw_message_is_refused_by_its_field(what: str) -> None:
    bad, reason = BAD_RAW[what]
    with pytest.raises(ImageError) as caught:
        to_rgb(bad)
    assert caught.value.reason == reason


@pytest.mark.parametrize("what", BAD_COMPRESSED)
def test_a_bad_compressed_message_is_refused_by_its_field(what: str) -> None:
    data, reason = BAD_COMPRESSED[what]
    with pytest.raises(ImageError) as caught:
        decompress(CompressedImage(format="jpeg", data=array("B", data)))
    assert caught.value.reason == reason


def test_compressed_images_of_all_modes_are_read() -> None:
    png = CompressedImage(format="png", data=array("B", compressed(GOOD, ".png")))
    np.testing.assert_array_equal(decompress(png), GOOD)
    for mode in ("L", "RGBA"):
        file = io.BytesIO()
        PilImage.fromarray(GOOD).convert(mode).save(file, "PNG")
        image = decompress(CompressedImage(format="png", data=array("B", file.getvalue())))
        assert image.shape == GOOD.shape and image.flags.writeable


# One node, over DDS: these run in order


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    make_model(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def probe(folder: Path) -> Iterator[Probe]:
    with Probe(folder) as probe:
        probe.environment["XDG_CACHE_HOME"] = str(folder / "cache")
        topics = ("image_raw", "image_raw/compressed")
        reliable = {
            f"qos_overrides./{topic}.subscription.reliability": "reliable" for topic in topics
        }
        probe.start_node("edge", model=folder / "model.safetensors", max_side=80, **reliable)
        yield probe


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return Codec.load(str(folder / "model.safetensors"))


def connect(probe: Probe, camera: object, latents: list[CompressedLatent]) -> None:
    def send() -> Header:
        camera.publish(image := message(GOOD, header=probe.header()))
        return image.header

    probe.connect(send, latents)


@pytest.fixture
def latents(probe: Probe) -> Iterator[list[CompressedLatent]]:
    """All latents of a test; the node is active, whatever the test before left."""
    while (state := probe.state("edge")) != "active":
        assert probe.transit("edge", {"unconfigured": "configure", "inactive": "activate"}[state])
    subscription = probe.node.create_subscription(
        CompressedLatent, "latent", (messages := []).append, BEST_EFFORT
    )
    probe.wait_for(subscription.get_publisher_count, "the edge node's latent")
    yield messages
    probe.node.destroy_subscription(subscription)


@pytest.fixture
def camera(probe: Probe, latents: list[CompressedLatent]) -> Iterator[object]:
    publisher = probe.talk(Image, "image_raw")
    connect(probe, publisher, latents)
    yield publisher
    probe.node.destroy_publisher(publisher)


def arrives(
    probe: Probe, latents: list[CompressedLatent], image: Image | CompressedImage
) -> CompressedLatent:
    """Wait for the latent of this message, and return it; nothing else may have arrived."""
    (latent,) = probe.wait_for(lambda: latents, f"the latent of {image.header}")
    latents.clear()
    assert latent.header == image.header
    return latent


def edge_report(probe: Probe) -> dict[str, str]:
    return probe.report("/edge: edge")


def counted(probe: Probe, key: str, count: int) -> dict[str, str]:
    """Wait for the report in which a count has been reached."""
    for _ in range(60):
        if (report := edge_report(probe)).get(key) == str(count):
            return report
    raise AssertionError(f"{key} is not {count}: {report}")


def test_unconfigured_it_says_so_and_every_parameter_is_described(probe: Probe) -> None:
    report = edge_report(probe)
    assert (report["level"], report["message"]) == (OK, "unconfigured")
    listed = probe.call(
        ListParameters, "/edge/list_parameters", ListParameters.Request()
    ).result.names
    request = DescribeParameters.Request(names=listed)
    described = {
        d.name: d
        for d in probe.call(DescribeParameters, "/edge/describe_parameters", request).descriptors
    }
    config = Path(__file__).parents[1] / "config" / "edge.yaml"
    names = yaml.safe_load(config.read_text())["/**"]["ros__parameters"]
    for name in [*names, "autostart"]:
        assert described[name].description
    assert described["max_side"].integer_range
    assert described["autostart"].read_only


def test_a_good_frame_goes_out_as_the_codecs_own_packet(
    probe: Probe, camera: object, latents: list, codec: Codec
) -> None:
    before = edge_report(probe)
    for padding in (0, 13):
        camera.publish(image := message(GOOD, padding, header=probe.header()))
        latent = arrives(probe, latents, image)
        assert latent.packet.tobytes() == codec.encode(GOOD, 80).packet
    assert latent.model_name == "tiny" and bytes(latent.fingerprint).hex() == codec.fingerprint
    assert (latent.source_width, latent.source_height) == (96, 64)
    assert (latent.coded_width, latent.coded_height) == (80, 53)
    assert codec.decode(latent.packet).image.shape == (53, 80, 3)
    report = edge_report(probe)
    assert (report["level"], report["message"]) == (OK, "frames flow")
    for key, more in (("frames in", 2), ("frames sent", 2), ("frames dropped", 0)):
        assert int(report[key]) == int(before[key]) + more
    assert report["model"] == "tiny" and report["fingerprint"] == codec.fingerprint
    assert float(report["bits per pixel"]) == pytest.approx(
        8 * len(latent.packet) / (96 * 64), abs=1e-4
    )
    for stage in ("read", "fit", "analysis", "entropy", "pack"):
        assert 0 < float(report[f"{stage} median (ms)"]) <= float(report[f"{stage} p95 (ms)"])


def test_it_publishes_latents_and_no_image(probe: Probe, latents: list) -> None:
    published = dict(probe.node.get_publisher_names_and_types_by_node("edge", "/"))
    assert published == {
        "/latent": ["roi_anon_msgs/msg/CompressedLatent"],
        "/diagnostics": ["diagnostic_msgs/msg/DiagnosticArray"],
        "/edge/transition_event": ["lifecycle_msgs/msg/TransitionEvent"],
        "/parameter_events": ["rcl_interfaces/msg/ParameterEvent"],
        "/rosout": ["rcl_interfaces/msg/Log"],
    }


def test_every_bad_frame_is_dropped_counted_and_survived(
    probe: Probe, camera: object, latents: list, codec: Codec
) -> None:
    expected: dict[str, int] = {}
    for what in OVER_DDS:
        bad, reason = BAD_RAW[what]
        expected[reason] = expected.get(reason, 0) + 1
        bad.header = probe.header()
        camera.publish(bad)
        report = counted(probe, f"dropped, {reason}", expected[reason])
        assert report["level"] == ERROR and report["message"].startswith(f"{reason}: "), what
        assert not latents, what
        good = make_image(len(expected))
        camera.publish(image := message(good, header=probe.header()))
        assert arrives(probe, latents, image).packet.tobytes() == codec.encode(good, 80).packet
    assert edge_report(probe)["level"] == OK


def test_the_newest_frame_wins(probe: Probe, camera: object, latents: list) -> None:
    camera.publish(message(make_image(1, 640, 480), header=probe.header()))  # keeps the node busy
    small = make_image(2, 32, 32)
    for _ in range(30):
        camera.publish(last := message(small, header=probe.header()))
    probe.wait_for(lambda: latents and latents[-1].header == last.header, "the last frame's latent")
    stamps = [latent.header.stamp.sec for latent in latents]
    assert stamps == sorted(set(stamps))
    report = edge_report(probe)
    assert int(report["frames in"]) == int(report["frames sent"]) + int(report["frames dropped"])
    assert report["level"] != ERROR  # to be replaced by a newer frame is no failure
    assert len(latents) < 31


def test_what_is_configured_cannot_be_set(probe: Probe, latents: list) -> None:
    value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=320)
    request = SetParameters.Request(parameters=[Parameter(name="max_side", value=value)])
    (result,) = probe.call(SetParameters, "/edge/set_parameters", request).results
    assert not result.successful and "clean" in result.reason


def test_a_transition_that_is_not_allowed_does_not_end_it(probe: Probe, latents: list) -> None:
    assert not probe.transit("edge", "configure")
    # By its number, rclpy raises out of the executor and never answers.
    client = probe.node.create_client(ChangeState, "/edge/change_state")
    probe.wait_for(client.service_is_ready, "the service")
    client.call_async(
        ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    )
    probe.wait_for(lambda: "a request failed" in probe.processes["edge"].output, "the complaint")
    probe.node.destroy_client(client)
    assert probe.state("edge") == "active"


def clean_up(probe: Probe) -> None:
    assert probe.transit("edge", "deactivate") and probe.transit("edge", "cleanup")


def test_a_model_file_replaced_by_garbage(
    probe: Probe, folder: Path, camera: object, latents: list, codec: Codec
) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for garbage in (b"garbage" * 1000, whole[:-100], whole[:-3] + b"abc", b""):
        file.write_bytes(garbage)  # in place, under the running node
        camera.publish(image := message(GOOD, header=probe.header()))
        assert arrives(probe, latents, image).packet.tobytes() == codec.encode(GOOD, 80).packet
        clean_up(probe)
        assert not probe.transit("edge", "configure")
        assert probe.state("edge") == "unconfigured"
        report = edge_report(probe)
        assert report["level"] == ERROR and "model.safetensors" in report["message"]
        camera.publish(message(GOOD, header=probe.header()))
        file.write_bytes(whole)
        assert probe.transit("edge", "configure") and edge_report(probe)["level"] == OK
        camera.publish(message(GOOD, header=probe.header()))  # inactive: nobody listens
        assert probe.transit("edge", "activate")
        probe.settle()
        assert not latents
        connect(probe, camera, latents)


def test_a_model_that_raises(
    probe: Probe, folder: Path, camera: object, latents: list, codec: Codec
) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()

    def overflow(net: object) -> None:
        net.g_a[-1].bias[:] = 60000

    make_model(file, change=overflow)
    clean_up(probe)
    assert probe.transit("edge", "configure") and probe.transit("edge", "activate")
    for _ in range(60):
        camera.publish(message(GOOD, header=probe.header()))
        if int((report := edge_report(probe))["frames dropped"]) > 1:
            break
    assert (
        report["level"] == ERROR and "symbols" in report["message"] and report["frames sent"] == "0"
    )
    assert not latents
    file.write_bytes(whole)
    clean_up(probe)
    assert probe.transit("edge", "configure") and probe.transit("edge", "activate")
    connect(probe, camera, latents)
    camera.publish(image := message(GOOD, header=probe.header()))
    assert arrives(probe, latents, image).packet.tobytes() == codec.encode(GOOD, 80).packet


def test_its_engine_is_chosen_by_parameter(
    probe: Probe, folder: Path, camera: object, latents: list, codec: Codec
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")

    def configure(engine: str) -> bool:
        if probe.state("edge") == "active":
            clean_up(probe)
        values = {"engine": engine, "input_transport": "raw"}
        parameters = [
            Parameter(
                name=n, value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=v)
            )
            for n, v in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        assert all(
            r.successful for r in probe.call(SetParameters, "/edge/set_parameters", request).results
        )
        return probe.transit("edge", "configure")

    for engine in ("openvino", "auto"):
        assert configure(engine) and probe.transit("edge", "activate")
        connect(probe, camera, latents)
        camera.publish(image := message(GOOD, header=probe.header()))
        latent = arrives(probe, latents, image)
        assert codec.decode(latent.packet).image.shape == (53, 80, 3), (
            "the decoder does not mind the engine"
        )
        assert edge_report(probe)["engine"].split()[0].strip(",") in (
            ("openvino",) if engine == "openvino" else ENGINES
        )
    assert ", for 640x480: " in edge_report(probe)["engine"]
    assert not configure("abacus")
    assert "engine: 'abacus', must be one of" in edge_report(probe)["message"]
    assert configure("torch") and probe.transit("edge", "activate")


def test_compressed_images(probe: Probe, latents: list, codec: Codec) -> None:
    clean_up(probe)
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="compressed")
    request = SetParameters.Request(parameters=[Parameter(name="input_transport", value=value)])
    (result,) = probe.call(SetParameters, "/edge/set_parameters", request).results
    assert result.successful, result.reason
    assert probe.transit("edge", "configure") and probe.transit("edge", "activate")
    camera = probe.talk(CompressedImage, "image_raw/compressed")

    def good() -> CompressedImage:
        return CompressedImage(
            header=probe.header(), format="png", data=array("B", compressed(GOOD, ".png"))
        )

    def send() -> Header:
        camera.publish(image := good())
        return image.header

    probe.connect(send, latents)
    expected: dict[str, int] = {}
    for what in ("nothing", "truncated JPEG", "damaged PNG", "bomb", "16 bits"):
        data, reason = BAD_COMPRESSED[what]
        expected[reason] = expected.get(reason, 0) + 1
        camera.publish(CompressedImage(header=probe.header(), format="jpeg", data=array("B", data)))
        assert (
            counted(probe, f"dropped, {reason}", expected[reason])["level"] == ERROR and not latents
        ), what
    camera.publish(image := good())
    assert arrives(probe, latents, image).packet.tobytes() == codec.encode(GOOD, 80).packet


def test_it_ends_cleanly_on_sigint(probe: Probe, latents: list) -> None:
    process = probe.processes.pop("edge")
    assert process.end(signal.SIGINT) == 0
    assert "Traceback" not in process.output and "edge]: model tiny" in process.output
