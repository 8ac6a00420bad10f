"""The card: the headings of ISO/IEC 27559, each with what is known of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from roi_anon_ros import __version__
from roi_anon_ros.evaluate.card import figures, words
from roi_anon_ros.evaluate.card.figures import Figure
from roi_anon_ros.evaluate.card.results import Results

#: Of the card's JSON.
FORMAT = "roi-anon privacy card"
FORMAT_VERSION = 1


def make_card(results: Results) -> dict[str, Any]:
    """All of a card, for JSON.

    Args:
        results: of one model.

    Returns:
        ``format``, ``version``, ``release``; ``model`` with ``name`` and ``fingerprint``;
        ``sections`` in the order of ISO/IEC 27559, each with ``title``, ``text`` (paragraphs),
        ``points`` and ``figures``, see :class:`~roi_anon_ros.evaluate.card.figures.Figure`;
        ``watchdog``: by face detector, the figure that its alarms are set by; ``results``, the
        files with their SHA-256.
    """
    watched = figures.showing(results)
    opened = any(results.opened(one) for kind in ("identity", "bodies") for one in results.of(kind))
    sections = [
        _section("Context assessment: threat model", words.THREATS),
        _section("Context assessment: transparency and impact", words.TRANSPARENCY),
        _section("Data assessment: data features", words.FEATURES),
        _section("Data assessment: attack model", [*words.ATTACKS, *budgets(results)]),
        _section("Identifiability: singling out", words.SINGLE_OUT, figures.single_out(results)),
        _section("Identifiability: linkability", words.LINK, figures.link(results)),
        _section("Identifiability: inference", words.INFER, figures.infer(results)),
        _section("Identifiability: adversarial testing", words.TESTS, figures.attack(results)),
        _section("Mitigation", words.MITIGATION),
        _section("Governance", words.GOVERNANCE, list(watched.values())),
    ]
    if opened:
        holders = figures.for_key_holders(results)
        sections.insert(8, _section("For key holders: pseudonymous", words.KEY_HOLDERS, holders))
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "release": __version__,
        "model": {"name": results.model.name, "fingerprint": results.model.fingerprint},
        "sections": sections,
        "watchdog": {name: figure.to_json() for name, figure in watched.items()},
        "results": list_files(results),
    }


def _section(title: str, points: Sequence[str], measured: Sequence[Figure] = ()) -> dict[str, Any]:
    return {
        "title": title,
        "points": list(points),
        "figures": [one.to_json() for one in measured],
    }


def budgets(results: Results) -> list[str]:
    """What trained attackers were given, in words."""
    said = []
    for result in results.of("evaluation"):
        own = results.attacked(result)
        for name, budget in result.about.get("attacks", {}).items():
            if name in own:
                given = ", ".join(f"{key} {value}" for key, value in budget.items())
                said.append(f"Trained attacker, {name}: {given}.")
    return said


def list_files(results: Results) -> list[dict[str, Any]]:
    """The files that the card is made of, with the packages that they were measured with."""
    listed = []
    for kind, files in results.files.items():
        for result in files:
            entry = {"kind": kind, "file": result.path.name, "sha256": result.sha256}
            listed.append(entry | {"environment": result.about.get("environment", {})})
    return listed


def to_html(card: Mapping[str, Any]) -> str:
    """A card as one page that needs no network."""
    environment = Environment(
        loader=PackageLoader("roi_anon_ros.evaluate.card", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = to_number
    return environment.get_template("card.html.j2").render(card=card)


def to_number(value: float | None) -> str:
    """A share with three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"
