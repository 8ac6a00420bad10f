"""The privacy card: the worst figure of each kind, none where nothing was measured, one model."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.codec import Codec
from roi_anon_ros.evaluate.card.card import make_card, to_html
from roi_anon_ros.evaluate.card.figures import exact_interval
from roi_anon_ros.evaluate.card.results import Model, read_all
from roi_anon_ros.evaluate.identity import summary as identity_summary
from roi_anon_ros.evaluate.retrieval import find_again, sum_up

GOLDEN = Path(__file__).parent / "golden" / "tiny.safetensors"
MARK = "0123456789abcdef"
MODEL = Model("<roi>", MARK)
FINGERPRINTS = {
    "roi:1": MARK,
    "roi:8": MARK,
    "roi:8, attacked": MARK,
    "opened:roi": MARK,
    "fast": "f" * 16,
}


def faces(share: float, showing: int) -> dict[str, Any]:
    """Of ``summary``, what a card reads."""
    figures = {
        "images": 40,
        "mtcnn_true": 50,
        "mtcnn_share": share,
        "mtcnn_share_interval": [0, share + 0.1],
    }
    return figures | {"mtcnn_images": showing}


def evaluation() -> dict[str, Any]:
    methods = {
        "original": faces(1.0, 30),
        "roi:1": faces(0.01, 0),
        "roi:8": faces(0.03, 1),
        "roi:8, attacked": faces(0.2, 9),
        "opened:roi": faces(0.97, 30),
        "fast": faces(0.5, 20),
    }
    other = methods | {"roi:1": faces(0.04, 2)}
    return {
        "kinds": {"streets": {"methods": methods}, "masks": {"methods": other}},
        "attacks": {"roi:8, attacked": {"steps": 9, "seed": 0}, "fast, attacked": {"steps": 1}},
        "environment": {"python": "3.11"},
        "fingerprints": FINGERPRINTS,
    }


def heads() -> dict[str, Any]:
    def view(share: float | None) -> dict[str, Any]:
        interval = None if share is None else [share - 0.05, share + 0.05]
        counted = {"heads": 20, "share": share, "share_interval": interval}
        return {"by_height": {"32 px and more": counted}}

    views = {"upright": view(0.9), "grey": view(0.7), "close-up": view(None)}
    packets = {"noise": {"packets": 4, "same": 4}, "black": {"packets": 0, "same": 0}}
    kinds = {"streets": {"views": views, "packets": packets}}
    return {"model": "<roi>", "fingerprint": MARK, "kinds": kinds, "videos": {}}


def identity() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(8, 16))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    names = list("aabbccdd")
    clear = np.repeat(known[::2], 2, axis=0)
    methods = {"original": identity_summary(names, clear, clear)}
    for name in FINGERPRINTS:
        sent = clear if name == "opened:roi" else known
        methods[name] = identity_summary(names, clear, sent)
    return {"recogniser": "mbf", "scenes": {"64 px": methods}, "fingerprints": FINGERPRINTS}


def bodies() -> dict[str, Any]:
    person = np.repeat(np.arange(4), 2)
    camera = np.tile([0, 1], 4)
    all_found = sum_up(find_again(np.equal.outer(person, person) * 1.0, person, camera))
    none_found = sum_up(find_again(np.not_equal.outer(person, person) * 1.0, person, camera))
    both = {"raw": none_found, "linked": all_found}
    methods = {"original": {"raw": all_found, "linked": all_found}}
    methods |= dict.fromkeys(FINGERPRINTS, both)
    chance = {"rank1": 1 / 7, "map": 0.3, "worst_tenth": 0.4}
    judges = {"strong": {"128 px": methods}}
    return {"judges": judges, "chance": chance, "fingerprints": FINGERPRINTS}


def write(folder: Path, **results: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, about in results.items():
        (folder / f"{name}.json").write_text(json.dumps(about))
    return folder


def section(card: dict[str, Any], word: str) -> dict[str, Any]:
    (found,) = [one for one in card["sections"] if word in one["title"]]
    return found


def figure(card: dict[str, Any], heading: str, what: str) -> dict[str, Any]:
    of_all = [one for one in section(card, heading)["figures"] if "tenth" not in one["what"]]
    (found,) = [one for one in of_all if what in one["what"]]
    return found


@pytest.fixture
def card(tmp_path: Path) -> dict[str, Any]:
    first = write(tmp_path / "first", results=evaluation(), identity=identity())
    second = write(tmp_path / "second", heads=heads(), bodies=bodies())
    return make_card(read_all([first, second], MODEL))


def test_each_figure_is_the_worst_of_the_model_alone(card: dict[str, Any]) -> None:
    found = figure(card, "singling out", "of those on the originals, mtcnn")
    assert (found["value"], found["unprotected"]) == (0.04, 1.0)
    assert (found["where"], found["count"]) == ("results.json: roi:1, masks", 50)
    unpainted = figure(card, "singling out", "centre is not painted")
    assert unpainted["value"] == pytest.approx(0.3)
    assert unpainted["interval"] == pytest.approx((0.25, 0.35))
    assert (unpainted["where"], unpainted["count"]) == ("heads.json: streets, grey", 20)
    by_face = figure(card, "singling out", "identified by a photo")
    assert by_face["unprotected"] == 1 and by_face["chance"] == 1 / 4
    assert by_face["count"] == 4 and by_face["value"] < 1 and "opened" not in by_face["where"]
    assert figure(card, "linkability", "camera to camera (rank 1)")["value"] == 1
    assert figure(card, "singling out", "clothes and build (rank 1)")["value"] == 0
    attacked = figure(card, "adversarial", "recovers, of those on the originals, mtcnn")
    assert attacked["value"] == 0.2
    assert figure(card, "adversarial", "packets that change")["value"] == 0
    assert figure(card, "key holders", "photo of the face")["value"] == 1
    assert any("steps 9" in point for point in section(card, "attack model")["points"])
    assert not any("steps 1" in point for point in section(card, "attack model")["points"])


def test_the_watchdogs_figure_has_an_exact_interval(card: dict[str, Any]) -> None:
    found = card["watchdog"]["mtcnn"]
    assert (found["value"], found["unprotected"]) == (2 / 40, 30 / 40)
    assert found["interval"] == exact_interval(2, 40)
    assert card["watchdog"]["yunet"]["value"] is None
    # Where nothing was seen n times: 1 - 0.025 ** (1 / n).
    assert exact_interval(0, 10) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))
    assert exact_interval(10, 10) == pytest.approx((0.025 ** (1 / 10), 1))
    # Clopper and Pearson (1934) for 3 of 20, by binomial sums.
    low, high = exact_interval(3, 20)
    assert (low, high) == pytest.approx((0.0321, 0.3789), abs=5e-5)


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "only", heads=heads())
    card = make_card(read_all([folder], MODEL))
    sex = figure(card, "inference", "sex")
    assert sex["value"] is None and sex["command"] == "roi-anon identify --attributes"
    assert all(one["value"] is None for one in section(card, "linkability")["figures"])
    assert not [one for one in card["sections"] if "key holders" in one["title"]]
    page = to_html(card)
    assert page.count("was not run") == sum(
        one["value"] is None for part in card["sections"] for one in part["figures"]
    )


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.headings += tag == "h2"


def test_the_page_has_all_and_needs_nothing_else(card: dict[str, Any]) -> None:
    page = to_html(card)
    assert Page(page).headings == len(card["sections"]) + 1 == 12
    assert not re.search(r"https?://|<script|@import|<img", page)
    assert "&lt;roi&gt;" in page and "<roi>" not in page and MARK in page
    for one in card["results"]:
        assert one["sha256"] in page
    assert json.loads(json.dumps(card))["model"] == {"name": "<roi>", "fingerprint": MARK}


@pytest.mark.slow
def test_results_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    codec = Codec.load(str(GOLDEN))
    folder = write(tmp_path / "of", identity=identity())
    command = ["report", str(folder), "--card", str(GOLDEN)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    for said in ("identity.json: fingerprint", "roi:1", MARK, codec.name, codec.fingerprint):
        assert said in refused.output
    write(folder, identity=identity() | {"fingerprints": {"tiny": codec.fingerprint}})
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "results of another release" in refused.output
    old = {key: value for key, value in identity().items() if key != "fingerprints"}
    write(folder, identity=old)
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "says no fingerprints" in refused.output
    write(folder, heads=heads())
    (folder / "identity.json").unlink()
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "heads.json: fingerprint" in refused.output
    assert not list(folder.glob("card.*"))


def test_the_command_writes_a_card(tmp_path: Path) -> None:
    fingerprint = Codec.load(str(GOLDEN)).fingerprint
    folder = write(tmp_path / "of", heads=heads() | {"fingerprint": fingerprint})
    done = CliRunner().invoke(app, ["report", str(folder), "--card", str(GOLDEN)])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "card.html")
    made = json.loads((folder / "card.json").read_text())
    assert made["model"]["fingerprint"] == fingerprint
    assert to_html(made) == (folder / "card.html").read_text()
    empty = write(tmp_path / "empty")
    refused = CliRunner().invoke(app, ["report", str(empty), "--card", str(GOLDEN)])
    assert refused.exit_code == 2 and "none of results.json" in refused.output
