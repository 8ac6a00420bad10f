"""What can be told about somebody who is not recognised: sex and age, by a network that took no
part in training.

Nobody noted the truth of the images: it is what the network says of the person's *other* images
when they are clear, so that the figure of the original says how far the network agrees with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from roi_anon_ros.evaluate.identity import area, false_accepts
from roi_anon_ros.evaluate.precision import count_draws, to_interval
from roi_anon_ros.evaluate.retrieval import number


def sum_up_attributes(names: Sequence[str], clear: np.ndarray, sent: np.ndarray) -> dict[str, Any]:
    """How well sex and age are told.

    Args:
        names: n, of the person on each image.
        clear: ``[n, 2]``, probability of a man and age, of the clear images.
        sent: ``[n, 2]``, the same of what arrived.

    Returns:
        For JSON: ``attributes``, with ``sex_auc``, how often a man gets a higher probability
        than a woman, 0.5 by chance; ``age_correlation``, Spearman's of the ages, 0 by chance; each
        with its ``_interval``, 95 %, from draws of as many people; ``images``, those of people who
        have another one. Nothing where those are all of one sex.
    """
    person = number(names)
    truth, known = _of_the_others(person, clear)
    truth = truth[known]
    seen = sent[known]
    people, of = np.unique(person[known], return_inverse=True)
    if not 0 < (truth[:, 0] > 0.5).sum() < len(truth):
        return {}
    weights = count_draws(len(people))[:, of].astype(float)
    once = np.ones(len(of))
    sexes = np.array([tell_sex(truth[:, 0] > 0.5, seen[:, 0], one) for one in weights])
    ages = np.array([correlate(truth[:, 1], seen[:, 1], one) for one in weights])
    figures = {
        "images": len(of),
        "sex_auc": tell_sex(truth[:, 0] > 0.5, seen[:, 0], once),
        "sex_auc_interval": to_interval(sexes),
        "age_correlation": correlate(truth[:, 1], seen[:, 1], once),
        "age_correlation_interval": to_interval(ages),
    }
    return {"attributes": figures}


def _of_the_others(person: np.ndarray, clear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the other images of each one's person, and whether there are any."""
    count = np.bincount(person)[person]
    sums = np.stack([np.bincount(person, column)[person] for column in clear.T], axis=1)
    others = (sums - clear) / np.maximum(count - 1, 1)[:, None]
    return others, count > 1


def tell_sex(male: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> float:
    """Area under the ROC curve of a probability; nan where all are of one sex.

    Args:
        male: bool ``[n]``.
        probability: ``[n]``, of a man.
        weights: ``[n]``, 0 or more.
    """
    if not 0 < weights[male].sum() < weights.sum():
        return float("nan")
    order = np.argsort(probability[~male])
    shares = false_accepts(probability[male], probability[~male][order], weights[~male][order])
    return area(shares, weights[male])


def correlate(truth: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> float:
    """Spearman's rank correlation; nan where one of the two is the same for all.

    Args:
        truth: ``[n]``.
        seen: ``[n]``.
        weights: ``[n]``, how often each counts, 0 or more.
    """
    often = weights.astype(int)
    ranks = np.stack([rankdata(np.repeat(one, often)) for one in (truth, seen)])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(centred).sum(axis=1).prod())
    return float((centred[0] * centred[1]).sum() / spread) if spread else float("nan")
