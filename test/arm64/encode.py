"""Encode images with one engine: encode.py ENGINE MODEL OUT IMAGE... writes OUT/NAME-ENGINE.ran."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from roi_anon_ros import files
from roi_anon_ros.codec import Codec


def main() -> None:
    engine = sys.argv[1]
    codec = Codec.load(sys.argv[2], engine)
    for image in map(Path, sys.argv[4:]):
        packet = codec.encode(files.read_pixels(image)).packet
        (Path(sys.argv[3]) / f"{image.stem}-{engine}.ran").write_bytes(packet)
        print(f"{platform.machine()} {engine} {image.name}: {len(packet)} bytes", flush=True)


if __name__ == "__main__":
    main()
