"""What a utility budget gives back, and what it costs privacy: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from roi_anon_ros.evaluate.report.markdown import Table


def table(about: Mapping[str, Any]) -> Table:
    """Utility and privacy of each budget, and the differences to none."""
    head = ["budget", "bits per pixel", "AP50 of persons (95 %)", "difference to none (95 %)"]
    rows = [[*head, "linked (95 %)", "difference to none (95 %)"]]
    for name, figures in about["figures"].items():
        line = [name, f"{figures['bpp']:.3f}"]
        for figure in (figures["ap50"], figures["linked"]):
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
    return (
        f"{about['network']}, {about['steps']} steps of {about['batch']} crops for each budget; "
        f"utility: {networks}; privacy: {hides or 'none'}. AP50: by {about['detector']} on "
        f"{about['images']} images. Linked: how often the first guess of an attacker who learned "
        f"for {about['attack_steps']} steps is right, which of {about['people']} originals a "
        f"received person is; chance is {1 / about['people']:.3f}. In brackets: 95 % of 200 "
        "resamples of the images, or of the persons, for one training each."
    )


def plot(about: Mapping[str, Any]) -> Figure:
    """Utility over privacy, a point for each budget, with bars that hold 95 %."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for name, figures in about["figures"].items():
        bars: list[np.ndarray] = []
        values: list[float] = []
        for one in (figures["linked"], figures["ap50"]):
            low, high = one["interval"]
            bars.append(np.array([[one["value"] - low], [high - one["value"]]]).clip(0))
            values.append(one["value"])
        linked, precision = values
        ax.errorbar(linked, precision, xerr=bars[0], yerr=bars[1], fmt="o", capsize=3)
        place = (linked, precision)
        ax.annotate(name, place, xytext=(5, 5), textcoords="offset points", fontsize=9)
    ax.axvline(1 / about["people"], color="grey", linestyle="--", linewidth=1)
    ax.set_xlabel("persons linked to their originals (dashed: chance)")
    ax.set_ylabel("AP50 of persons")
    ax.grid(alpha=0.3)
    return figure
