"""The one door to ultralytics: without its installs, its telemetry, its chatter and its side
effects.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from roi_anon_ros.cache import cache_dir

#: The photos that come with ultralytics.
EXAMPLE_PHOTOS = ("bus.jpg", "zidane.jpg")


def example_photo(name: str) -> Path | None:
    """Return the file of a photo that comes with ultralytics, such as "bus.jpg"; None where it is
    not installed.
    """
    spec = find_spec("ultralytics")  # looked for, not imported: that takes seconds
    photo = Path(spec.origin).parent / "assets" / name if spec and spec.origin else None
    return photo if photo and photo.is_file() else None


def import_ultralytics() -> ModuleType:
    """Import ultralytics and return it; ImportError says what to install.

    Sets, for this process, YOLO_AUTOINSTALL (no pip at run time), YOLO_OFFLINE (no telemetry, no
    lookups on import, no retries), YOLO_VERBOSE and, unless it is set already, YOLO_CONFIG_DIR.
    Holds also where ultralytics was imported before, except that its settings file and thread
    limits then stay as they are. ONNX Runtime, which runs .onnx weights, is kept from reporting by
    ``roi_anon_ros/__init__.py``.
    """
    os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(cache_dir()))
    had_omp_threads = "OMP_NUM_THREADS" in os.environ
    fresh = "ultralytics" not in sys.modules
    try:
        # On import, ultralytics limits OpenMP, and so torch, to one thread and turns off OpenCV's
        # threads, for all else in this process and its children: remember them and put them back
        # below.
        import cv2
        import torch

        cv_threads = cv2.getNumThreads()
        torch_threads = torch.get_num_threads()
        import ultralytics
        from PIL import Image
        from ultralytics.utils import LOGGER, SETTINGS, checks, patches
    except ImportError as error:
        raise ImportError(
            "the YOLO person detector needs the 'server' extra (pip install "
            "'roi_anon_ros[server]'), which "
            f"brings ultralytics under AGPL-3.0 or a commercial licence of Ultralytics: {error}"
        ) from error
    if fresh:
        cv2.setNumThreads(cv_threads)
        torch.set_num_threads(torch_threads)
        if not had_omp_threads:
            os.environ.pop("OMP_NUM_THREADS", None)
    # On import, ultralytics makes Pillow want another package for every image that it cannot
    # read.
    Image.open = getattr(patches, "_image_open", Image.open)
    LOGGER.setLevel(logging.ERROR)
    checks.AUTOINSTALL = False
    dict.update(
        SETTINGS, sync=False
    )  # in memory only: its own update() would rewrite the user's file
    events = sys.modules.get("ultralytics.utils.events")  # decides when imported whether it reports
    if events is not None:
        events.events.enabled = False
    return ultralytics
