"""Re-identification of whole persons: the mathematics by hand and by loops, names of files, scenes,
a run that is continued, what a key holder sees.
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
from roi_anon_ros.codec import Codec
from roi_anon_ros.datasets.bodies import Body, read_bodies
from roi_anon_ros.evaluate.bodies import (
    BodyScene,
    Judge,
    Sent,
    embed_bodies,
    measure_bodies,
)
from roi_anon_ros.evaluate.methods import fingerprints, make_method
from roi_anon_ros.evaluate.report.bodies import section
from roi_anon_ros.evaluate.retrieval import (
    by_chance,
    find_again,
    first_hit,
    ranking_precision,
    sum_up,
    worst_tenth,
)


def test_a_search_by_hand() -> None:
    """Two people, a and b, two cameras: images a1 a2 a1 b1 b2; a camera never finds its own."""
    person = np.array([0, 0, 0, 1, 1])
    camera = np.array([1, 2, 1, 1, 2])
    scores = np.zeros((5, 5))
    # Probe 0 (a1): without 0 and 2; left are 1 (right), 3, 4. Ranking: 3, 1, 4.
    scores[0] = [1.0, 0.5, 0.9, 0.6, 0.1]
    # Probe 1 (a2): left are 0 and 2 (right), 3, 4. Ranking: 0, 3, 4, 2.
    scores[1] = [0.9, 1.0, 0.1, 0.8, 0.7]
    # Probe 2 (a1): left are 1 (right), 3, 4. Ranking: 1, 4, 3.
    scores[2] = [0.9, 0.8, 1.0, 0.1, 0.2]
    # Probe 3 (b1): left are 4 (right), 0, 1, 2. All of the same height.
    scores[3] = 0.5
    # Probe 4 (b2): left are 3 (right), 0, 1, 2. Ranking: 0, 1, 2, 3.
    scores[4] = [0.9, 0.8, 0.7, 0.1, 1.0]
    found = find_again(scores, person, camera)
    assert found.hits == pytest.approx([0, 1, 1, 1 / 4, 0])
    assert found.precisions == pytest.approx([1 / 2, (1 + 2 / 4) / 2, 1, 1 / 4, 1 / 4])
    figures = sum_up(found)
    assert figures["rank1"] == pytest.approx(2.25 / 5) and figures["map"] == pytest.approx(0.55)
    # The worst tenth of two people is one: a, with two hits of three.
    assert figures["worst_tenth"] == pytest.approx(2 / 3)
    assert (figures["probes"], figures["people"]) == (5, 2)
    for name in ("rank1", "map"):
        low, high = figures[f"{name}_interval"]
        assert low < figures[name] < high


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20).filter(
        lambda ranking: any(right for _, right in ranking)
    )
)
def test_a_ranking_is_its_literal_form(ranking: list[tuple[int, bool]]) -> None:
    precisions = []
    for score, right in ranking:
        if right:
            as_high = [other for height, other in ranking if height >= score]
            precisions.append(sum(as_high) / len(as_high))
    scores = np.array([score for score, _ in ranking], float)
    right = np.array([right for _, right in ranking])
    assert ranking_precision(scores, right) == pytest.approx(np.mean(precisions))
    highest = [right for score, right in ranking if score == scores.max()]
    assert first_hit(scores, right) == pytest.approx(np.mean(highest))


def test_the_worst_tenth_are_those_who_are_found_most() -> None:
    probed = np.repeat(np.arange(20), 2)
    hits = np.zeros(40)
    hits[[6, 7, 11, 30]] = 1  # person 3 twice, 5 and 15 once
    assert worst_tenth(hits, probed) == pytest.approx((1 + 1 / 2) / 2)


def test_one_who_guesses_finds_as_many_as_there_are() -> None:
    """Ten people by two cameras, two images each: of 38 images that are left two are right."""
    person = np.repeat(np.arange(10), 4)
    camera = np.tile([1, 1, 2, 2], 10)
    guessed = by_chance(person, camera)
    assert guessed["rank1"] == pytest.approx(2 / 38, abs=0.02)
    assert guessed["rank1"] < guessed["worst_tenth"] < 0.5
    assert 2 / 38 < guessed["map"] < 0.2
    with pytest.raises(ValueError, match="two cameras"):
        by_chance(person, np.ones(40, int))


def save(path: Path, seed: int, shape: tuple[int, int] = (64, 32)) -> None:
    tiles = np.random.default_rng(seed).integers(0, 255, (8, 4, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(tiles, shape[::-1], interpolation=cv2.INTER_NEAREST))


def test_names_say_who_and_which_camera(tmp_path: Path) -> None:
    save(tmp_path / "market" / "0007_c3s1_000001_01.png", 0)
    save(tmp_path / "market" / "0007_c1s2_000002_01.png", 1)
    save(tmp_path / "market" / "0002_c1s2_000003_01.png", 2)
    got = [(body.name, body.camera) for body in read_bodies(tmp_path / "market")]
    assert got == [("0002", "1"), ("0007", "1"), ("0007", "3")]

    save(tmp_path / "pku" / "train" / "009" / "01_1.png", 0)
    save(tmp_path / "pku" / "train" / "009" / "02_1.png", 1)
    save(tmp_path / "pku" / "val" / "004" / "01_1.png", 2)
    save(tmp_path / "pku" / "val" / "twice" / "004" / "01_1.png", 2)
    save(tmp_path / "pku" / "val" / "012" / "01_1.png", 2)
    got = [(body.name, body.camera) for body in read_bodies(tmp_path / "pku")]
    assert got == [("004", "01"), ("009", "01"), ("009", "02"), ("012", "01")]
    assert {body.name for body in read_bodies(tmp_path / "pku", 2)} == {"004", "009"}

    with pytest.raises(ValueError, match="seen by two"):
        read_bodies(tmp_path / "pku" / "val")
    save(tmp_path / "pku" / "train" / "010" / "somebody.png", 3)
    with pytest.raises(ValueError, match=r"somebody\.png: name says no camera"):
        read_bodies(tmp_path / "pku")


def test_a_person_stands_in_the_scene_as_he_is(tmp_path: Path) -> None:
    save(tmp_path / "a_1.png", 0, (128, 48))
    person = cv2.imread(str(tmp_path / "a_1.png"))[..., ::-1]
    scene, place = BodyScene(128)(person)
    assert scene.shape == (256, 256, 3) and scene.dtype == np.uint8
    assert np.array_equal(scene[place], person)
    other, _ = BodyScene(128)(255 - person)
    outside = np.ones((256, 256), bool)
    outside[place] = False
    assert outside.sum() == 256 * 256 - 128 * 48
    assert np.array_equal(scene[outside], other[outside])
    for size in (31, 513):
        with pytest.raises(ValueError, match="from 32 to 512"):
            BodyScene(size)


class Colours:
    """Stands for a network: the mean colours of a person's tiles."""

    calls = 0

    def __call__(self, persons: list[np.ndarray]) -> np.ndarray:
        self.calls += len(persons)
        rows = [cv2.resize(one, (4, 8), interpolation=cv2.INTER_AREA).ravel() for one in persons]
        tiles = np.array(rows, np.float32)
        tiles -= tiles.mean(axis=1, keepdims=True)
        return tiles / np.linalg.norm(tiles, axis=1, keepdims=True).clip(1e-6)


def people(folder: Path) -> list[Body]:
    """Three people, whose coats are the same to both cameras."""
    for person in range(3):
        for camera in (1, 2):
            save(folder / f"000{person}_c{camera}.png", person)
    return read_bodies(folder)


def test_everybody_is_found_until_a_method_hides_them(tmp_path: Path) -> None:
    bodies = people(tmp_path / "people")
    original = make_method("original")
    wall = np.full((128, 128, 3), 9, np.uint8)
    grey = type(original)("grey", "grey", original.encode, lambda _: wall)
    colours = Colours()
    judge = Judge("colours", "colours", colours)
    arguments = (bodies, [original, grey], [judge], {"64 px": BodyScene(64)}, tmp_path / "cache")
    about = measure_bodies(*arguments, lambda items, *_: items)
    assert (about["images"], about["people"], about["cameras"]) == (6, 3, 2)
    methods = about["judges"]["colours"]["64 px"]
    for mode in ("raw", "linked"):
        assert methods["original"][mode]["rank1"] == methods["original"][mode]["map"] == 1
        # All the same: one of the five images of the gallery is right.
        assert methods["grey"][mode]["rank1"] == pytest.approx(1 / 5)
    assert colours.calls == 6 * 3
    assert measure_bodies(*arguments, lambda items, *_: items) == about
    assert colours.calls == 6 * 3 and len(list((tmp_path / "cache").iterdir())) == 5
    placed = Sent(bodies, None, BodyScene(64))
    squared = [np.square(person.astype(float) - 9).mean() for person in placed]
    grey_psnr = pytest.approx(10 * np.log10(255**2 / np.mean(squared)))
    assert about["psnr"] == {"64 px": {"original": None, "grey": grey_psnr}}
    (table,) = section(about)["tables"]
    assert [row[0] for row in table] == ["colours, 64 px", "original", "grey", "by chance"]
    assert {len(row) for row in table} == {8}


def test_each_image_is_sent_once_for_all_judges(tmp_path: Path) -> None:
    bodies = people(tmp_path / "people")
    original = make_method("original")
    sent = []

    def encode(image: np.ndarray) -> bytes:
        sent.append(image.shape)
        return original.encode(image)

    counted = Sent(bodies, type(original)("one", "one", encode, original.decode), BodyScene(64))
    for name in ("first", "second"):
        judge = Judge(name, name, Colours())
        assert len(list(embed_bodies(counted, judge, tmp_path / "cache"))) == 6
    assert sent == [(128, 128, 3)] * 6


@pytest.mark.slow
def test_a_key_holder_sees_what_was_painted_over(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needs the extra seal")
    pytest.importorskip("Cryptodome", reason="needs the extra seal")
    from gained_model import make_gained_model

    model = str(make_gained_model(tmp_path / "tiny.safetensors"))
    codec = Codec.load(model)
    image = np.full((128, 160, 3), 60, np.uint8)
    image[32:64, 48:80] = 255  # the model's heads are what is white
    plain = make_method(model)
    opened = make_method(f"opened:{model}")
    assert fingerprints([opened, plain]) == dict.fromkeys(
        [opened.name, plain.name], codec.fingerprint
    )
    sent = opened.encode(image)
    packet = plain.encode(image)
    assert packet in sent and len(sent) > len(packet) + 100
    seen = opened.decode(sent)
    decoded = plain.decode(packet)
    painted = plain.painted(packet)
    assert painted[40:56, 56:72].all() and not painted.all()
    assert np.array_equal(seen[~painted], decoded[~painted])
    assert np.abs(seen[painted].astype(int) - image[painted]).max() <= 6
    assert np.abs(decoded[painted].astype(int) - image[painted]).mean() > 20
    for name, message in (("jpeg:5", "must be a model"), ("fast", "does not paint")):
        with pytest.raises(ValueError, match=message):
            make_method(f"opened:{name}")


@pytest.mark.weights
def test_the_command_finds_people_by_both_networks(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    networks = ["osnet_x0_25_msmt17.onnx", "person-reidentification-retail-0277.xml"]
    folder = shared_dir / "reid" / "market"
    command = ["identify", str(folder), "--bodies", "--limit", "4", "--sizes", "128"]
    for path in (folder, *(shared_dir / "weights" / name for name in networks)):
        if not path.exists():
            pytest.skip(f"{path.name} is not here; it is not shipped")
    for name in networks:
        command += ["--recogniser", str(shared_dir / "weights" / name)]
    command += ["--methods", "jpeg:1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "bodies.json").read_text())
    assert about["people"] == 4 and about["fingerprints"] == {}
    for scenes in about["judges"].values():
        figures = scenes["128 px"]
        assert figures["original"]["raw"]["map"] > 1.5 * about["chance"]["map"]
        assert figures["jpeg:1"]["raw"]["map"] < figures["original"]["raw"]["map"]
    assert "| by chance |" in done.stdout
    refused = CliRunner().invoke(app, [*command, "--recogniser", str(folder / "nobody.xml")])
    assert refused.exit_code == 2 and "no such file" in refused.output
