"""Rate differences against values worked out by hand, and a literal integration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from roi_anon_ros.evaluate.report.curves import (
    bd_rate,
    bd_rates,
    families,
    rate_at,
    rising,
    save_plot,
)

AVIF = [(0.1, 0.6), (0.2, 0.7), (0.4, 0.8), (0.8, 0.9)]  # log rate linear in quality


def test_half_the_rate_everywhere_is_half_the_rate() -> None:
    assert bd_rate(AVIF, [(rate / 2, quality) for rate, quality in AVIF]) == pytest.approx(-0.5)
    assert bd_rate(AVIF, AVIF) == pytest.approx(0)
    assert bd_rate(AVIF, [(rate * 3, quality) for rate, quality in AVIF[1:3]]) == pytest.approx(2)


def test_a_cubic_difference_worked_out_by_hand() -> None:
    """Log rates of 0, 1 and 4 at 0, 1 and 2: the slopes of the pieces are 1 and 3.

    Monotonous cubic (Fritsch and Butland): slope 2 / (1 / 1 + 1 / 3) = 1.5 in the middle, at the
    ends (3 · 1 - 3) / 2 = 0 and (3 · 3 - 1) / 2 = 4. A piece of length 1 from u to v with slopes m
    and n has the integral (u + v) / 2 + (m - n) / 12: 1 / 2 - 1.5 / 12, and 5 / 2 - 2.5 / 12, in
    all 8 / 3. The anchor's log rate is the quality, integral 2: on average 1 / 3 more.
    """
    anchor = [(float(np.exp(q)), q) for q in (0.0, 1.0, 2.0)]
    curve = [(1.0, 0.0), (float(np.exp(1)), 1.0), (float(np.exp(4)), 2.0)]
    assert bd_rate(anchor, curve) == pytest.approx(np.exp(1 / 3) - 1)


def test_only_where_the_curves_overlap() -> None:
    """Shared from 0.7 to 0.8, where the other curve goes from 0.1 to 0.4: 0.5 to 1 times the rate,
    log mean √0.5.
    """
    other = [(0.025, 0.6), (0.1, 0.7), (0.4, 0.8)]
    assert bd_rate(AVIF[1:3], other) == pytest.approx(0.5**0.5 - 1, rel=1e-6)
    assert bd_rate(AVIF[:2], [(0.3, 0.75), (0.5, 0.85)]) is None
    assert bd_rate(AVIF[:1], other) is None


def test_one_point_is_compared_at_its_quality() -> None:
    assert rate_at(AVIF, 0.75) == pytest.approx(0.2 * 2**0.5)
    assert rate_at(AVIF, 0.95) is None and rate_at(AVIF, 0.59) is None
    assert bd_rate(AVIF, [(0.2 * 2**0.5 / 4, 0.75)]) == pytest.approx(-0.75)
    assert bd_rate(AVIF, [(0.1, 0.5)]) is None


POINTS = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1)), max_size=8)


@given(POINTS)
def test_a_rising_curve_leaves_out_what_another_point_beats(
    points: list[tuple[float, float]],
) -> None:
    kept = rising(points)
    assert (np.diff(kept, axis=0) > 0).all()
    for rate, quality in points:
        assert (rate, quality) in {tuple(p) for p in kept} or any(
            r <= rate and q >= quality for r, q in kept
        )


@given(
    st.lists(st.floats(0.01, 0.2), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 0.2), min_size=4, max_size=4),
)
def test_the_difference_is_antisymmetric_in_the_log(
    steps: list[float], others: list[float]
) -> None:
    curve = list(zip(0.1 * np.exp(np.cumsum(steps) * 5), 0.4 + np.cumsum(others), strict=True))
    there, back = bd_rate(AVIF, curve), bd_rate(curve, AVIF)
    assert (there is None) == (back is None)
    if there is not None:
        assert (1 + there) * (1 + back) == pytest.approx(1)


def measured(rate: float, ap: float, faces: int) -> dict:
    interval = {
        "persons_ap_interval": (ap - 0.02, ap + 0.02),
        "mtcnn_share_interval": (faces / 120, faces / 90),
    }
    return {"bits_per_pixel": rate, "persons_ap": ap, "mtcnn_share": faces / 100} | interval


def test_methods_fall_into_curves_and_the_plot_is_an_image(tmp_path: Path) -> None:
    results = {
        "original": measured(24, 0.95, 100),
        "fast": measured(0.12, 0.75, 2),
        "a/roi.x:2": measured(0.1, 0.65, 2),
        "a/roi.x:4.5": measured(0.2, 0.75, 2),
        "blur+avif:9": measured(0.13, 0.7, 3),
    }
    results |= {"fast, attacked": measured(0.12, 0.7, 60)}
    results |= {f"avif:{q}": measured(rate, ap, 40) for q, (rate, ap) in enumerate(AVIF)}
    assert families(list(results)) == {
        "fast": ["fast"],
        "a/roi.x": ["a/roi.x:2", "a/roi.x:4.5"],
        "blur+avif": ["blur+avif:9"],
        "avif": ["avif:0", "avif:1", "avif:2", "avif:3"],
    }
    rates = bd_rates(results)
    assert rates["avif"] == {} and rates["fast"]["avif"] == pytest.approx(0.12 / (0.2 * 2**0.5) - 1)
    save_plot(results, {"persons": "yolov8n"}, tmp_path / "curve.png")
    assert np.array(Image.open(tmp_path / "curve.png").convert("L")).std() > 10
