"""Whole persons found again: tables, and the page's section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roi_anon_ros.evaluate.report.markdown import Table
from roi_anon_ros.evaluate.report.tables import decibels, interval

#: What a table calls the two comparisons.
MODES = {"raw": "originals ↔ sent", "linked": "sent ↔ sent"}


def tables(about: Mapping[str, Any]) -> list[Table]:
    """PSNR, rank 1 and mean average precision of each method, a table for each judge and scene."""
    shown = []
    for judge, scenes in about["judges"].items():
        for scene, methods in scenes.items():
            psnr = about["psnr"][scene]
            shown.append(_table(f"{judge}, {scene}", methods, about["chance"], psnr))
    return shown


def _table(
    title: str,
    methods: Mapping[str, Any],
    chance: Mapping[str, float],
    psnr: Mapping[str, float | None],
) -> Table:
    header = [title, "PSNR of the person"]
    for mode in MODES.values():
        header += [f"{mode}: rank 1 (95 %)", "mAP (95 %)", "rank 1, worst tenth"]
    table = [header]
    for name, measured in methods.items():
        line = [name, decibels(psnr[name])]
        for mode in MODES:
            figures = measured[mode]
            line += [interval(figures, "rank1"), interval(figures, "map")]
            line.append(f"{figures['worst_tenth']:.3f}")
        table.append(line)
    guessed = [f"{chance[key]:.3f}" for key in ("rank1", "map", "worst_tenth")]
    table.append(["by chance", "", *guessed, *guessed])
    return table


def section(about: Mapping[str, Any]) -> dict[str, Any]:
    """The page's section, see ``page.sections``."""
    text = [
        f"{about['images']} images of {about['people']} people from {about['cameras']} cameras, "
        "each before a plain wall, sent by each method, and looked for by networks for "
        f"re-identification ({', '.join(about['judges'])}) in the images of the other cameras.",
        "Originals ↔ sent: somebody has images of you and looks for you in what was sent; in the "
        "line of the original, nothing is protected. Sent ↔ sent: somebody follows you from "
        "camera to camera. Read both twice: what a site that may follow people keeps, and what a "
        "stranger can link.",
        "Worst tenth: the tenth of the people who are found most often. In brackets: 95 % of "
        "bootstrap resamples of the people.",
    ]
    return {"title": "Is anybody found again by clothes and build?", "text": text} | {
        "tables": tables(about)
    }
