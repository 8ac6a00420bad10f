"""The twin's page, served by a node in a thread."""

from __future__ import annotations

import socket
import threading

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
        import uvicorn

        from roi_anon_ros.ground.page.server import Live, make_app

        self._live = Live()
        listening = socket.create_server((HOST, port))  # here, so that a taken port is an error
        # Without lifespan: it would complain of being cut off, as browsers are.
        app = make_app(None, self._live)
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        sockets = {"sockets": [listening]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets, daemon=True)
        self._thread.start()

    def publish(self, cycle: str) -> None:
        """Send a cycle, JSON, to all browsers."""
        self._live.publish(cycle)

    def close(self) -> None:
        """Stop; browsers that still look are cut off."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)
