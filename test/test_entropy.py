"""Entropy coding: exact for every symbol, near the entropy, and safe against anybody who can
compute a CRC.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from roi_anon_ros.codec.entropy import ESCAPE_MIN, TOTAL, EntropyTables
from roi_anon_ros.codec.errors import PacketError


def make_tables(channels: int = 11, spread: float = 2.0) -> EntropyTables:
    """Two-sided geometric tables of different lengths."""
    cdf = np.zeros((channels, 16), np.int32)
    length, offset = np.zeros(channels, np.int32), np.zeros(channels, np.int32)
    for c in range(channels):
        low, high = c % 4, 1 + c % 7
        values = np.arange(-low, high + 1)
        p = np.append(np.exp(-np.abs(values) * spread / (1 + c % 3)), 1e-4)
        counts = np.maximum(1, np.floor(p / p.sum() * TOTAL)).astype(int)
        counts[low] += TOTAL - counts.sum()
        cdf[c, 1 : len(counts) + 1] = np.cumsum(counts)
        length[c], offset[c] = len(counts) + 1, -low
    return EntropyTables(cdf, length, offset)


TABLES = make_tables()


latents = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda s: arrays(
        np.int32,
        (TABLES.channels, *s),
        elements=st.one_of(st.just(0), st.integers(-9, 9), st.integers(-32768, 32767)),
    )
)


@given(latents)
def test_every_latent_round_trips(symbols: np.ndarray) -> None:
    payload = TABLES.encode(symbols)
    assert np.array_equal(TABLES.decode(payload, *symbols.shape[1:]), symbols)


def encode_with_constriction(constriction: ModuleType, symbols: np.ndarray) -> bytes:
    """The payload from another implementation of the same stack."""
    escape = constriction.stream.model.Uniform(TOTAL)
    coder = constriction.stream.stack.AnsCoder()
    rows = symbols.reshape(TABLES.channels, -1)
    coded = rows.any(axis=1)
    for channel in np.flatnonzero(coded)[::-1]:
        size = TABLES.length[channel]
        indices = rows[channel] - TABLES.offset[channel]
        escaped = (indices < 0) | (indices >= size - 2)
        if escaped.any():
            coder.encode_reverse(rows[channel, escaped] - ESCAPE_MIN, escape)
        p = np.diff(TABLES.cdf[channel, :size]) / TOTAL
        model = constriction.stream.model.Categorical(p, perfect=False)
        coder.encode_reverse(np.where(escaped, size - 2, indices).astype(np.int32), model)
    words = coder.get_compressed().astype("<u4")
    return np.packbits(coded, bitorder="little").tobytes() + words.tobytes()


@given(latents)
def test_payload_is_that_of_constriction(symbols: np.ndarray) -> None:
    constriction = pytest.importorskip("constriction")
    assert TABLES.encode(symbols) == encode_with_constriction(constriction, symbols)


def test_rate_is_near_the_entropy() -> None:
    rng = np.random.default_rng(0)
    symbols, bits = np.zeros((TABLES.channels, 60, 60), np.int32), 0.0
    for c in range(TABLES.channels):
        size = TABLES.length[c]
        p = np.diff(TABLES.cdf[c, :size])[:-1] / TOTAL
        draw = rng.choice(size - 2, (60, 60), p=p / p.sum())
        symbols[c] = draw + TABLES.offset[c]
        bits -= np.log2(p[draw]).sum()
    assert 8 * len(TABLES.encode(symbols)) == pytest.approx(bits, rel=0.002, abs=120)


def test_empty_channels_cost_a_bit() -> None:
    zeros = np.zeros((TABLES.channels, 40, 40), np.int32)
    assert TABLES.encode(zeros) == bytes(2)
    assert not TABLES.decode(bytes(2), 40, 40).any()


def test_golden_bytes() -> None:
    symbols = (np.arange(TABLES.channels * 12).reshape(TABLES.channels, 3, 4) * 7 % 5 - 2).astype(
        np.int32
    )
    symbols[2] = 0
    symbols[5, 1, 1] = -30000
    golden = (
        "fb07ee90037911db03d8f5e024242b73124100ff7ffebc080194de958c8609981a7b058ef30069ff1fabeca401e443ef"
        "fd595fd00afe6dffff435c4acdbc67ffff3fa0fe7fff7ffe7fff8ad789e4d83a01d774e02cbc8a9b17835afe7f85f248"
        "1ca1d1e7fc917eff7ffe7ffe7f02800280ff1284f4fbe7951f2e41fdff31faffff94254d0000"
    )
    assert TABLES.encode(symbols).hex() == golden


@pytest.mark.parametrize("value", [-32769, 32768])
def test_symbols_out_of_bounds_are_refused(value: int) -> None:
    symbols = np.zeros((TABLES.channels, 2, 2), np.int32)
    symbols[3, 1, 1] = value
    with pytest.raises(ValueError, match="from -32768 to 32767"):
        TABLES.encode(symbols)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "0 bytes"),
        (b"\1", "1 bytes"),
        (b"\1\0\5\5", "4 bytes"),
        (b"\0\xf8", "channel map names a channel above 10"),
        (b"\1\0" + bytes(4), "last word is 0"),
        (b"\0\0\1\0\0\0", "1 words left over"),
    ],
)
def test_what_is_wrong_with_a_payload_is_named(payload: bytes, what: str) -> None:
    with pytest.raises(PacketError, match=what) as caught:
        TABLES.decode(payload, 2, 2)
    assert caught.value.reason == "payload"


@settings(max_examples=300)
@given(st.binary(max_size=400), st.integers(1, 30), st.integers(1, 30))
def test_any_bytes_decode_or_raise_the_typed_error(payload: bytes, height: int, width: int) -> None:
    try:
        symbols = TABLES.decode(payload, height, width)
    except PacketError as error:
        assert error.reason == "payload"
    else:
        assert symbols.shape == (TABLES.channels, height, width)
        assert abs(symbols).max() <= 32768


@pytest.mark.slow
def test_hostile_payloads_do_not_crash_the_process() -> None:
    """Bit flips, cuts, splices and noise on real payloads, many, in a separate process."""
    script = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_entropy import TABLES
from roi_anon_ros.codec.errors import PacketError
rng = np.random.default_rng(9)
outcomes = {"decoded": 0, "refused": 0}
shape = TABLES.channels, 8, 8
good = [TABLES.encode(rng.integers(-4, 5, shape).astype(np.int32)) for _ in range(8)]
for i in range(20000):
    data = bytearray(good[i % 8])
    kind = i % 5
    if kind == 0:
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            data[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        del data[rng.integers(0, len(data)):]
    elif kind == 2:
        data += rng.bytes(4 * rng.integers(1, 40))
    elif kind == 3:
        data = bytearray(b"\\xff\\x07" + rng.bytes(4 * rng.integers(0, 80)))
    else:
        at = rng.integers(2, len(data))
        data[at:] = good[(i + 3) % 8][at:]
    height, width = rng.integers(1, 24, 2)
    try:
        TABLES.decode(bytes(data), int(height), int(width))
        outcomes["decoded"] += 1
    except PacketError:
        outcomes["refused"] += 1
print(outcomes["decoded"] + outcomes["refused"], outcomes["refused"] > 10000)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert (run.returncode, run.stdout.split()) == (0, ["20000", "True"]), run.stderr


def bad_tables() -> list[tuple[str, dict[str, np.ndarray]]]:
    good = {"cdf": TABLES.cdf, "length": TABLES.length, "offset": TABLES.offset}

    def change(name: str, index: object, value: int) -> dict[str, np.ndarray]:
        changed = {key: array.copy() for key, array in good.items()}
        changed[name][index] = value
        return changed

    return [
        (r"length\[2\]", change("length", 2, 99)),
        (r"length\[2\]", change("length", 2, 2)),
        (r"offset\[1\]", change("offset", 1, 1)),
        (r"offset\[1\]", change("offset", 1, -20)),
        (r"cdf\[4\]", change("cdf", (4, 2), 0)),
        (r"cdf\[0\]", change("cdf", (0, 0), 1)),
        ("shapes", {**good, "offset": good["offset"][:-1]}),
    ]


@pytest.mark.parametrize(("what", "tables"), bad_tables())
def test_tables_out_of_bounds_are_refused(what: str, tables: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=what):
        EntropyTables(**tables)
