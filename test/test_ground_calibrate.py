from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ground_scene import DISTORTION, HEIGHT, WIDTH, make_camera

from roi_anon_ros.ground.calibrate import (
    CalibrationError,
    calibrate,
    describe,
    draw_grid,
    grid_lines,
    make_points,
)
from roi_anon_ros.ground.site import make_site

ROOT = Path(__file__).resolve().parent.parent
PLACES = [(5, -2), (5, 2), (7, 0), (9, -3), (9, 3), (13, -4), (13, 4), (11, 1)]


def points_of(camera, noise: float = 0.0, known: bool = True, places=PLACES) -> dict:
    random = np.random.default_rng(1)
    ground = np.array([(*place, 0.0)[:3] for place in places], float)
    pixels = camera.project(ground) + random.normal(size=(len(ground), 2)) * noise
    rows = [{"pixel": p, "place": q} for p, q in zip(pixels.tolist(), ground.tolist(), strict=True)]
    found = {"width": WIDTH, "height": HEIGHT, "points": rows}
    if known:
        lens = camera.lens
        found |= {"k": list(lens.k), "d": list(lens.distortion)}
        found["distortion_model"] = lens.distortion_model
    return found


@pytest.mark.parametrize("model", DISTORTION)
def test_known_lens_finds_its_pose_again(model: str) -> None:
    camera = make_camera(model, position=(0.5, -0.3, 4.2), yaw=0.1)
    found = calibrate("north", make_points(points_of(camera)))
    np.testing.assert_allclose(found.camera.pose.position, camera.pose.position, atol=1e-4)
    np.testing.assert_allclose(found.camera.pose.rotation, camera.pose.rotation, atol=1e-5)
    assert found.residuals.max() < 0.01


def test_four_points_on_the_ground_are_enough_for_a_known_lens() -> None:
    camera = make_camera()
    four = [(5, -2), (5, 2), (9, -3), (9, 3)]
    found = calibrate("north", make_points(points_of(camera, places=four)))
    np.testing.assert_allclose(found.camera.pose.position, camera.pose.position, atol=1e-3)
    assert all(band.left_out is None for band in found.bands)


def test_unknown_focal_length_is_found_with_the_pose() -> None:
    camera = make_camera(distorted=False)
    centred = camera.lens.__class__(
        WIDTH, HEIGHT, (700.0, 0, (WIDTH - 1) / 2, 0, 700.0, (HEIGHT - 1) / 2, 0, 0, 1.0)
    )
    camera = camera.__class__("north", centred, camera.pose)
    found = calibrate("north", make_points(points_of(camera, known=False)))
    assert found.camera.lens.k[0] == pytest.approx(700.0, rel=1e-3)
    np.testing.assert_allclose(found.camera.pose.position, camera.pose.position, atol=1e-2)


def test_errors_on_the_ground_grow_with_distance_and_are_of_the_noises_size() -> None:
    camera = make_camera()
    found = calibrate("north", make_points(points_of(camera, noise=1.0)))
    near = found.bands[0]
    far = found.bands[-1]
    assert far.pixel > 1.2 * near.pixel
    for band in found.bands:
        assert 0.05 * band.pixel < band.error < 5 * band.pixel
        assert band.left_out > 0.5 * band.error
    text = describe(found)
    assert "reprojection error" in text and "cm if left out" in text


def test_entry_for_the_site_is_read_back_as_the_same_camera() -> None:
    camera = make_camera("equidistant")
    found = calibrate("yard", make_points(points_of(camera)))
    entry = yaml.safe_load(found.to_site())
    site = make_site({"site": "s", "frame": "map", "cameras": entry})
    again = site.cameras["yard"]
    np.testing.assert_allclose(again.pose.rotation, camera.pose.rotation, atol=1e-4)
    np.testing.assert_allclose(again.lens.k, camera.lens.k, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(points=c["points"][:3]), "got 3, must be 4"),
        (lambda c: c.pop("width"), "no field 'width'"),
        (lambda c: c["points"][0].update(pixel=[5000, 1]), r"number 0: got pixel \[5000"),
        (lambda c: c["points"][0].update(pixel="here"), "points: each needs"),
        (lambda c: c["points"][0].update(place=[float("nan"), 1]), "finite"),
        (lambda c: [p.update(place=[n, 0]) for n, p in enumerate(c["points"])], "one line"),
        (lambda c: c.update(k=[1, 2]), "k: got 2"),
    ],
)
def test_points_that_make_no_camera_say_why(change, said: str) -> None:
    content = points_of(make_camera())
    change(content)
    with pytest.raises(CalibrationError, match=said):
        calibrate("north", make_points(content))


def test_pairs_that_are_mixed_up_are_noticed() -> None:
    content = points_of(make_camera())
    places = [row["place"] for row in content["points"]]
    for row, place in zip(content["points"], places[::-1], strict=True):
        row["place"] = place
    with pytest.raises(CalibrationError):
        calibrate("north", make_points(content))


@pytest.mark.slow
def test_focal_length_and_height_cannot_be_told_apart_from_straight_above() -> None:
    camera = make_camera(down=np.pi / 2, position=(0, 0, 8.0), distorted=False)
    around = [(-2, -3), (-2, 3), (2, -3), (2, 3), (0, 1), (1, 0)]
    with pytest.raises(CalibrationError, match="many cameras fit"):
        calibrate("above", make_points(points_of(camera, known=False, places=around)))
    found = calibrate("above", make_points(points_of(camera, places=around)))
    np.testing.assert_allclose(found.camera.pose.position, [0, 0, 8], atol=1e-3)


def test_example_of_the_docs_is_a_camera() -> None:
    text = (ROOT / "docs" / "people.md").read_text()
    example = next(part for part in text.split("```")[1::2] if part.startswith("yaml\nwidth"))
    found = calibrate("north", make_points(yaml.safe_load(example.removeprefix("yaml\n"))))
    assert found.residuals.max() < 2
    np.testing.assert_allclose(found.camera.pose.position, [0, 0, 4], atol=0.1)


def test_grid_goes_through_the_points_of_the_metres() -> None:
    camera = make_camera()
    lines = grid_lines(camera, 20.0, 0.0)
    crossing = camera.project(np.array([[6.0, 1.0, 0.0]]))[0]
    near = [np.linalg.norm(line - crossing, axis=1).min() for _, line in lines]
    assert np.sum(np.array(near) < 0.5) == 2
    drawn = draw_grid(camera)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    u, v = np.round(crossing).astype(int)
    assert (drawn[v, u] != 64).any()
    with pytest.raises(CalibrationError, match="image: got 10 x 10"):
        draw_grid(camera, np.zeros((10, 10, 3), np.uint8))


@pytest.mark.slow
def test_command_prints_the_entry_and_draws_the_grid(tmp_path: Path) -> None:
    points = tmp_path / "points.yaml"
    points.write_text(yaml.safe_dump(points_of(make_camera())))
    grid = tmp_path / "grid.png"
    command = [sys.executable, "-m", "roi_anon_ros.cli", "calibrate"]
    command += [str(points), "--name", "yard", "--grid", str(grid)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert yaml.safe_load(result.stdout)["yard"]["width"] == WIDTH
    assert "reprojection error" in result.stderr
    assert cv2.imread(str(grid)).shape == (HEIGHT, WIDTH, 3)
    points.write_text("width: 3")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "has no field" in result.stderr
