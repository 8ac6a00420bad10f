"""Finding people again: each image is looked for among the others, as sets for re-identification
have it.

Every image is a probe. The gallery is all images but those of the probe's person that the probe's
camera took: one camera's images of a person follow each other, and are too easy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roi_anon_ros.evaluate.precision import count_draws, to_interval

#: Rankings by chance that :func:`by_chance` takes the mean of.
CHANCE_ROUNDS = 20
#: Share of the people who are found most often, of whom a figure is given: the worst off.
WORST = 0.1


@dataclass(frozen=True)
class Found:
    """How far each probe's person was found.

    Attributes:
        hits: float64 ``[p]``, 1 where the most similar image shows the person; a share where
            several are most similar.
        precisions: float64 ``[p]``, average precision.
        probed: int ``[p]``, the person.
    """

    hits: np.ndarray
    precisions: np.ndarray
    probed: np.ndarray


def find_again(scores: np.ndarray, person: np.ndarray, camera: np.ndarray) -> Found:
    """Look for the person of each image among the images.

    Args:
        scores: ``[n, n]``, similarity of each probe, a row, to each image of the gallery.
        person: int ``[n]``, on each image.
        camera: int ``[n]``, that took it.

    Raises:
        ValueError: no person was taken by two cameras.
    """
    hits = []
    precisions = []
    probed = []
    for index in range(len(person)):
        same = person == person[index]
        kept = ~(same & (camera == camera[index]))
        if not same[kept].any():
            continue
        hits.append(first_hit(scores[index, kept], same[kept]))
        precisions.append(ranking_precision(scores[index, kept], same[kept]))
        probed.append(person[index])
    if not probed:
        raise ValueError("camera: no person was taken by two cameras")
    return Found(np.array(hits), np.array(precisions), np.array(probed))


def first_hit(scores: np.ndarray, right: np.ndarray) -> float:
    """Whether the highest of ``scores`` ``[k]`` is one of those that are ``right``, bool ``[k]``;
    of several highest ones, the share that is.
    """
    return float(right[scores == scores.max()].mean())


def ranking_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Average precision of a ranking: the mean, over the right ones, of the share of right ones
    among all that rank as high or higher. Equal scores rank equally high.

    Args:
        scores: ``[k]``.
        right: bool ``[k]``, at least one True.
    """
    order = np.argsort(-scores, kind="stable")
    descending = -scores[order]
    right = right[order]
    as_high = np.searchsorted(descending, descending, side="right")
    precision = np.cumsum(right)[as_high - 1] / as_high
    return float(precision[right].mean())


def worst_tenth(hits: np.ndarray, probed: np.ndarray) -> float:
    """Mean hits of the tenth of the people, rounded up, who are hit most often.

    Args:
        hits: ``[p]``.
        probed: int ``[p]``, whom each probe shows.
    """
    _, of = np.unique(probed, return_inverse=True)
    shares = np.bincount(of, hits) / np.bincount(of)
    count = math.ceil(WORST * len(shares))
    return float(np.sort(shares)[-count:].mean())


def sum_up(found: Found) -> dict[str, Any]:
    """The figures of a search.

    Returns:
        For JSON: ``rank1`` and ``map``, means over the probes, with their ``_interval`` (95 %,
        from draws of as many people with replacement; the gallery stays); ``worst_tenth``, rank 1
        of the tenth of the people who are found most often; ``probes`` and ``people``.
    """
    people, of = np.unique(found.probed, return_inverse=True)
    weights = count_draws(len(people))[:, of]
    figures: dict[str, Any] = {"probes": len(of), "people": len(people)}
    for name, values in (("rank1", found.hits), ("map", found.precisions)):
        drawn = weights @ values / weights.sum(axis=1)
        figures[name] = float(values.mean())
        figures[f"{name}_interval"] = to_interval(drawn)
    figures["worst_tenth"] = worst_tenth(found.hits, found.probed)
    return figures


def by_chance(person: np.ndarray, camera: np.ndarray, seed: int = 0) -> dict[str, float]:
    """``rank1``, ``map`` and ``worst_tenth`` of one who guesses: the mean over random rankings."""
    rng = np.random.default_rng(seed)
    size = (len(person), len(person))
    rounds = []
    for _ in range(CHANCE_ROUNDS):
        found = find_again(rng.random(size), person, camera)
        worst = worst_tenth(found.hits, found.probed)
        rounds.append([found.hits.mean(), found.precisions.mean(), worst])
    means = np.mean(rounds, axis=0).tolist()
    return dict(zip(("rank1", "map", "worst_tenth"), means, strict=True))


def worst_by_chance(chance: float, probed: np.ndarray, seed: int = 0) -> float:
    """:func:`worst_tenth` of one who guesses: the mean over random hits.

    Args:
        chance: of each hit, 0 to 1.
        probed: int ``[p]``, whom each probe shows.
        seed: of the hits.
    """
    guessed = np.random.default_rng(seed).random((CHANCE_ROUNDS, len(probed))) < chance
    rounds = [worst_tenth(hits.astype(float), probed) for hits in guessed]
    return float(np.mean(rounds))


def number(labels: Sequence[str]) -> np.ndarray:
    """A number for each different label, int ``[n]``."""
    return np.unique(np.asarray(labels), return_inverse=True)[1]
