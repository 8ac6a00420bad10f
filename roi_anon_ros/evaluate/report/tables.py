"""Results as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from roi_anon_ros.evaluate.report.curves import bd_rates, families
from roi_anon_ros.evaluate.report.markdown import Table
from roi_anon_ros.evaluate.summary import HEIGHTS, PERSON_DETECTORS, SCORES, SIZES


def titles(about: Mapping[str, Any]) -> dict[str, str]:
    """What tables call the detectors of persons: the names of their weights.

    Args:
        about: the results of an evaluation.
    """
    return {"persons": about["weights"], "judge": about["judge"] or ""}


def claims(kinds: Mapping[str, Mapping[str, Any]], claim: str, named: Mapping[str, str]) -> Table:
    """What a method leaves of each kind of images, in the order of the kinds.

    Args:
        kinds: results by kind, see ``comparison.compare``.
        claim: the method's name.
        named: the detectors of persons, see :func:`titles`.
    """
    base = next(iter(kinds.values()))["methods"][claim]
    detectors = detectors_of(base)
    header = [claim, "images", "persons", "bits per pixel (95 %)"]
    for name in detectors:
        title = named[name]
        header += [f"AP, {title}, of the original's (95 %)", f"recall, {title}, likewise"]
    table = [[*header, "rate against AVIF"]]
    for kind, results in kinds.items():
        measured = results["methods"][claim]
        line = [kind, str(results["images"]), str(measured["persons_boxes"])]
        line.append(interval(measured, "bits_per_pixel"))
        for name in detectors:
            line += [
                interval(measured, f"{name}_ratio"),
                interval(measured, f"{name}_recall_ratio"),
            ]
        table.append([*line, percent(_against_avif(results["methods"], claim))])
    return table


def _against_avif(methods: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    """The rate against AVIF's of the curve that a method lies on."""
    differences = bd_rates(methods)
    for family, members in families(list(methods)).items():
        if name in members:
            return differences[family].get("avif")
    return None


def found_persons(methods: Mapping[str, Mapping[str, Any]], detector: str, title: str) -> Table:
    """What a detector of persons finds, by itself: average precision; recall, precision and false
    boxes an image from each score on; average precision and recall by height.

    Args:
        methods: ``summary`` by the name of the method.
        detector: "persons" or "judge".
        title: what it is called.
    """
    base = next(iter(methods.values()))
    table = [[f"persons, {title}: found", f"AP of {base[f'{detector}_boxes']}"]]
    for score in base[f"{detector}_by_score"]:
        table[0] += [f"recall at {score}", "precision", "false an image"]
    for label, part in base[f"{detector}_by_height"].items():
        table[0].append(f"AP, recall {label} ({part['boxes']})")
    for name, measured in methods.items():
        line = [name, number(measured[f"{detector}_ap"], 2)]
        for figures in measured[f"{detector}_by_score"].values():
            line += [number(value, 2) for value in figures.values()]
        for part in measured[f"{detector}_by_height"].values():
            line.append(f"{number(part['ap'], 2)}, {number(part['recall'], 2)}")
        table.append(line)
    return table


def heights(methods: Mapping[str, Mapping[str, Any]], detector: str, named: str) -> Table:
    """Average precision and recall by the height of persons, of the original's.

    Args:
        methods: ``summary`` by the name of the method.
        detector: "persons" or "judge".
        named: what it is called.
    """
    base = next(iter(methods.values()))[f"{detector}_by_height"]
    title = f"persons, {named}: AP and recall, of the original's"
    labels = [f"{label} ({base[label]['boxes']} persons)" for label in HEIGHTS]
    table = [[title, "AP, all (95 %)", "recall, all (95 %)", *labels]]
    for name, measured in methods.items():
        line = [
            name,
            interval(measured, f"{detector}_ratio"),
            interval(measured, f"{detector}_recall_ratio"),
        ]
        for part in measured[f"{detector}_by_height"].values():
            ratio = short_interval(part, "ratio")
            line.append(f"{ratio}, {short_interval(part, 'recall_ratio')}")
        table.append(line)
    return table


def overview(methods: Mapping[str, Mapping[str, Any]], base: Mapping[str, Any]) -> list[Table]:
    """Rate, distortion and persons of each method, and faces, with what is left of the original's.

    Args:
        methods: ``measure.summary`` by the name of the method.
        base: that of the original.
    """
    header = [
        "",
        "bits per pixel (95 %)",
        "± sd",
        "PSNR",
        "MS-SSIM",
        "in heads",
        "persons, AP (95 %)",
        "101 points",
    ]
    header += ["of the original's (95 %)"]
    by_hand = "persons_by_hand_ratio" in base
    persons = [header + (["drawn by hand (95 %)"] if by_hand else [])]
    large = f"over {SIZES['large'][0]} px"
    faces = [
        [
            "",
            *(
                title
                for face in faces_of(base)
                for title in (f"faces, {face} (95 %)", large, "false", "on stamps")
            ),
        ]
    ]
    for name, measured in methods.items():
        similar = "–" if measured["ms_ssim"] is None else f"{measured['ms_ssim']:.3f}"
        line = [name, interval(measured, "bits_per_pixel"), f"{measured['bits_per_pixel_sd']:.3f}"]
        line += [decibels(measured["psnr_outside"]), similar, decibels(measured["psnr_heads"])]
        line += [
            interval(measured, "persons_ap"),
            number(measured["persons_ap_101"]),
            interval(measured, "persons_ratio"),
        ]
        persons.append(line + ([interval(measured, "persons_by_hand_ratio")] if by_hand else []))
        faces.append([name])
        for face in faces_of(base):
            share = (
                f": {interval(measured, f'{face}_share')}" if f"{face}_share" in measured else ""
            )
            of_large = share_of(
                measured[f"{face}_by_size"]["large"], base[f"{face}_by_size"]["large"]
            )
            faces[-1] += [f"{measured[f'{face}_true']}{share}", of_large]
            faces[-1] += [str(measured[f"{face}_false"]), str(measured[f"{face}_stamps"])]
    return [persons, faces]


def sizes(methods: Mapping[str, Mapping[str, Any]], face: str) -> Table:
    """Faces that a detector finds, by size, and true and false ones by score."""
    bounds = [
        f"{low} to {high} px" if high < float("inf") else f"over {low} px"
        for low, high in SIZES.values()
    ]
    table = [[f"faces, {face}", *bounds, *(f"score {score}" for score in SCORES), "AP (95 %)"]]
    for name, measured in methods.items():
        by_score = (
            " / ".join(map(str, measured[f"{face}_by_score"][str(score)])) for score in SCORES
        )
        by_size = (str(measured[f"{face}_by_size"][size]) for size in SIZES)
        table.append([name, *by_size, *by_score, interval(measured, f"{face}_ap")])
    return table


def rates(differences: Mapping[str, Mapping[str, float | None]], named: str) -> Table:
    """``curves.bd_rates`` by a detector, of this name, as a table."""
    anchors = list(dict.fromkeys(anchor for row in differences.values() for anchor in row))
    title = f"rate at equal AP, {named}, against"
    table = [[title, *anchors]]
    for name, row in differences.items():
        cells = (row.get(anchor) for anchor in anchors)
        table.append([name, *map(percent, cells)])
    return table


def identities(scene: str, methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """``identity.summary`` of each method in one scene."""
    figures = {
        "auc": "AUC (95 %)",
        "tar_far_1": "TAR at FAR 1 %",
        "tar_far_01": "at 0.1 %",
        "rank1": "rank 1",
    }
    modes = ("raw", "linked")
    titles = [*figures.values(), "worst tenth"]
    table = [[scene, *(f"{mode}: {title}" for mode in modes for title in titles)]]
    for name, measured in methods.items():
        line = [name]
        for mode in modes:
            line += [interval(measured[mode], key) for key in figures]
            line.append(number(measured[mode]["worst_tenth"]))
        table.append(line)
    return table


def attacks_on_faces(scene: str, methods: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """What ``identify`` found in one scene with ``--discrimination``, ``--attributes`` and
    ``--closed-set``.
    """
    titles = {
        "discrimination": {"same": "the very photo", "other": "another photo"},
        "attributes": {"sex_auc": "sex, AUC", "age_correlation": "age, rank correlation"},
    }
    tables = []
    for part, figures in titles.items():
        lines = []
        for name, measured in methods.items():
            if part in measured:
                lines.append([name, *(interval(measured[part], key) for key in figures)])
        if lines:
            head = [f"{scene}: {part}", *(f"{title} (95 %)" for title in figures.values())]
            tables.append([head, *lines])
    named = {name: one["closed_set"] for name, one in methods.items() if "closed_set" in one}
    if named:
        table = [[f"{scene}: named by what was sent", "rank 1 (95 %)", "worst tenth"]]
        for name, figures in named.items():
            table.append([name, interval(figures, "rank1"), f"{figures['worst_tenth']:.3f}"])
        guessed = [f"{figures[key]:.3f}" for key in ("rank1_chance", "worst_tenth_chance")]
        tables.append([*table, ["by chance", *guessed]])
    return tables


def detectors_of(base: Mapping[str, Any]) -> list[str]:
    """Names of the detectors of persons in a summary."""
    return [name for name in PERSON_DETECTORS if f"{name}_ap" in base]


def faces_of(base: Mapping[str, Any]) -> list[str]:
    """Names of the face detectors in a summary."""
    return [name.removesuffix("_true") for name in base if name.endswith("_true")]


def decibels(value: float | None) -> str:
    """A PSNR; without any error there is none."""
    return "–" if value is None else f"{value:.1f} dB"


def interval(measured: Mapping[str, Any], key: str) -> str:
    """A figure with its 95 % interval."""
    return (
        "–"
        if math.isnan(measured[key])
        else "{:.3f} ({:.3f} to {:.3f})".format(measured[key], *measured[f"{key}_interval"])
    )


def short_interval(measured: Mapping[str, Any], key: str) -> str:
    """A figure with its 95 % interval, two digits each."""
    if math.isnan(measured[key]):
        return "–"
    return "{:.2f} ({:.2f} to {:.2f})".format(measured[key], *measured[f"{key}_interval"])


def percent(change: float | None) -> str:
    """A change as a signed percentage; – where there is none."""
    return "–" if change is None else f"{change:+.0%}"


def number(value: float, digits: int = 3) -> str:
    """A figure without one."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def share_of(count: int, base: int) -> str:
    """A count, with its share of another in brackets."""
    return f"{count} ({count / base:.3f})" if base else str(count)
