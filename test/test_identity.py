"""Verification and identification against literal loops and a library; the scene; a run that is
continued.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.detect.recogniser import SIDE, TEMPLATE
from roi_anon_ros.evaluate.identity import (
    Face,
    Scene,
    area,
    compare,
    embed,
    false_accepts,
    find_faces,
    rank_one,
    read_people,
    summary,
    true_accepts,
)
from roi_anon_ros.evaluate.methods import make_method

SCORES = st.lists(st.integers(-5, 5).map(lambda i: i / 5), min_size=1, max_size=25)


def literal_tar(genuine: list[float], impostors: list[float], far: float) -> float:
    """The smallest threshold, of all that make a difference, with at most that share of impostors
    at or above it.
    """
    thresholds = sorted({*genuine, *impostors, 2.0})
    fits = [t for t in thresholds if sum(i >= t for i in impostors) / len(impostors) <= far + 1e-12]
    return sum(g >= min(fits) for g in genuine) / len(genuine)


@given(SCORES, SCORES, st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 1.0]))
def test_rates_are_their_literal_forms(
    genuine: list[float], impostors: list[float], far: float
) -> None:
    shares = false_accepts(np.array(genuine), np.sort(impostors))
    wins = [(g > i) + (g == i) / 2 for g in genuine for i in impostors]
    assert area(shares) == pytest.approx(sum(wins) / len(wins))
    assert true_accepts(shares, far) == pytest.approx(literal_tar(genuine, impostors, far))


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 3)), min_size=1, max_size=9),
    SCORES,
    st.data(),
)
def test_a_weight_is_so_many_pairs(
    pairs: list[tuple[int, int]], genuine: list[float], data: st.DataObject
) -> None:
    """Weights of 0 to 3 give what a list gives in which each pair stands as often."""
    pairs = sorted((score / 5, weight) for score, weight in pairs)
    impostors, weights = np.array(pairs).T
    often = data.draw(
        st.lists(st.integers(0, 3), min_size=len(genuine), max_size=len(genuine)).filter(any)
    )
    weighted = false_accepts(np.array(genuine), impostors, weights)
    repeated = false_accepts(np.repeat(genuine, often), np.repeat(impostors, weights.astype(int)))
    assert area(weighted, np.array(often)) == pytest.approx(area(repeated))
    assert true_accepts(weighted, 0.1, np.array(often)) == pytest.approx(
        true_accepts(repeated, 0.1)
    )


def test_a_thousand_impostors_by_hand() -> None:
    """Similarities 0, 0.001, ..., 0.999: at 1 % the ten highest may be accepted, at 0.1 % one."""
    impostors = np.arange(1000) / 1000
    shares = false_accepts(np.array([0.5, 0.9895, 0.99, 0.9985, 0.999, 1.0]), impostors)
    assert true_accepts(shares, 0.01) == pytest.approx(5 / 6)
    assert true_accepts(shares, 0.001) == pytest.approx(3 / 6)
    assert true_accepts(shares, 0) == pytest.approx(1 / 6)
    assert true_accepts(shares, 1) == 1


def test_the_area_is_a_librarys() -> None:
    functional = pytest.importorskip(
        "torchmetrics.functional", reason="torchmetrics is not installed"
    )
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    genuine, impostors = rng.normal(0.5, 0.3, 200), np.sort(rng.normal(0, 0.3, 3000)).round(2)
    scores = torch.tensor(np.concatenate([genuine.round(2), impostors])).clamp(-1, 1) / 2 + 0.5
    same = torch.arange(3200) < 200
    clamped = false_accepts(genuine.round(2).clip(-1, 1), impostors.clip(-1, 1))
    assert area(clamped) == pytest.approx(float(functional.auroc(scores, same, "binary")), abs=1e-6)


def test_rank_one_splits_what_is_equal() -> None:
    similarities = np.array([[0.9, 0.1, 0.2], [0.1, 0.5, 0.5], [0.3, 0.3, 0.3], [0.4, 0.2, 0.6]])
    assert rank_one(similarities, np.array([0, 1, 2, 0])) == pytest.approx([1, 1 / 2, 1 / 3, 0])


def people(persons: int, images: int, noise: float, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Vectors of length 1 about a centre for each person."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(persons, 1, 16))
    vectors = (centres + noise * rng.normal(size=(persons, images, 16))).reshape(-1, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"person {i}" for i in range(persons) for _ in range(images)], vectors.astype(
        np.float32
    )


@pytest.mark.parametrize("linked", [False, True])
def test_a_comparison_is_its_literal_form(linked: bool) -> None:
    names, gallery = people(6, 3, 0.8)
    names[-2:] = ["alone", "lonely"]  # the last three are of three people
    order = np.random.default_rng(3).permutation(len(names))  # whose images need not stand together
    names, gallery = [names[i] for i in order], gallery[order]
    probes = gallery if linked else people(6, 3, 0.8, seed=1)[1]
    got = compare(names, gallery, None if linked else probes)

    genuine, impostors = [], []
    for i in range(len(names)):
        for j in range(i) if linked else [*range(i), *range(i + 1, len(names))]:
            (genuine if names[i] == names[j] else impostors).append(float(probes[i] @ gallery[j]))
    assert (got["genuine"], got["impostors"]) == (len(genuine), len(impostors))
    assert got["auc"] == pytest.approx(np.mean([g > i for g in genuine for i in impostors]))
    assert got["tar_far_1"] == pytest.approx(literal_tar(genuine, impostors, 0.01))
    assert got["tar_far_01"] == pytest.approx(literal_tar(genuine, impostors, 0.001))
    for far, tar in got["roc"][::10]:
        assert tar == pytest.approx(literal_tar(genuine, impostors, far))

    firsts = {name: names.index(name) for name in names}
    hits = []
    for i, name in enumerate(names):
        if i != firsts[name]:
            nearest = max(firsts, key=lambda other: probes[i] @ gallery[firsts[other]])
            hits.append(nearest == name)
    assert got["probes"] == len(hits) and got["people"] == 8 and got["rank1_chance"] == 1 / 8
    assert got["rank1"] == pytest.approx(np.mean(hits))


def test_nobody_and_everybody_recognised() -> None:
    names, vectors = people(40, 3, 0.05)
    sure = summary(names, vectors, vectors)
    for mode in ("raw", "linked"):
        figures = sure[mode]
        assert [
            figures[key] for key in ("auc", "tar_far_1", "tar_far_01", "rank1")
        ] == pytest.approx([1] * 4)
        assert figures["auc_interval"] == pytest.approx([1, 1])
    blind = summary(names, vectors, people(40, 3, 100.0, seed=9)[1])
    for mode in ("raw", "linked"):
        assert blind[mode]["auc"] == pytest.approx(0.5, abs=0.1) and blind[mode]["rank1"] < 0.12
    one = summary(names, vectors, np.ones_like(vectors) / 4)[
        "linked"
    ]  # all the same, so nothing but ties
    assert [one["auc"], one["tar_far_1"]] == [0.5, 0] and one["rank1"] == pytest.approx(1 / 40)
    assert json.loads(json.dumps(blind)) == blind


def test_the_interval_holds_the_figure_and_narrows() -> None:
    widths = []
    for persons in (15, 150):
        names, vectors = people(persons, 2, 1.0)
        figures = compare(names, vectors)
        for name in ("auc", "tar_far_1", "rank1"):
            low, high = figures[f"{name}_interval"]
            assert 0 <= low <= figures[name] <= high <= 1
        low, high = figures["auc_interval"]
        widths.append(high - low)
        assert compare(names, vectors) == figures
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("names", [["a", "a"], ["a", "b"], []])
def test_too_few_people_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two people"):
        compare(names, np.ones((len(names), 4), np.float32) / 2)
    save(tmp_path, names)
    with pytest.raises(ValueError, match="two people"):
        read_people(tmp_path)


def save(folder: Path, names: list[str], grey: bool = True) -> None:
    for i, name in enumerate(names):
        (folder / name).mkdir(exist_ok=True)
        tiles = np.random.default_rng(i).integers(0, 255, (8, 8, 1 if grey else 3), np.uint8)
        image = cv2.resize(tiles, (100, 100), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / name / f"{name}_{i}.png"), image)


def test_people_are_folders(tmp_path: Path) -> None:
    save(tmp_path, ["b", "a", "c", "a"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / "loose.png").write_bytes(b"")
    assert [(name, path.name) for name, path in read_people(tmp_path)] == [
        ("a", "a_1.png"),
        ("a", "a_3.png"),
        ("b", "b_0.png"),
        ("c", "c_2.png"),
    ]
    assert [name for name, _ in read_people(tmp_path, 2)] == ["a", "a", "b"]


@pytest.mark.parametrize("shape", [(250, 250), (120, 90), (40, 300)])
@pytest.mark.parametrize("size", [16, 33, 128])
def test_a_point_of_the_head_is_found_in_the_scene(shape: tuple[int, int], size: int) -> None:
    """A white dot in the middle of a black head, where the head's centre is said to be."""
    height, width = shape
    face = np.zeros((height, width, 3), np.uint8)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    rows, columns = np.mgrid[:height, :width]
    near = np.hypot(columns - centre[0], rows - centre[1]) < 0.12 * max(shape)
    face[near] = 255
    image, points = Scene(size, grey=True)(face, np.tile(centre, (5, 1)))
    assert image.shape == (4 * size, 4 * size, 3) and image.dtype == np.uint8
    assert np.ptp(image, axis=2).max() == 0
    weight = np.where(image[..., 0] > 215, 1.0, 0)
    rows, columns = np.mgrid[: 4 * size, : 4 * size]
    found = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
    assert points == pytest.approx(np.tile(found, (5, 1)), abs=0.6)


def test_nothing_but_the_head_differs() -> None:
    heads = np.random.default_rng(0).integers(0, 255, (2, 100, 100, 1), np.uint8).repeat(3, axis=3)
    one, other = (Scene(64)(head, np.zeros((5, 2)))[0].astype(int) for head in heads)
    differ = (one != other).any(axis=2)
    assert (
        not differ[:32].any()
        and not differ[96:].any()
        and not differ[:, :96].any()
        and not differ[:, 160:].any()
    )
    assert differ[52:76, 116:140].mean() > 0.9
    red, _, blue = one[52:76, 116:140].reshape(-1, 3).T
    assert (red >= blue).all()  # the colour of skin
    again = Scene(64)(heads[0], np.zeros((5, 2)))[0]
    assert np.array_equal(one, again)
    coloured = heads[0].copy()
    coloured[..., 1] //= 2
    middle = Scene(100)(coloured, np.zeros((5, 2)))[0][90:110, 190:210]
    assert np.array_equal(middle, coloured[40:60, 40:60])  # what has a colour keeps it
    for size in (15, 513):
        with pytest.raises(ValueError, match="size"):
            Scene(size)


class Colours:
    """Stands for a recogniser: the mean colours of a face's tiles."""

    fingerprint = "colours"
    calls = 0

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        self.calls += len(faces)
        assert all(face.shape == (SIDE, SIDE, 3) for face in faces)
        tiles = np.array(
            [cv2.resize(face, (8, 8), interpolation=cv2.INTER_AREA).ravel() for face in faces],
            np.float32,
        )
        tiles -= tiles.mean(axis=1, keepdims=True)
        return tiles / np.linalg.norm(tiles, axis=1, keepdims=True)


class Everywhere:
    """Stands for a finder of landmarks: none in the image of one person."""

    def landmarks(self, image: np.ndarray) -> np.ndarray | None:
        return (
            None if image[0, 0, 0] == image[0, 0, 1] else (TEMPLATE * 100 / SIDE).astype(np.float32)
        )


def test_a_run_is_continued(tmp_path: Path) -> None:
    save(tmp_path, ["a", "a", "b", "b", "c"], grey=False)
    save(tmp_path, ["nobody"])
    found = list(find_faces(read_people(tmp_path), Everywhere()))
    assert [face and face.name for face in found] == ["a", "a", "b", "b", "c", None]
    faces, recogniser, cache = [face for face in found if face], Colours(), tmp_path / "cache"
    arguments = (faces, recogniser, cache, make_method("jpeg:50"), Scene(32))
    interrupted = embed(*arguments)
    next(interrupted)
    interrupted.close()
    assert not cache.exists() and recogniser.calls == 1
    first = np.array(list(embed(*arguments)))
    assert first.shape == (5, 192) and recogniser.calls == 6
    assert np.array_equal(np.array(list(embed(*arguments))), first) and recogniser.calls == 6
    others = [
        (faces[:4], recogniser, cache, make_method("jpeg:50"), Scene(32)),
        (faces, recogniser, cache, make_method("jpeg:51"), Scene(32)),
        (faces, recogniser, cache, make_method("jpeg:50"), Scene(32, grey=True)),
        (faces, recogniser, cache, None, Scene(32)),
        (faces, recogniser, cache),
        (
            [Face(f.name, f.path, f.landmarks + 1) for f in faces],
            recogniser,
            cache,
            make_method("jpeg:50"),
            Scene(32),
        ),
    ]
    for other in others:
        assert not np.array_equal(np.array(list(embed(*other))), first)
    assert recogniser.calls == 6 + 4 + 5 * 5 and len(list(cache.iterdir())) == 7
    assert {path.suffix for path in cache.iterdir()} == {".npy"}


@pytest.mark.weights
@pytest.mark.parametrize("grey", [False, True])
def test_our_decoder_hides_who_it_is(shared_dir: Path, tmp_path: Path, grey: bool) -> None:
    """Twenty people of LFW: recognised in the scene, hardly in what the model decodes; a former one
    left grey faces.
    """
    from roi_anon_ros.detect.recogniser import FaceRecogniser, YunetLandmarks

    weights = shared_dir / "weights"
    model, finder, images = (
        weights / name
        for name in ("w600k_mbf.onnx", "face_detection_yunet_2023mar.onnx", "lfw_pairs")
    )
    for path in (model, finder, images):
        if not path.exists():
            pytest.skip(f"{path.name} is not here; it is not shipped")
    recogniser = FaceRecogniser(model)
    faces = [face for face in find_faces(read_people(images, 20), YunetLandmarks(finder)) if face]
    names = [face.name for face in faces]
    known = np.array(list(embed(faces, recogniser, tmp_path)))
    results = {}
    for name in ("original", "fast"):
        sent = np.array(
            list(embed(faces, recogniser, tmp_path, make_method(name), Scene(64, grey)))
        )
        results[name] = summary(names, known, sent)
    for mode in ("raw", "linked"):
        assert results["original"][mode]["auc"] > 0.95 and results["original"][mode]["rank1"] > 0.8
        assert results["fast"][mode]["auc"] < 0.8 and results["fast"][mode]["rank1"] < 0.3


@pytest.mark.weights
def test_the_command_compares_in_colour_and_grey(shared_dir: Path, tmp_path: Path) -> None:
    weights = shared_dir / "weights"
    command = [
        "identify",
        str(weights / "lfw_pairs"),
        "--recogniser",
        str(weights / "w600k_mbf.onnx"),
        "--limit",
        "4",
    ]
    command += [
        "--yunet",
        str(weights / "face_detection_yunet_2023mar.onnx"),
        "--methods",
        "jpeg:1",
        "--sizes",
        "64",
    ]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    scenes = json.loads((tmp_path / "identity.json").read_text())["scenes"]
    assert list(scenes) == ["64 px, colour", "64 px, grey"]
    for methods in scenes.values():
        assert list(methods) == ["original", "jpeg:1"]
        assert methods["original"]["raw"]["auc"] > methods["jpeg:1"]["raw"]["auc"]
    report = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert (
        report.exit_code == 0
        and "## Is anybody recognised?" in (tmp_path / "report.md").read_text()
    )
    refused = CliRunner().invoke(app, [*command, "--sizes", "8"])
    assert refused.exit_code == 2 and "must be from 16 to 512" in refused.output
