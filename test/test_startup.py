"""The measurement of starts: that its figures fit together, not how good they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ros_graph import DEFAULT_MODEL, QUICK_ENGINE, Probe  # first: it skips without ROS

pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
pytest.importorskip("ultralytics", reason="needs the 'server' extra")

from roi_anon_ros.detect import WeightsError, find_weights
from roi_anon_ros.graph import startup
from roi_anon_ros.graph.startup import main, processor_seconds, resident_memory, table

pytestmark = pytest.mark.ros

ERROR = 2


def find_weights_or_skip() -> Path:
    try:
        return find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")


#: A fresh process: one that has run other tests gives memory back at any time, and has spare.
HOLDER = """
import mmap
print("started", flush=True)
input()
block = mmap.mmap(-1, 50_000_000)
block.write(bytes([1]) * len(block))
print("holds", flush=True)
input()
"""


def test_a_process_costs_what_the_system_says() -> None:
    pid = os.getpid()
    before = processor_seconds(pid)
    used = os.times()
    while os.times().user - used.user < 0.1:
        pass
    assert 0.05 <= processor_seconds(pid) - before <= os.times().user + os.times().system


def test_a_process_holds_what_it_has_written_to() -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER], **pipes) as process:
        assert process.stdout.readline() == "started\n"
        before = resident_memory(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "holds\n"
        held = resident_memory(process.pid) - before
        process.communicate("\n")
    assert 49 <= held <= 55


def test_the_table_has_every_node_and_both_kills() -> None:
    node = {"wall": 1.23, "processor": 2.34, "memory": 123.4}
    results: dict[str, Any] = {
        "nodes": {"camera": node, "edge": node, "server": node},
        "again": {"edge": 3.45, "server": 4.56},
    }
    head, *lines = table(results)
    assert {len(line) for line in lines} == {len(head)}
    assert lines[1] == ["`edge_node`", "1.2", "2.3", "123"]
    assert lines[4] == ["detections again after kill -9 of `server_node`", "4.6", "", ""]


def test_rounds_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", "0"])
    assert ended.value.code == 1
    assert "rounds: got 0, must be from 1 to 100" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("edge", ["loading model", f"running analysis on engine {QUICK_ENGINE}"]),
        (
            "server",
            [
                "loading model",
                "loading detector",
                "fetched",
                f"running synthesis on engine {QUICK_ENGINE}",
            ],
        ),
    ],
)
@pytest.mark.weights
def test_a_start_says_what_it_does(node: str, said: list[str], tmp_path: Path) -> None:
    parameters = {"detector": find_weights_or_skip()} if node == "server" else {}
    with Probe(tmp_path) as probe:
        process = probe.start_node(
            node, model=DEFAULT_MODEL, engine=QUICK_ENGINE, autostart="true", **parameters
        )
        name = f"/{node}: {node}"
        # Nobody sends it anything: the words are all that is waited for.
        probe.wait_for(lambda: said[-1] in process.output, said[-1])
        assert probe.report(name)["level"] != ERROR
    place = 0
    for words in said:
        place = process.output.index(words, place)


@pytest.mark.weights
def test_its_figures_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = find_weights_or_skip()
    monkeypatch.setattr(startup, "SETTLED", 3)
    monkeypatch.setattr(startup, "WARM_UP", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = startup.run(1, detector=str(weights), engine=QUICK_ENGINE)
    assert json.loads(json.dumps(results)) == results
    assert list(results["nodes"]) == ["camera", "edge", "server"]
    for node in results["nodes"].values():
        assert 0 < node["processor"] < 2 * node["wall"] * os.cpu_count()
        assert 20 < node["memory"] < 10_000
    assert list(results["again"]) == ["edge", "server"]
    assert all(seconds > startup.RESPAWN_DELAY for seconds in results["again"].values())
    assert set(results["engines"]) == {"edge", "server"}
    for engine in results["engines"].values():
        assert engine.startswith(QUICK_ENGINE), engine
