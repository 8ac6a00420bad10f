"""Pascal VOC: an XML file for each image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from roi_anon_ros.datasets.reading import (
    KIND_OF,
    Reading,
    add_record,
    check_order,
    check_readable,
    find_kinds,
    finite_box,
    first_file,
    located,
    plain_name,
    read_content,
    read_size,
    reports,
    tell_helmet,
)
from roi_anon_ros.storage import IMAGE_SUFFIXES


def read_voc(annotations: Path, images: Path | None = None) -> Reading:
    """Read a Pascal VOC set; classes are told by their names, see :data:`KIND_OF`.

    Pixels count from 1, the last one included. ``difficult`` objects are ignored. Every image
    counts as annotated with the kinds of all names in the set.

    Args:
        annotations: folder of ``.xml`` files, one for each image, or the folder above
            ``Annotations``.
        images: folder of the images, by default that folder above, or the one of the files; they
            lie in it, or in ``JPEGImages`` or ``images`` in it.

    Raises:
        ValueError: nothing can be read, or no class is known.
    """
    folder = Path(annotations)
    reading = Reading()
    base = Path(images or (folder.parent if folder.name.lower() == "annotations" else folder))
    bases = [base / name for name in ("JPEGImages", "images", "")]
    trees = []
    for file in find_xml_files(folder):
        with reports(reading, file):
            trees.append((file, ElementTree.fromstring(read_content(file))))
    names = {
        plain_name(name.text or "") for _, root in trees for name in root.iterfind("object/name")
    }
    kinds = find_kinds(names, f"{folder}: objects")
    for file, root in trees:
        with reports(reading, file):
            named = Path(root.findtext("filename") or file.name).name
            candidates = [named, *(file.stem + suffix for suffix in IMAGE_SUFFIXES)]
            path = first_file(b / name for name in candidates for b in bases)
            boxes = defaultdict(list)
            for one in root.iterfind("object"):
                name = plain_name(one.findtext("name") or "")
                kind = KIND_OF.get(name)
                if kind:
                    x1, y1, x2, y2 = finite_box(
                        [one.findtext(f"bndbox/{s}") for s in ("xmin", "ymin", "xmax", "ymax")]
                    )
                    check_order(x1 - 1, y1 - 1, x2, y2)
                    ignored = one.findtext("difficult", "0").strip() == "1"
                    helmet = tell_helmet(name, names)
                    boxes[kind].append((x1 - 1, y1 - 1, x2, y2, ignored, helmet))
            stated = (
                int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")
            )
            with located(path):
                add_record(reading, path, read_size(path, *stated), boxes, kinds)
    return check_readable(folder, reading)


def find_xml_files(folder: Path) -> list[Path]:
    """The XML files of a set, in the folder or in ``Annotations`` in it; none where it is of
    another format.
    """
    patterns = ("*.xml", "Annotations/*.xml", "annotations/*.xml")
    return next((files for pattern in patterns if (files := sorted(folder.glob(pattern)))), [])
