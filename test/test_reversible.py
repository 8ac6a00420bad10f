"""The learned reversible anonymizer: its parts against literal forms, a training that goes on,
one who breaks it, and its three methods.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from roi_anon_ros.evaluate.methods import make_method
from roi_anon_ros.train import reversible, reversible_people, trainer
from roi_anon_ros.train.reversible import Config, blur, rank_one, triplet
from roi_anon_ros.train.reversible_networks import Translator, read_reversible
from roi_anon_ros.train.reversible_people import People


def draw(folder: Path, first: int, count: int) -> None:
    """People in coats of their own, each taken by two cameras."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(first, first + count):
        coat = np.random.default_rng(person).integers(0, 255, (8, 4, 3), np.uint8)
        image = cv2.resize(coat, (16, 32), interpolation=cv2.INTER_NEAREST)
        for camera in (1, 2):
            light = image.astype(int) + 10 * camera
            cv2.imwrite(str(folder / f"{person:04}_c{camera}.png"), light.clip(0, 255))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training of a few steps on small images; a third of the people is kept apart."""
    monkeypatch.setattr(reversible_people, "SIZE", (32, 16))
    monkeypatch.setattr(reversible, "BLUR", 2.0)
    monkeypatch.setattr(reversible, "HELD", 3)
    draw(tmp_path / "people", 0, 9)
    path = tmp_path / "small.yaml"
    content = {
        "network": "reversible",
        "train": [{"images": str(tmp_path / "people"), "people": [0, 6]}],
        "attacker": [{"images": str(tmp_path / "people"), "people": [6, 9]}],
        "steps": 4,
        "attacker_steps": 2,
        "people": 2,
        "images": 2,
        "check": 2,
        "near_psnr": 1.0,
        "near_ssim": 0.0,
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_a_stopped_training_ends_in_the_same_networks(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = trainer.train(config, tmp_path / "straight")
    learn = reversible.Training.learn

    def stop(training: reversible.Training) -> dict[str, float]:
        if training.step == 3:
            raise KeyboardInterrupt
        return learn(training)

    with monkeypatch.context() as patch:
        patch.setattr(reversible.Training, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(config, tmp_path / "halted")
    halted = trainer.train(config, tmp_path / "halted")
    ours = load_file(straight)
    theirs = load_file(halted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    about = read_reversible(straight).about
    assert (about["people"], about["attacker_people"]) == (4, 3)
    # So loose a bound is met at once, where rank 1 is above 0: the target moved on.
    assert about["figures"]["targets"] >= (about["figures"]["rank1"] > 0)
    changed = yaml.safe_load(config.read_text()) | {"seed": 1}
    config.write_text(yaml.safe_dump(changed))
    with pytest.raises(ValueError, match="last.ckpt: of another configuration"):
        trainer.train(config, tmp_path / "halted")


def test_its_methods_show_what_each_one_sees(config: Path, tmp_path: Path) -> None:
    file = trainer.train(config, tmp_path / "out")
    image = np.random.default_rng(0).integers(0, 255, (33, 18, 3), np.uint8)
    seen = {}
    for look in ("", ":recovered", ":attacked"):
        method = make_method(f"reversible:{file}{look}")
        seen[method.name] = method.decode(method.encode(image))
        assert seen[method.name].shape == image.shape
    assert list(seen) == ["reversible", "reversible, recovered", "reversible, attacked"]
    networks = read_reversible(file)
    protected = networks.generator.translate(image)
    assert np.array_equal(seen["reversible"], protected)
    recovered = networks.recovery.translate(protected)
    assert np.array_equal(seen["reversible, recovered"], recovered)
    assert not np.array_equal(recovered, seen["reversible, attacked"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        make_method(f"reversible:{file}")
    save_file({"weight": torch.ones(3)}, file)
    with pytest.raises(ValueError, match="no reversible anonymizer"):
        make_method(f"reversible:{file}")
    with pytest.raises(ValueError, match="nobody: no such file"):
        make_method("reversible:nobody")


def test_who_has_only_the_generator_undoes_it(config: Path) -> None:
    """It darkens; one who sees that on a few people undoes it on others."""
    generator = Translator()
    with torch.no_grad():
        generator.last.bias.fill_(-0.2)
    settings = Config(**yaml.safe_load(config.read_text()) | {"attacker_steps": 25})
    own, _ = reversible_people.read_people(settings.train)
    others, _ = reversible_people.read_people(settings.attacker)
    for network in reversible.attack(generator, own, settings):
        attacker = network
    with torch.no_grad():
        protected = generator(others.images).clamp(0, 1)
        recovered = attacker(protected)
    error = (protected - others.images).abs().mean()
    assert (recovered - others.images).abs().mean() < 0.6 * error


def test_the_blur_is_opencvs() -> None:
    images = torch.rand(2, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    for image, blurred in zip(images, blur(images), strict=True):
        literal = cv2.GaussianBlur(
            image.permute(1, 2, 0).numpy(), (37, 37), 6.0, borderType=cv2.BORDER_REFLECT_101
        )
        assert np.allclose(blurred.permute(1, 2, 0).numpy(), literal, atol=1e-5)


def test_triplets_and_rank_by_hand() -> None:
    places = torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1]])
    person = np.array([0, 0, 1])
    apart, near = np.sqrt(0.8), np.sqrt(0.4)
    expected = [apart - np.sqrt(2) + 0.3, apart - near + 0.3, 1e-3 - near + 0.3]
    literal = np.mean(np.maximum(expected, 0))
    assert float(triplet(places, torch.from_numpy(person))) == pytest.approx(literal, abs=1e-3)
    people = People(torch.zeros(3, 3, 2, 2), person, np.array([0, 1, 0]))
    # Image 0 may only be likened to 1, its person; 1 is nearest to 2; 2 has only 1, somebody else.
    assert rank_one(places, people) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": 1}, "people: got 1, must be a whole number of 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0"),
        ({"train": ["x"]}, "train: got 'x', must be images"),
        ({"attacker": [{"images": "PEOPLE", "people": [5, 9]}]}, "attacker: .* is in train"),
        ({"attacker": [{"images": "PEOPLE", "people": [9, 12]}]}, "people: got 9 to 12, .* has 9"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    config: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = yaml.safe_load(config.read_text()) | change
    text = yaml.safe_dump(content).replace("PEOPLE", str(tmp_path / "people"))
    config.write_text(text)
    with pytest.raises(ValueError, match=message):
        trainer.train(config, tmp_path / "out")
