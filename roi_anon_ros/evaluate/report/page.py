"""One page to show to others: all results of a folder as HTML that needs no network, and
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
from roi_anon_ros.evaluate.methods import ATTACKED, ORIGINAL
from roi_anon_ros.evaluate.methods.making import is_hidden_by_mtcnn
from roi_anon_ros.evaluate.report import bodies as of_bodies
from roi_anon_ros.evaluate.report import curves
from roi_anon_ros.evaluate.report import heads as of_heads
from roi_anon_ros.evaluate.report import study as of_study
from roi_anon_ros.evaluate.report.markdown import to_markdown
from roi_anon_ros.evaluate.report.tables import (
    attacks_on_faces,
    claims,
    detectors_of,
    faces_of,
    found_persons,
    heights,
    identities,
    overview,
    rates,
    sizes,
    titles,
)
from roi_anon_ros.evaluate.summary import SCORES

#: What the commands leave in a folder, by the name that the page has for it.
FILES = {
    "evaluation": "results.json",
    "heads": "heads.json",
    "identity": "identity.json",
    "bodies": "bodies.json",
    "bench": "bench.json",
    "study": "study.json",
}
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
    chosen = []
    if "evaluation" in found:
        chosen += _evaluation(found["evaluation"], folder)
    if "heads" in found:
        chosen += of_heads.sections(found["heads"])
    if "identity" in found:
        chosen.append(_identity(found["identity"]))
    if "bodies" in found:
        chosen.append(of_bodies.section(found["bodies"]))
    if "bench" in found:
        chosen.append(_bench(found["bench"]))
    if "study" in found:
        plots = [_png(of_study.plot(found["study"]))]
        chosen += [section | {"plots": plots} for section in of_study.sections(found["study"])]
    return [{"text": [], "tables": [], "plots": [], "sheet": []} | section for section in chosen]


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
    for section in sections(found, folder):
        lines += [f"## {section['title']}", ""]
        for paragraph in section["text"]:
            lines += [paragraph, ""]
        lines += [to_markdown(table) for table in section["tables"]]
    return "\n".join(lines)


def _evaluation(about: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    kinds = about["kinds"]
    worst = next(iter(kinds))
    versions = ", ".join(f"{name} {number}" for name, number in about["environment"].items())
    judged = f" and {about['judge']} (judge)" if about["judge"] else ""
    text = [
        f"Each kind of images has its own tables; they stand in the order of what "
        f"{about['claim']} leaves of the average precision on persons, {worst} the worst.",
        f"Images of {', '.join(about['sets'])}, seen {about['view']}, each sent at its own size. "
        f"Persons: average precision of {about['weights']}{judged} at overlap 0.5, and recall at "
        "the server's score of 0.25; “found” is no share of the original's. Faces: what is "
        "annotated and a detector finds. In brackets: 95 % of bootstrap resamples of the images; "
        "after a count of faces: its share of those found on the originals. PSNR and MS-SSIM are "
        "outside the heads, PSNR also inside them.",
        "Rate against AVIF: Bjøntegaard difference at equal average precision of persons, over "
        "the range that both curves reach; a method of one quality is compared at its own "
        "precision. -30 % is 30 % fewer bits; – where the curves share no precision.",
        *_partial_judges(about),
        f"Measured with {versions}.",
    ]
    summary = {
        "title": f"The worst kind of images: {worst}",
        "text": text,
        "tables": [claims(kinds, about["claim"], titles(about))],
    }
    shown = [summary]
    for name, results in kinds.items():
        shown += _kind(name, results, about, folder / "sheet" / name)
    return shown


def _kind(
    name: str, results: Mapping[str, Any], about: Mapping[str, Any], sheet: Path
) -> list[dict[str, Any]]:
    """The sections of one kind of images."""
    methods = results["methods"]
    base = methods[ORIGINAL]
    faces = faces_of(base)
    attacked = {method: figures for method, figures in methods.items() if method.endswith(ATTACKED)}
    plain = {method: figures for method, figures in methods.items() if method not in attacked}
    images = f"{results['images']} images"
    if results["annotated_images"] != results["images"]:
        images += f" of {results['annotated_images']}"
    named = titles(about)
    tables = []
    for detector in detectors_of(base):
        tables.append(heights(plain, detector, named[detector]))
        tables.append(found_persons(plain, detector, named[detector]))
    tables += overview(plain, base)
    tables += [rates(curves.bd_rates(methods, d), named[d]) for d in detectors_of(base)]
    tables += [sizes(plain, face) for face in faces]
    text = [
        f"{images}, {base['persons_boxes']} person boxes.",
        *_limits(base, faces, results["images"]),
        "Faces by size: true positives by the longest side of the face, pixels; by score: true / "
        f"false positives at several scores ({', '.join(map(str, SCORES))}).",
    ]
    plots = [_png(curves.plot(methods, named))]
    whole: dict[str, Any] = {"title": name, "text": text, "tables": tables, "plots": plots}
    if results["sheet"]:
        whole["sheet"] = [_read_row(sheet, image["methods"]) for image in results["sheet"]]
    if not attacked:
        return [whole]
    return [whole, _attacks(name, methods, attacked, about["attacks"])]


def _read_row(sheet: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """One image of the sheet, as each method shows it."""
    return {method: (sheet / file).read_bytes() for method, file in files.items()}


def _attacks(
    kind: str,
    methods: Mapping[str, Any],
    attacked: Mapping[str, Any],
    budgets: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """What an attacker recovers, next to what he attacked."""
    base = methods[ORIGINAL]
    both = {}
    for name in attacked:
        # The names of methods have no comma: what follows one says which attack it is.
        for shown in (name.partition(",")[0], name):
            if shown in methods:
                both[shown] = methods[shown]
    return {
        "title": f"{kind}: what an attacker recovers who trained for it",
        "text": [
            "The attacker has the encoder and images of his own, and trained a decoder from what "
            "is sent to the originals, with the same budget for every method (roi-anon attack). "
            "Detectors look at what it recovers. A method that stays low here withstood this "
            "attacker, at this budget and no other.",
            *_budgets(budgets),
        ],
        "tables": overview({ORIGINAL: base} | both, base),
    }


def _partial_judges(about: Mapping[str, Any]) -> list[str]:
    """Judges that are not impartial."""
    said = []
    methods = next(iter(about["kinds"].values()))["methods"]
    hidden = [name for name in methods if is_hidden_by_mtcnn(name)]
    if hidden:
        said.append(
            f"{', '.join(hidden)}: MTCNN finds the faces that are hidden, and is no impartial "
            "judge of them."
        )
    if about["weights"].startswith("yolov8n"):
        said.append(
            "Models trained here were guided by yolov8n; a second detector is more impartial "
            "(--judge)."
        )
    return said


def _limits(base: Mapping[str, Any], faces: list[str], images: int) -> list[str]:
    """What the images of a kind cannot tell."""
    said = []
    if "persons_by_hand_boxes" in base:
        said.append(
            f"Of the {base['persons_boxes']} person boxes only {base['persons_by_hand_boxes']} are "
            "on images whose persons people drew; the others were found by a detector, and a "
            "detector of its family agrees with it. The column “drawn by hand” is the ratio on "
            "the former alone."
        )
    if any(base[f"{name}_against"] == "annotations" for name in faces):
        by = base["faces_judged_by"]
        said.append(
            f"Faces are judged by annotated faces on {by.get('face', 0)} images, by heads (backs "
            f"and helmets too) on {by.get('head', 0)}, and {by.get('nothing', 0)} images do not "
            "count for them."
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
                f"still be {1 - 0.05 ** (1 / base[f'{name}_true']):.1%} (95 %, were faces "
                "independent of each other)."
            )
    if images < 100:
        said.append(
            f"{images} images are a quick look: differences of a few hundredths of AP are noise."
        )
    return said


def _budgets(attacks: Mapping[str, Mapping[str, int]]) -> list[str]:
    budgets: dict[str, str] = {}
    for method, budget in attacks.items():
        budgets[method] = ", ".join(f"{name} {value}" for name, value in budget.items())
    said = set(budgets.values())
    if len(said) == 1:
        return [f"The budget: {said.pop()}; colour images only."]
    return [
        "The budgets DIFFER, and so the methods do not compare: "
        + "; ".join(f"{method}: {budget}" for method, budget in budgets.items())
    ]


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _bench(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": "Latency",
        "text": [
            f"Ratios of median times to {results['reference']}'s, memory to memory, all methods "
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
        f"{about['images']} images of {counts['people']} people, as heads on persons before a "
        f"plain wall, sent by each method and recognised by {about['recogniser']}; "
        f"{about['left_out']} images without a face that could be found were left out. The "
        "attacker knows where eyes, nose and mouth were before the image was sent.",
        "Raw: what was sent against the images themselves. Linked: images that were sent "
        "against each other. TAR: "
        "share of pairs of one person that are accepted when 1 % or 0.1 % of the pairs of "
        "different people are. "
        "Rank 1: the right person is the most similar of all; by chance "
        f"{counts['rank1_chance']:.1%}. Worst tenth: rank 1 of the tenth of the people who are "
        f"found most often; by chance {counts['worst_tenth_chance']:.2f}.",
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
    for line, (scene, methods) in zip(axes, scenes.items(), strict=True):
        for ax, mode in zip(line, ("raw", "linked"), strict=True):
            for name, figures in methods.items():
                ax.plot(*zip(*figures[mode]["roc"], strict=True), label=name, linewidth=1.3)
            far = [far for far, _ in counts["roc"]]
            ax.plot(far, far, color="grey", linestyle="--", linewidth=1, label="chance")
            ax.set_xscale("log")
            ax.set_title(f"{scene}, {mode}")
            ax.set_xlabel("false accept rate")
            ax.set_ylabel("true accept rate")
            ax.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    tables = [identities(scene, methods) for scene, methods in scenes.items()]
    for scene, methods in scenes.items():
        tables += attacks_on_faces(scene, methods)
    if len(tables) > len(scenes):
        text.append(
            "Discrimination: who has ten candidates and the rest of the scene encodes each of "
            "them, and the nearest to what was sent wins. Attributes: a network's answers on what "
            "was sent, against its answers on the same person's other, clear images."
        )
    return {
        "title": "Is anybody recognised?",
        "text": text,
        "tables": tables,
        "plots": [_png(figure)],
    }
