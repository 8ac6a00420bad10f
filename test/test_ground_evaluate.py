from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ground_scene import box_of, make_camera

pytest.importorskip("av")
pytest.importorskip("motmetrics")

from roi_anon_ros.codec import Codec
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.ground import measure, play
from roi_anon_ros.evaluate.ground.sequences import Moment, Sequence, read_pets, read_wildtrack
from roi_anon_ros.evaluate.ground.through import annotated_area, detect_through
from roi_anon_ros.files import Frame, write_video
from roi_anon_ros.ground.floor import Floor, is_inside
from roi_anon_ros.ground.locate import BodyPrior, locate


@pytest.fixture(scope="module")
def ground_dir(shared_dir: Path) -> Path:
    folder = shared_dir / "ground"
    if not folder.is_dir():
        pytest.skip(f"no sequences at {folder}")
    return folder


def make_sequence(steps: int = 40) -> Sequence:
    camera = make_camera(position=(0.0, 0.0, 6.0), down=0.6)
    moments = []
    for step in range(steps):
        places = {1: np.array([7.0, -2 + 0.1 * step]), 2: np.array([9.0, 2 - 0.1 * step])}
        boxes = np.array([box_of(camera, place) for place in places.values()])
        moments.append(Moment(step * 0.1, places, {camera.name: boxes}))
    return Sequence("made", {camera.name: camera}, moments, 0.1)


def test_exact_boxes_lose_only_the_moments_of_birth() -> None:
    sequence = make_sequence()
    score = measure.run(sequence, play.annotated(sequence), play.Fault("none"))
    assert score.counts["num_objects"] == 80
    assert score.counts["num_misses"] <= 4 and score.counts["num_false_positives"] == 0
    assert score.moda == 1 - score.counts["num_misses"] / 80
    assert score.counts["idf1"] > 0.95
    assert np.median(score.track_errors) < 0.1 and np.max(score.sighting_errors) < 0.01


def test_each_fault_costs_what_it_should() -> None:
    sequence = make_sequence()
    source = play.annotated(sequence)
    lost = measure.run(sequence, source, play.Fault("lost", drop=1.0))
    assert lost.moda == 0.0 and lost.counts["num_misses"] == 80
    assert "| made | lost | - | - | 0.0% |" in measure.to_markdown([lost])
    noisy = measure.run(sequence, source, play.Fault("noise", jitter=0.05))
    assert np.median(noisy.sighting_errors) > 0.02
    late = measure.run(sequence, source, play.Fault("late", delay=0.4))
    assert late.late == 0 and late.moda > 0.9


def test_arrivals_come_in_the_order_of_arrival_and_repeat() -> None:
    sequence = make_sequence(30)
    source = play.annotated(sequence)
    fault = play.Fault("all", drop=0.3, jitter=0.1, false_alarms=1.0, delay=0.5, lost=0.2)
    first = list(play.play(sequence, source, fault, seed=3))
    second = list(play.play(sequence, source, fault, seed=3))
    times = [arrival.at for arrival in first]
    assert times == sorted(times) and len(first) < 30
    assert [arrival.stamp for arrival in first] != sorted(arrival.stamp for arrival in first)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)


def test_detections_of_a_file_stand_in_for_the_annotated(tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    file.write_text('{"frame": 2, "camera": "north", "boxes": [[1, 2, 3, 4, 0.5]]}\n')
    source = play.read_detections(file)
    assert source(0) == {} and source(2)["north"].tolist() == [[1, 2, 3, 4, 0.5]]
    file.write_text('{"frame": 2, "boxes": []}\n')
    with pytest.raises(ValueError, match="line 1"):
        play.read_detections(file)


def test_tsai_calibration_of_pets_casts_feet_where_the_truth_is(ground_dir: Path) -> None:
    sequence = read_pets(ground_dir)
    (camera,) = sequence.cameras.values()
    assert len(sequence.moments) == 795
    assert sum(len(moment.truth) for moment in sequence.moments) == 4650
    errors = []
    for moment in sequence.moments[::20]:
        boxes = moment.boxes[camera.name]
        sightings, reasons = locate(camera, boxes, Floor(), BodyPrior())
        if not reasons:
            truth = np.array(list(moment.truth.values()))
            places = np.array([sighting.place for sighting in sightings])
            errors.extend(np.linalg.norm(places - truth, axis=1))
    assert np.median(errors) < 0.001


@pytest.mark.slow
def test_boxes_of_wildtrack_lie_where_its_check_says(ground_dir: Path) -> None:
    """The published boxes' feet lie 0.091 m from the truth in the median."""
    sequence = read_wildtrack(ground_dir)
    assert len(sequence.moments) == 400 and len(sequence.cameras) == 7
    errors = []
    for moment in sequence.moments[::40]:
        truth = np.array(list(moment.truth.values()))
        for name, boxes in moment.boxes.items():
            for sighting in locate(sequence.cameras[name], boxes, Floor(), BodyPrior())[0]:
                if sighting.source == "feet":
                    errors.append(np.linalg.norm(truth - sighting.place, axis=1).min())
    assert len(errors) > 500
    assert np.median(errors) == pytest.approx(0.1, abs=0.02)


@pytest.mark.slow
def test_seven_cameras_are_one_set_of_people(ground_dir: Path) -> None:
    whole = read_wildtrack(ground_dir)
    sequence = Sequence(whole.name, whole.cameras, whole.moments[:12], whole.period)
    score = measure.run(sequence, play.annotated(sequence), play.Fault("none"))
    assert score.moda > 0.75
    assert score.counts["num_false_positives"] < 0.1 * score.counts["num_objects"]
    assert np.median(score.track_errors) < 0.15
    assert "WILDTRACK" in measure.to_markdown([score])


class OnePerson:
    """Finds one person, always at the same part of an image."""

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        height, width = images[0].shape[:2]
        box = np.array([[0.4 * width, 0.2 * height, 0.5 * width, 0.8 * height]], np.float32)
        return [Detections(box, np.array([0.8], np.float32), ["person"]) for _ in images]


def test_boxes_through_a_codec_are_in_pixels_of_the_original(tmp_path: Path) -> None:
    """A real packet there and back; the detector alone is replaced, by one that is exact."""
    sequence = make_sequence(3)
    codec = Codec.load("fast")
    noise = np.random.default_rng(0).integers(0, 256, (3, 180, 320, 3), np.uint8)
    frames = [Frame(image, Fraction(number, 10)) for number, image in enumerate(noise)]
    video = tmp_path / "video.mp4"
    write_video(video, ".mp4", frames, Fraction(10))
    *_, found = detect_through(sequence, video, codec, OnePerson())
    assert len(found.sizes) == 3 and min(found.sizes) > 0
    expected = [128, 36, 160, 144, 0.8]
    for source in found.sources().values():
        np.testing.assert_allclose(source(2)["north"], [expected], atol=0.6)
    longer = make_sequence(4)
    with pytest.raises(ValueError, match="got 3 frames, must be 4"):
        list(detect_through(longer, video, codec, OnePerson()))


def test_people_beyond_the_annotated_area_are_no_false_alarms() -> None:
    floor = annotated_area(make_sequence())
    inside = is_inside(floor.area, np.array([[7.0, 0.0], [9.3, 1.9], [12.0, 0.0], [7.0, -3.0]]))
    assert inside.tolist() == [True, True, False, False]
