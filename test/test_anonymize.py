"""Anonymizers as methods of an evaluation: their names, and that a change is measured anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from roi_anon_ros.anonymize import anonymizer
from roi_anon_ros.anonymize.sources import Heads
from roi_anon_ros.codec.headmap import find_heads
from roi_anon_ros.codec.networks.headmap import CELL
from roi_anon_ros.codec.regions import Regions as CodecRegions
from roi_anon_ros.evaluate.methods import make_method, making

IMAGE = np.random.default_rng(0).integers(1, 255, (160, 192, 3), np.uint8)
SURE = 9.0


def see_one_head(level: np.ndarray) -> np.ndarray:
    """A head map that sees a head of 32 pixels in cell (8, 10), and no other."""
    answer = np.zeros((4, -(-level.shape[0] // CELL), -(-level.shape[1] // CELL)), np.float32)
    answer[0] = -SURE
    answer[0, 8, 10] = SURE
    answer[3, 8, 10] = 2
    return answer


def find_one_head(image: np.ndarray, threshold: float) -> tuple[CodecRegions, float]:
    """Find the heads of that map."""
    return find_heads(see_one_head, image, threshold)


def test_the_heads_of_the_head_map_are_regions() -> None:
    found = Heads(find_one_head)(IMAGE)
    assert [region.label for region in found.items] == ["head"]
    head = found.items[0]
    assert head.shape == "ellipse" and head.box == pytest.approx(
        (84 - 40 / 3, 68 - 16, 84 + 40 / 3, 68 + 16)
    )
    inside = found.drawn()
    assert inside[68, 84] and not inside[68, 110] and not inside[20, 20]
    wide = Heads(find_one_head, 2.0)(IMAGE).drawn()
    assert wide[68, 110] and (wide & inside).sum() == inside.sum()
    with pytest.raises(ValueError, match="grow: got 5.0, must be from 1 to 4"):
        Heads(find_one_head, 5.0)


def test_a_method_says_region_and_treatment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each, what the names say is made, and nothing outside the regions changes."""
    made: list[tuple[str, float | None]] = []

    def make_source(name: str, grow: float | None = None) -> Heads:
        made.append((name, grow))
        return Heads(find_one_head)

    monkeypatch.setattr(making, "make_source", make_source)
    for name, region in (
        ("mask", "face"),
        ("face.mask:0", "face"),
        ("head.mask:0", "head"),
        ("person.silhouette", "person"),
    ):
        hider = making.make_hider(name)
        assert made.pop() == (region, None)
        hidden = hider.hide(IMAGE)
        changed = (hidden != IMAGE).any(2)
        rows, columns = np.nonzero(changed)
        assert changed[68, 84] and rows.min() > 40 and columns.max() < 110
        assert np.array_equal(hidden, making.make_hider(name).hide(IMAGE)), "in every run"
    assert np.array_equal(making.make_hider("").hide(IMAGE), IMAGE)


def test_wrong_names_are_refused() -> None:
    for name in ("smudge", "head.smudge", "leg.blur"):
        with pytest.raises(ValueError, match=f"anonymizer '{name}', must be one of blur, pixelate"):
            make_method(f"{name}+jpeg:10")
    with pytest.raises(ValueError, match="must have a number after the colon"):
        make_method("head.blur:wide+jpeg:10")


def test_who_is_hidden_by_mtcnn_is_not_judged_by_it() -> None:
    names = ("blur+avif:10", "face.mask+avif:10", "head.blur+avif:10", "stamps:a+b.safetensors")
    assert [making.is_hidden_by_mtcnn(name) for name in names] == [True, True, False, False]
    assert not making.is_hidden_by_mtcnn("avif:10")


def test_images_of_a_changed_treatment_are_measured_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A method's cached measurements belong to its key."""
    monkeypatch.setattr(making, "make_source", lambda name: Heads(find_one_head))
    names = ("blur+jpeg:10", "jpeg:10")
    before = [make_method(name).key for name in names]
    monkeypatch.setattr(anonymizer, "VERSION", anonymizer.VERSION + 1)
    after = [make_method(name).key for name in names]
    assert after[0] != before[0] and after[1] == before[1]
