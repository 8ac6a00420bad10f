"""Pass arguments of all kinds, valid and hostile, to a build of _ans: fuzz_ans.py MODULE ROUNDS.

Standard library only. test_ans.py runs it on a build with sanitizers, which end the process at the
first access outside a buffer and at the first undefined operation.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from array import array
from types import ModuleType

TOTAL = 1 << 24
rng = random.Random(11)
outcomes = {"coded": 0, "left over": 0, "refused": 0}


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_ans", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seldom() -> bool:
    return rng.random() < 0.08


def make_table(columns: int) -> list[int]:
    """Increasing from 0 to 2^24, seldom anything else."""
    if seldom():
        return [rng.getrandbits(rng.choice([1, 24, 32])) for _ in range(columns)]
    return [0, *sorted(rng.sample(range(1, TOTAL), columns - 2)), TOTAL]


def make_symbols(count: int) -> array:
    bits = rng.choice([0, 2, 8, 31])
    return array("i", [rng.getrandbits(bits) - (1 << bits >> 1) for _ in range(count)])


def spoil(buffer: object) -> object:
    """The buffer, seldom cut, longer, or at an odd address."""
    if not seldom():
        return buffer
    data = bytearray(buffer)
    kind = rng.randrange(3)
    if kind == 0:
        return data[: rng.randint(0, len(data))]
    if kind == 1:
        return data + bytes(rng.randint(1, 9))
    return memoryview(bytearray(1) + data)[1:]


def call(function: object, *arguments: object) -> object:
    try:
        answer = function(*arguments)
    except (ValueError, MemoryError):
        outcomes["refused"] += 1
        return None
    outcomes["left over" if answer else "coded"] += 1
    return answer


def try_channels(ans: ModuleType) -> None:
    channels = rng.randint(0, 4)
    columns = rng.randint(3, 20)
    rows = [make_table(columns) for _ in range(channels)]
    cumulative = array("I", [number for row in rows for number in row])
    length = array("i", [columns] * channels)
    offset = array("i", [-rng.randint(0, columns - 3) for _ in range(channels)])
    for numbers in (length, offset):
        if channels and seldom():
            numbers[rng.randrange(channels)] = rng.getrandbits(32) - (1 << 31)
    coded = rng.randbytes(channels)
    tables = [spoil(buffer) for buffer in (coded, cumulative, length, offset)]
    symbols = make_symbols(channels * rng.randint(0, 30))
    words = call(ans.encode_channels, spoil(symbols), *tables)
    for payload in (words or b"", rng.randbytes(4 * rng.randint(0, 60)), rng.randbytes(5)):
        call(ans.decode_channels, spoil(payload), *tables, spoil(bytearray(symbols)))


def try_contexts(ans: ModuleType) -> None:
    channels = rng.randint(0, 4)
    height = rng.randint(1, 6)
    width = rng.randint(1, 6)
    a_buckets = bytearray(rng.randrange(3) for _ in range(256))
    b_buckets = bytearray(rng.randrange(4) for _ in range(1024))
    radius = rng.randint(0, 4)
    count = rng.randint(1, 4)
    lookup = bytearray(rng.randrange(count) for _ in range(12 * channels))
    for numbers in (a_buckets, b_buckets, lookup):
        if numbers and seldom():
            numbers[rng.randrange(len(numbers))] = rng.randrange(256)
    rows = [make_table(2 * radius + 3) for _ in range(count)]
    cumulative = array("I", [number for row in rows for number in row])
    shared = [spoil(buffer) for buffer in (lookup, cumulative, a_buckets, b_buckets)]
    symbols = make_symbols(channels * height * width)
    if seldom():
        height = rng.choice([0, -1, 1 << 17, 1 << 62, height + 1])
    if seldom():
        radius = rng.choice([-1, 1 << 15, 1 << 62, radius + 1])
    size = (height, width)
    words = call(ans.encode_contexts, spoil(symbols), *shared, radius, *size)
    for payload in (words or b"", rng.randbytes(4 * rng.randint(0, 60)), rng.randbytes(5)):
        out = spoil(bytearray(symbols))
        call(ans.decode_contexts, spoil(payload), *shared, radius, *size, out)
    numbers = spoil(bytearray(2 * len(symbols)))
    call(ans.number_contexts, spoil(symbols), *shared[2:], *size, numbers)


def main() -> None:
    ans = load(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        try_channels(ans)
        try_contexts(ans)
    print(*outcomes.values())


if __name__ == "__main__":
    main()
