"""What a study of trainings on treated images found: a table, a figure, and what is significant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from roi_anon_ros.evaluate.methods import ORIGINAL
from roi_anon_ros.evaluate.report.markdown import Table

#: What is compared of a person, by the task.
COMPARED = {"detect": "boxes", "segment": "masks", "pose": "keypoints"}
#: Tests, and what a table and a figure call them.
TESTS = {
    "originals": "trained on it, tested on originals",
    "treated": "trained and tested on it",
    "untrained": "trained on originals, tested on it",
}


def table(about: Mapping[str, Any]) -> Table:
    """Average precision of each arm, and its difference to training on originals."""
    head = ["trained on", "images are", "AP50 on originals (95 %)", "difference (95 %)"]
    head += ["significant", "AP on originals (95 %)", "difference of AP (95 %)"]
    rows = [[*head, f"AP50, {TESTS['treated']}", f"AP50, {TESTS['untrained']}"]]
    for name, tests in about["figures"].items():
        half = tests["originals"]["ap50"]
        whole = tests["originals"]["ap"]
        line = [name, about["arms"][name], _value(half), _difference(half)]
        line.append("–" if name == ORIGINAL else _yes(half))
        line += [_value(whole), _difference(whole)]
        for test in ("treated", "untrained"):
            line.append(_value(tests[test]["ap50"]) if test in tests else "–")
        rows.append(line)
    return rows


def sections(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The page's section, without its figure; see ``page.sections``."""
    trained = about["train"]
    tested = about["test"]
    text = [
        f"{about['weights']} trained on {trained['images']} images ({trained['persons']} persons) "
        f"of each kind, {about['epochs']} epochs at {about['image_size']} pixels, batch "
        f"{about['batch']}, {about['seeds']} trainings each; tested on {tested['images']} images "
        f"({tested['persons']} persons), as COCO does it for {COMPARED[about['task']]}. AP50: "
        "average precision at an overlap of 0.5; AP: mean over overlaps from 0.5 to 0.95.",
        "In brackets: 95 % of bootstrap resamples of test images and trainings together. A "
        "difference is to training and testing on originals, on the same images and seeds; "
        "it is significant where its interval leaves 0 out. Of twenty arms that make no "
        "difference, one is significant by chance. Few trainings say little of their spread.",
        *_findings(about),
    ]
    return [{"title": "Trained on anonymized images", "text": text, "tables": [table(about)]}]


def _findings(about: Mapping[str, Any]) -> list[str]:
    """Which arms cost something when they are trained on, in words."""
    named: dict[str, list[str]] = {"cost": [], "gain": [], "cannot be told": []}
    for name, tests in about["figures"].items():
        half = tests["originals"]["ap50"]
        if name == ORIGINAL:
            continue
        if not half["significant"]:
            named["cannot be told"].append(name)
        else:
            named["cost" if half["difference"] < 0 else "gain"].append(name)
    said = []
    for word, names in named.items():
        if names:
            said.append(f"{word}: {', '.join(names)}")
    return [f"AP50 on originals: {'; '.join(said)}."] if said else []


def plot(about: Mapping[str, Any]) -> Figure:
    """AP50 of each arm in each test, with bars that hold 95 % and a dot for each training."""
    figures = about["figures"]
    names = list(figures)
    figure = Figure(figsize=(7.5, 1.4 + 0.55 * len(names)), layout="constrained")
    ax = figure.subplots()
    base = figures[ORIGINAL]["originals"]["ap50"]["value"]
    ax.axvline(base, color="grey", linestyle="--", linewidth=1)
    for offset, (test, label) in zip((-0.2, 0.0, 0.2), TESTS.items(), strict=True):
        shown = [
            (row, figures[name][test]["ap50"])
            for row, name in enumerate(names)
            if test in figures[name]
        ]
        rows = np.array([row for row, _ in shown]) + offset
        values = np.array([one["value"] for _, one in shown])
        bounds = np.array([one["interval"] for _, one in shown]).reshape(-1, 2)
        bars = np.stack([values - bounds[:, 0], bounds[:, 1] - values]).clip(0)
        drawn = ax.errorbar(values, rows, xerr=bars, fmt="o", capsize=3, label=label)
        for row, (_, one) in zip(rows, shown, strict=True):
            seeds = one["by_seed"]
            ax.plot(seeds, [row] * len(seeds), "|", color=drawn[0].get_color(), markersize=9)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel(f"AP50 of {COMPARED[about['task']]}")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=1)
    return figure


def _value(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def _difference(figure: Mapping[str, Any]) -> str:
    low, high = figure["difference_interval"]
    return f"{figure['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def _yes(figure: Mapping[str, Any]) -> str:
    return "yes" if figure["significant"] else "no"
