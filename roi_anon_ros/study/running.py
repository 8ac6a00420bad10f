"""A study from its plan to its figures; what a former run finished is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.datasets import Scene, read_scenes, spread
from roi_anon_ros.detect.learning import Finder, find_start, learn
from roi_anon_ros.evaluate.measure import environment
from roi_anon_ros.evaluate.methods import ORIGINAL, slug
from roi_anon_ros.files import JsonLines, read_pixels
from roi_anon_ros.files.progress import Track
from roi_anon_ros.storage import digest
from roi_anon_ros.study.arms import Arm, make_arm, make_original
from roi_anon_ros.study.config import Config, Part
from roi_anon_ros.study.scores import FIGURES, Judgement, judge_scene, precisions, sum_up
from roi_anon_ros.study.sets import QUALITY, write_images, write_labels

#: Takes what is wrong with a set; the run goes on.
Report = Callable[[Path, object], None]
#: Of a test: the figures of each training, see :func:`precisions`.
Trainings = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class TreatedSet:
    """The images of one arm on disk.

    Attributes:
        name: of its folder, which follows from all that the images depend on.
        images: files, in the order of the scenes.
    """

    name: str
    images: list[Path]


def run_study(config: Config, out: Path, track: Track, fail: Report) -> dict[str, Any]:
    """Train and test every arm, and sum up.

    Each arm's images, each training and each test have names in ``out`` that follow from all that
    they depend on: what a former run finished is not done again, and nothing stale is used.

    Args:
        config: what is compared.
        out: folder of images, weights and journals.
        track: shows how far it is.
        fail: takes images that cannot be read.

    Returns:
        What ``evaluate/report/study.py`` shows.

    Raises:
        ValueError: a set or an arm cannot be used, or all images for training are for tests.
        OSError, ImportError, RoiAnonError: what is needed is not here.
    """
    start = find_start(config.weights)
    test = read_parts(config.test, config.task, fail)
    train = without_tests(read_parts(config.train, config.task, fail), test)
    arms = [make_original(), *(make_arm(name, plan) for name, plan in config.arms.items())]
    tests = {arm.name: write_set(test, arm, out, track) for arm in arms}
    measured: dict[str, dict[str, Trainings]] = {}
    for arm in arms:
        treated = write_set(train, arm, out, track)
        seen_by = tests if arm.name == ORIGINAL else {k: tests[k] for k in (ORIGINAL, arm.name)}
        measured[arm.name] = {name: [] for name in seen_by}
        for seed in track(range(config.seeds), config.seeds, f"{arm.name}: trainings"):
            weights = train_once(train, treated, start, config, seed, out)
            for name, shown in seen_by.items():
                judged = look(weights, test, shown, config, out, track)
                measured[arm.name][name].append(precisions(judged))
    return {
        **asdict(config.schedule),
        "task": config.task,
        "weights": Path(config.weights).name,
        "seeds": config.seeds,
        "train": count(train),
        "test": count(test),
        "arms": {name: describe_arm(config, name) for name in measured},
        "environment": environment(),
        "figures": {name: compare_arm(name, measured) for name in measured},
    }


def read_parts(parts: Sequence[Part], task: str, fail: Report) -> list[Scene]:
    """The scenes of several sets; what is wrong with an image is reported, and it is left out.

    Raises:
        ValueError: nothing can be read of one of them.
    """
    scenes: list[Scene] = []
    for part in parts:
        found = read_scenes(part.annotations, part.images, task)
        for problem in found.problems:
            fail(part.annotations, problem)
        scenes += spread(found.scenes, part.limit) if part.limit else found.scenes
    return scenes


def without_tests(train: Sequence[Scene], test: Sequence[Scene]) -> list[Scene]:
    """The scenes for training without those of the tests.

    Raises:
        ValueError: none is left.
    """
    tested = {scene.path.resolve() for scene in test}
    kept = [scene for scene in train if scene.path.resolve() not in tested]
    if not kept:
        raise ValueError(f"train: all of its {len(train)} images are for tests, too")
    return kept


def write_set(scenes: Sequence[Scene], arm: Arm, out: Path, track: Track) -> TreatedSet:
    """The images of one arm, treated where they are not there yet."""
    told = [arm.key, QUALITY, [_state_of(scene) for scene in scenes]]
    name = f"{slug(arm.name)}-{digest(json.dumps(told).encode())}"
    return TreatedSet(name, write_images(scenes, arm, out / "sets" / name / "images", track))


def _state_of(scene: Scene) -> list[Any]:
    """What tells an image with its persons from others."""
    file = scene.path.stat()
    drawn = [[person.box, person.ignore] for person in scene.persons]
    shapes = [polygon.tobytes() for person in scene.persons for polygon in person.outlines]
    points = [person.keypoints for person in scene.persons]
    shapes += [one.tobytes() for one in points if one is not None]
    path = str(scene.path.absolute())
    return [path, file.st_size, file.st_mtime_ns, drawn, digest(*shapes)]


def train_once(
    scenes: Sequence[Scene], treated: TreatedSet, start: Path, config: Config, seed: int, out: Path
) -> Path:
    """The weights of one training, trained where they are not there yet."""
    begun = digest(start) if start.is_file() else str(start)
    told = [treated.name, begun, config.task, asdict(config.schedule), seed]
    mark = digest(json.dumps(told).encode())
    weights = out / "weights" / f"{treated.name.rpartition('-')[0]}-{seed}-{mark}.pt"
    if not weights.is_file():
        data = write_labels(scenes, treated.images, config.task)
        learn(start, data, weights, config.task, config.schedule, seed)
    return weights


def look(
    weights: Path,
    scenes: Sequence[Scene],
    shown: TreatedSet,
    config: Config,
    out: Path,
    track: Track,
) -> list[Judgement]:
    """What trained weights find in the images of a test, judged image by image."""
    journal = out / "seen" / weights.stem / f"{shown.name}.jsonl"
    head = {"weights": digest(weights), "images": shown.name, "task": config.task}
    with JsonLines(journal, head) as lines:
        judged = [Judgement.from_json(entry) for entry in lines.entries]
        rest = list(zip(scenes, shown.images, strict=True))[len(judged) :]
        if rest:
            find = Finder(weights, config.schedule.image_size)
            for scene, image in track(rest, len(rest), f"{weights.stem}: test"):
                judgement = judge_scene(find(read_pixels(image)), scene, config.task)
                lines.write(judgement.to_json())
                judged.append(Judgement.from_json(judgement.to_json()))
    return judged


def count(scenes: Sequence[Scene]) -> dict[str, int]:
    """How many images, and persons on them that count."""
    persons = [person for scene in scenes for person in scene.persons if not person.ignore]
    return {"images": len(scenes), "persons": len(persons)}


def compare_arm(
    name: str, measured: Mapping[str, Mapping[str, Trainings]]
) -> dict[str, dict[str, Any]]:
    """The figures of an arm.

    Args:
        name: of the arm.
        measured: by the arm that was trained on, then by the one that was tested on.

    Returns:
        By test, then by name of the figure, see :func:`sum_up`: ``originals``: trained on the
        arm's images, tested on originals; ``treated``: tested on the arm's images; ``untrained``:
        trained on originals, tested on the arm's images.
    """
    tests = {"originals": measured[name][ORIGINAL]}
    if name != ORIGINAL:
        tests["treated"] = measured[name][name]
        tests["untrained"] = measured[ORIGINAL][name]
    base = measured[ORIGINAL][ORIGINAL]
    figures: dict[str, dict[str, Any]] = {}
    for test, trainings in tests.items():
        figures[test] = {}
        for figure in FIGURES:
            seeds = [training[figure] for training in trainings]
            figures[test][figure] = sum_up(seeds, [training[figure] for training in base])
    return figures


def describe_arm(config: Config, name: str) -> str:
    """An arm in words."""
    plan = config.arms.get(name)
    if plan is None:
        return name
    return plan.method or f"{plan.region}, {plan.treatment}"
