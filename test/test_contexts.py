"""Spatial contexts: the coder against one in plain Python, and against hostile bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roi_anon_ros.codec.contexts import ContextTables
from roi_anon_ros.codec.errors import PacketError

TOTAL = 1 << 24


def make_tables(
    levels: int = 2, channels: int = 5, radius: int = 3, count: int = 7
) -> ContextTables:
    """Tables around 0, from narrow to wide, picked at random for each context."""
    rng = np.random.default_rng(3)
    values = np.abs(np.arange(-radius, radius + 1))
    cumulative = np.zeros((count, 2 * radius + 3), np.uint32)
    for t in range(count):
        p = np.append(np.exp(-values * 3.0 / (1 + t)), 1e-5)
        counts = np.maximum(1, np.floor(p / p.sum() * TOTAL)).astype(np.int64)
        counts[radius] += TOTAL - counts.sum()
        cumulative[t, 1:] = np.cumsum(counts)
    a_buckets = np.minimum(np.arange(256) // 2, 5).astype(np.uint8)
    b_buckets = np.minimum(np.arange(1024) // 5, 7).astype(np.uint8)
    lookup = rng.integers(0, count, (levels, channels, 48)).astype(np.uint8)
    return ContextTables(lookup, cumulative, a_buckets, b_buckets)


TABLES = make_tables()


def draw_latent(seed: int, height: int, width: int, kind: str) -> np.ndarray:
    """A latent, int32 ``[C, h, w]``: of zeros mostly, wide, or of the largest values."""
    rng = np.random.default_rng(seed)
    shape = (TABLES.channels, height, width)
    if kind == "sparse":
        return (rng.integers(-4, 5, shape) * (rng.random(shape) < 0.1)).astype(np.int32)
    if kind == "wide":
        return rng.integers(-70, 71, shape).astype(np.int32)
    return rng.choice(np.array([-32768, 32767, -64, 63, 0], np.int32), shape)


SEEDS = st.integers(0, 1 << 32)
SIDES = st.integers(1, 6)
KINDS = st.sampled_from(["sparse", "wide", "extreme"])
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def number_context(latent: list, c: int, y: int, x: int) -> int:
    """One symbol's context by the formula, from the whole latent as nested lists."""
    height = len(latent[0])
    width = len(latent[0][0])

    def magnitude(channel: int, row: int, column: int) -> int:
        inside = 0 <= row < height and 0 <= column < width
        return min(abs(latent[channel][row][column]), 63) if inside else 0

    def energy(row: int, column: int) -> int:
        return sum(magnitude(before, row, column) for before in range(c))

    a = 2 * magnitude(c, y, x - 1) + 2 * magnitude(c, y - 1, x)
    a += magnitude(c, y - 1, x - 1) + magnitude(c, y - 1, x + 1)
    b = 2 * energy(y, x)
    b += energy(y - 1, x) + energy(y + 1, x) + energy(y, x - 1) + energy(y, x + 1)
    buckets = int(max(TABLES.b_buckets)) + 1
    return int(TABLES.a_buckets[min(a, 255)]) * buckets + int(TABLES.b_buckets[min(b, 1023)])


def encode_plainly(symbols: np.ndarray, level: int, always_escape: bool = False) -> bytes:
    """The payload, with integers of any size in place of the state's 64 bits."""
    pushes = []
    latent = symbols.tolist()
    for (c, y, x), symbol in np.ndenumerate(symbols):
        table = TABLES.cumulative[TABLES.lookup[level, c, number_context(latent, c, y, x)]].tolist()
        entry = int(symbol) + TABLES.radius
        if always_escape or not 0 <= entry <= 2 * TABLES.radius:
            pushes.append((table[-2], TOTAL - table[-2]))
            pushes.append(((int(symbol) + 32768) * 256, 256))
        else:
            pushes.append((table[entry], table[entry + 1] - table[entry]))
    state = 0
    words = []
    for low, count in reversed(pushes):
        if state >= count << 40:
            words.append(state % (1 << 32))
            state >>= 32
        state = state // count * TOTAL + low + state % count
    while state:
        words.append(state % (1 << 32))
        state >>= 32
    return np.array(words, "<u4").tobytes()


@relaxed
@given(SEEDS, SIDES, SIDES, KINDS)
def test_contexts_follow_the_formula(seed: int, height: int, width: int, kind: str) -> None:
    symbols = draw_latent(seed, height, width, kind)
    numbers = TABLES.contexts(symbols)
    latent = symbols.tolist()
    wanted = [number_context(latent, *place) for place in np.ndindex(symbols.shape)]
    assert numbers.dtype == np.uint16
    assert numbers.ravel().tolist() == wanted


@relaxed
@given(SEEDS, SIDES, SIDES, KINDS, st.integers(0, 1))
def test_payload_is_that_of_plain_python(
    seed: int, height: int, width: int, kind: str, level: int
) -> None:
    symbols = draw_latent(seed, height, width, kind)
    payload = TABLES.encode(symbols, level)
    assert payload == encode_plainly(symbols, level)
    assert np.array_equal(TABLES.decode(payload, level, height, width), symbols)


@pytest.mark.parametrize("value", [-32768, -4, -3, 0, 3, 4, 32767])
def test_one_symbol_round_trips(value: int) -> None:
    symbols = np.full((TABLES.channels, 1, 1), value, np.int32)
    payload = TABLES.encode(symbols, 0)
    assert np.array_equal(TABLES.decode(payload, 0, 1, 1), symbols)


def test_a_large_latent_round_trips_near_its_entropy() -> None:
    rng = np.random.default_rng(5)
    shape = (TABLES.channels, 60, 80)
    symbols = (rng.integers(-3, 4, shape) * (rng.random(shape) < 0.1)).astype(np.int32)
    payload = TABLES.encode(symbols, 1)
    chosen = TABLES.lookup[1][np.arange(shape[0])[:, None, None], TABLES.contexts(symbols)]
    counts = np.diff(TABLES.cumulative.astype(np.int64), axis=1)
    bits = -np.log2(counts[chosen, symbols + TABLES.radius] / TOTAL).sum()
    assert 8 * len(payload) == pytest.approx(bits, rel=1e-3, abs=64)
    assert np.array_equal(TABLES.decode(payload, 1, *shape[1:]), symbols)


@relaxed
@given(st.binary(max_size=200), SIDES, SIDES, st.integers(0, 1))
def test_any_bytes_decode_or_raise_the_typed_error(
    payload: bytes, height: int, width: int, level: int
) -> None:
    try:
        symbols = TABLES.decode(payload, level, height, width)
    except PacketError as error:
        assert error.reason == "payload"
    else:
        assert TABLES.encode(symbols, level) == payload


@relaxed
@given(SEEDS, SIDES, SIDES, KINDS, st.integers(0, 1 << 16))
def test_a_changed_payload_is_another_latent_or_refused(
    seed: int, height: int, width: int, kind: str, where: int
) -> None:
    payload = bytearray(TABLES.encode(draw_latent(seed, height, width, kind), 0))
    if payload:
        payload[where % len(payload)] ^= 1 << where % 8
    try:
        symbols = TABLES.decode(payload, 0, height, width)
    except PacketError as error:
        assert error.reason == "payload"
    else:
        assert TABLES.encode(symbols, 0) == payload


GOOD = TABLES.encode(draw_latent(1, 4, 4, "sparse"), 0)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (GOOD + b"\1", "must be a multiple of 4"),
        (GOOD + bytes(4), "last word is 0"),
        (GOOD + b"\1\0\0\0", "words? left over"),
        (b"\5\0\0\0" + GOOD, "words? left over"),
        (encode_plainly(draw_latent(1, 4, 4, "sparse"), 0, always_escape=True), "escaped symbol"),
    ],
)
def test_what_is_wrong_with_a_payload_is_named(payload: bytes, what: str) -> None:
    with pytest.raises(PacketError, match=what) as caught:
        TABLES.decode(payload, 0, 4, 4)
    assert caught.value.reason == "payload"


def test_arguments_out_of_bounds_are_refused() -> None:
    symbols = np.zeros((TABLES.channels, 2, 2), np.int32)
    high = symbols.copy()
    high[1, 1, 1] = 32768
    for name, call in {
        "level: got 2": lambda: TABLES.encode(symbols, 2),
        "level: got -1": lambda: TABLES.decode(b"", -1, 2, 2),
        "size: got 0 x 2": lambda: TABLES.decode(b"", 0, 0, 2),
        "size: got 2 x 65537": lambda: TABLES.decode(b"", 0, 2, 65537),
        "symbols: got 0 to 32768": lambda: TABLES.encode(high, 0),
        "symbols: got shape": lambda: TABLES.contexts(symbols[:, :0]),
        r"symbols: got shape \(2": lambda: TABLES.encode(symbols[:2], 0),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


def bad_tables() -> list[tuple[str, dict[str, np.ndarray]]]:
    names = ("lookup", "cumulative", "a_buckets", "b_buckets")
    good = {name: getattr(TABLES, name) for name in names}

    def change(name: str, index: object, value: int) -> dict[str, np.ndarray]:
        changed = {key: array.copy() for key, array in good.items()}
        changed[name][index] = value
        return changed

    return [
        ("lookup: got 7, must be below 7", change("lookup", (1, 4, 47), 7)),
        ("lookup: got 48 contexts, must be nA · nB = 56", change("a_buckets", 255, 6)),
        ("lookup: got 48 contexts, must be nA · nB = 54", change("b_buckets", 0, 8)),
        ("lookup: got int64, must be uint8", {**good, "lookup": good["lookup"].astype(int)}),
        ("lookup: got shape", {**good, "lookup": good["lookup"][0]}),
        ("lookup: got shape", {**good, "lookup": good["lookup"][:, :0]}),
        (r"cumulative\[3\]", change("cumulative", (3, 2), 0)),
        (r"cumulative\[0\]", change("cumulative", (0, 0), 1)),
        (r"cumulative\[6\]", change("cumulative", (6, 8), TOTAL + 1)),
        ("got 8 columns", {**good, "cumulative": good["cumulative"][:, :8].copy()}),
        ("got 1 columns", {**good, "cumulative": good["cumulative"][:, :1].copy()}),
        ("at most 256", {**good, "cumulative": np.tile(good["cumulative"], (37, 1))}),
        ("a_buckets: got shape", {**good, "a_buckets": good["a_buckets"][:-1]}),
        ("b_buckets: got shape", {**good, "b_buckets": good["b_buckets"][:-1]}),
    ]


@pytest.mark.parametrize(("what", "tables"), bad_tables())
def test_tables_out_of_bounds_are_refused(what: str, tables: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=what):
        ContextTables(**tables)


def test_the_caller_cannot_change_tables_later() -> None:
    with pytest.raises(ValueError, match="read-only"):
        TABLES.lookup[0, 0, 0] = 255
