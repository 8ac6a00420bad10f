"""What poses, identities and sexes are judged by, in the comparison of utility budgets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect.poses import PoseNetwork, Poses
from roi_anon_ros.evaluate.attack.linking import People
from roi_anon_ros.evaluate.report.budgets import describe_judges, judged_table
from roi_anon_ros.study.judges import (
    SPREADS,
    Judges,
    Seen,
    compare_poses,
    cut_faces,
    identify_bodies,
    judge_poses,
    tell_sexes,
)


def make_poses(lefts: list[float], scores: list[float], seen: float = 0.9) -> Poses:
    """Persons of 40 x 100 pixels whose points lie on a line, from these left edges on."""
    count = len(lefts)
    boxes = np.array([[x, 0, x + 40, 100] for x in lefts], np.float32).reshape(-1, 4)
    down = np.linspace(5, 95, 17, dtype=np.float32)
    points = np.array([[[x + 20, y] for y in down] for x in lefts], np.float32)
    return Poses(
        boxes,
        np.array(scores, np.float32),
        points.reshape(-1, 17, 2),
        np.full((count, 17), seen, np.float32),
    )


def test_similarity_of_poses_is_that_of_coco() -> None:
    clear = make_poses([0, 200], [0.9, 0.8])
    moved = make_poses([6], [0.7])
    # The formula of COCO, point by point: a = 40 * 100, k = 2 sigma.
    points = [np.exp(-(6**2) / (2 * 4000 * (2 * sigma) ** 2)) for sigma in SPREADS]
    assert compare_poses(moved, clear)[0] == pytest.approx([np.mean(points), 0], abs=1e-6)
    # The head is hidden: where its points are does not matter.
    moved.points[:, :5] += 1000
    assert compare_poses(moved, clear)[0, 0] == pytest.approx(np.mean(points))
    # Points that are not sure in the original do not count.
    clear.seen[0, 6:] = 0.1
    assert compare_poses(moved, clear)[0, 0] == pytest.approx(points[0])
    assert not compare_poses(moved, make_poses([6], [0.9], seen=0.2)).any()


def test_poses_are_judged_by_those_of_the_original() -> None:
    clear = make_poses([0, 200, 400], [0.9, 0.8, 0.3])
    found = make_poses([2, 90, 402], [0.9, 0.6, 0.5])
    judged = judge_poses(found, clear)
    # The third one of the original is not sure enough: what lies on it is left out.
    assert judged.correct.tolist() == [True, False]
    assert judged.found.tolist() == pytest.approx([0.9, -1])
    assert judged.sizes.tolist() == [100, 100]
    nobody = make_poses([], [])
    assert judge_poses(nobody, clear).found.tolist() == [-1, -1]
    assert judge_poses(found, nobody).correct.tolist() == [False] * 3


class MeanColour:
    """Recognises a person by the mean colour."""

    fingerprint = "colour"

    def __call__(self, persons: list[np.ndarray]) -> np.ndarray:
        means = np.array([person.mean((0, 1)) for person in persons])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


class Brightness:
    """Takes bright faces for men."""

    fingerprint = "bright"

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        return np.array([[face.mean() / 255, 30] for face in faces]).reshape(-1, 2)


def test_persons_are_identified_among_all_originals() -> None:
    originals = torch.zeros(3, 3, 128, 64)
    for i in range(3):
        originals[i, i] = 0.8
    received = originals.clone()
    received[2] = originals[0]
    parts = [People(received[:1], originals[:1]), People(received[1:], originals[1:])]
    assert identify_bodies(parts, MeanColour()).tolist() == [1, 1, 0]  # type: ignore[arg-type]


def make_record(faces: list[list[float]], ignored: list[bool]) -> Record:
    boxes = Boxes(np.array(faces, np.float32).reshape(-1, 4), np.array(ignored, bool))
    none = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))
    return Record(Path("a.png"), 80, 40, none, none, boxes, frozenset({"face"}))


def test_sex_is_told_of_faces_that_are_large_enough() -> None:
    record = make_record([[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 70, 20]], [False, True, False])
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 200
    (face,) = cut_faces(image, record)
    assert face.shape == (20, 20, 3) and face.min() == 200
    right = np.array([[0.9, 0.8], [0.1, 0.3]])
    wrong = np.array([[0.8, 0.2], [0.3, 0.4]])
    # Of the four pairs of a man and a woman three are in order.
    assert tell_sexes([right, wrong])[0] == pytest.approx(0.5)
    assert tell_sexes([right, right])[0] == 1
    assert len(tell_sexes([right, wrong])) == 201
    assert np.isnan(tell_sexes([right[:1]])[0])


def test_what_was_seen_is_summed_up_with_resamples() -> None:
    judges = Judges(recogniser=MeanColour(), attributes=Brightness())  # type: ignore[arg-type]
    assert judges.marks == {"recogniser": "colour", "attributes": "bright"}
    record = make_record([[0, 0, 20, 20], [30, 0, 50, 20]], [False, False])
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 200
    seen = Seen(judges)
    for _ in range(4):
        seen.add(255 - image, image, record)
    colours = torch.zeros(2, 3, 128, 64)
    colours[0, 0] = 1
    colours[1, 1] = 1
    figures = seen.sum_up([People(colours, colours)])
    assert set(figures) == {"identified", "sex"}
    assert figures["identified"] == [1] * 201 and figures["sex"][0] == 0
    shown = {name: {"value": one[0], "interval": (0.0, 1.0)} for name, one in figures.items()}
    about = {"figures": {"original": shown, "none": shown}}
    rows = judged_table(about)
    assert rows[0] == ["budget", "persons identified (95 %)", "sex told, AUC (95 %)"]
    assert rows[2] == ["none", "1.000 (0.000 to 1.000)", "0.000 (0.000 to 1.000)"]
    assert "Poses" not in describe_judges(about)


@pytest.mark.slow
def test_a_pose_network_finds_17_points_or_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics

    ultralytics = import_ultralytics()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in ("yolov8n-pose", "yolov8n"):
            ultralytics.YOLO(f"{name}.yaml").save(tmp_path / f"{name}.pt")
    network = PoseNetwork(tmp_path / "yolov8n-pose.pt", 0.0)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    poses = network(image)
    count = len(poses.scores)
    assert poses.boxes.shape == (count, 4)
    assert poses.points.shape == (count, 17, 2) and poses.seen.shape == (count, 17)
    with pytest.raises(ValueError, match="finds no poses of 17 points"):
        PoseNetwork(tmp_path / "yolov8n.pt", 0.1)
    with pytest.raises(FileNotFoundError, match="weights: there is no file"):
        PoseNetwork(tmp_path / "missing.pt", 0.1)
