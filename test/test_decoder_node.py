"""The decoder node: images and the camera's description, without a detector."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ros_graph import RELIABLE, START_LIMIT, Probe, make_model  # first: it skips without ROS

from sensor_msgs.msg import CameraInfo, Image  # isort: skip
from std_msgs.msg import Header  # isort: skip

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import Codec
from roi_anon_ros.codec import packet as packets
from roi_anon_ros.codec.codec import Encoded
from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD
from roi_anon_ros.nodes.base.images import to_rgb
from roi_anon_ros.nodes.base.latents import to_message
from roi_anon_ros.nodes.decoder import scale_camera

pytestmark = pytest.mark.ros


def describe_camera(width: int, height: int) -> CameraInfo:
    k = [500.0, 0.0, 99.0, 0.0, 510.0, 70.0, 0.0, 0.0, 1.0]
    p = [480.0, 0.0, 101.0, -48.0, 0.0, 490.0, 71.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return CameraInfo(
        width=width, height=height, k=k, p=p, d=[0.1, -0.2, 0.0, 0.0, 0.0],
        distortion_model="plumb_bob",
    )  # fmt: skip


def project(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y, w = matrix.reshape(3, -1) @ point
    return np.array([x / w, y / w])


@given(
    st.integers(16, 400),
    st.integers(16, 400),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.5, 9)),
)
def test_a_scaled_camera_sees_a_point_where_the_scaled_image_has_it(
    width: int, height: int, point: tuple[float, float, float]
) -> None:
    camera = describe_camera(200, 152)
    scaled = scale_camera(camera, (200, 152), (width, height))
    assert (scaled.width, scaled.height) == (width, height)
    assert list(scaled.d) == list(camera.d) and scaled.distortion_model == "plumb_bob"
    ratio = np.array([width / 200, height / 152])
    for before, after, where in (
        (camera.k, scaled.k, np.array(point)),
        (camera.p, scaled.p, np.array([*point, 1.0])),
    ):
        seen = project(np.array(before), where)
        # The edges of the images agree: -0.5 stays, and 199.5 becomes the last pixel's far edge.
        expected = (seen + 0.5) * ratio - 0.5
        np.testing.assert_allclose(project(np.array(after), where), expected, atol=1e-6)


def test_a_camera_that_is_not_calibrated_stays_so_and_a_foreign_one_is_refused() -> None:
    blank = CameraInfo(width=200, height=152)
    scaled = scale_camera(blank, (200, 152), (100, 76))
    assert not any(scaled.k) and not any(scaled.p) and scaled.width == 100
    with pytest.raises(ValueError, match="camera_info: of 200x152 pixels, must be of 640x480"):
        scale_camera(blank, (640, 480), (100, 76))


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    folder = tmp_path_factory.mktemp("decoder")
    return Codec.load(str(make_model(folder / "model.safetensors")))


@pytest.fixture(scope="module")
def probe(codec: Codec) -> Iterator[Probe]:
    with Probe(codec.model.path.parent) as probe:
        probe.start_module(
            "decoder",
            "roi_anon_ros.nodes.decoder",
            model=codec.model.path,
            engine="torch",
            autostart="true",
            diagnostics_period=DIAGNOSTICS_PERIOD,
        )
        name = "/decoder: decoder"
        probe.wait_for(lambda: name in probe.diagnostics, "diagnostics", START_LIMIT)
        probe.wait_for(
            lambda: probe.diagnostics[name].message == "no frame yet", "the decoder", START_LIMIT
        )
        yield probe


def encode(codec: Codec, width: int = 200, height: int = 152) -> Encoded:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return codec.encode(cv2.resize(noise, (width, height)), 96)


def test_latents_become_images_with_a_scaled_camera(probe: Probe, codec: Codec) -> None:
    latents = probe.talk(CompressedLatent, "latent")
    cameras = probe.talk(CameraInfo, "camera_info")
    images = probe.listen(Image, "image_anonymized", RELIABLE)
    described = probe.listen(CameraInfo, "camera_info_anonymized", RELIABLE)
    encoded = encode(codec)

    def send() -> Header:
        cameras.publish(describe_camera(200, 152))
        latents.publish(message := to_message(encoded, codec.name, probe.header()))
        return message.header

    probe.connect(send, images)
    described.clear()
    header = send()
    # What was sent to connect may still be on its way.
    (image,) = probe.wait_for(lambda: [i for i in images if i.header == header], "the image")
    (camera,) = probe.wait_for(lambda: [c for c in described if c.header == header], "its camera")
    expected = codec.decode(encoded.packet).image
    assert np.abs(to_rgb(image).astype(int) - expected).max() <= 1
    scaled = scale_camera(describe_camera(200, 152), (200, 152), (96, 73))
    np.testing.assert_allclose(camera.k, scaled.k)
    report = probe.report("/decoder: decoder")
    assert report["camera_info"] == "passed on" and report["model"] == "tiny"
    images.clear()
    # The packet of 48 bytes that promises 4096 x 2160 pixels costs nothing but itself.
    large = packets.Header(codec.model.fingerprint, (4096, 2160), (4096, 2160), (0, -2160 % 8))
    bomb = Encoded(packets.pack(large, bytes(16)), large, {})
    latents.publish(to_message(bomb, codec.name, probe.header()))
    for _ in range(60):
        if (report := probe.report("/decoder: decoder")).get("dropped, size") == "1":
            break
    assert "must be at most 409600: max_pixels" in report["message"] and not images
    header = send()
    (image,) = probe.wait_for(lambda: images, "the image after it")
    assert image.header == header
    process = probe.processes.pop("decoder")
    assert process.end() == 0 and "Traceback" not in process.output
