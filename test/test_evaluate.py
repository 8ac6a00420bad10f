"""Evaluation: average precision against a literal form and a library, judging, methods, and a run
that is continued.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from roi_anon_ros.boxes import share_covered
from roi_anon_ros.cli import app
from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.comparison import order_kinds
from roi_anon_ros.evaluate.measure import Cache, Seen, look, similarity
from roi_anon_ros.evaluate.methods import make_method, make_methods
from roi_anon_ros.evaluate.precision import (
    Judged,
    average_precision,
    average_precisions,
    bootstrap,
    count_draws,
    draw_images,
    judge,
    recall,
    recalls,
)
from roi_anon_ros.evaluate.report.markdown import to_markdown
from roi_anon_ros.evaluate.report.tables import claims, found_persons, overview
from roi_anon_ros.evaluate.summary import sum_up_faces, summary
from roi_anon_ros.evaluate.views import VIEWS


def judged(scores: list[float], correct: list[bool], annotated: int) -> Judged:
    return Judged(
        np.array(scores, np.float32),
        np.array(correct, bool),
        np.ones(annotated),
        np.full(annotated, -1.0),
    )


def boxes(*xyxy: tuple[float, float, float, float], ignore: tuple[bool, ...] = ()) -> Boxes:
    return Boxes(
        np.array(xyxy, np.float32).reshape(-1, 4), np.array(ignore or [False] * len(xyxy), bool)
    )


def faces(*rows: tuple[float, float, float, float, float]) -> Detections:
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(array[:, :4], array[:, 4], ["face"] * len(array))


def literal_precision(
    scores: list[float], correct: list[bool], annotated: int, points: int
) -> float:
    """Precision at a recall r is the best precision at any recall of r or more."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    curve, hits = [], 0
    for rank, i in enumerate(order, 1):
        hits += correct[i]
        curve.append((hits / annotated, hits / rank))
    best = lambda r: max((p for recall, p in curve if recall >= r - 1e-12), default=0.0)  # noqa: E731
    if points:
        return sum(best(i / (points - 1)) for i in range(points)) / points
    steps = sorted({recall for recall, _ in curve})
    return sum(best(r) * (r - before) for before, r in zip([0.0, *steps], steps, strict=False))


CASES = st.lists(
    st.tuples(st.integers(1, 1000).map(lambda i: i / 1000), st.booleans()),
    min_size=0,
    max_size=12,
    unique_by=lambda c: c[0],
)


@given(CASES, st.integers(1, 20), st.sampled_from([0, 101]))
@example([(0.1 * i, True) for i in range(1, 8)], 13, 101)  # a recall of 0.35, which floats miss
def test_average_precision_is_its_literal_form(
    cases: list[tuple[float, bool]], more: int, points: int
) -> None:
    scores, correct = [s for s, _ in cases], [c for _, c in cases]
    annotated = sum(correct) + more
    got = average_precision([judged(scores, correct, annotated)], points)
    assert got == pytest.approx(literal_precision(scores, correct, annotated, points))


def test_average_precision_agrees_with_a_library() -> None:
    """ultralytics interpolates the 101 points linearly between the curve's, hence the tolerance."""
    metrics = pytest.importorskip(
        "ultralytics.utils.metrics", reason="ultralytics is not installed"
    )
    rng = np.random.default_rng(0)
    for _ in range(10):
        scores, correct = rng.random(400), rng.random(400) < 0.7
        annotated = int(correct.sum()) + 80
        hits = np.cumsum(correct[np.argsort(-scores)])
        theirs, *_ = metrics.compute_ap(
            (hits / annotated).tolist(), (hits / np.arange(1, 401)).tolist()
        )
        ours = [
            average_precision([judged(scores, correct, annotated)], points) for points in (0, 101)
        ]
        assert ours == pytest.approx([theirs, theirs], abs=0.01)


def test_images_are_ranked_together() -> None:
    """A sure mistake on one image costs the hits of another: 1 of 2, then 2 of 3 right, two
    annotated in all.
    """
    one, other = judged([0.9, 0.4], [False, True], 1), judged([0.6], [True], 1)
    assert average_precision([one, other]) == pytest.approx(0.5 * 2 / 3 + 0.5 * 2 / 3)
    assert np.isnan(average_precision([judged([0.5], [False], 0)]))
    assert average_precision([judged([], [], 3)]) == 0


def test_detections_on_ignored_boxes_do_not_count() -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 40, 10), (60, 0, 70, 10), ignore=(False, True, False))
    found = faces(
        (0, 0, 10, 10, 0.9), (0, 0, 10, 9, 0.8), (20, 0, 40, 10, 0.7), (80, 0, 90, 10, 0.6)
    )
    result = judge(found, truth, 0.5)
    assert result.correct.tolist() == [True, False, False]  # found, found twice, nothing there
    assert result.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert result.found.tolist() == pytest.approx([0.9, -1])
    assert result.sizes.tolist() == [10, 10]


def test_persons_are_judged_by_height() -> None:
    """Only boxes of the height are to be found; another detection counts where it found one."""
    truth = boxes((0, 0, 10, 40), (20, 0, 60, 100), (70, 0, 90, 64))
    found = faces(
        (0, 0, 10, 40, 0.9),
        (20, 0, 60, 100, 0.8),
        (70, 0, 90, 60, 0.7),  # 60 px, finds the one of 64
        (100, 0, 120, 70, 0.6),
        (100, 0, 120, 30, 0.5),
    )
    small = judge(found, truth, 0.5, (0, 64))
    assert small.scores.tolist() == pytest.approx([0.9, 0.5])
    assert small.correct.tolist() == [True, False] and len(small.sizes) == 1
    tall = judge(found, truth, 0.5, (64, 128))
    assert tall.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert tall.correct.tolist() == [True, True, False]
    assert recall([small, tall], 0.75) == pytest.approx(2 / 3)


def test_what_a_detector_finds_is_counted_from_each_score_on(tmp_path: Path) -> None:
    """Of two persons one is found at 0.9, one at 0.3; false boxes at 0.8, 0.4 and 0.1, on two
    images.
    """
    small = (0, 0, 10, 30)
    tall = (50, 0, 90, 100)
    found = [(*small, 0.9), (*tall, 0.3)]
    false = [(0, 50, 40, 110, 0.8), (100, 0, 110, 20, 0.4), (130, 0, 140, 20, 0.1)]
    some = faces(*found, *false)
    error = {"outside": (1.0, 3), "heads": (0.0, 0)}
    one = record(tmp_path / "a.png", boxes(), boxes(small, tall))
    nobody = record(tmp_path / "b.png", boxes(), boxes())
    pairs = [
        (one, Seen(9, 100, error, None, {"persons": some})),
        (nobody, Seen(9, 100, error, None, {"persons": faces()})),
    ]
    figures = summary(pairs, pairs)
    assert figures["persons_by_score"] == {
        "0.25": {"recall": 1, "precision": 0.5, "false": 1},
        "0.5": {"recall": 0.5, "precision": 0.5, "false": 0.5},
    }
    head, line = found_persons({"original": figures}, "persons", "yolov8n")
    assert head[:5] == [
        "persons, yolov8n: found",
        "AP of 2",
        "recall at 0.25",
        "precision",
        "false an image",
    ]
    # Precision 1 at half of the recall, then 2 of 4.
    assert line[:8] == ["original", "0.75", "1.00", "0.50", "1.00", "0.50", "0.50", "0.50"]
    assert head[8:10] == ["AP, recall under 64 px (1)", "AP, recall 64 to 128 px (1)"]
    assert line[8:10] == ["1.00, 1.00", "1.00, 1.00"]


@pytest.mark.slow
@given(st.integers(0, 1000))
def test_resamples_at_once_are_those_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(40) / 40
    images = []
    for part in np.split(scores, [7, 7, 20, 31]):
        correct = rng.random(len(part)) < 0.6
        found = np.append(part[correct], [-1.0] * rng.integers(3))
        images.append(Judged(part, correct, np.ones(len(found)), found))
    times = count_draws(len(images))
    precisions = average_precisions(images, times)
    found_shares = recalls(images, 0.5, times)
    for number, draw in enumerate(draw_images(len(images))[:20]):
        drawn = [images[i] for i in draw]
        assert precisions[number] == pytest.approx(average_precision(drawn), nan_ok=True)
        assert found_shares[number] == pytest.approx(recall(drawn, 0.5), nan_ok=True)


def test_faces_on_the_paint_are_nobodys() -> None:
    """A stamp that looks like a face is counted apart, and neither a face found nor a mistake."""
    mask = np.zeros((40, 60), bool)
    mask[:, :20] = True
    found = faces((0, 0, 10, 10, 0.9), (15, 0, 25, 10, 0.8), (40, 0, 50, 10, 0.75))
    shares = [share_covered(box, mask) for box in found.boxes]
    assert shares == [1, 0.5, 0]
    assert share_covered(np.array([-9, -9, -1, -1], np.float32), mask) == 0
    seen = Seen(1, 1, {}, None, {"mtcnn": found}, {"mtcnn": shares})
    again = Seen.from_json(seen.to_json())
    truth = boxes((0, 0, 10, 10), (15, 0, 25, 10))
    record = Record(Path("a.jpg"), 60, 40, boxes(), boxes(), truth, frozenset(["face"]))
    plain = Seen(1, 1, {}, None, {"mtcnn": found})
    figures = sum_up_faces("mtcnn", [(record, again)], [(record, plain)])
    assert (figures["mtcnn_true"], figures["mtcnn_false"], figures["mtcnn_stamps"]) == (1, 1, 1)
    original = sum_up_faces("mtcnn", [(record, plain)], [(record, plain)])
    assert (original["mtcnn_true"], original["mtcnn_false"]) == (2, 1)
    assert original["mtcnn_stamps"] == 0


def test_the_worst_kind_comes_first() -> None:
    """By what the second method leaves; a kind without persons is the last."""
    left = {"hand": 0.97, "robot": 0.6, "empty": float("nan"), "coco": 0.8}
    figures = {kind: {"fast": {"persons_ratio": ratio}} for kind, ratio in left.items()}
    assert order_kinds(figures, "fast") == ["robot", "coco", "hand", "empty"]


def test_the_interval_holds_the_figure_and_narrows() -> None:
    rng = np.random.default_rng(1)
    few, many = ([float(x) for x in rng.normal(5, 1, n)] for n in (20, 500))
    (low, high), (lower, higher) = (bootstrap(values, np.mean) for values in (few, many))
    assert low < 5 < high and lower < 5 < higher
    assert higher - lower == pytest.approx(2 * 1.96 / 500**0.5, rel=0.25)
    assert bootstrap(few, np.mean) == (low, high)


def make_image() -> np.ndarray:
    noise = np.random.default_rng(2).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)


def record(path: Path, heads: Boxes, persons: Boxes) -> Record:
    cv2.imwrite(str(path), make_image()[..., ::-1])
    return Record(path, 160, 120, persons, heads, boxes(), frozenset(("person", "head")))


@pytest.mark.parametrize("kind", ["jpeg", "avif", "webp"])
def test_a_better_quality_takes_more_bytes_and_less_error(kind: str) -> None:
    image = make_image()
    method, better = make_method(f"{kind}:5"), make_method(f"{kind}:90")
    few, many = method.encode(image), better.encode(image)
    bad, good = method.decode(few), better.decode(many)
    assert bad.shape == good.shape == image.shape and len(few) < len(many)
    assert np.abs(bad.astype(int) - image).mean() > np.abs(good.astype(int) - image).mean()


def test_the_original_is_itself_and_unknown_methods_are_refused() -> None:
    image = make_image()
    original = make_method("original")
    sent = original.encode(image)
    assert np.array_equal(original.decode(sent), image) and len(sent) - 160 * 120 * 3 in range(
        20
    )  # a PPM's header
    for name in ("jpeg:101", "avif:", "webp:-1", "hope+jpeg:5", "nothing-of-this-name"):
        with pytest.raises(ValueError, match=name.split(":")[0].split("+")[0]):
            make_method(name)


def test_errors_are_told_apart_by_place(tmp_path: Path) -> None:
    """A method that spoils nothing but the head: no error outside, and the very one inside."""
    head = (40, 30, 60, 70)
    one = record(tmp_path / "a.png", boxes(head), boxes((30, 20, 80, 120)))

    def spoil(_: bytes) -> np.ndarray:
        image = make_image()
        image[30:70, 40:60] = np.where(
            image[30:70, 40:60] > 127, image[30:70, 40:60] - 51, image[30:70, 40:60] + 51
        )
        return image

    original = make_method("original")
    method = type(original)("spoil", "spoil", lambda image: bytes(300), spoil)
    nobody = lambda images: [faces() for _ in images]  # noqa: E731
    right = lambda images: [faces((30, 20, 80, 120, 0.8)) for _ in images]  # noqa: E731
    seen = look(one, method, {"persons": right, "mtcnn": nobody})
    found_head = lambda images: [faces((*head, 0.9), (100, 0, 120, 20, 0.8), (0, 0, 9, 9, 0.6))]  # noqa: E731
    on_original = [(one, look(one, original, {"persons": right, "mtcnn": found_head}))]
    figures = summary([(one, seen)], on_original)
    assert figures["psnr_outside"] is None
    assert figures["psnr_heads"] == pytest.approx(-20 * np.log10(51 / 255), abs=0.01)
    assert figures["bits_per_pixel"] == pytest.approx(8 * 300 / (160 * 120))
    assert figures["persons_ap"] == figures["persons_ratio"] == 1 and figures["mtcnn_true"] == 0
    assert figures["mtcnn_boxes"] == 1 and figures["mtcnn_against"] == "annotations"
    base = summary(on_original, on_original)
    assert base["mtcnn_true"] == 1 and base["mtcnn_false"] == 1
    assert base["mtcnn_by_size"] == {"small": 0, "medium": 1, "large": 0}
    assert base["mtcnn_by_score"] == {"0.3": (1, 2), "0.5": (1, 2), "0.7": (1, 1), "0.9": (1, 0)}
    persons, found = map(to_markdown, overview({"original": base, "spoil": figures}, base))
    (line,) = claims(
        {"a": {"images": 1, "methods": {"original": base, "spoil": figures}}},
        "spoil",
        {"persons": "yolov8n"},
    )[1:]
    one = "1.000 (1.000 to 1.000)"
    assert line == ["a", "1", "1", "0.125 (0.125 to 0.125)", one, one, "–"]
    heights = figures["persons_by_height"]
    assert [part["boxes"] for part in heights.values()] == [0, 1, 0, 0]
    assert heights["64 to 128 px"]["ratio"] == heights["64 to 128 px"]["recall"] == 1
    lines = persons.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["", "---", "original", "spoil"]
    assert (
        "| 0.125 (0.125 to 0.125) | 0.000 |" in lines[3]
        and "0: 0.000 (0.000 to 0.000)" in found
        and "1.000 (1.000 to 1.000)" in lines[3]
    )


def test_what_is_not_annotated_is_judged_by_the_original(tmp_path: Path) -> None:
    """Two faces on the original, one of them sure enough to count; the method keeps this one and
    invents another.
    """
    one = record(tmp_path / "a.png", boxes(), boxes())
    one = dataclasses.replace(one, annotated=frozenset())
    before = Seen(
        9,
        100,
        {"outside": (1, 3), "heads": (0, 0)},
        None,
        {"mtcnn": faces((0, 0, 20, 20, 0.8), (50, 0, 70, 20, 0.6))},
    )
    after = Seen(
        9,
        100,
        {"outside": (1, 3), "heads": (0, 0)},
        None,
        {"mtcnn": faces((0, 1, 20, 20, 0.7), (80, 50, 99, 70, 0.9))},
    )
    figures = summary([(one, after)], [(one, before)])
    assert figures["mtcnn_against"] == "original" and figures["mtcnn_boxes"] == 1
    assert (figures["mtcnn_true"], figures["mtcnn_false"]) == (1, 1)


def test_the_ratio_is_of_the_images_drawn(tmp_path: Path) -> None:
    """One person an image, found on every original and every second copy: half the precision,
    whatever is drawn.
    """
    person = boxes((0, 0, 20, 40))

    def see(*rows: tuple[float, ...]) -> Seen:
        error = {"outside": (1, 3), "heads": (0, 0)}
        return Seen(9, 100, error, None, {"persons": faces(*rows)})

    found, lost = see((0, 0, 20, 40, 0.9)), see()
    records = [record(tmp_path / f"{i}.png", boxes(), person) for i in range(40)]
    base = [(r, found) for r in records]
    figures = summary([(r, found if i % 2 else lost) for i, r in enumerate(records)], base)
    low, high = figures["persons_ratio_interval"]
    assert figures["persons_ratio"] == pytest.approx(0.5) and 0.3 < low < 0.5 < high < 0.7
    assert summary(base, base)["persons_ratio_interval"] == (1, 1)


def test_boxes_of_a_detector_are_told_from_those_of_people(tmp_path: Path) -> None:
    """A detector's boxes are all found again, of those drawn by hand one in two."""
    person, missed = (0, 0, 20, 40), (60, 0, 80, 40)
    see = Seen(
        9, 100, {"outside": (1, 3), "heads": (0, 0)}, None, {"persons": faces((*person, 0.9))}
    )
    drawn = record(tmp_path / "a.png", boxes(), boxes(person, missed))
    found = dataclasses.replace(
        record(tmp_path / "b.png", boxes(), boxes(person)), by_detector=frozenset({"person"})
    )
    pairs = [(drawn, see), (found, see)]
    figures = summary(pairs, pairs)
    assert figures["persons_ap"] == pytest.approx(2 / 3) and figures[
        "persons_by_hand_ap"
    ] == pytest.approx(0.5)
    assert figures["persons_by_hand_boxes"] == 2 and figures["persons_by_hand_ratio"] == 1
    assert "persons_by_hand_ap" not in summary(pairs[:1], pairs[:1])
    assert figures["faces_judged_by"] == {"head": 2}


def test_similarity_falls_with_the_noise_and_is_a_librarys() -> None:
    image = cv2.resize(make_image(), (200, 180))
    noisy = [
        np.clip(image + np.random.default_rng(0).normal(0, sd, image.shape), 0, 255).astype(
            np.uint8
        )
        for sd in (5, 25)
    ]
    little, much = (similarity(image, other) for other in noisy)
    assert similarity(image, image) == pytest.approx(1) and 1 > little > much > 0
    assert (
        similarity(image[:176], image[:176]) == pytest.approx(1)
        and similarity(image[:175], image[:175]) is None
    )
    import torch
    from pytorch_msssim import ms_ssim

    pair = (torch.from_numpy(i).permute(2, 0, 1)[None].float() for i in (image, noisy[1]))
    assert much == pytest.approx(float(ms_ssim(*pair, data_range=255)), abs=2e-3)


def test_a_monochrome_camera_sends_grey(tmp_path: Path) -> None:
    """The original of a grey image is that grey image, and detectors see it."""
    one = record(tmp_path / "a.png", boxes(), boxes())
    shown: list[np.ndarray] = []

    def watch(images: list[np.ndarray]) -> list[Detections]:
        shown.extend(images)
        return [faces() for _ in images]

    seen = look(one, make_method("original"), {"mtcnn": watch}, VIEWS["grey"])
    assert seen.error["outside"][0] == 0 and np.ptp(shown[0], axis=2).max() == 0
    luma = make_image() @ [0.299, 0.587, 0.114]
    assert np.abs(shown[0][..., 0] - luma).max() < 1


def test_a_cache_keeps_what_is_whole(tmp_path: Path) -> None:
    seen = Seen(
        10,
        100,
        {"outside": (0.5, 30), "heads": (0.0, 0)},
        0.25,
        {"mtcnn": faces((1, 2, 3, 4, 0.5)), "persons": faces()},
    )
    a, b = (record(tmp_path / name, boxes((1, 2, 3, 4)), boxes()) for name in ("a.png", "b.png"))
    cv2.imwrite(str(b.path), 255 - make_image())
    with Cache(tmp_path, "jpeg:10", "one") as cache:
        cache.add(a, seen)
        cache.add(b, seen)
    cache.path.write_bytes(cache.path.read_bytes()[:-9])
    with Cache(tmp_path, "jpeg:10", "one") as again:
        assert again.get(b) is None
        kept = again.get(a)
        assert kept.error == seen.error and kept.bytes == 10 and kept.similarity == 0.25
        assert np.array_equal(kept.detections["mtcnn"].boxes, seen.detections["mtcnn"].boxes)
        again.add(b, seen)
    copied = tmp_path / "elsewhere.png"
    copied.write_bytes(b.path.read_bytes())
    a.path.write_bytes(a.path.read_bytes() + b" ")  # another image now
    with Cache(tmp_path, "jpeg:10", "one") as third:
        assert third.get(a) is None and third.get(b) is not None
        assert third.get(dataclasses.replace(b, path=copied)) is not None
        assert third.get(dataclasses.replace(b, heads=boxes((1, 2, 3, 5)))) is None
    with Cache(tmp_path, "jpeg:10", "two") as other:
        assert other.get(b) is None


@pytest.mark.weights
def test_the_command_compares_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real detectors on the images of the ultralytics wheel, labelled by the detectors
    themselves.
    """
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    from roi_anon_ros.detect import WeightsError, find_weights
    from roi_anon_ros.evaluate import measure

    try:
        find_weights("yolov8n")
    except WeightsError as error:
        pytest.skip(f"no YOLO weights: {error}")
    photo = cv2.imread(str(Path(ultralytics.__file__).parent / "assets" / "zidane.jpg"))
    cv2.imwrite(
        str(tmp_path / "zidane.png"), cv2.resize(photo, (640, 360), interpolation=cv2.INTER_AREA)
    )
    label = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert label.exit_code == 0, label.output
    command = [
        "evaluate",
        str(tmp_path / "labels.json"),
        "--images",
        str(tmp_path),
        "--methods",
        "fast,jpeg:10",
    ]
    command += ["--out", str(tmp_path / "out")]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    about = json.loads((tmp_path / "out" / "results.json").read_text())
    assert about["claim"] == "fast" and list(about["kinds"]) == ["labels"]
    assert first.output.startswith("Worst kind of images: labels")
    assert (tmp_path / "out" / "curve-labels.png").is_file()
    results = about["kinds"]["labels"]["methods"]
    assert list(results) == ["original", "fast", "jpeg:10"]
    assert (
        results["original"]["persons_ap"] == pytest.approx(1)
        and results["original"]["mtcnn_true"] == 2
    )
    assert results["fast"]["mtcnn_true"] <= 1 and results["fast"]["bits_per_pixel"] < 0.12

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "look", never)
    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0 and second.output == first.output
    # An image that is too small for a model is named, left out of every method, and costs no other.
    monkeypatch.undo()
    cv2.imwrite(str(tmp_path / "tiny.png"), make_image()[:12])
    labels = json.loads((tmp_path / "labels.json").read_text())
    labels["images"].append({"id": 99, "file_name": "tiny.png", "width": 160, "height": 12})
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    third = CliRunner().invoke(app, command)
    assert (
        third.exit_code == 1
        and "tiny.png: " in third.output
        and "12 pixels, must be from 16" in third.output
    )
    about = json.loads((tmp_path / "out" / "results.json").read_text())
    assert about["kinds"]["labels"]["images"] == 1


@pytest.mark.slow
def test_the_attack_command_makes_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps against JPEG, on an image with a drawn head; what they recover is a method of the
    evaluation.
    """
    monkeypatch.setattr("roi_anon_ros.evaluate.attack.network.WIDTH", 64)
    monkeypatch.setattr("roi_anon_ros.evaluate.attack.network.CONTEXT", 32)
    monkeypatch.setattr("roi_anon_ros.evaluate.attack.pairs.CROP", 64)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(make_image(), (200, 180)))
    head = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [60, 40, 50, 60],
        "area": 3000,
        "iscrowd": 0,
    }
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 180}],
        "annotations": [head],
    }
    (tmp_path / "set.json").write_text(
        json.dumps(coco | {"categories": [{"id": 1, "name": "head"}]})
    )
    file = tmp_path / "jpeg.safetensors"
    command = [
        "attack",
        "jpeg:5",
        str(tmp_path / "set.json"),
        "--images",
        str(tmp_path),
        "--steps",
        "2",
    ]
    done = CliRunner().invoke(app, [*command, "--keep-at", "1", "--out", str(file)])
    assert done.exit_code == 0 and f"{file}: loss on heads 0." in done.stdout, done.output
    early = make_method(f"attack:{tmp_path / 'jpeg-1.safetensors'}")
    assert early.name == "jpeg:5, 1 steps, attacked"
    late = CliRunner().invoke(app, [*command, "--keep-at", "1,2", "--out", str(tmp_path / "late")])
    assert late.exit_code == 2 and "--keep-at: got 1,2, must be from 1 to 1" in late.output
    method = make_method(f"attack:{file}")
    image = cv2.resize(make_image(), (200, 180))
    recovered = method.decode(method.encode(image))
    assert (
        method.name == "jpeg:5, attacked"
        and recovered.shape == image.shape
        and recovered.dtype == np.uint8
    )
    with pytest.raises(ValueError, match="two are called 'jpeg:5, attacked'"):
        make_methods(f"attack:{file},attack:{tmp_path}/./{file.name}")
    again = CliRunner().invoke(app, [*command, "--out", str(file)])
    assert again.exit_code == 2 and "is there already" in again.output
    unknown = CliRunner().invoke(
        app, ["attack", "jpeg:500", str(tmp_path / "set.json"), "--images", str(tmp_path)]
    )
    assert unknown.exit_code == 2 and "jpeg:500" in unknown.output
