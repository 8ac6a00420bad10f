"""The card of a trained model: what it saw, how it was trained, what was measured, and the curve of its training."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import yaml

from ..codec.modelfile import load_model

#: What the curve shows: column of the log, label, and how a value becomes what is drawn.
CURVES = {
    "val/bpp": ("bits per pixel", float),
    "val/mse_outside": ("PSNR outside the heads, dB", lambda mse: -10 * math.log10(mse)),
    "val/mse_heads": ("PSNR inside the heads, dB", lambda mse: -10 * math.log10(mse)),
    "val/persons": ("persons still found, of the original's", float),
    "val/faces": ("faces still found, of the original's", float),
}


def write_card(model: Path, log: Path) -> Path:
    """Write ``<model>.md`` and ``<model>-curve.png`` beside a model file.

    Args:
        model: the .safetensors file.
        log: folder of the run's logs; each continuation has its own ``version_*/metrics.csv`` in it.

    Returns:
        The card.
    """
    loaded = load_model(model)
    training, figures = loaded.metadata["training"], loaded.metadata["figures"]
    curve = draw_curve(log, model.with_name(f"{model.stem}-curve.png"))
    weights = sum(p.numel() for p in loaded.codec.parameters())
    hyperparameters = ", ".join(f"{name}={value}" for name, value in loaded.metadata["hyperparameters"].items())
    shown = {
        "bits per pixel (estimated)": f"{figures['bpp']:.3f}",
        "PSNR outside the heads": f"{-10 * math.log10(figures['mse_outside']):.1f} dB",
    }
    if figures.get("mse_heads"):
        shown["PSNR inside the heads"] = f"{-10 * math.log10(figures['mse_heads']):.1f} dB"
    for name, detector in (("persons", f"YOLOv8 ({Path(training['config']['detector']).stem})"), ("faces", "MTCNN")):
        if name in figures:
            shown[f"{name} that {detector} finds, of those it finds in the originals"] = f"{figures[name]:.1%}"
    lines = [
        f"# Model card: {loaded.metadata['name']}",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{model.name}`, {model.stat().st_size / 1e6:.1f} MB, fingerprint `{loaded.fingerprint.hex()}` |",
        f"| network | {loaded.metadata['architecture']} ({hyperparameters}), {weights / 1e6:.1f} M weights |",
        f"| licence | {loaded.metadata['licence']} |",
        f"| trained on | {training['pictures']} pictures with {training['heads']} heads to hide and "
        f"{training['persons']} persons to keep |",
        f"| steps | {training['steps']} |",
        f"| command | `{training['command']}` |",
        "",
        f"Measured on {training['validation_pictures']} pictures kept apart, at the end of the training:",
        "",
        "| | |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in shown.items()],
        "",
        f"![Training curve]({curve.name})",
        "",
        "The configuration:",
        "",
        "```yaml",
        yaml.safe_dump(training["config"], sort_keys=False, width=110).rstrip(),
        "```",
        "",
    ]
    card = model.with_suffix(".md")
    card.write_text("\n".join(lines))
    return card


def read_log(log: Path) -> dict[str, list[tuple[int, float]]]:
    """``{column: [(step, value), ...]}`` of all parts of a run's log, in the order of the steps.

    Where a run was continued, what its former part logged beyond the checkpoint is replaced.
    """
    values: dict[str, dict[int, float]] = {}
    parts = sorted(log.glob("version_*/metrics.csv"), key=lambda file: int(file.parent.name.split("_")[1]))
    for part in parts:
        with part.open() as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        values.setdefault(name, {})[int(row["step"]) + 1] = float(value)
    return {name: sorted(of.items()) for name, of in values.items()}


def draw_curve(log: Path, path: Path) -> Path:
    """Draw the figures of every validation over the steps into a .png file."""
    from matplotlib.figure import Figure

    values = {name: points for name, points in read_log(log).items() if name in CURVES}
    figure = Figure(figsize=(3.2 * max(len(values), 1), 2.6), layout="constrained")
    axes = figure.subplots(1, max(len(values), 1), squeeze=False)[0]
    for axis, (name, (label, drawn)) in zip(axes, ((n, c) for n, c in CURVES.items() if n in values), strict=False):
        steps, raw = zip(*values[name], strict=True)
        axis.plot(steps, [drawn(value) for value in raw])
        axis.set_title(label, fontsize=8)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path
