"""Which images and clips, and what is annotated on them: one file for each published format."""

from roi_anon_ros.datasets.clips import Clip, read_clips, read_frames, squash
from roi_anon_ros.datasets.coco import read_coco
from roi_anon_ros.datasets.crowdhuman import read_crowdhuman
from roi_anon_ros.datasets.instances import KEYPOINTS, Instance, Scene, Scenes
from roi_anon_ros.datasets.reading import Reading
from roi_anon_ros.datasets.records import KINDS, Boxes, Record, heads_of
from roi_anon_ros.datasets.scenes import TASKS, read_scenes
from roi_anon_ros.datasets.sequences import Frame, read_sequences
from roi_anon_ros.datasets.sets import read_set
from roi_anon_ros.datasets.splits import (
    SHARES,
    for_training,
    split,
    spread,
    without_overlap,
    write_split,
)
from roi_anon_ros.datasets.subsets import select_images
from roi_anon_ros.datasets.voc import read_voc
from roi_anon_ros.datasets.yolo import read_yolo

__all__ = [
    "KEYPOINTS",
    "KINDS",
    "SHARES",
    "TASKS",
    "Boxes",
    "Clip",
    "Frame",
    "Instance",
    "Reading",
    "Record",
    "Scene",
    "Scenes",
    "for_training",
    "heads_of",
    "read_clips",
    "read_coco",
    "read_crowdhuman",
    "read_frames",
    "read_scenes",
    "read_sequences",
    "read_set",
    "read_voc",
    "read_yolo",
    "select_images",
    "split",
    "spread",
    "squash",
    "without_overlap",
    "write_split",
]
