"""What the installation says where something is missing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = {"minor": 10, "header": True, "ensurepip": True, "pip": True}


@pytest.fixture
def bootstrap() -> ModuleType:
    path = str(ROOT / "underlay" / "bootstrap")
    loader = importlib.machinery.SourceFileLoader("bootstrap", path)
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def complaints(
    bootstrap: ModuleType, ros: object, machine: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """What check_machine finds missing on such a machine."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    try:
        bootstrap.check_machine(ros, PYTHON, installed=True)
    except SystemExit as error:
        return str(error)
    return ""


def test_arm_needs_a_sourced_distribution(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in [*bootstrap.ROS_PACKAGES, "vision_msgs"]:
        folder = tmp_path / "share" / package
        folder.mkdir(parents=True)
        (folder / "package.xml").touch()
    (tmp_path / "lib/python3.10/site-packages/rclpy").mkdir(parents=True)
    monkeypatch.setenv("ROS_DISTRO", "")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    without = complaints(bootstrap, bootstrap.Ros(), "aarch64", monkeypatch)
    assert "a sourced ROS 2 distribution" in without
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert not complaints(bootstrap, bootstrap.Ros(), "aarch64", monkeypatch)
    assert "this is linux on riscv64" in complaints(
        bootstrap, bootstrap.Ros(), "riscv64", monkeypatch
    )


def test_python_of_jetpack_5_is_refused_by_name(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(returncode=0, stdout='{"minor": 8, "version": "3.8.10"}')
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda *arguments, **options: answer)
    with pytest.raises(SystemExit, match="3.8.10(.|\n)*JetPack 5's: it needs JetPack 6 or 7"):
        bootstrap.probe(None)


def test_failing_imports_are_named() -> None:
    script = ROOT / "underlay" / "check_imports"
    run = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True)
    assert run.returncode == 1
    for name in (
        "import cv2: ModuleNotFoundError",
        "import torch:",
        "import roi_anon_ros.codec._ans:",
    ):
        assert name in run.stderr
