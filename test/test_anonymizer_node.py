"""The anonymizer node over DDS: what is named is treated, all else stays, and it fails closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_graph import RELIABLE, START_LIMIT, Probe  # first: it skips where there is no ROS

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # isort: skip
from rcl_interfaces.srv import SetParameters  # isort: skip
from sensor_msgs.msg import CompressedImage, Image  # isort: skip
from std_msgs.msg import Header  # isort: skip

from roi_anon_ros.files import png
from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD
from roi_anon_ros.nodes.anonymizer import seconds_of
from roi_anon_ros.nodes.base.images import from_rgb, to_rgb

pytestmark = pytest.mark.ros

STATUS = "/anonymizer: anonymizer"
ERROR = 2
PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The left half of an image."""
    file = tmp_path_factory.mktemp("zone") / "zones.json"
    file.write_text(json.dumps([[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]))
    return file


@pytest.fixture(scope="module")
def probe(zone: Path) -> Iterator[Probe]:
    with Probe(zone.parent) as probe:
        probe.start_module(
            "anonymizer",
            "roi_anon_ros.nodes.anonymizer",
            region=f"polygon:{zone}",
            treatment="mask:9",
            feather=0.0,
            autostart="true",
            diagnostics_period=DIAGNOSTICS_PERIOD,
        )
        probe.wait_for(lambda: STATUS in probe.diagnostics, "diagnostics", START_LIMIT)
        probe.wait_for(
            lambda: probe.diagnostics[STATUS].message == "no frame yet", "the node", START_LIMIT
        )
        yield probe


def check(image: np.ndarray) -> None:
    """The zone is grey, and what is a pixel away from it is untouched."""
    assert (image[:, :32] == 9).all()
    np.testing.assert_array_equal(image[:, 34:], PHOTO[:, 34:])


def set_text(probe: Probe, name: str, value: str) -> None:
    kind = ParameterType.PARAMETER_STRING
    parameter = Parameter(name=name, value=ParameterValue(type=kind, string_value=value))
    request = SetParameters.Request(parameters=[parameter])
    (result,) = probe.call(SetParameters, "/anonymizer/set_parameters", request).results
    assert result.successful, result.reason


def send(probe: Probe, publisher: Any, message: Image | CompressedImage) -> Header:
    message.header = probe.header()
    publisher.publish(message)
    return message.header


def test_an_image_is_treated_or_it_does_not_leave(probe: Probe) -> None:
    camera = probe.talk(Image, "image_raw")
    images = probe.listen(Image, "image_anonymized", RELIABLE)
    probe.connect(lambda: send(probe, camera, from_rgb(PHOTO, Header())), images)
    header = send(probe, camera, from_rgb(PHOTO, Header()))
    (image,) = probe.wait_for(lambda: [i for i in images if i.header == header], "the image")
    check(to_rgb(image))
    report = probe.report(STATUS)
    assert report["treatment"] == "mask:9" and float(report["regions"]) == 1
    images.clear()
    odd = from_rgb(PHOTO, Header())
    odd.encoding = "colours"
    sent: list[Header] = []
    failed = probe.until(
        lambda: sent.append(send(probe, camera, odd)),
        lambda: (said := probe.report(STATUS)).get("dropped, encoding", "0") != "0" and said,
        "a report",
    )
    # A message may be lost, and is sent again then; each that arrives is counted, and nothing else.
    assert failed["dropped, encoding"] == failed["frames dropped"]
    assert int(failed["frames dropped"]) <= len(sent)
    assert int(failed["level"]) == ERROR and not images
    probe.node.destroy_publisher(camera)


def test_a_node_that_does_not_know_what_to_hide_is_not_configured(probe: Probe) -> None:
    assert probe.transit("anonymizer", "deactivate") and probe.transit("anonymizer", "cleanup")
    region = next(v.value for v in probe.diagnostics[STATUS].values if v.key == "region")
    set_text(probe, "region", "nobody")
    set_text(probe, "input_transport", "compressed")
    assert not probe.transit("anonymizer", "configure")
    report = probe.report(STATUS)
    assert "region: got 'nobody', must be one of face" in report["message"]
    assert int(report["level"]) == ERROR
    set_text(probe, "region", region)
    assert probe.transit("anonymizer", "configure") and probe.transit("anonymizer", "activate")
    camera = probe.talk(CompressedImage, "image_raw/compressed")
    images = probe.listen(Image, "image_anonymized", RELIABLE)
    message = CompressedImage(format="png", data=png(PHOTO))
    header = probe.until(
        lambda: send(probe, camera, message), lambda: images and images[0].header, "the image"
    )
    assert header.frame_id == "optical"
    check(to_rgb(images[0]))
    process = probe.processes.pop("anonymizer")
    assert process.end() == 0 and "Traceback" not in process.output


def test_an_image_without_a_stamp_has_a_time() -> None:
    stamped = from_rgb(PHOTO, Header())
    first = seconds_of(stamped)
    assert 0 < first <= seconds_of(stamped)
    stamped.header.stamp.sec = 7
    assert seconds_of(stamped) == 7
