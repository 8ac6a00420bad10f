"""The twin's page as an image, where a Chromium is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from roi_anon_ros.ground.page.server import Serving, make_app

#: What the program is called.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Milliseconds of the browser's own time until the page has its cycles and is drawn.
DRAWN_AFTER = 5000
#: Seconds that the browser may take.
LIMIT = 120.0


def photograph(recording: Path, path: Path, size: tuple[int, int] = (960, 640)) -> bool:
    """Write what the page shows at the end of a recording.

    Args:
        recording: the twin's cycles, JSON lines.
        path: of the PNG.
        size: width and height, pixels.

    Returns:
        Whether it was written; not without a browser, or with one that does not come to it.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    listening = socket.create_server(("127.0.0.1", 0))
    serving = Serving(make_app(recording, None), listening)
    with TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--disable-gpu", "--hide-scrollbars"]
        command += ["--no-first-run", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"]  # root has none; the page is this package's own
        command += [f"--window-size={size[0]},{size[1]}"]
        command += [f"--virtual-time-budget={DRAWN_AFTER}", f"--screenshot={path}"]
        command += [f"http://127.0.0.1:{listening.getsockname()[1]}/#last"]
        try:
            subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
        finally:
            serving.close()
    return path.is_file()
