"""The report: all in one file, nothing from elsewhere, and what a set cannot tell."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.evaluate.identity import summary as identity_summary
from roi_anon_ros.evaluate.report.page import html, markdown, read_results
from roi_anon_ros.evaluate.summary import HEIGHTS


def measured(rate: float, ap: float, faces: int, large: int) -> dict:
    """What measure.summary gives."""
    figures = {"images": 50, "bits_per_pixel": rate, "bits_per_pixel_sd": 0.01, "ms_ssim": 0.9}
    figures |= {
        "bits_per_pixel_interval": [rate * 0.9, rate * 1.1],
        "faces_judged_by": {"face": 30, "nothing": 20},
    }
    figures |= {"persons_ap_101": ap, "mtcnn_ap_interval": [0.4, 0.6]}
    figures |= {
        "persons_by_hand_boxes": 30,
        "persons_by_hand_ratio": ap,
        "persons_by_hand_ratio_interval": [0, 1],
    }
    figures |= {
        "psnr_outside": 25.0,
        "psnr_heads": None,
        "persons_against": "annotations",
        "persons_boxes": 90,
    }
    figures |= {"persons_ap": ap, "persons_ap_interval": [ap - 0.05, ap + 0.05]}
    figures |= {
        "persons_ratio": ap / 0.9,
        "persons_ratio_interval": [ap / 0.9 - 0.05, ap / 0.9 + 0.05],
    }
    figures |= {"mtcnn_against": "original", "mtcnn_boxes": 100, "mtcnn_ap": 0.5}
    figures |= {"mtcnn_false": 3, "mtcnn_stamps": 7}
    figures |= {
        "mtcnn_true": faces,
        "mtcnn_share": faces / 100,
        "mtcnn_share_interval": [0, faces / 90],
    }
    figures |= {"mtcnn_by_size": {"small": 40, "medium": 60 - large, "large": large}}
    part = {"boxes": 9, "ratio": ap, "ratio_interval": [0, 1]}
    part |= {"recall_ratio": ap / 2, "recall_ratio_interval": [0, 1], "ap": ap, "recall": ap}
    at_score = {"recall": ap, "precision": ap, "false": 0.5}
    figures["persons_by_score"] = {"0.25": at_score, "0.5": at_score}
    figures |= {"persons_recall_ratio": ap, "persons_recall_ratio_interval": [0, 1]}
    figures["persons_by_height"] = dict.fromkeys(HEIGHTS, part)
    return figures | {
        "mtcnn_by_score": {score: [faces, 3] for score in ("0.3", "0.5", "0.7", "0.9")}
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    methods = {
        "original": measured(24, 0.9, 100, 7),
        "fast": measured(0.12, 0.7, 2, 0),
        "fast, attacked": measured(0.12, 0.4, 9, 1),
    }
    methods |= {
        f"avif:{q}": measured(rate, ap, 60, 7) for q, rate, ap in ((1, 0.1, 0.6), (10, 0.2, 0.8))
    }
    (tmp_path / "sheet" / "streets").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "sheet" / "streets" / "0-0.png"), np.full((30, 40, 3), 90, np.uint8))
    streets = {"images": 50, "annotated_images": 574, "methods": methods}
    streets["sheet"] = [{"name": "a.jpg", "methods": {"original": "0-0.png"}}]
    about = {
        "sets": ["<b>.json"],
        "view": "grey",
        "weights": "yolov8s",
        "judge": None,
        "claim": "fast",
        "kinds": {"streets": streets},
    }
    about |= {
        "environment": {"python": "3.11"},
        "attacks": {"fast, attacked": {"steps": 9, "seed": 0}},
    }
    (tmp_path / "results.json").write_text(json.dumps(about))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    people = {
        name: identity_summary(list("aabbcc"), vectors, vectors) for name in ("original", "fast")
    }
    scenes = {"64 px, colour": people, "64 px, grey": people}
    about = {"images": 6, "left_out": 1, "recogniser": "mbf", "environment": {}, "scenes": scenes}
    (tmp_path / "identity.json").write_text(json.dumps(about))
    return tmp_path


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.headings = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.headings += tag == "h2"
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.slow
def test_the_page_needs_nothing_else(folder: Path) -> None:
    text = html(read_results(folder), folder)
    page = Page(text)
    assert page.headings == 4
    images = [source for source in page.sources if not source.startswith("#")]
    assert len(images) == 3 and all(
        source.startswith("data:image/png;base64,") for source in images
    )
    assert not re.search(r"https?://|<script|@import", text)
    assert "<b>.json" not in text and "&lt;b&gt;.json" in text


@pytest.mark.slow
def test_it_says_what_it_cannot_tell(folder: Path) -> None:
    text = markdown(read_results(folder), folder)
    assert (
        "Images of <b>.json, seen grey" in text
        and "50 images of 574" in text
        and "a quick look" in text
    )
    assert "judged by what was found on the originals: mtcnn" in text
    assert "Too few to tell: of the faces that mtcnn finds on the originals, 7 large." in text
    assert "none of 100 faces, the true share may still be 3.0%" in text
    assert (
        "Of the 90 person boxes only 30" in text
        and "Faces are judged by annotated faces" not in text
    )
    found = read_results(folder)
    found["evaluation"]["kinds"]["streets"]["methods"]["original"]["mtcnn_against"] = "annotations"
    text = markdown(found, folder)
    assert "annotated faces on 30 images" in text and "20 images do not count" in text
    assert "95 % of bootstrap" in text


@pytest.mark.slow
def test_attacked_methods_stand_beside_their_methods(folder: Path) -> None:
    text = markdown(read_results(folder), folder)
    before, after = text.split("## streets: what an attacker recovers")
    assert "fast, attacked" not in before
    names = [
        line.split("|")[1].strip()
        for line in after.split("##")[0].splitlines()
        if line.startswith("|")
    ]
    assert names == ["", "---", "original", "fast", "fast, attacked"] * 2
    assert "The budget: steps 9, seed 0" in after and "DIFFER" not in after
    # AVIF has 0.7 half-way in log rate: 0.12 against 0.1414.
    assert "| fast | -15% |" in before


@pytest.mark.slow
def test_the_command_writes_both_and_refuses_an_empty_folder(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0 and done.stdout.strip() == str(folder / "report.html")
    assert (folder / "report.md").read_text().startswith("# What was measured")
    (tmp_path / "empty").mkdir()
    for file, message in (("", "run roi-anon evaluate first"), ("results.json", "no JSON")):
        if file:
            (tmp_path / "empty" / file).write_text("{")
        refused = CliRunner().invoke(app, ["report", str(tmp_path / "empty")])
        assert refused.exit_code == 2 and message in refused.output


def test_a_missing_package_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "roi_anon_ros.evaluate.report.page")
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert (
        done.exit_code == 2
        and "jinja2 is not installed" in done.output
        and "roi_anon_ros[evaluate]" in done.output
    )
