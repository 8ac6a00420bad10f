"""The twin's page, served by a node in a thread."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class Page:
    """Serves the page to this machine until it is closed."""

    def __init__(self, port: int) -> None:
        """Serve.

        Args:
            port: of this machine.

        Raises:
            ImportError: without the extra `twin`.
            OSError: the port is taken.
        """
        from roi_anon_ros.ground.page.server import Live, Serving, make_app

        self._live = Live()
        listening = socket.create_server((HOST, port))  # here, so that a taken port is an error
        self._serving = Serving(make_app(None, self._live), listening)

    def publish(self, cycle: str) -> None:
        """Send a cycle, JSON, to all browsers."""
        self._live.publish(cycle)

    def close(self) -> None:
        """Stop; browsers that still look are cut off."""
        self._serving.close()
