"""One page for whoever asks to be shown: all results of a folder as HTML that needs no network, and
as Markdown.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from roi_anon_ros.evaluate.latency import tables as latency
from roi_anon_ros.evaluate.measure import SCORES
from roi_anon_ros.evaluate.methods import ATTACKED, ORIGINAL
from roi_anon_ros.evaluate.report import curves
from roi_anon_ros.evaluate.report.tables import (
    faces_of,
    identities,
    overview,
    rates,
    sizes,
    to_markdown,
)

#: What the commands leave in a folder, by the name that the page has for it.
FILES = {"evaluation": "results.json", "identity": "identity.json", "bench": "bench.json"}
#: Fewer boxes than this are called too few: one of them is more than three percent.
FEW = 30


def read_results(folder: Path) -> dict[str, Any]:
    """What the commands left in a folder, by the names of ``FILES``.

    Raises:
        ValueError: there is nothing, or a file that is no JSON, named.
    """
    found = {}
    for name, file in FILES.items():
        if (folder / file).is_file():
            try:
                found[name] = json.loads((folder / file).read_text())
            except ValueError as error:
                raise ValueError(f"{folder / file}: no JSON: {error}") from error
    if not found:
        raise ValueError(
            f"{folder}: none of {', '.join(FILES.values())} in it; run roi-anon evaluate first"
        )
    return found


def sections(found: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The page's sections: ``title``, ``text`` (paragraphs), ``tables``, ``plots`` (PNG bytes),
    ``sheet``.
    """
    parts = []
    if "evaluation" in found:
        parts += _evaluation(found["evaluation"], folder)
    if "identity" in found:
        parts.append(_identity(found["identity"]))
    if "bench" in found:
        parts.append(_bench(found["bench"]))
    return [{"text": [], "tables": [], "plots": [], "sheet": []} | part for part in parts]


def html(found: Mapping[str, Any], folder: Path) -> str:
    """The page, with everything in it."""
    environment = Environment(
        loader=PackageLoader("roi_anon_ros.evaluate.report", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embed"] = lambda data: (
        "data:image/png;base64," + base64.b64encode(data).decode()
    )
    template = environment.get_template("report.html.j2")
    return template.render(sections=sections(found, folder))


def markdown(found: Mapping[str, Any], folder: Path) -> str:
    """The same texts and tables as Markdown."""
    lines = ["# What was measured", ""]
    for part in sections(found, folder):
        lines += [f"## {part['title']}", ""]
        for paragraph in part["text"]:
            lines += [paragraph, ""]
        lines += [to_markdown(table) for table in part["tables"]]
    return "\n".join(lines)


def _evaluation(about: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    results = about["rows"]
    base = results[ORIGINAL]
    faces = faces_of(base)
    attacked = {name: row for name, row in results.items() if name.endswith(ATTACKED)}
    plain = {name: row for name, row in results.items() if name not in attacked}
    versions = ", ".join(f"{name} {number}" for name, number in about["environment"].items())
    of_all = (
        f" of {about['annotated_pictures']}"
        if about["annotated_pictures"] != about["pictures"]
        else ""
    )
    text = [
        f"{about['pictures']} pictures{of_all} of {about['set']}{', turned grey' * about['grey']}, "
        "each row at the "
        f"picture's own size. Persons: average precision of {about['weights']} at overlap 0.5, "
        f"{base['persons_boxes']} "
        "boxes. Faces: what is annotated and a detector finds. In brackets: 95 % of bootstrap "
        "resamples of the "
        "pictures; after a count of faces: its share of those found on the originals. PSNR and "
        "MS-SSIM are outside the heads, PSNR also inside them.",
        *_limits(base, faces, about),
    ]
    parts = [
        {
            "title": "Rate, persons and faces",
            "text": text,
            "tables": overview(plain, base),
            "plots": [_png(curves.plot(results))],
        },
        {
            "title": "Rate at equal utility",
            "text": [
                "Bjøntegaard difference of the rate against a still codec at equal average "
                "precision of persons, over "
                "the range that both curves reach; a row of one quality is compared at its own "
                "precision. -30 % is 30 "
                "% fewer bits; – where the curves share no precision."
            ],
            "tables": [rates(curves.bd_rates(results))],
        },
        {
            "title": "Faces by size and by score",
            "text": [
                "True positives by the longest side of the face, in pixels, and true / false "
                "positives at several "
                f"scores ({', '.join(map(str, SCORES))}); AP of faces with all points."
            ],
            "tables": [sizes(plain, name) for name in faces],
        },
    ]
    if attacked:
        named = {name.removesuffix(ATTACKED): name for name in attacked}
        both = {n: results[n] for row, name in named.items() for n in (row, name) if n in results}
        parts.append(
            {
                "title": "What an attacker recovers who trained for it",
                "text": [
                    "The attacker has the encoder and pictures of its own, and trained a decoder "
                    "of its own from what "
                    "is sent to the originals, with the same budget for every row (roi-anon "
                    "attack). Detectors look at "
                    "what it recovers. A row that stays low here withstood this attacker, at this "
                    "budget and no other.",
                    *_budgets(about["attacks"]),
                ],
                "tables": overview({ORIGINAL: base} | both, base),
            }
        )
    if about.get("sheet"):
        parts.append(
            {
                "title": "Look for yourself",
                "text": ["Pictures with large heads, as each row's receiver sees them."],
                "sheet": [
                    {
                        row: (folder / "sheet" / file).read_bytes()
                        for row, file in picture["rows"].items()
                    }
                    for picture in about["sheet"]
                ],
            }
        )
    parts[0]["text"].append(f"Measured with {versions}.")
    return parts


def _limits(base: Mapping[str, Any], faces: list[str], about: Mapping[str, Any]) -> list[str]:
    """What the set cannot tell, and judges that are not impartial."""
    said, pictures = [], about["pictures"]
    if "persons_by_hand_boxes" in base:
        said.append(
            f"Of the {base['persons_boxes']} person boxes only {base['persons_by_hand_boxes']} are "
            "on pictures whose "
            "persons people drew; the others were found by a detector, and a detector of its "
            "family agrees with it. "
            "The column “drawn by hand” is the ratio on the former alone."
        )
    if any(base[f"{name}_against"] == "annotations" for name in faces):
        by = base["faces_judged_by"]
        said.append(
            f"Faces are judged by annotated faces on {by.get('face', 0)} pictures, by heads (backs "
            "and helmets too) "
            f"on {by.get('head', 0)}, and {by.get('nothing', 0)} pictures do not count for them."
        )
    if any("+" in name for name in about["rows"]):
        said.append(
            "blur+, pixelate+ and mask+ treat what MTCNN finds: of these rows MTCNN is no "
            "impartial judge."
        )
    if about["weights"].startswith("yolov8n"):
        said.append(
            "Models trained here were guided by yolov8n; one with other weights is more impartial "
            "(--weights)."
        )
    against = [name for name in ("persons", *faces) if base[f"{name}_against"] == "original"]
    if against:
        said.append(
            f"Not annotated, hence judged by what was found on the originals: {', '.join(against)}."
        )
    for name in faces:
        few = {size: n for size, n in base[f"{name}_by_size"].items() if n < FEW}
        if few:
            listed = ", ".join(f"{n} {size}" for size, n in few.items())
            said.append(
                f"Too few to tell: of the faces that {name} finds on the originals, {listed}."
            )
        if base[f"{name}_true"] >= FEW:
            said.append(
                f"Where {name} finds none of {base[f'{name}_true']} faces, the true share may "
                "still be "
                f"{1 - 0.05 ** (1 / base[f'{name}_true']):.1%} (95 %, were faces independent of "
                "each other)."
            )
    if pictures < 100:
        said.append(
            f"{pictures} pictures are a quick look: differences of a few hundredths of AP are "
            "noise."
        )
    return said


def _budgets(attacks: Mapping[str, Mapping[str, int]]) -> list[str]:
    said = {
        ", ".join(f"{name} {value}" for name, value in budget.items())
        for budget in attacks.values()
    }
    if len(said) == 1:
        return [f"The budget: {said.pop()}; colour pictures only."]
    return [
        "The budgets DIFFER, and so the rows do not compare: "
        + "; ".join(
            f"{row}: " + ", ".join(f"{name} {value}" for name, value in budget.items())
            for row, budget in attacks.items()
        )
    ]


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _bench(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": "Latency",
        "text": [
            f"Ratios of median times to {results['reference']}'s, memory to memory, all rows "
            "alternating in one run; "
            "below them the stages of the models.",
            *latency.notes(results),
        ],
        "tables": [*latency.tables(results), *latency.stage_tables(results)],
    }


def _identity(about: Mapping[str, Any]) -> dict[str, Any]:
    scenes = about["scenes"]
    counts = next(iter(next(iter(scenes.values())).values()))["raw"]
    text = [
        f"{about['pictures']} pictures of {counts['people']} people, as heads on persons before a "
        "plain wall, sent by "
        f"each row and recognised by {about['recogniser']}; {about['left_out']} pictures without a "
        "face that could be "
        "found were left out. The attacker knows where eyes, nose and mouth were before the "
        "picture was sent.",
        "Raw: what was sent against the pictures themselves. Linked: pictures that were sent "
        "against each other. TAR: "
        "share of pairs of one person that are accepted when 1 % or 0.1 % of the pairs of "
        "different people are. "
        "Rank 1: the right person is the most similar of all; by chance "
        f"{counts['rank1_chance']:.1%}.",
        f"{counts['genuine']} raw pairs of one person and {counts['impostors']} of two. In "
        "brackets: 95 % of bootstrap "
        "resamples of the people.",
    ]
    if counts["impostors"] < 10_000:
        text.append(
            f"{counts['impostors']} pairs of two people are too few to tell anything at a FAR of "
            "0.1 %."
        )
    figure = Figure(figsize=(11.2, 3.6 * len(scenes)), layout="constrained")
    axes = figure.subplots(len(scenes), 2, squeeze=False)
    for line, (scene, rows) in zip(axes, scenes.items(), strict=True):
        for ax, mode in zip(line, ("raw", "linked"), strict=True):
            for name, row in rows.items():
                ax.plot(*zip(*row[mode]["roc"], strict=True), label=name, linewidth=1.3)
            far = [far for far, _ in counts["roc"]]
            ax.plot(far, far, color="grey", linestyle="--", linewidth=1, label="chance")
            ax.set_xscale("log")
            ax.set_title(f"{scene}, {mode}")
            ax.set_xlabel("false accept rate")
            ax.set_ylabel("true accept rate")
            ax.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    tables = [identities(scene, rows) for scene, rows in scenes.items()]
    return {
        "title": "Is anybody recognised?",
        "text": text,
        "tables": tables,
        "plots": [_png(figure)],
    }
