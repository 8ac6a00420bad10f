"""Serves the twin's page: a recorded file to replay, live cycles over a WebSocket, calibration.

A twin tells where people are, so only this machine's own page may ask: other hosts' names and other
pages' origins are refused. The image of a calibration stays in the browser; only pixels come here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from roi_anon_ros.ground.calibrate import (
    CalibrationError,
    calibrate,
    describe,
    grid_lines,
    make_points,
)
from roi_anon_ros.ground.twin import SCHEMA

PAGE = Path(__file__).with_name("page.html")
#: Cycles that wait for a slow browser; older ones are dropped.
WAITING = 4


class Live:
    """Cycles on their way to browsers."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[str]] = set()
        self._newest: str | None = None

    def publish(self, cycle: str) -> None:
        """Send a cycle, JSON, to all browsers; from any thread, never waits."""
        self._newest = cycle
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, cycle)

    def _spread(self, cycle: str) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(cycle)

    async def follow(self, socket: WebSocket) -> None:
        """Send cycles to one browser until it leaves."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str] = asyncio.Queue(WAITING)
        if self._newest is not None:
            queue.put_nowait(self._newest)
        self._queues.add(queue)
        gone = asyncio.ensure_future(socket.receive())
        try:
            while True:
                cycle = asyncio.ensure_future(queue.get())
                done, _ = await asyncio.wait({cycle, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone in done:
                    cycle.cancel()
                    return
                await socket.send_text(cycle.result())
        except WebSocketDisconnect:
            return
        finally:
            gone.cancel()
            self._queues.discard(queue)


class Serving:
    """An application that a thread serves until it is closed."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        """Serve.

        Args:
            app: what to serve.
            listening: where; it is closed with the rest.
        """
        # Without lifespan: it would complain of being cut off, as browsers are.
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        sockets = {"sockets": [listening]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; browsers that still look are cut off."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


def check_recording(path: Path) -> int:
    """Count the cycles of a file of JSON lines.

    Raises:
        ValueError: a line is no cycle; names the line.
    """
    count = 0
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                schema = json.loads(line)["schema"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}: line {number}: no JSON with a schema") from None
            if schema != SCHEMA:
                raise ValueError(f"{path}: line {number}: schema: got {schema}, must be {SCHEMA}")
            count = number
    if not count:
        raise ValueError(f"{path}: has no cycles")
    return count


def make_app(
    recording: Path | None, live: Live | None, hosts: Sequence[str] = ("127.0.0.1", "localhost")
) -> FastAPI:
    """Make the application.

    Args:
        recording: a file of JSON lines to replay.
        live: cycles as they come.
        hosts: names under which the page may be asked for.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.get("/")
    def page() -> HTMLResponse:
        policy = "default-src 'self' 'unsafe-inline'; img-src blob:; connect-src 'self' ws:"
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(PAGE.read_text(), headers=headers)

    @app.get("/cycles")
    def cycles() -> FileResponse:
        if recording is None:
            raise HTTPException(404, "nothing recorded: this page is live")
        return FileResponse(recording, media_type="application/jsonl")

    @app.websocket("/live")
    async def follow(socket: WebSocket) -> None:
        origin = urlsplit(socket.headers.get("origin", "")).netloc
        if live is None or origin != socket.headers.get("host"):
            await socket.close(1008)
            return
        await socket.accept()
        await live.follow(socket)

    @app.post("/calibrate")
    async def find_camera(request: Request) -> dict[str, Any]:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        if origin != request.headers.get("host"):
            raise HTTPException(403, "another page asks")
        try:
            content = json.loads(await request.body())
            found = calibrate(str(content.get("name") or "camera"), make_points(content))
        except (CalibrationError, ValueError, AttributeError) as error:
            raise HTTPException(422, str(error)) from None
        lines = grid_lines(found.camera, 30.0, 0.0)
        grid = [{"metre": value, "pixels": line.round(1).tolist()} for value, line in lines]
        return {"site": found.to_site(), "text": describe(found), "grid": grid}

    return app
