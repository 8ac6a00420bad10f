"""Fast DDS' profile of the nodes: given where the user has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: make env, or apt")

from roi_anon_ros.nodes.base.discovery import PROFILE, VARIABLES, announce_often


def test_a_profile_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "mine.xml")
    monkeypatch.delenv(VARIABLES[1], raising=False)
    announce_often()
    assert os.environ[VARIABLES[0]] == "mine.xml" and VARIABLES[1] not in os.environ


def test_without_one_processes_announce_themselves_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    announce_often()
    assert {os.environ[variable] for variable in VARIABLES} == {str(PROFILE)}
    (period,) = ElementTree.parse(PROFILE).findall(".//{*}leaseAnnouncement")
    assert int(period.findtext("{*}sec", "")) + 1e-9 * int(period.findtext("{*}nanosec", "")) < 1


def complaints(profile: Path) -> str:
    environment = os.environ | {VARIABLES[0]: str(profile), "ROS_DOMAIN_ID": "102"}
    code = "import rclpy; rclpy.init(); rclpy.create_node('quiet')"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_fast_dds_can_read_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text(PROFILE.read_text().replace("leaseAnnouncement", "announcement"))
    assert "announcement" in complaints(broken)
    assert complaints(PROFILE) == ""
