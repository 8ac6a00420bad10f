"""What every node does besides its work, over DDS, with a node that only passes images on."""

from __future__ import annotations

import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
pytest.importorskip("std_srvs", reason="needs ROS 2: std_srvs")

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.qos import ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from roi_anon_ros.graph.probe import DIAGNOSTICS_PERIOD, RELIABLE, Probe
from roi_anon_ros.graph.processes import DOMAINS, START_LIMIT, Process, choose_domain
from roi_anon_ros.nodes.base.health import LATE, MUTED

pytestmark = pytest.mark.ros

OK, WARN, ERROR = 0, 1, 2
NODE = """
import atexit, os, sys, time, weakref
from pathlib import Path
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from roi_anon_ros.nodes.base import newest
from roi_anon_ros.nodes.base.newest import NewestFramesNode
from roi_anon_ros.nodes.base.process import run

newest.SUMMARY_PERIOD = 1.0  # instead of a minute
atexit.register(time.sleep, 600)  # as libraries on a busy machine, which take long to unload

held = []
def leave(code, leave=os._exit):
    print("FREED" if held[0]() is None else "HELD", flush=True)
    leave(code)
os._exit = leave

class Passer(NewestFramesNode):
    role = "passer"
    def __init__(self):
        super().__init__()
        held.append(weakref.ref(self.handle))
    reliability = "auto"
    def load(self):
        self.say("loading")
        while not Path(sys.argv[1]).exists():
            time.sleep(0.05)
        if Path(sys.argv[1]).read_text():
            raise ValueError("no model")
    def unload(self):
        while Path(sys.argv[1]).exists() and Path(sys.argv[1]).read_text():
            time.sleep(0.05)
    def setup(self):
        self.out = self.output(CompressedImage, "out", QoSProfile(depth=10))
        return {"in": CompressedImage}
    def process(self, topic, message):
        if message.format == "slow":
            print("AT WORK", flush=True)
            time.sleep(600)
        if message.format == "bad":
            raise ValueError("x" * 100_000)
        self.check_age(message)
        self.out.publish(message)
        return {}, {}

run(Passer)
"""


def start(probe: Probe, gate: Path, *more: str) -> Process:
    words = ["--ros-args", "-p", f"diagnostics_period:={DIAGNOSTICS_PERIOD}", *more]
    return probe.start("passer", "-c", NODE, str(gate), *words)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file without which the node does not finish loading."""
    return tmp_path_factory.mktemp("passer") / "go"


@pytest.fixture(scope="module")
def probe(gate: Path) -> Iterator[Probe]:
    with Probe(gate.parent) as probe:
        start(probe, gate, "-p", "autostart:=true")
        yield probe


def report(probe: Probe) -> dict[str, str]:
    return probe.report("/passer: passer")


def reported(probe: Probe, key: str, value: str) -> dict[str, str]:
    """Wait for a report that says this."""
    for _ in range(100):
        found = report(probe)
        if value in str(found.get(key, "")):
            return found
    raise AssertionError(f"{key} does not say {value!r}: {found}")


def image(stamp: float, what: str = "jpeg") -> CompressedImage:
    seconds = int(stamp)
    nanoseconds = round((stamp - seconds) * 1e9)
    header = Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id="optical")
    return CompressedImage(header=header, format=what, data=array("B", b"123"))


def set_parameter(probe: Probe, name: str, value: float) -> None:
    typed = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=typed)])
    (result,) = probe.call(SetParameters, "/passer/set_parameters", request).results
    assert result.successful, result.reason


def mute(probe: Probe, muted: bool) -> SetBool.Response:
    return probe.call(SetBool, "/passer/mute", SetBool.Request(data=muted))


def test_it_answers_and_reports_while_it_loads(probe: Probe, gate: Path) -> None:
    probe.wait_for(lambda: "/passer: passer" in probe.diagnostics, "diagnostics", START_LIMIT)
    found = reported(probe, "message", "configuring: loading")
    assert found["level"] == OK
    assert probe.state("passer") == "configuring"
    names = probe.call(ListParameters, "/passer/list_parameters", ListParameters.Request())
    assert "max_age" in names.result.names
    gate.touch()
    found = reported(probe, "message", "no frame yet")
    assert found["level"] == WARN and probe.state("passer") == "active"
    assert probe.diagnostics["/passer: passer"].hardware_id


def test_it_asks_for_what_the_publisher_offers(probe: Probe) -> None:
    probe.camera = probe.talk(CompressedImage, "in")
    probe.images = probe.listen(CompressedImage, "out", RELIABLE)

    def asked() -> bool:
        infos = probe.node.get_subscriptions_info_by_topic("/in")
        return [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.RELIABLE]

    probe.wait_for(asked, "a reliable subscriber")
    stamps = iter(range(1000, 2000))

    def send() -> Header:
        message = image(next(stamps))
        probe.camera.publish(message)
        return message.header

    probe.connect(send, probe.images)
    assert report(probe)["level"] == OK


def test_graphs_side_by_side_are_in_domains_of_their_own(probe: Probe) -> None:
    if get_rmw_implementation_identifier() != "rmw_fastrtps_cpp":
        pytest.skip("another middleware may use other ports")
    free = [domain for domain in DOMAINS if domain != probe.domain][:1]
    for _ in range(20):
        assert choose_domain([probe.domain, *free]) != probe.domain
    assert choose_domain([probe.domain]) == probe.domain, "where all are in use, any will do"


def arrives(probe: Probe, stamp: float) -> None:
    probe.camera.publish(image(stamp))
    (message,) = probe.wait_for(lambda: probe.images, f"the image of {stamp}")
    probe.images.clear()
    assert message == image(stamp)


def test_late_frames_are_dropped_and_odd_stamps_are_named(probe: Probe) -> None:
    arrives(probe, 3000.0)
    probe.camera.publish(image(2999.0))
    assert reported(probe, f"dropped, {LATE}", "1")["frames sent"]
    assert not probe.images
    arrives(probe, 3001.0)
    arrives(probe, 0.0)
    assert "zero" in reported(probe, "message", "stamp")["message"]
    ahead = int(time.time()) + 3600
    arrives(probe, ahead)
    assert reported(probe, "message", "ahead")["level"] == WARN
    for count, stamp in ((2, 3002.0), (3, 3003.0)):  # and the third is believed
        probe.camera.publish(image(stamp))
        reported(probe, f"dropped, {LATE}", str(count))
    arrives(probe, 3004.0)


def test_muted_it_sends_nothing_and_stays_up(probe: Probe) -> None:
    answer = mute(probe, True)
    assert answer.success
    probe.camera.publish(image(3005.0))
    found = reported(probe, f"dropped, {MUTED}", "1")
    assert found["level"] == WARN and found["message"].startswith("muted")
    assert not probe.images and probe.state("passer") == "active"
    assert mute(probe, False).success
    arrives(probe, 3006.0)
    assert reported(probe, "message", "frames flow")["level"] == OK


def test_old_images_are_withheld_where_that_is_asked_for(probe: Probe) -> None:
    set_parameter(probe, "max_age", 5.0)
    probe.camera.publish(image(3007.0))
    found = reported(probe, "dropped, age", "1")
    assert found["level"] == ERROR and "max_age" in found["message"]
    assert not probe.images
    set_parameter(probe, "max_age", 0.0)
    arrives(probe, 3008.0)


def test_foreign_text_is_cut(probe: Probe) -> None:
    probe.camera.publish(image(3009.0, "bad"))
    found = reported(probe, "dropped, ValueError", "1")
    assert len(found["message"]) < 400


def test_it_ends_while_it_is_at_work(probe: Probe) -> None:
    probe.camera.publish(image(3010.0, "slow"))
    process = probe.processes["passer"]
    probe.wait_for(lambda: "AT WORK" in process.output, "the work")
    probe.processes.pop("passer")
    assert process.end() == 0
    assert "ends without" in process.output and "Traceback" not in process.output
    assert "configuring: loading" in process.output
    assert " sent, " in process.output and f"dropped ({LATE}: " in process.output
    assert max(map(len, process.output.splitlines())) < 600, "foreign text is cut"


def test_a_wrong_parameter_keeps_it_up_and_is_named(gate: Path, tmp_path: Path) -> None:
    gate.touch()
    with Probe(tmp_path) as probe:
        start(probe, gate, "-p", "max_age:=soon")
        probe.wait_for(lambda: "/passer: passer" in probe.diagnostics, "diagnostics", START_LIMIT)
        found = reported(probe, "message", "max_age")  # though nobody asked it to configure
        assert found["level"] == ERROR and probe.state("passer") == "unconfigured"
        assert found["message"].count("max_age") == 2  # whose it is, and rclpy's own words
        assert found["message"] in probe.processes["passer"].output
        assert not probe.transit("passer", "configure")
        request = GetParameters.Request(names=["max_age"])
        (value,) = probe.call(GetParameters, "/passer/get_parameters", request).values
        assert value.double_value == 0.0
        set_parameter(probe, "max_age", 2.0)
        assert probe.transit("passer", "configure")
        assert reported(probe, "message", "inactive")["level"] == OK
        assert probe.transit("passer", "shutdown")
        assert reported(probe, "message", "finalized")["level"] == ERROR
        process = probe.processes.pop("passer")
        assert process.end() == 0
        assert "FREED" in process.output, "others see it until its lease ends"


def test_a_failed_configure_is_told_before_all_is_unloaded(tmp_path: Path) -> None:
    gate = tmp_path / "broken"
    gate.write_text("as long as this stands here")
    with Probe(tmp_path) as probe:
        start(probe, gate, "-p", "autostart:=true")
        probe.wait_for(lambda: "/passer: passer" in probe.diagnostics, "diagnostics", START_LIMIT)
        found = reported(probe, "message", "configure: no model")
        assert found["level"] == ERROR and probe.state("passer") == "configuring"
        gate.write_text("")
        assert report(probe)["message"] != "unconfigured"
        reported(probe, "message", "no frame yet")  # it tries again unasked


#: What takes seconds and half a gigabyte to import.
HEAVY = {"torch", "compressai", "ultralytics", "pandas", "scipy"}


@pytest.mark.parametrize(
    ("node", "without"),
    [("edge", HEAVY | {"av"}), ("camera", HEAVY | {"av"}), ("server", HEAVY), ("decoder", HEAVY)],
)
def test_a_node_imports_nothing_heavy(tmp_path: Path, node: str, without: set[str]) -> None:
    code = f"import sys, roi_anon_ros.nodes.{node}; print(*sys.modules)"
    with Probe(tmp_path) as probe:
        process = probe.start("modules", "-c", code)
        assert probe.processes.pop("modules").wait() == 0, process.output
    loaded = {module.partition(".")[0] for module in process.output.split()}
    assert "rclpy" in loaded
    assert loaded.isdisjoint(without)


EARLY = """
import os, signal, rclpy
from rclpy.node import Node
from roi_anon_ros.nodes.base.process import run

init = rclpy.init
def init_late(args):
    os.kill(os.getpid(), signal.SIGINT)
    init(args=args)
rclpy.init = init_late
run(lambda: Node("early"))
"""


def test_a_node_that_is_interrupted_before_ros_listens_ends() -> None:
    process = subprocess.run([sys.executable, "-c", EARLY], timeout=START_LIMIT, check=False)
    assert process.returncode == 0
