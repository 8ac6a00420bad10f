"""A set in whichever of the formats it is."""

from __future__ import annotations

from pathlib import Path

from roi_anon_ros.datasets.coco import read_coco
from roi_anon_ros.datasets.crowdhuman import read_crowdhuman
from roi_anon_ros.datasets.reading import Reading
from roi_anon_ros.datasets.voc import find_xml_files, read_voc
from roi_anon_ros.datasets.yolo import find_yolo_file, read_yolo


def read_set(annotations: Path, images: Path | None = None) -> Reading:
    """Read a set in whichever of the formats it is.

    Args:
        annotations: ``.odgt`` (CrowdHuman), ``.json`` (COCO), ``data.yaml`` or the folder it lies
            in (YOLO), a folder of ``.xml`` files or the folder above it (Pascal VOC).
        images: the images' folder, where the set's own layout does not say it; of a YOLO set,
            only images in it are read.

    Raises:
        ValueError: names the set, of which nothing can be read, and says why.
    """
    path = Path(annotations)
    suffix = path.suffix.lower()
    if suffix == ".odgt":
        return read_crowdhuman(path, images)
    if suffix == ".json":
        return read_coco(path, images)
    if suffix in (".yaml", ".yml") or find_yolo_file(path):
        return read_yolo(path, images)
    if find_xml_files(path):
        return read_voc(path, images)
    raise ValueError(
        f"{path}: neither .odgt, .json, .yaml, nor a folder with data.yaml or .xml files"
    )
