"""The card of a trained model: what it saw, how it was trained, what was measured, its curve and
its contact sheet.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from roi_anon_ros.codec import MAX_SIDE, Codec
from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.codec.modelfile import Model, load_model
from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.validation import to_decibels

#: What the curve shows: column of the log, label, and how a value becomes what is drawn.
CURVES: dict[str, tuple[str, Callable[[float], float]]] = {
    "val/bpp": ("bits per pixel", float),
    "val/mse_outside": ("PSNR outside the heads, dB", to_decibels),
    "val/mse_heads": ("PSNR inside the heads, dB", to_decibels),
    "val/persons": ("persons still found, of the original's", float),
    "val/faces": ("faces still found, of the original's", float),
}

#: The contact sheet: photos that come with ultralytics, and the longest sides at which a camera
#: codes them.
PHOTOS = ("zidane.jpg", "bus.jpg")
SIDES = (640, 320)


def write_card(model: Path, log: Path) -> Path:
    """Write ``<model>.md``, ``<model>-curve.png`` and ``<model>-sheet.jpg`` beside a model file.

    Args:
        model: the .safetensors file.
        log: folder of the run's logs; each continuation has its own ``version_*/metrics.csv`` in
            it.

    Returns:
        The card.
    """
    loaded = load_model(model)
    training = loaded.metadata["training"]
    figures = loaded.metadata["figures"]
    curve = draw_curve(log, model.with_name(f"{model.stem}-curve.png"))
    images = draw_sheet(loaded, model.with_name(f"{model.stem}-sheet.jpg"))
    weights = sum(p.numel() for p in loaded.codec.parameters())
    hyperparameters = ", ".join(
        f"{name}={value}" for name, value in loaded.metadata["hyperparameters"].items()
    )
    shown = _show_figures(figures, Path(training["config"]["detector"]).stem)
    lines = [
        f"# Model card: {loaded.metadata['name']}",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{model.name}`, {model.stat().st_size / 1e6:.1f} MB, fingerprint "
        f"`{loaded.fingerprint.hex()}` |",
        f"| network | {loaded.metadata['architecture']} ({hyperparameters}), {weights / 1e6:.1f} M "
        "weights |",
        f"| licence | {loaded.metadata['licence']} |",
        f"| trained on | {training['pictures']} images with {training['heads']} heads to hide "
        "and "
        f"{training['persons']} persons to keep |",
        f"| steps | {training['steps']} |",
        f"| command | `{training['command']}` |",
        "",
        f"Measured on {training['validation_pictures']} images kept apart, at the end of the "
        "training:",
        "",
        "| | |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in shown.items()],
        "",
        f"![Training curve]({curve.name})",
        "",
        *([f"![Decoded images]({images.name})", ""] if images else []),
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


def _show_figures(figures: Mapping[str, float], weights: str) -> dict[str, str]:
    """The rows of the table of figures: what each is, and its value.

    Args:
        figures: of the validation, by their names.
        weights: name of the detector of persons.
    """
    shown = {
        "bits per pixel (estimated)": f"{figures['bpp']:.3f}",
        "PSNR outside the heads": f"{to_decibels(figures['mse_outside']):.1f} dB",
    }
    if figures.get("mse_heads"):
        shown["PSNR inside the heads"] = f"{to_decibels(figures['mse_heads']):.1f} dB"
    for name, detector in (("persons", f"YOLOv8 ({weights})"), ("faces", "MTCNN")):
        if name in figures:
            shown[f"{name} that {detector} finds, of those it finds in the originals"] = (
                f"{figures[name]:.1%}"
            )
    return shown


def read_log(log: Path) -> dict[str, list[tuple[int, float]]]:
    """``{column: [(step, value), ...]}`` of all segments of a run's log, in the order of the steps.

    Where a run was continued, what its former segment logged beyond the checkpoint is replaced.
    """
    values: dict[str, dict[int, float]] = {}
    segments = sorted(
        log.glob("version_*/metrics.csv"), key=lambda file: int(file.parent.name.split("_")[1])
    )
    for segment in segments:
        with segment.open() as stream:
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
    for axis, (name, (label, drawn)) in zip(
        axes, ((n, c) for n, c in CURVES.items() if n in values), strict=False
    ):
        steps, raw = zip(*values[name], strict=True)
        axis.plot(steps, [drawn(value) for value in raw])
        axis.set_title(label, fontsize=8)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path


def draw_sheet(model: Model, path: Path) -> Path | None:
    """Send the photos that come with ultralytics, in colour and grey, and draw what arrives into a
    .jpg file.

    No original is on it, so that it can be shown.

    Returns:
        The file; None where ultralytics is not installed.
    """
    from matplotlib.figure import Figure

    photos = [photo for name in PHOTOS if (photo := example_photo(name))]
    if not photos:
        return None
    codec = Codec(model)
    shown = []
    for photo in photos:
        image = read_pixels(photo)
        for side in SIDES:
            for seen in (image, as_grey(image)):
                encoded = codec.encode(seen, side)
                decoded = codec.decode(encoded.packet, MAX_SIDE**2).image
                height, width = decoded.shape[:2]
                shown.append(
                    (
                        decoded,
                        f"{width} x {height}, {8 * len(encoded.packet) / (width * height):.3f} bpp",
                    )
                )
    rows = [shown[i : i + 2 * len(SIDES)] for i in range(0, len(shown), 2 * len(SIDES))]
    figure = Figure(figsize=(16, 8.5), layout="constrained")
    heights = [row[0][0].shape[0] / row[0][0].shape[1] for row in rows]
    grid = figure.subplots(
        len(rows), 2 * len(SIDES), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes, row in zip(grid, rows, strict=True):
        for axis, (decoded, label) in zip(axes, row, strict=True):
            axis.imshow(decoded)
            axis.set_title(label, fontsize=8)
            axis.axis("off")
    figure.savefig(path, dpi=100)
    return path
