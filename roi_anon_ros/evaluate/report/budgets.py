"""What a utility budget gives back, and what it costs privacy: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from roi_anon_ros.evaluate.report.markdown import Table

#: What says how useful an image is, by its figure: the head of its column.
MEASURED = {"ap50": "AP50 of persons", "top1": "actions told right"}


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
