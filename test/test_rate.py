"""The choice of a quality that holds a bit rate, on streams whose bits are known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.codec.rate import RateControl


def cost(quality: float, detail: float) -> int:
    """Bits of an image; they double with 1.7 levels here, not with 2."""
    return round(detail * 2 ** (quality / 1.7))


def stream(
    control: RateControl, details: list[float], rate: float, first: float = 0.0
) -> list[int]:
    """The bits of each image of a stream."""
    spent = []
    for number, detail in enumerate(details):
        bits = cost(control.quality, detail)
        control.spend(bits, first + number / rate)
        spent.append(bits)
    return spent


@settings(deadline=None)
@given(
    rate=st.floats(2, 60),
    kilobits=st.floats(50, 2000),
    middle=st.floats(2, 7),
    swing=st.floats(0, 1),
)
def test_the_rate_is_held_where_some_quality_holds_it(
    rate: float, kilobits: float, middle: float, swing: float
) -> None:
    detail = 1000 * kilobits / rate / 2 ** (middle / 1.7)
    details = [detail * 2 ** (0.5 * swing * math.sin(number / rate)) for number in range(600)]
    control = RateControl(kilobits)
    spent = stream(control, details, rate)
    later = spent[100:]
    held = sum(later) / (len(later) / rate)
    assert held == pytest.approx(1000 * kilobits, rel=0.08)
    assert control.is_held


def test_a_scene_that_changes_is_followed() -> None:
    control = RateControl(300)
    stream(control, [2000.0] * 60, 15)
    before = control.quality
    spent = stream(control, [8000.0] * 60, 15, first=4)
    assert control.quality < before - 2
    assert sum(spent[15:]) == pytest.approx(300_000 * 3, rel=0.1)


def test_what_cannot_be_held_is_said_and_quality_is_bounded() -> None:
    control = RateControl(10)
    stream(control, [1e6] * 60, 15)
    assert control.quality == 1.0 and not control.is_held
    rich = RateControl(1e5, most=5.5)
    stream(rich, [1.0] * 60, 15)
    assert rich.quality == 5.5 and rich.is_held


def test_a_pause_earns_nothing_and_stamps_may_stand_still_or_go_back() -> None:
    control = RateControl(300)
    stream(control, [2000.0] * 60, 15)
    usual = control.quality
    control.spend(cost(control.quality, 2000.0), 3600.0)
    assert control.quality < usual + 0.5
    for stamp in (3600.0, 0.0, 0.0, -5.0):
        control.spend(cost(control.quality, 2000.0), stamp)
    assert 1.0 <= control.quality < usual


@pytest.mark.parametrize("kilobits", [0.0, -1.0, math.nan])
def test_no_bits_are_refused(kilobits: float) -> None:
    with pytest.raises(ValueError, match="kilobits: got"):
        RateControl(kilobits)
