"""Where downloads and measurements of this machine are kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder ($XDG_CACHE_HOME or ~/.cache, then roi_anon_ros); it may not exist
    yet.
    """
    base = os.environ.get(
        "XDG_CACHE_HOME"
    )  # the XDG rules say that a relative path here is to be ignored
    try:
        return (
            Path(base) if base and os.path.isabs(base) else Path.home() / ".cache"
        ) / "roi_anon_ros"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"roi_anon_ros-{os.getuid()}"
