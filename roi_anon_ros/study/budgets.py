"""What a utility budget gives back, and what it costs privacy: the experiment of arXiv 2504.14301.

One training for each budget and one without, from the same start, as many steps, on the same
crops. Then each is judged by what a network still finds and by what an attacker still links: of a
codec here, of a pixel anonymizer in ``study/clips.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roi_anon_ros.datasets import Record
from roi_anon_ros.detect import Detector
from roi_anon_ros.evaluate.attack.linking import People, learn_links, link
from roi_anon_ros.evaluate.measure import environment
from roi_anon_ros.evaluate.methods import ORIGINAL, PIXELS, Method, make_method
from roi_anon_ros.evaluate.precision import (
    Judged,
    average_precisions,
    judge,
    resamples,
    to_interval,
)
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.progress import Track
from roi_anon_ros.storage import digest, write_bytes
from roi_anon_ros.study.judges import FIGURES, Judges, Seen
from roi_anon_ros.train.branches import BranchedConfig
from roi_anon_ros.train.pixels import PixelsConfig
from roi_anon_ros.train.trainer import read_config, train

#: The training without a budget, and the model that all begin with.
NONE = "none"
START = "start"
#: Least overlap of a detection with the person that it finds.
OVERLAP = 0.5
#: Of what is measured; another one makes no use of older figures.
FORMAT = 1


def train_budgets(training: Path, budgets: Sequence[float], out: Path) -> dict[str, str]:
    """Train with each budget in place of the configured ones, and without utility.

    What a former run finished is kept; an interrupted training goes on.

    Args:
        training: YAML file of a training with ``utility``, of a codec or a pixel anonymizer.
        budgets: 0 or more each.
        out: gets a folder for each training.

    Returns:
        Methods of an evaluation, by their names here: ``original``, ``start`` where the training
        has one, ``none``, and the budgets.

    Raises:
        ValueError: the configuration or a budget cannot be used, or ``out`` holds other trainings.
        TrainingError: see :func:`~roi_anon_ros.train.trainer.train`.
    """
    config = read_config(training)
    if not isinstance(config, BranchedConfig) or not config.utility:
        raise ValueError("utility: got none, must be there: its budgets are what is compared")
    plans: dict[str, list[dict[str, Any]]] = {NONE: []}
    for budget in budgets:
        if not budget >= 0:
            raise ValueError(f"budgets: got {budget}, must be 0 or more")
        plans[f"{budget:g}"] = [entry | {"budget": float(budget)} for entry in config.utility]
    before = PIXELS if isinstance(config, PixelsConfig) else ""
    methods = {ORIGINAL: ORIGINAL}
    if config.start:
        methods[START] = f"{before}{config.start}"
    for name, utility in plans.items():
        folder = out / f"budget-{name}"
        told = yaml.safe_dump(asdict(config) | {"utility": utility}, sort_keys=False)
        file = folder / "training.yaml"
        if file.is_file() and file.read_text() != told:
            raise ValueError(f"{file}: of another training; name another folder")
        write_bytes(file, told.encode())
        model = file.with_suffix(".safetensors")
        methods[name] = f"{before}{model if model.is_file() else train(file, folder)}"
    return methods


def judge_budgets(
    methods: Mapping[str, str],
    records: Sequence[Record],
    detector: Detector,
    mark: str,
    judges: Judges,
    steps: int,
    out: Path,
    track: Track,
) -> dict[str, dict[str, Any]]:
    """Judge each training; what a former run judged is kept.

    Every other image with its persons is the attacker's own.

    Args:
        methods: of :func:`train_budgets`.
        records: annotated images for tests.
        detector: of persons, from low scores on; one that took no part in the trainings.
        mark: tells the detector from others.
        judges: of what else is asked for.
        steps: of the attacker.
        out: gets a file for each method.
        track: shows how far it is.

    Returns:
        By name ``bpp``, bits per pixel; ``ap50``, ``linked`` and the figures of the judges, each
        the figure and then those of 200 resamples; ``people``, among how many the attacker
        guesses.

    Raises:
        ValueError: an image cannot be read, or too few persons are on them.
    """
    images = [[str(one.path.name), digest(one.path, one.persons.xyxy.tobytes())] for one in records]
    told = {"detector": mark, "steps": steps, "images": digest(json.dumps(images).encode())}
    told |= judges.marks

    def measure(name: str, method: Method) -> dict[str, Any]:
        judged: list[Judged] = []
        people: list[People] = []
        seen = Seen(judges)
        bits = 0.0
        pixels = 0
        for record in track(records, len(records), f"{name}: images"):
            image = read_pixels(record.path)
            sent = method.encode(image)
            received = method.decode(sent)
            persons = record.persons
            judged.append(judge(detector([received])[0], persons, OVERLAP))
            people.append(People.cut(received, image, persons.xyxy[~persons.ignore]))
            seen.add(received, image, record)
            bits += 8 * len(sent)
            pixels += image.shape[0] * image.shape[1]
        figures = {"bpp": bits / pixels} | sum_up(judged, people, steps)
        return figures | seen.sum_up(people[1::2])

    return measure_each(methods, told, measure, out)


def measure_each(
    methods: Mapping[str, str],
    told: Mapping[str, Any],
    measure: Callable[[str, Method], dict[str, Any]],
    out: Path,
) -> dict[str, dict[str, Any]]:
    """Measure each training; what a former run measured is kept.

    Args:
        methods: of :func:`train_budgets`.
        told: all that the figures depend on besides the method, for JSON.
        measure: the figures of a method, by its name here, for JSON.
        out: gets a file for each method.
    """
    figures = {}
    for name, text in methods.items():
        method = make_method(text)
        file = out / "figures" / f"{name}.json"
        about = {"format": FORMAT, "method": method.key, **told}
        found = json.loads(file.read_text()) if file.is_file() else {}
        if found.get("told") != about:
            found = {"told": about, **measure(name, method)}
            write_bytes(file, json.dumps(found).encode())
        figures[name] = {key: value for key, value in found.items() if key != "told"}
    return figures


def sum_up(judged: list[Judged], people: list[People], steps: int) -> dict[str, Any]:
    """The figures of one method, each followed by those of the resamples.

    Args:
        judged: each image.
        people: each image's.
        steps: of the attacker.
    """
    right = link_others(people[::2], people[1::2], steps, "images")
    return {
        "ap50": average_precisions(judged, resamples(len(judged))).tolist(),
        "linked": (resamples(len(right)) @ right / len(right)).tolist(),
        "people": len(right),
    }


def link_others(own: list[People], others: list[People], steps: int, field: str) -> np.ndarray:
    """Let an attacker learn from his own people to link others.

    Args:
        own: his own, of each image.
        others: to be linked, of each image.
        steps: of the attacker.
        field: that an error names.

    Returns:
        As from :func:`~roi_anon_ros.evaluate.attack.linking.link`, of the others one after the
        other.

    Raises:
        ValueError: there are fewer than 2 persons for the attacker, or to be linked.
    """
    network = learn_links(People.join(own), steps)
    linked = People.join(others)
    if len(linked) < 2:
        raise ValueError(f"{field}: got {len(linked)} persons to be linked, must be at least 2")
    return link(network, linked)


def describe(
    training: Path,
    figures: Mapping[str, dict[str, Any]],
    utility: str,
    judged: Mapping[str, Any],
    steps: int,
) -> dict[str, Any]:
    """What ``evaluate/report/budgets.py`` shows.

    Args:
        training: of :func:`train_budgets`.
        figures: of :func:`judge_budgets`, or of ``judge_clips``.
        utility: which of them says how useful an image is.
        judged: by whom and on what, for JSON: ``detector``, the name of the judge of utility;
            ``images``, or ``clips`` and ``origins``, their numbers.
        steps: of the attacker.
    """
    config = read_config(training)
    assert isinstance(config, BranchedConfig)  # it was trained with
    shown: dict[str, dict[str, Any]] = {}
    for name, one in figures.items():
        shown[name] = {"bpp": one["bpp"]}
        more = [figure for figure in FIGURES if figure in one]
        for figure in (utility, "linked", *more):
            differences = np.array(one[figure]) - np.array(figures[NONE][figure])
            shown[name][figure] = {
                "value": one[figure][0],
                "interval": to_interval(np.array(one[figure][1:])),
                "difference": float(differences[0]),
                "difference_interval": to_interval(differences[1:]),
            }
    return {
        "steps": config.steps,
        "batch": config.batch,
        "network": config.network,
        "utility": config.utility,
        "privacy": config.privacy,
        "measured": utility,
        **judged,
        "people": figures[NONE]["people"],
        "attack_steps": steps,
        "environment": environment(),
        "figures": shown,
    }
