"""The benchmark of the server: that its figures fit together and its processes end, not how good
they are.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ros_graph import (  # first: it skips without ROS
    DEFAULT_MODEL,
    QUICK_ENGINE,
    START_LIMIT,
    GraphError,
)

pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
pytest.importorskip("ultralytics", reason="needs the 'server' extra")

from roi_anon_ros.detect import WeightsError, find_weights
from roi_anon_ros.graph import load, load_results

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        return find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")


def start(out: Path, mark: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Run the load test; every process of it has the mark in its environment."""
    command = [sys.executable, "-m", "roi_anon_ros.graph.load", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LOAD_TEST": mark}
    with out.open("wb") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def running(mark: str) -> list[int]:
    """Processes with this mark that have not ended."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environment.read_bytes().split(b"\0")  # of one that has ended, nothing
        except OSError:
            continue  # of somebody else, or gone meanwhile
        if f"LOAD_TEST={mark}".encode() in variables:
            found.append(int(environment.parent.name))
    return found


def test_its_figures_fit_together(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(load, "WARM_UP", 0.5)
    steps: list[Any] = []
    results = load.run(
        [2],
        [1],
        5.0,
        2.0,
        (96, 64),
        detector=str(weights),
        max_batch=2,
        engine=QUICK_ENGINE,
        track=lambda rows: steps.append(rows) or rows,
    )
    assert json.loads(json.dumps(results)) == results
    assert (
        results["model"] == DEFAULT_MODEL
        and results["max_batch"] == 2
        and results["size"] == [96, 64]
    )
    rows = results["rows"]
    assert list(rows) == ["2 cameras", "edge included", "1 camera, image to cloud"]
    assert len(*steps) == 3
    assert set(rows["2 cameras"]["engines"]) == {"server"}
    for row in rows.values():
        for engine in row["engines"].values():
            assert engine.startswith(QUICK_ENGINE), engine
    assert set(rows["edge included"]["engines"]) == {"server", "camera1/edge"}
    assert set(rows["1 camera, image to cloud"]["engines"]) == {"server", "camera1/edge"}
    assert [row["cameras"] for row in rows.values()] == [2, 1, 1]
    for row, most in zip(rows.values(), (20, 30, 30), strict=True):
        assert 0 <= row["answered"] <= row["published"] <= most + 2
        assert row["share"] == pytest.approx(row["answered"] / row["published"])
        assert row["per_second"] == pytest.approx(row["answered"] / 2.0)
        assert row["least_per_second"] * row["cameras"] <= row["per_second"]
        if not row["answered"]:  # of the frames of these seconds, on a machine that is very busy
            continue
        ages = row["age"]
        assert 0 < ages["median"] <= ages["p95"] <= ages["p99"] <= ages["max"]
        assert 0 <= row["late"] <= row["answered"]
        assert (row["late"] > 0) == (row["age"]["max"] > load_results.LATE)
    head, *lines = load_results.make_table(results)
    assert [line[0] for line in lines] == [
        "2 cameras",
        "edge included (640x480, 15 Hz)",
        "1 camera, image to cloud (640x480, 15 Hz)",
    ]
    assert {len(line) for line in lines} == {len(head)}


def test_its_summary_counts_the_frames_of_its_time_only() -> None:
    second = 10**9
    stamps = [[0, second, 2 * second, 3 * second], [second + 1, second + 2, 5 * second]]
    ages = [{0: 9.0, second: 0.1, 3 * second: 8.0}, {5 * second: 7.0}]
    row = load_results.summarise_answers(stamps, ages, second, 3 * second)
    assert (row["published"], row["answered"], row["share"], row["late"]) == (4, 1, 0.25, 0)
    assert (row["per_second"], row["least_per_second"]) == (0.5, 0.0)
    assert row["age"] == {"median": 0.1, "p95": 0.1, "p99": 0.1, "max": 0.1}
    assert row["gap"] == 2.0  # from the first second to the third, which ends after the time
    nothing = load_results.summarise_answers(stamps, [{}, {}], second, 3 * second)
    assert nothing["answered"] == 0 and set(nothing["age"].values()) == {None}
    results = {"size": [640, 480], "rate": 15.0, "rows": {"2 cameras": nothing | {"raw": False}}}
    line = load_results.make_table(results)[1]
    assert nothing["gap"] is None
    assert line == ["2 cameras", "0.0", "0.0", "–", "0%", "–", "–", "–", "–", "0 of 0"]
    with pytest.raises(GraphError):
        load_results.summarise_answers(stamps, ages, 6 * second, 7 * second)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cameras", [], "cameras"),
        ("cameras", [1, 0], "cameras: 0"),
        ("cameras", [65], "cameras: 65, must be from 1 to 64"),
        ("clouds", [0], "clouds: 0, must be from 1 to 64"),
        ("rate", float("nan"), "rate: nan"),
        ("seconds", 0.5, "seconds: 0.5"),
        ("max_batch", 0, "max_batch: 0"),
        ("size", (8, 480), "width: 8 pixels"),
    ],
)
def test_what_is_out_of_bounds_is_named(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load.run(**{name: value})


def test_a_list_of_cameras() -> None:
    assert load.parse_cameras("1, 2,16,2") == [1, 2, 16]
    for text in ("", "1,", "two", "-1"):
        with pytest.raises(ValueError, match="cameras: "):
            load.parse_cameras(text)


def test_a_node_that_fails_is_reported_and_nothing_goes_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no weights")
    process = start(
        tmp_path / "log",
        str(tmp_path),
        "--cameras=1",
        f"--engine={QUICK_ENGINE}",
        f"--detector={broken}",
    )
    assert process.wait(2 * START_LIMIT) == 1
    assert not running(str(tmp_path))
    said = (tmp_path / "log").read_text()
    assert "/server: server: configure: " in said and "Traceback" not in said


def test_an_interrupt_ends_all_processes(tmp_path: Path, weights: Path) -> None:
    """SIGTERM takes the way of SIGINT, and has to be told so."""
    process = start(
        tmp_path / "log",
        str(tmp_path),
        "--cameras=2",
        f"--engine={QUICK_ENGINE}",
        f"--detector={weights}",
    )
    end = time.monotonic() + START_LIMIT
    while len(running(str(tmp_path))) < 3:  # itself, the server node, the cameras
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
        time.sleep(0.1)
    time.sleep(2)
    os.kill(process.pid, signal.SIGTERM)  # it alone, not its children
    assert process.wait(START_LIMIT) == 130
    assert not running(str(tmp_path))
    assert "Traceback" not in (tmp_path / "log").read_text()
