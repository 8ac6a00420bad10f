"""Compare packets of two engines: compare.py MODEL PACKET OTHER says how many symbols differ.

It fails where the regions do, or more symbols than an engine may differ in from the reference.
"""

from __future__ import annotations

import sys
from pathlib import Path

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.engines import TOLERANCE
from roi_anon_ros.codec.packet import unpack


def main() -> None:
    codec = Codec.load(sys.argv[1], "onnxruntime")
    first, second = (Path(name).read_bytes() for name in sys.argv[2:4])
    (header, _, regions), (other, _, others) = unpack(first), unpack(second)
    if header != other or regions != others:
        sys.exit(f"{sys.argv[2]}: header or regions differ from {sys.argv[3]}'s")
    one, two = codec.latent(first), codec.latent(second)
    changed = int((one != two).sum())
    tolerance = TOLERANCE["onnxruntime"]
    print(f"{Path(sys.argv[3]).stem}: {changed} of {one.size} symbols differ")
    if changed > tolerance.changed_share * one.size:
        sys.exit(f"more than {tolerance.changed_share:.2%} of the symbols differ")


if __name__ == "__main__":
    main()
