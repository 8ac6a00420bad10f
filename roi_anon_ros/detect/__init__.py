"""Persons and faces: RGB arrays in, boxes out.

No ROS; torch, ultralytics and OpenCV load only when a detector is made.
"""

from __future__ import annotations

from roi_anon_ros.detect.boxes import Detections, Detector
from roi_anon_ros.detect.faces import MtcnnFaces, YunetFaces
from roi_anon_ros.detect.persons import YoloPersons
from roi_anon_ros.detect.weights import WeightsError, find_weights

__all__ = [
    "Detections",
    "Detector",
    "MtcnnFaces",
    "WeightsError",
    "YoloPersons",
    "YunetFaces",
    "find_weights",
]
