"""The results as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roi_anon_ros.evaluate.report.markdown import Table

#: Stages of a model, in their order.
STAGES = {
    "encode": ("fit", "analysis", "entropy", "pack"),
    "decode": ("unpack", "entropy", "synthesis"),
}


def tables(results: Mapping[str, Any]) -> list[Table]:
    """The methods in a table for each size, ratios first.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, methods in results["sizes"].items():
        lines = [
            [
                size,
                *(f"{what}, of {results['reference']}'s (95 %)" for what in STAGES),
                "bits per pixel",
            ]
        ]
        lines[0] += [f"{what}, ms: median (min, mean ± sd)" for what in STAGES]
        lines[0] += ["peak memory, MiB"] * any(
            "memory" in measured for measured in methods.values()
        )
        for name, measured in methods.items():
            ratios = (
                map("{:#.3g}".format, [measured[w]["ratio"], *measured[w]["ratio_interval"]])
                for w in STAGES
            )
            lines.append(
                [
                    name,
                    *("{} ({} to {})".format(*ratio) for ratio in ratios),
                    f"{measured['bits_per_pixel']:.3f}",
                ]
            )
            for what in STAGES:
                median, least, mean, sd = (
                    1e3 * measured[what][key] for key in ("median", "min", "mean", "sd")
                )
                lines[-1].append(f"{median:.2f} ({least:.2f}, {mean:.2f} ± {sd:.2f})")
            if "memory" in measured:
                lines[-1].append(f"{measured['memory']:.0f}")
        made.append(lines)
    return made


def stage_tables(results: Mapping[str, Any]) -> list[Table]:
    """The stages of the methods that have some, for each size: medians, and how near the analysis
    comes to the peak.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, methods in results["sizes"].items():
        lines = [
            [
                f"{size}, ms",
                *(f"{what}: {stage}" for what, names in STAGES.items() for stage in names),
            ]
        ]
        lines[0] += [
            "analysis, GFLOP/s",
            *(f"of {value:.0f}, {dtype}" for dtype, value in results["peak"].items()),
        ]
        for name, measured in methods.items():
            if not measured["encode"]["stages"]:
                continue
            taken = [
                measured[what]["stages"].get(stage)
                for what, names in STAGES.items()
                for stage in names
            ]
            lines.append(
                [
                    name,
                    *("–" if stage is None else f"{1e3 * stage['median']:.2f}" for stage in taken),
                ]
            )
            if "analysis" in measured:
                shares = measured["analysis"]["share"].values()
                lines[-1] += [
                    f"{measured['analysis']['gflops']:.1f}",
                    *(f"{share:.0%}" for share in shares),
                ]
            else:
                lines[-1] += ["–"] * (1 + len(results["peak"]))
        made.append(lines)
    return made


def notes(results: Mapping[str, Any]) -> list[str]:
    """What belongs below the tables: the methods' notes, and the machine.

    Args:
        results: of :func:`run`.
    """
    machine = ", ".join(f"{key} {value}" for key, value in results["environment"].items())
    lines = [f"{name}: {note}" for name, note in results["notes"].items() if note]
    rounds = f"{results['rounds']} rounds after {results['warmup']} to warm up"
    return [*lines, f"{results['image']}, {rounds}, on {machine}"]
