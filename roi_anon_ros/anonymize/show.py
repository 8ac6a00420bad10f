"""Every treatment of every region side by side, and what each costs.

``python -m roi_anon_ros.anonymize.show IMAGE OUT.jpg`` writes a tile and prints a table of
processor time on one core; ``--help`` names the files that it may have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from roi_anon_ros.anonymize.anonymizer import FEATHER, make_source
from roi_anon_ros.anonymize.regions import Regions
from roi_anon_ros.anonymize.treatments import make_treatment, treat
from roi_anon_ros.files.images import read_image

#: Treatments of all regions, and of faces and persons alone, each with its match.
ALL = ("blur", "blur:7", "pixelate", "mask", "silhouette", "inpaint")
HEIGHT = 260


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tile and print the table."""
    parser = argparse.ArgumentParser(description="Every treatment of every region side by side.")
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path, help=".jpg")
    parser.add_argument("--yunet", help="file of YuNet; MTCNN without it")
    parser.add_argument("--persons", default="yolov8n", help="the person detector")
    parser.add_argument("--pose", type=Path, help="file of MediaPipe's pose network")
    parser.add_argument("--dcgan", help="file of a generator of faces")
    parser.add_argument("--latent", action="store_true", help="optimise its latent, too: slow")
    parser.add_argument("--crop", type=int, nargs=4, help="left top right bottom that are shown")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    image = read_image(options.image).image
    left, top, right, bottom = options.crop or (0, 0, image.shape[1], image.shape[0])
    shown = np.s_[top:bottom, left:right]
    sources = {"face": (f"face:{options.yunet}" if options.yunet else "face", None)}
    sources["head"] = ("head", None)
    sources["person"] = (f"person:{options.persons}", None)
    if options.pose:
        sources["body mask"] = (f"person:{options.persons}", options.pose)
    rows = []
    print("| region | treatment | ms |\n|---|---|---|")
    for name, (source, pose) in sources.items():
        find = make_source(source, pose=pose)
        find(image)
        started = time.process_time()
        regions = find(image)
        found = f"find {len(regions)}"
        print(f"| {name} | {found} | {(time.process_time() - started) * 1000:.0f} |")
        named = _named(name, options.dcgan, options.latent)
        rows.append(_row(image, regions, name, named, shown))
    across = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    page = [np.hstack(row + [blank] * (across - len(row))) for row in rows]
    Image.fromarray(np.vstack(page)).save(options.out, quality=80)


def _named(region: str, dcgan: str | None, latent: bool) -> list[tuple[str, str]]:
    """Treatments of a region, each with its match."""
    named = [(treatment, "mean") for treatment in ALL]
    if region == "head":
        return named
    if region != "face":
        return [*named, ("body", "mean")]
    named += [("face", "mean"), ("face", "histogram")]
    if dcgan:
        matches = ("mean", "latent") if latent else ("mean",)
        named += [(f"face:{dcgan}", match) for match in matches]
    return named


def _row(
    image: np.ndarray,
    regions: Regions,
    name: str,
    named: Sequence[tuple[str, str]],
    window: tuple[slice, slice],
) -> list[np.ndarray]:
    shown = []
    for treatment, match in named:
        made = make_treatment(treatment, match)
        started = time.process_time()
        out = treat(image, regions, made, FEATHER, b"a key for a page")
        milliseconds = (time.process_time() - started) * 1000
        kind, _, value = treatment.partition(":")
        label = f"{kind} DCGAN" if kind == "face" and value else treatment
        label = f"{label}, {match}" if kind == "face" else label
        print(f"| {name} | {label} | {milliseconds:.0f} |", flush=True)
        out = out[window]
        width = round(out.shape[1] * HEIGHT / out.shape[0])
        small = cv2.resize(out, (width, HEIGHT), interpolation=cv2.INTER_AREA)
        cv2.putText(small, f"{name}: {label}", (4, 14), 0, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(small, f"{name}: {label}", (4, 14), 0, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        shown.append(small)
    return shown


if __name__ == "__main__":
    main()
