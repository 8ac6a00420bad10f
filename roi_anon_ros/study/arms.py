"""Ways to treat the images of a study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roi_anon_ros.anonymize import (
    Anonymizer,
    Region,
    Regions,
    make_source,
    make_treatment,
    treat,
)
from roi_anon_ros.anonymize.anonymizer import FEATHER, GROW, VERSION
from roi_anon_ros.anonymize.regions import mask_of, polygon
from roi_anon_ros.codec import DEFAULT_MODEL, Codec
from roi_anon_ros.datasets import Instance, Scene
from roi_anon_ros.evaluate.methods import ORIGINAL, make_method
from roi_anon_ros.storage import digest
from roi_anon_ros.study.config import ArmPlan

#: The region that a set itself has: its persons.
ANNOTATED = "annotated"
#: What outlines grow by: 2 %, as in arXiv 2306.05135.
GROW_OUTLINE = 1.02
#: Decides who becomes which face or colour: the same in every run.
KEY = b"roi-anon study: one key for all"


@dataclass(frozen=True)
class Arm:
    """One way to treat images.

    Attributes:
        name: of the arm.
        key: all that a treated image depends on besides the image.
        treat: an image, uint8 ``[H, W, 3]`` RGB, and its scene to another image of its size.
    """

    name: str
    key: str
    treat: Callable[[np.ndarray, Scene], np.ndarray]


def make_original() -> Arm:
    """The arm that changes nothing."""
    return Arm(ORIGINAL, ORIGINAL, lambda image, scene: image)


def make_arm(name: str, plan: ArmPlan) -> Arm:
    """An arm of its plan.

    Raises:
        ValueError: the plan names what there is not; the message names the arm.
        OSError, ImportError, WeightsError, ModelFileError: what it needs is not here.
    """
    try:
        if plan.method:
            return _make_sender(name, plan.method)
        if plan.region == ANNOTATED:
            return _make_annotated(name, plan.treatment)
        return _make_detected(name, plan)
    except ValueError as error:
        raise ValueError(f"arms: {name}: {error}") from error


def _make_sender(name: str, text: str) -> Arm:
    method = make_method(text)
    return Arm(name, method.key, lambda image, scene: method.decode(method.encode(image)))


def _make_annotated(name: str, text: str) -> Arm:
    treatment = make_treatment(text)

    def hide(image: np.ndarray, scene: Scene) -> np.ndarray:
        drawn = (region_of(person, scene.size) for person in scene.persons)
        regions = Regions(scene.size, tuple(region for region in drawn if region is not None))
        return treat(image, regions, treatment, FEATHER, KEY)

    return Arm(name, f"{ANNOTATED} {_mark(text)} {GROW_OUTLINE} anonymize {VERSION}", hide)


def region_of(person: Instance, size: tuple[int, int]) -> Region | None:
    """What is hidden of an annotated person; None where nothing of it is in the image."""
    width, height = size
    drawn = [polygon(outline, width, height) for outline in person.outlines]
    parts = [region.drawn(width, height) for region in drawn if region is not None]
    if parts:
        mask = mask_of(np.any(parts, axis=0), label="person")
        return None if mask is None else mask.grown(GROW_OUTLINE)
    return Region(person.box, label="person").grown(GROW["person"])


def _make_detected(name: str, plan: ArmPlan) -> Arm:
    source = make_source(plan.region, pose=plan.pose)
    treatment = make_treatment(plan.treatment)
    anonymizer = Anonymizer([source], treatment, key=KEY)
    kind, _, value = plan.region.partition(":")
    marks = [_mark(plan.region), _mark(plan.treatment), f"anonymize {VERSION}"]
    if kind == "head":
        marks.append(Codec.load(value or DEFAULT_MODEL).fingerprint)
    if plan.pose is not None:
        marks.append(digest(plan.pose))
    return Arm(name, json.dumps(marks), lambda image, scene: anonymizer(image))


def _mark(name: str) -> str:
    """A name, with what is in the file after its colon where there is one."""
    value = Path(name.partition(":")[2])
    return f"{name} {digest(value)}" if value.is_file() else name
