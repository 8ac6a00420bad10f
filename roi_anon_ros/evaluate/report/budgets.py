"""What a utility budget gives back, and what it costs privacy: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from roi_anon_ros.evaluate.methods import ORIGINAL
from roi_anon_ros.evaluate.report.markdown import Table, to_markdown

#: What says how useful an image is, by its figure: the head of its column.
MEASURED = {"ap50": "AP50 of persons", "top1": "actions told right"}
#: What other networks say, likewise.
JUDGED = {
    "poses": "average precision of poses",
    "identified": "persons identified",
    "sex": "sex told, AUC",
}


def to_page(about: Mapping[str, Any]) -> str:
    """The tables, with what they are of, as Markdown."""
    parts = [describe_budgets(about), to_markdown(table(about)).rstrip()]
    judged = judged_table(about)
    if len(judged[0]) > 1:
        parts += [describe_judges(about), to_markdown(judged).rstrip()]
    return "\n\n".join(parts) + "\n"


def table(about: Mapping[str, Any]) -> Table:
    """Utility and privacy of each budget, and the differences to none."""
    measured = about["measured"]
    head = ["budget", "bits per pixel", f"{MEASURED[measured]} (95 %)"]
    rows = [[*head, "difference to none (95 %)", "linked (95 %)", "difference to none (95 %)"]]
    for name, figures in about["figures"].items():
        line = [name, f"{figures['bpp']:.3f}"]
        for figure in (figures[measured], figures["linked"]):
            low, high = figure["interval"]
            line.append(f"{figure['value']:.3f} ({low:.3f} to {high:.3f})")
            low, high = figure["difference_interval"]
            line.append(f"{figure['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
        rows.append(line)
    return rows


def judged_table(about: Mapping[str, Any]) -> Table:
    """What the other networks say of each budget."""
    names = [name for name in JUDGED if name in about["figures"][ORIGINAL]]
    rows = [["budget", *(f"{JUDGED[name]} (95 %)" for name in names)]]
    for budget, figures in about["figures"].items():
        line = [budget]
        for name in names:
            low, high = figures[name]["interval"]
            line.append(f"{figures[name]['value']:.3f} ({low:.3f} to {high:.3f})")
        rows.append(line)
    return rows


def describe_judges(about: Mapping[str, Any]) -> str:
    """What :func:`judged_table` is of."""
    sentences = {
        "poses": "Poses: average precision at a keypoint similarity of 0.5, by the points below "
        "the head, of the persons that the same network finds in the originals.",
        "identified": "Persons identified: how often a network for re-identification that took "
        "no part finds a received person most similar to its own original, among as many. Both "
        "are the same box: without any change it is always right.",
        "sex": "Sex told: by a network that took no part, of annotated faces; 0.5 is chance, and "
        "the truth is what it says of the original.",
    }
    there = about["figures"][ORIGINAL]
    return " ".join(sentence for name, sentence in sentences.items() if name in there)


def describe_budgets(about: Mapping[str, Any]) -> str:
    """What the table and the figure are of."""
    networks = ", ".join(Path(entry["network"]).stem for entry in about["utility"])
    hides = ", ".join(f"{e['network']} of weight {e['weight']}" for e in about["privacy"])
    if about["measured"] == "ap50":
        crops = "crops"
        judged = f"AP50: by {about['detector']} on {about['images']} images."
        resampled = "the images, or of the persons,"
    else:
        crops = "clips"
        judged = (
            f"Actions told right: by {about['detector']} in {about['clips']} clips of "
            f"{about['origins']} origins that no training saw; always the commonest is right in "
            f"{about['commonest']:.3f}."
        )
        resampled = "the origins,"
    return (
        f"{about['network']}, {about['steps']} steps of {about['batch']} {crops} for each budget; "
        f"utility: {networks}; privacy: {hides or 'none'}. {judged} Linked: how often the first "
        f"guess of an attacker who learned for {about['attack_steps']} steps is right, which of "
        f"{about['people']} originals a received person is; chance is "
        f"{1 / about['people']:.3f}. In brackets: 95 % of 200 resamples of {resampled} for one "
        "training each."
    )


def plot(about: Mapping[str, Any]) -> Figure:
    """Utility over privacy, a point for each budget, with bars that hold 95 %."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for name, figures in about["figures"].items():
        bars: list[np.ndarray] = []
        values: list[float] = []
        for one in (figures["linked"], figures[about["measured"]]):
            low, high = one["interval"]
            bars.append(np.array([[one["value"] - low], [high - one["value"]]]).clip(0))
            values.append(one["value"])
        linked, useful = values
        ax.errorbar(linked, useful, xerr=bars[0], yerr=bars[1], fmt="o", capsize=3)
        place = (linked, useful)
        ax.annotate(name, place, xytext=(5, 5), textcoords="offset points", fontsize=9)
    ax.axvline(1 / about["people"], color="grey", linestyle="--", linewidth=1)
    ax.set_xlabel("persons linked to their originals (dashed: chance)")
    ax.set_ylabel(MEASURED[about["measured"]])
    ax.grid(alpha=0.3)
    return figure
