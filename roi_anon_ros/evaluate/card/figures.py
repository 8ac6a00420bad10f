"""The figures of a card, each the worst that was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import beta

from roi_anon_ros.evaluate.card.results import Result, Results
from roi_anon_ros.evaluate.methods import ORIGINAL
from roi_anon_ros.evaluate.summary import FACE_SCORE

IDENTIFY = "roi-anon identify"
BODIES = "roi-anon identify --bodies"
EVALUATE = "roi-anon evaluate"
HEADS = "roi-anon heads"
#: Heads of this height count, see ``evaluate/heads.py``.
LARGE = "32 px and more"


#: What guessing gives.
GUESSED = {"sex_auc": 0.5, "age_correlation": 0.0}


#: What a figure counts, by its name in the results; others count images.
COUNTED = {"rank1": "probes", "map": "probes", "worst_tenth": "probes", "tar_far_1": "genuine"}


@dataclass(frozen=True)
class Figure:
    """One figure of a card; all are shares, 0 to 1, or counts of them, where less is better.

    Attributes:
        what: was measured.
        command: that measures it.
        value: the worst that was measured; None: nothing was.
        interval: that holds 95 %; None where there is none.
        unprotected: the same of the originals; None where there is nothing to compare with.
        chance: what guessing would give; None where guessing says nothing.
        where: what was the worst: file, method, kind of images or scene.
        count: of faces, heads, images or pairs that the share is of: few of them say little.
    """

    what: str
    command: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    unprotected: float | None = None
    chance: float | None = None
    where: str = ""
    count: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a card has it."""
        return asdict(self)


def worst(what: str, command: str, measured: Iterable[Figure]) -> Figure:
    """The highest of several figures; without any, one that says so."""
    known = [one for one in measured if one.value is not None and not math.isnan(one.value)]
    if not known:
        return Figure(what, command)
    return max(known, key=lambda one: one.value or 0.0)


def exact_interval(count: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, which holds 95 %; also where none, or all, count.

    Args:
        count: 0 to ``of``.
        of: 1 or more.
    """
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return low, high


def single_out(results: Results) -> list[Figure]:
    """Can anybody be told from all others?"""
    figures = [faces(results, name) for name in FACE_SCORE]
    figures.append(unpainted(results))
    figures.append(recognised(results, "raw", "rank1", "person identified by a photo of the face"))
    pairs = "face accepted as that of a photo, at 1 % false accepts"
    figures.append(recognised(results, "raw", "tar_far_1", pairs))
    most = "person identified by a photo of the face, the tenth identified most often"
    figures.append(recognised(results, "raw", "worst_tenth", most))
    figures += found_again(results, "raw", "person found by images of clothes and build")
    for key, photo in (("same", "the very photo"), ("other", "another photo")):
        what = f"face picked out of ten candidates by encoding each, {photo}"
        figures.append(asked(results, "discrimination", key, what))
    return figures


def link(results: Results) -> list[Figure]:
    """Can two images of one person be linked?"""
    what = "face linked to the same person's in another image (rank 1)"
    figures = [recognised(results, "linked", "rank1", what)]
    pairs = "two faces of one person accepted as such, at 1 % false accepts"
    figures.append(recognised(results, "linked", "tar_far_1", pairs))
    most = "face linked to the same person's in another image, the tenth linked most often"
    figures.append(recognised(results, "linked", "worst_tenth", most))
    figures += found_again(results, "linked", "person linked from camera to camera")
    return figures


def infer(results: Results) -> list[Figure]:
    """Can anything be told about a person who is not recognised?"""
    sex = "sex told from the face (area under the ROC curve)"
    age = "age told from the face (rank correlation)"
    return [
        asked(results, "attributes", "sex_auc", sex),
        asked(results, "attributes", "age_correlation", age),
    ]


def attack(results: Results) -> list[Figure]:
    """What do trained attackers and replaced pixels bring to light?"""
    what = "person identified by the face in what a trained attacker recovers"
    return [
        *(faces(results, name, attacked=True) for name in FACE_SCORE),
        recognised(results, "raw", "rank1", what, attacked=True),
        leaking(results),
    ]


def for_key_holders(results: Results) -> list[Figure]:
    """What do the holders of a key see? Pseudonymous, not anonymous."""
    what = "person identified by a photo of the face, in what is opened"
    figures = [recognised(results, "raw", "rank1", what, opened=True)]
    figures += found_again(results, "raw", "person found, in what is opened", opened=True)
    return figures


def faces(results: Results, detector: str, attacked: bool = False) -> Figure:
    """Faces that a detector finds and that are not painted ones, of those on the originals."""
    found = "in what a trained attacker recovers" if attacked else "that are not painted ones"
    what = f"faces {found}, of those on the originals, {detector}"

    def measured() -> Iterator[Figure]:
        for result in results.of("evaluation"):
            names = results.attacked(result) if attacked else results.plain(result)
            for kind, of_kind in result.about["kinds"].items():
                for name in names:
                    one = of_kind["methods"][name]
                    if f"{detector}_share" in one:
                        interval = tuple(one[f"{detector}_share_interval"])
                        where = f"{result.path.name}: {name}, {kind}"
                        value = one[f"{detector}_share"]
                        count = of_kind["methods"][ORIGINAL][f"{detector}_true"]
                        yield Figure(what, EVALUATE, value, interval, 1.0, None, where, count)

    return worst(what, EVALUATE, measured())


def unpainted(results: Results) -> Figure:
    """Heads whose centre is not painted."""
    what = f"heads of {LARGE} whose centre is not painted"

    def measured() -> Iterator[Figure]:
        for result in results.of("heads"):
            for kind, of_kind in result.about["kinds"].items():
                for view, seen in of_kind["views"].items():
                    one = seen["by_height"][LARGE]
                    if one["share"] is not None:
                        low, high = one["share_interval"]
                        where = f"{result.path.name}: {kind}, {view}"
                        value = 1 - one["share"]
                        bounds = (1 - high, 1 - low)
                        count = one["heads"]
                        yield Figure(what, HEADS, value, bounds, 1.0, None, where, count)

    return worst(what, HEADS, measured())


def recognised(
    results: Results,
    mode: str,
    key: str,
    what: str,
    attacked: bool = False,
    opened: bool = False,
) -> Figure:
    """A figure of face recognition."""

    def measured() -> Iterator[Figure]:
        for result in results.of("identity"):
            names = _names(results, result, attacked, opened)
            for scene, methods in result.about["scenes"].items():
                base = methods[ORIGINAL][mode]
                chance = base.get(f"{key}_chance", 0.01)
                for name in names:
                    where = f"{result.path.name}: {name}, {scene}, {result.about['recogniser']}"
                    yield _compared(what, IDENTIFY, methods[name][mode], base, key, chance, where)

    return worst(what, IDENTIFY, measured())


def asked(results: Results, part: str, key: str, what: str) -> Figure:
    """A figure that identify measures only where it was asked to."""
    option = f"{IDENTIFY} --{part}"

    def measured() -> Iterator[Figure]:
        for result in results.of("identity"):
            for scene, methods in result.about["scenes"].items():
                for name in results.plain(result):
                    if part in methods[name]:
                        where = f"{result.path.name}: {name}, {scene}"
                        one = methods[name][part]
                        base = methods[ORIGINAL][part]
                        chance = GUESSED.get(key, one.get("chance"))
                        yield _compared(what, option, one, base, key, chance, where)

    return worst(what, option, measured())


def found_again(results: Results, mode: str, what: str, opened: bool = False) -> list[Figure]:
    """Figures of re-identification: rank 1, mean average precision and the worst tenth."""
    titles = {
        "rank1": f"{what} (rank 1)",
        "map": f"{what} (mean average precision)",
        "worst_tenth": f"{what} (rank 1 of the tenth found most often)",
    }
    figures = []
    for key, title in titles.items():
        measured = []
        for result in results.of("bodies"):
            for judge, scenes in result.about["judges"].items():
                for scene, methods in scenes.items():
                    for name in _names(results, result, False, opened):
                        where = f"{result.path.name}: {name}, {scene}, {judge}"
                        chance = result.about["chance"][key]
                        base = methods[ORIGINAL][mode]
                        of_method = methods[name][mode]
                        one = _compared(title, BODIES, of_method, base, key, chance, where)
                        measured.append(one)
        figures.append(worst(title, BODIES, measured))
    return figures


def leaking(results: Results) -> Figure:
    """Packets that change when what is under the paint is replaced."""
    what = "packets that change when what is under the paint is replaced"

    def measured() -> Iterator[Figure]:
        for result in results.of("heads"):
            for kind, of_kind in result.about["kinds"].items():
                for replacement, counted in of_kind["packets"].items():
                    packets = counted["packets"]
                    if packets:
                        changed = packets - counted["same"]
                        interval = exact_interval(changed, packets)
                        where = f"{result.path.name}: {kind}, {replacement}"
                        share = changed / packets
                        yield Figure(what, HEADS, share, interval, None, None, where, packets)

    return worst(what, HEADS, measured())


def showing(results: Results) -> dict[str, Figure]:
    """Images on which a detector finds a face that is not a painted one, by the detector."""
    return {detector: _showing(results, detector) for detector in FACE_SCORE}


def _showing(results: Results, detector: str) -> Figure:
    what = f"images on which {detector} finds a face that is not a painted one"

    def measured() -> Iterator[Figure]:
        for result in results.of("evaluation"):
            for kind, of_kind in result.about["kinds"].items():
                base = of_kind["methods"][ORIGINAL]
                for name in results.plain(result):
                    one = of_kind["methods"][name]
                    if f"{detector}_images" in one:
                        count = one[f"{detector}_images"]
                        interval = exact_interval(count, one["images"])
                        before = base[f"{detector}_images"] / base["images"]
                        where = f"{result.path.name}: {name}, {kind}"
                        images = one["images"]
                        value = count / images
                        yield Figure(what, EVALUATE, value, interval, before, None, where, images)

    return worst(what, EVALUATE, measured())


def _names(results: Results, result: Result, attacked: bool, opened: bool) -> list[str]:
    """The methods that a figure is of."""
    if attacked:
        return results.attacked(result)
    return results.opened(result) if opened else results.plain(result)


def _compared(
    what: str,
    command: str,
    measured: Mapping[str, Any],
    base: Mapping[str, Any],
    key: str,
    chance: float,
    where: str,
) -> Figure:
    """A figure of a method, next to the original's."""
    interval = measured.get(f"{key}_interval")
    bounds = None if interval is None else (interval[0], interval[1])
    counted = COUNTED.get(key, "images")
    return Figure(
        what, command, measured[key], bounds, base[key], chance, where, measured.get(counted)
    )
