from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from ground_scene import HEIGHT, WIDTH, box_of, make_camera
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.page.photograph import photograph
from roi_anon_ros.ground.page.server import Live, Serving, check_recording, make_app
from roi_anon_ros.ground.people import People
from roi_anon_ros.ground.site import read_site

ROOT = Path(__file__).resolve().parent.parent
START = 1_700_000_000.0
#: Seconds that anything may take on a machine that does other things.
PATIENCE = 600.0
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def make_cycles(count: int = 30) -> list[dict]:
    """Two people walk; the camera in the south dies in the middle."""
    people = People(read_site(ROOT / "config" / "site.yaml"))
    cycles = []
    for step in range(count):
        stamp = START + step * 0.2
        places = [(-2 + 0.15 * step, 0.5), (1.5, 2 - 0.12 * step)]
        for name, known in people.site.cameras.items():
            if name == "north" or step < count // 2:
                camera = Camera(name, known.lens, known.pose)
                boxes = np.array([box_of(camera, place) for place in places])
                people.add(name, stamp, boxes, stamp)
        cycles.append(people.twin(stamp, robot=(-4.0, -2.0 + 0.1 * step, 1.2)))
    return cycles


@contextmanager
def serve(app: object) -> Iterator[str]:
    """Run an application on a free port; gives host:port."""
    listening = socket.create_server(("127.0.0.1", 0))
    serving = Serving(app, listening)
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        serving.close()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "twin.jsonl"
    file.write_text("".join(json.dumps(cycle) + "\n" for cycle in make_cycles()))
    return file


def ask(address: str, path: str, body: dict | None = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_recording_is_replayed_and_the_page_loads_nothing_else(recording: Path) -> None:
    with serve(make_app(recording, None)) as address:
        status, page = ask(address, "/")
        assert status == 200 and "<title>Twin</title>" in page
        assert not re.search(r"(src|href)=|https?://|@import", page)
        assert ask(address, "/cycles")[1] == recording.read_text()
        assert ask(address, "/", Host="evil.example.org")[0] == 400


def listen(address: str, origin: str | None = "own") -> connect:
    own = f"http://{address}" if origin == "own" else origin
    return connect(f"ws://{address}/live", origin=own, open_timeout=PATIENCE)


def test_live_cycles_reach_every_browser_and_no_other_page() -> None:
    live = Live()
    with serve(make_app(None, live)) as address:
        assert ask(address, "/cycles")[0] == 404
        live.publish("1")
        with listen(address) as second:
            with listen(address) as first:
                assert first.recv(PATIENCE) == second.recv(PATIENCE) == "1"
                live.publish("2")
                assert first.recv(PATIENCE) == second.recv(PATIENCE) == "2"
            live.publish("3")
            assert second.recv(PATIENCE) == "3"
        for origin in ("http://evil.example.org", None):
            with pytest.raises(InvalidStatus), listen(address, origin):
                pass


def test_clicks_become_a_camera_only_for_the_page_itself() -> None:
    camera = make_camera(distorted=False)
    places = [(5, -2), (5, 2), (7, 0), (9, -3), (9, 3), (13, -4)]
    ground = np.array([(*place, 0.0) for place in places], float)
    rows = zip(camera.project(ground).tolist(), places, strict=True)
    points = [{"pixel": pixel, "place": place} for pixel, place in rows]
    body = {"name": "yard", "width": WIDTH, "height": HEIGHT, "points": points}
    with serve(make_app(None, None)) as address:
        own = f"http://{address}"
        status, answer = ask(address, "/calibrate", body, Origin=own)
        assert status == 200
        entry = yaml.safe_load(json.loads(answer)["site"])["yard"]
        np.testing.assert_allclose(entry["position"], [0, 0, 4], atol=0.2)
        assert len(json.loads(answer)["grid"]) > 10
        body["points"] = points[:3]
        status, answer = ask(address, "/calibrate", body, Origin=own)
        assert status == 422 and "must be 4 or more" in answer
        assert ask(address, "/calibrate", body, Origin="http://evil.example.org")[0] == 403


def test_file_that_is_no_recording_is_named(tmp_path: Path, recording: Path) -> None:
    assert check_recording(recording) == 30
    for text, said in (
        ("", "no cycles"),
        ("{}\n", "line 1"),
        ('{"schema": "x"}\n', "schema: got x"),
    ):
        file = tmp_path / "bad.jsonl"
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            check_recording(file)


@pytest.mark.slow
def test_command_serves_standard_input_live() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "roi_anon_ros.cli", "twin", "-", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdin.write(b'{"schema": "roi_anon_ros/twin/1"}\n')
        process.stdin.flush()
        assert process.stderr.readline() == f"http://127.0.0.1:{port}\n".encode()
        wait_for_port(port)
        with listen(f"127.0.0.1:{port}") as page:
            assert json.loads(page.recv(PATIENCE))["schema"] == "roi_anon_ros/twin/1"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def wait_for_port(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


class Browser:
    """Headless Chromium over its debugging protocol."""

    def __init__(self, folder: Path) -> None:
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--remote-debugging-port=0", "--window-size=1280,800", "--no-first-run"]
        command += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        address = ""
        for line in self.process.stderr:
            if "DevTools listening on" in line:
                address = re.search(r"ws://([^/]+)/", line)[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        with urllib.request.urlopen(f"http://{address}/json/list") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        url = pages[0]["webSocketDebuggerUrl"]
        self.stack = ExitStack()
        opened = connect(url, max_size=None, open_timeout=PATIENCE, ping_timeout=None)
        self.socket = self.stack.enter_context(opened)
        self.number = 0

    def send(self, method: str, **parameters: object) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(PATIENCE))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> object:
        result = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, script: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.1)

    def save_image(self, file: Path) -> bytes:
        image = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        file.write_bytes(image)
        return image

    def close(self) -> None:
        self.stack.close()
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install the package chromium")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def test_page_replays_with_a_slider(browser: Browser, recording: Path, tmp_path: Path) -> None:
    import cv2

    images = Path(os.environ.get("ROI_ANON_TEST_IMAGES", tmp_path))
    with serve(make_app(recording, None)) as address:
        browser.send("Page.navigate", url=f"http://{address}/")
        browser.wait_for("typeof cycles !== 'undefined' && cycles.length === 30 && shown === 0")
        browser.run("by('slider').value = 10; by('slider').dispatchEvent(new Event('input'))")
        assert browser.run("by('sentence').textContent") == "2 people"
        assert browser.run("by('cameras').rows.length") == 2
        assert "occupied" in browser.run("by('zones').textContent")
        early = browser.save_image(images / "twin.png")
        browser.run("by('slider').value = 29; by('slider').dispatchEvent(new Event('input'))")
        assert "not seen by south" in browser.run("by('sentence').textContent")
        late = browser.save_image(images / "twin_dead_camera.png")
        assert browser.run("document.images.length") == 0
    drawn = cv2.imdecode(np.frombuffer(early, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (800, 1280, 3) or drawn.shape[1] == 1280
    green = (drawn[..., 1] > 180) & (drawn[..., 0] < 170) & (drawn[..., 2] < 130)
    assert green[60:, :900].sum() > 50  # the cameras that are alive
    assert early != late


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install the package chromium")
def test_photograph_shows_the_end_of_a_recording(recording: Path, tmp_path: Path) -> None:
    import cv2

    file = tmp_path / "page.png"
    assert photograph(recording, file, (960, 640))
    drawn = cv2.imread(str(file)).astype(int)
    assert drawn.shape == (640, 960, 3)
    red = (drawn[..., 2] > 200) & (drawn[..., 1] < 130) & (drawn[..., 0] < 130)
    assert red[60:, :600].sum() > 50  # the camera that died in the middle


def test_without_a_browser_there_is_no_photograph(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not photograph(recording, tmp_path / "page.png")
    assert not (tmp_path / "page.png").exists()


def test_page_shows_what_comes_live(browser: Browser, recording: Path) -> None:
    live = Live()
    lines = recording.read_text().splitlines()
    with serve(make_app(None, live)) as address:
        live.publish(lines[5])
        browser.send("Page.navigate", url=f"http://{address}/")
        browser.wait_for("typeof cycles !== 'undefined' && cycles.length === 1")
        live.publish(lines[6])
        browser.wait_for("cycles.length === 2 && shown === 1")
        assert browser.run("by('replay').hidden")
    browser.wait_for("by('sentence').textContent.includes('connection is lost')")


def test_clicks_on_an_image_calibrate_in_the_page(browser: Browser, tmp_path: Path) -> None:
    images = Path(os.environ.get("ROI_ANON_TEST_IMAGES", tmp_path))
    camera = make_camera(distorted=False)
    places = [(5, -2), (5, 2), (7, 0), (9, -3), (9, 3), (13, -4)]
    ground = np.array([(*place, 0.0) for place in places], float)
    pixels = camera.project(ground).tolist()
    with serve(make_app(None, Live())) as address:
        browser.send("Page.navigate", url=f"http://{address}/")
        browser.wait_for("typeof openImage === 'function' && document.readyState === 'complete'")
        browser.run("turnTo(true)")
        browser.run(
            f"const made = new OffscreenCanvas({WIDTH}, {HEIGHT});"
            "made.getContext('2d').fillRect(0, 0, 9, 9);"
            "made.convertToBlob().then(openImage)"
        )
        browser.wait_for(f"image !== null && image.naturalWidth === {WIDTH}")
        box = browser.run(
            "(() => { const b = by('click').getBoundingClientRect();"
            "return [b.left, b.top, imageScale(b.width, b.height)] })()"
        )
        for u, v in pixels:
            at = {"x": box[0] + (u + 0.5) * box[2], "y": box[1] + (v + 0.5) * box[2]}
            for kind in ("mousePressed", "mouseReleased"):
                browser.send(
                    "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at
                )
        assert browser.run("points.length") == 6
        browser.run(f"{json.dumps(places)}.forEach((place, n) => points[n].place = place)")
        browser.run("by('find').click()")
        browser.wait_for("!by('answer').hidden && grid.length > 10")
        browser.save_image(images / "calibrate.png")
        answer = browser.run("by('answer').textContent")
    assert "reprojection error" in answer
    position = [float(v) for v in re.search(r"position: ([-\d., ]+) m", answer)[1].split(",")]
    np.testing.assert_allclose(position, [0, 0, 4], atol=0.3)
