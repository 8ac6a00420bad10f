"""The whole graph, from an image to detections, as ``make demo`` runs it: two nodes as processes,
real DDS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")

from roi_anon_ros.codec import list_models
from roi_anon_ros.detect.quiet_ultralytics import EXAMPLE_PHOTOS, example_photo
from roi_anon_ros.detect.weights import WeightsError, find_weights
from roi_anon_ros.graph.scene import FRAMES

pytestmark = [pytest.mark.ros, pytest.mark.weights]


def run_demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The demo chooses its own domain.
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DOMAIN_ID"} | {
        "COLUMNS": "40"
    }
    command = [sys.executable, "-m", "roi_anon_ros.graph.demo", "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment)


def need_weights() -> None:
    try:
        find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no YOLO weights: {error}")


def test_from_image_to_detections(tmp_path: Path) -> None:
    need_weights()
    assert "roi" in list_models()
    if not all(map(example_photo, EXAMPLE_PHOTOS)):
        pytest.skip("the installed ultralytics has no photos")
    run = run_demo(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads((tmp_path / "zidane.json").read_text())
    assert result["source_size"] == [1280, 720] and result["coded_size"] == [640, 360]
    # Counts, not matches: a model may show one of the crowd behind, or a person twice.
    assert result["persons"]["original"] == 2 and result["persons"]["decoded"] in (2, 3, 4)
    assert result["faces"]["original"] == 2 and result["faces"]["decoded"] == 0
    for detection in result["detections"]:
        assert detection["class_id"] == "person" and 0.25 <= detection["score"] <= 1
        assert 0 <= detection["center"][0] <= 1280 and 0 <= detection["center"][1] <= 720
    assert result["bytes"]["sent"] < result["bytes"]["jpeg_q10"]
    assert all(milliseconds >= 0 for milliseconds in result["milliseconds"].values())
    assert (tmp_path / "zidane.png").stat().st_size > 50_000
    every = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("bus", "zidane")]
    persons = json.loads((tmp_path / "summary.json").read_text())["persons"]
    assert persons["decoded"] == sum(one["persons"]["decoded"] for one in every)
    assert "zidane" in run.stdout and "bits per pixel" in run.stdout
    cycles = [json.loads(line) for line in (tmp_path / "scene.jsonl").read_text().splitlines()]
    assert len(cycles) == FRAMES and cycles[-1]["complete"]
    assert any(len(cycle["people"]) >= 2 for cycle in cycles)
    assert (tmp_path / "scene.png").stat().st_size > 50_000
    assert "on the map of" in " ".join(run.stdout.split())


def test_a_pipeline_that_does_not_deliver_fails(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    # With the detector that needs neither torch nor weights from elsewhere.
    run = run_demo(tmp_path / "out", "--model", str(broken), "--detector", "persons")
    assert run.returncode == 1
    assert "demo failed" in run.stdout and "broken.safetensors" in run.stdout
    assert not list((tmp_path / "out").glob("*.png"))
