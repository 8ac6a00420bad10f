"""Rate against utility: curves as in the paper's Fig. 4, and the Bjøntegaard difference between two
of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

from roi_anon_ros.evaluate.methods import ATTACKED, ORIGINAL
from roi_anon_ros.evaluate.summary import PERSON_DETECTORS

#: A point of a curve: rate in bits per pixel, and what it buys.
Point = tuple[float, float]


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Methods by the curve that they lie on: those that differ in quality alone; a model of one
    rate is a curve of one point.

    The original and attacked methods are on none: they are no ways to send.
    """
    curves: dict[str, list[str]] = {}
    for name in names:
        if name != ORIGINAL and not name.endswith(ATTACKED):
            rated = re.fullmatch(r"(.+):\d+(\.\d+)?", name)
            curves.setdefault(rated[1] if rated else name, []).append(name)
    return curves


def rising(points: Sequence[Point]) -> np.ndarray:
    """The points by rate, without those that cost more than another and give no more: float ``[n,
    2]``.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return np.array(kept, float).reshape(-1, 2)


def rate_at(points: Sequence[Point], quality: float) -> float | None:
    """Rate at which a curve has a quality, log rate interpolated by a monotonous cubic; None beyond
    its ends.
    """
    curve = rising(points)
    if len(curve) < 2 or not curve[0, 1] <= quality <= curve[-1, 1]:
        return None
    return float(np.exp(PchipInterpolator(curve[:, 1], np.log(curve[:, 0]))(quality)))


def bd_rate(anchor: Sequence[Point], points: Sequence[Point]) -> float | None:
    """Bjøntegaard difference: mean change of the rate at equal quality against the anchor, -0.3 for
    30 % less.

    The mean of log rate, interpolated by a monotonous cubic, over the qualities that both curves
    reach (Bjøntegaard, VCEG-M33, with the interpolation of JCTVC-K0206). A curve of one point is
    compared at that point.

    Returns:
        None where the curves share no quality.
    """
    if len(rising(points)) == 1:
        rate, quality = rising(points)[0]
        same = rate_at(anchor, quality)
        return None if same is None else rate / same - 1
    curves = [rising(anchor), rising(points)]
    if min(map(len, curves)) < 2:
        return None
    low = max(curve[0, 1] for curve in curves)
    high = min(curve[-1, 1] for curve in curves)
    if not low < high:
        return None
    means = [
        PchipInterpolator(curve[:, 1], np.log(curve[:, 0])).integrate(low, high) / (high - low)
        for curve in curves
    ]
    return float(np.expm1(means[1] - means[0]))


def bd_rates(
    results: Mapping[str, Mapping[str, Any]], detector: str = "persons"
) -> dict[str, dict[str, float | None]]:
    """:func:`bd_rate` of every curve against each still codec's of two points or more, by their
    names.

    Args:
        results: ``summary`` by the method's name.
        detector: of persons, whose average precision is compared.
    """
    key = f"{detector}_ap"
    curves: dict[str, list[Point]] = {}
    for family, names in families(list(results)).items():
        curves[family] = [(results[name]["bits_per_pixel"], results[name][key]) for name in names]
    anchors = [family for family in ("avif", "jpeg", "webp") if len(curves.get(family, [])) > 1]
    rates: dict[str, dict[str, float | None]] = {}
    for family, points in curves.items():
        others = [anchor for anchor in anchors if anchor != family]
        rates[family] = {anchor: bd_rate(curves[anchor], points) for anchor in others}
    return rates


def plot(results: Mapping[str, Mapping[str, Any]], named: Mapping[str, str]) -> Figure:
    """Average precision of each detector of persons, and the share of faces that each detector of
    them finds, over bits per pixel on a log scale.

    Bars hold 95 %; the dashed line is the unprotected original.

    Args:
        results: ``summary`` by the method's name.
        named: the detectors of persons, see ``tables.titles``.
    """
    base = results[ORIGINAL]
    keys = [f"{name}_ap" for name in PERSON_DETECTORS if f"{name}_ap" in base]
    keys += [name for name in base if name.endswith("_share")]
    figure = Figure(figsize=(4.6 * len(keys) + 1.2, 4.2), layout="constrained")
    axes = figure.subplots(1, len(keys), squeeze=False)[0]
    for ax, key in zip(axes, keys, strict=True):
        ax.axhline(base[key], color="grey", linestyle="--", linewidth=1, label=ORIGINAL)
        for family, names in families(list(results)).items():
            _draw_curve(ax, family, [results[name] for name in names], key)
        _label_axes(ax, key, named)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def _draw_curve(ax: Axes, family: str, methods: list[Mapping[str, Any]], key: str) -> None:
    """One curve with its intervals."""
    methods = sorted(methods, key=lambda measured: measured["bits_per_pixel"])
    value = np.array([measured[key] for measured in methods])
    low, high = np.array([measured[f"{key}_interval"] for measured in methods]).T
    one = len(methods) == 1
    ax.errorbar(
        [measured["bits_per_pixel"] for measured in methods],
        value,
        yerr=np.stack([value - low, high - value]).clip(0),
        marker="*" if one else "o",
        markersize=12 if one else 4,
        linewidth=1.2,
        elinewidth=0.6,
        capsize=2,
        label=family,
    )


def _label_axes(ax: Axes, key: str, named: Mapping[str, str]) -> None:
    """Titles and scales of one panel."""
    name, _, figure = key.rpartition("_")
    ax.set_xscale("log")
    ax.set_xlabel("bits per pixel")
    if figure == "ap":
        ax.set_ylabel("average precision")
        ax.set_title(f"persons, {named[name]} (higher is better)")
    else:
        ax.set_ylabel("faces found, of those in the originals")
        ax.set_title(f"faces, {name} (lower is better)")
    ax.set_ylim(0, None)
    ax.grid(alpha=0.3, which="both")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(
        lambda x, _: f"{x:g}" if f"{x:g}".rstrip("0").rstrip(".")[-1] in "25" else ""
    )


def save_plot(
    results: Mapping[str, Mapping[str, Any]], named: Mapping[str, str], path: Path
) -> None:
    """Write :func:`plot` as a PNG or SVG, by the file's suffix."""
    plot(results, named).savefig(path, dpi=110)
