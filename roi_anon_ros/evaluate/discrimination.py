"""An attack that trains nothing: who has ten candidates and the rest of the scene encodes each
candidate at the place, and the nearest to what was sent wins.

It is sharpest for an encoder that gives the same bytes for the same image. What is compared is all
that a receiver has: the latent of a model, the decoded image of others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.evaluate.identity import SCENE_VERSION, Face, Scene
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.precision import count_draws, to_interval
from roi_anon_ros.evaluate.retrieval import number
from roi_anon_ros.evaluate.vectors import write_array
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.progress import Track

#: Candidates, the right one among them; as many as there are people, where they are fewer.
CANDIDATES = 10


def measure_discrimination(
    faces: Sequence[Face], method: Method, scene: Scene, cache: Path, track: Track, label: str
) -> dict[str, Any]:
    """Pick everybody out of candidates; what a former run found is taken.

    Everything that is received stays in memory meanwhile.

    Args:
        faces: from :func:`~roi_anon_ros.evaluate.identity.find_faces`.
        method: sends the scenes.
        scene: that everybody is placed in.
        cache: folder where the result is kept.
        track: shows how far it is.
        label: what it calls this.

    Returns:
        See :func:`sum_up_picked`.

    Raises:
        ValueError: an image cannot be read. What the method raises is passed on.
    """
    names = [face.name for face in faces]
    digest = hashlib.sha256(f"{method.key}\n{scene} {SCENE_VERSION} {CANDIDATES}\n".encode())
    for face in faces:
        digest.update(hashlib.sha256(face.path.read_bytes()).digest() + face.name.encode())
    path = cache / f"discrimination-{slug(method.name)}-{digest.hexdigest()[:12]}.npy"
    if path.is_file():
        return sum_up_picked(names, np.load(path))
    received = list(track(_receive(faces, method, scene), len(faces), label))
    hits = pick(names, lambda one, other: distance(received[one], received[other]))
    write_array(path, hits)
    return sum_up_picked(names, hits)


def _receive(faces: Sequence[Face], method: Method, scene: Scene) -> Iterator[np.ndarray]:
    """Yield all that a receiver has of each scene."""
    for face in faces:
        image, _ = scene(read_pixels(face.path), face.landmarks)
        decoded, latent = method.receive(method.encode(image))
        yield decoded if latent is None else latent


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference of two of the same shape; infinite where the shapes differ."""
    if one.shape != other.shape:
        return math.inf
    difference = one.astype(np.float32) - other.astype(np.float32)
    return float(np.square(difference).mean())


def pick(
    names: Sequence[str], distance_of: Callable[[int, int], float], seed: int = 0
) -> np.ndarray:
    """Pick each target out of candidates, one of them right and the others of other people.

    Args:
        names: n, of the person on each image.
        distance_of: between what was sent of two images, by their numbers.
        seed: of who the candidates are.

    Returns:
        float64 ``[2, n]``: 1 where the right candidate is the nearest, 1 / k where it is one of k.
        In the first row the right candidate is the target's very photo, in the second another one
        of the person; nan where there is none.
    """
    rng = np.random.default_rng(seed)
    person = number(names)
    people = int(person.max()) + 1
    count = min(CANDIDATES, people)
    photos = [np.flatnonzero(person == one) for one in range(people)]
    hits = np.full((2, len(names)), np.nan)
    for target in range(len(names)):
        others = np.delete(np.arange(people), person[target])
        chosen = rng.choice(others, count - 1, replace=False)
        wrong = [distance_of(target, int(rng.choice(photos[one]))) for one in chosen]
        own = photos[person[target]]
        rest = own[own != target]
        hits[0, target] = _share_of_nearest(distance_of(target, target), wrong)
        if len(rest):
            other = int(rng.choice(rest))
            hits[1, target] = _share_of_nearest(distance_of(target, other), wrong)
    return hits


def _share_of_nearest(right: float, wrong: Sequence[float]) -> float:
    """1 where the right one is nearest, 1 / k where it is one of k that are, else 0."""
    if min(wrong) < right:
        return 0.0
    return 1 / (1 + sum(one == right for one in wrong))


def sum_up_picked(names: Sequence[str], hits: np.ndarray) -> dict[str, Any]:
    """The figures of :func:`pick`.

    Args:
        names: n, of the person on each image.
        hits: ``[2, n]``.

    Returns:
        For JSON: ``same`` and ``other``, shares of the targets that are picked out by their very
        photo and by another one of the person, with their ``_interval`` (95 %, from draws of as
        many people); ``candidates`` and ``chance``.
    """
    count = min(CANDIDATES, len(set(names)))
    figures: dict[str, Any] = {"candidates": count, "chance": 1 / count}
    for key, row in zip(("same", "other"), hits, strict=True):
        known = ~np.isnan(row)
        of = number([name for name, there in zip(names, known, strict=True) if there])
        weights = count_draws(int(of.max()) + 1)[:, of]
        drawn = weights @ row[known] / weights.sum(axis=1)
        figures[key] = float(row[known].mean())
        figures[f"{key}_interval"] = to_interval(drawn)
    return figures
