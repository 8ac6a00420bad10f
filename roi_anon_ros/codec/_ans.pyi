"""The entropy coder of _ans.c; its header says what it codes."""

import numpy as np

Buffer = np.ndarray | bytes | memoryview

def encode_channels(
    symbols: Buffer, coded: Buffer, cumulative: Buffer, length: Buffer, offset: Buffer
) -> bytes: ...
def decode_channels(
    words: Buffer,
    coded: Buffer,
    cumulative: Buffer,
    length: Buffer,
    offset: Buffer,
    symbols: Buffer,
) -> int: ...
def encode_contexts(
    symbols: Buffer,
    lookup: Buffer,
    cumulative: Buffer,
    a_buckets: Buffer,
    b_buckets: Buffer,
    radius: int,
    height: int,
    width: int,
) -> bytes: ...
def decode_contexts(
    words: Buffer,
    lookup: Buffer,
    cumulative: Buffer,
    a_buckets: Buffer,
    b_buckets: Buffer,
    radius: int,
    height: int,
    width: int,
    symbols: Buffer,
) -> int: ...
def number_contexts(
    symbols: Buffer,
    a_buckets: Buffer,
    b_buckets: Buffer,
    height: int,
    width: int,
    numbers: Buffer,
) -> None: ...
