"""The results as tables."""

from __future__ import annotations

from typing import Any

from roi_anon_ros.evaluate.report.tables import Table

#: Stages of a model, in their order.
STAGES = {
    "encode": ("fit", "analysis", "entropy", "pack"),
    "decode": ("unpack", "entropy", "synthesis"),
}


def tables(results: dict[str, Any]) -> list[Table]:
    """The rows in a table for each size, ratios first.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, rows in results["sizes"].items():
        lines = [
            [
                size,
                *(f"{what}, of {results['reference']}'s (95 %)" for what in STAGES),
                "bits per pixel",
            ]
        ]
        lines[0] += [f"{what}, ms: median (min, mean ± sd)" for what in STAGES]
        lines[0] += ["peak memory, MiB"] * any("memory" in row for row in rows.values())
        for name, row in rows.items():
            ratios = (
                map("{:#.3g}".format, [row[w]["ratio"], *row[w]["ratio_interval"]]) for w in STAGES
            )
            lines.append(
                [
                    name,
                    *("{} ({} to {})".format(*ratio) for ratio in ratios),
                    f"{row['bits_per_pixel']:.3f}",
                ]
            )
            for what in STAGES:
                median, least, mean, sd = (
                    1e3 * row[what][key] for key in ("median", "min", "mean", "sd")
                )
                lines[-1].append(f"{median:.2f} ({least:.2f}, {mean:.2f} ± {sd:.2f})")
            if "memory" in row:
                lines[-1].append(f"{row['memory']:.0f}")
        made.append(lines)
    return made


def stage_tables(results: dict[str, Any]) -> list[Table]:
    """The stages of the rows that have some, for each size: medians, and how near the analysis
    comes to the peak.

    Args:
        results: of :func:`run`.
    """
    made = []
    for size, rows in results["sizes"].items():
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
        for name, row in rows.items():
            if not row["encode"]["stages"]:
                continue
            taken = [
                row[what]["stages"].get(stage) for what, names in STAGES.items() for stage in names
            ]
            lines.append(
                [
                    name,
                    *("–" if stage is None else f"{1e3 * stage['median']:.2f}" for stage in taken),
                ]
            )
            if "analysis" in row:
                shares = row["analysis"]["share"].values()
                lines[-1] += [
                    f"{row['analysis']['gflops']:.1f}",
                    *(f"{share:.0%}" for share in shares),
                ]
            else:
                lines[-1] += ["–"] * (1 + len(results["peak"]))
        made.append(lines)
    return made


def notes(results: dict[str, Any]) -> list[str]:
    """What belongs below the tables: the rows' notes, and the machine.

    Args:
        results: of :func:`run`.
    """
    machine = ", ".join(f"{key} {value}" for key, value in results["environment"].items())
    lines = [f"{name}: {note}" for name, note in results["notes"].items() if note]
    rounds = f"{results['rounds']} rounds after {results['warmup']} to warm up"
    return [*lines, f"{results['image']}, {rounds}, on {machine}"]
