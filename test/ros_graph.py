"""What the tests of real nodes share; they skip where there is no ROS."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
pytest.importorskip("roi_anon_msgs", reason="needs the message packages: make env, or colcon build")

import torch

from roi_anon_ros.codec import DEFAULT_MODEL, save_model
from roi_anon_ros.codec.networks import PaperCodec
from roi_anon_ros.graph.probe import BEST_EFFORT, LATCHED, RELIABLE, Probe
from roi_anon_ros.graph.processes import START_LIMIT, GraphError, Process

__all__ = [
    "BEST_EFFORT",
    "DEFAULT_MODEL",
    "LATCHED",
    "QUICK_ENGINE",
    "RELIABLE",
    "START_LIMIT",
    "GraphError",
    "Probe",
    "Process",
    "make_model",
]


#: What runs the default model without torch, whose import costs a node seconds.
QUICK_ENGINE = "openvino" if find_spec("openvino") else "torch"


def make_model(
    path: Path, seed: int = 0, change: Callable[[PaperCodec], None] = lambda net: None
) -> Path:
    """Write a tiny random model, so loud that other images give other packets."""
    torch.manual_seed(seed)
    net = PaperCodec(N=8, M=2)
    net.update()
    with torch.no_grad():
        net.g_a[-1].weight *= 100
        net.g_s[-2].weight *= 30
        change(net)
    save_model(net, path, name="tiny")
    return path
