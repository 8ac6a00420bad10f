"""What several tests share."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real material beside the repository; it is not part of it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no real material at {path}")
    return path


@pytest.fixture
def ros_environment() -> dict[str, str]:
    """Environment for processes that talk to each other over DDS and to nobody else."""
    domain = random.SystemRandom().randint(1, 101)
    return os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
