"""CrowdHuman: a JSON object on each line of an ``.odgt`` file."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from roi_anon_ros.datasets.reading import (
    Reading,
    add_record,
    check_readable,
    first_file,
    read_content,
    read_size,
    reports,
    to_corners,
)


def read_crowdhuman(annotations: Path, images: Path | None = None) -> Reading:
    """Read CrowdHuman: a JSON object on each line.

    Persons are the visible boxes; ``mask`` entries are crowds, reflections and statues: persons to
    be ignored.

    Args:
        annotations: ``annotation_train.odgt`` or ``annotation_val.odgt``.
        images: folder of the images, by default the file's own. They lie in it, in ``Images`` in
            it, or in ``*/Images`` in it, as the parts of the published archive are unpacked.

    Raises:
        ValueError: nothing can be read.
    """
    file = Path(annotations)
    reading = Reading()
    base = Path(images or file.parent)
    folders = [base / "Images", base, *sorted(base.glob("*/Images"))]
    for number, line in enumerate(read_content(file).splitlines(), 1):
        if not line.strip():
            continue
        with reports(reading, f"{file}: line {number}"):
            entry = json.loads(line)
            path = first_file(folder / f"{entry['ID']}.jpg" for folder in folders)
            with reports(reading, path):
                boxes = defaultdict(list)
                for one in entry["gtboxes"]:
                    ignored = one["tag"] != "person" or bool(one.get("extra", {}).get("ignore"))
                    boxes["person"].append((*to_corners(one["vbox"]), ignored))
                    if one["tag"] == "person" and "hbox" in one:
                        ignored |= bool(one.get("head_attr", {}).get("ignore"))
                        boxes["head"].append((*to_corners(one["hbox"]), ignored))
                add_record(reading, path, read_size(path), boxes, frozenset(("person", "head")))
    return check_readable(file, reading)
