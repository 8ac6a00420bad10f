"""Poses of persons: 17 points of the body with an ultralytics pose network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roi_anon_ros.detect.boxes import check_confidence, check_images
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.processors import adopt_threads
from roi_anon_ros.storage import digest

#: COCO's points: nose, eyes, ears; then shoulders, elbows, wrists, hips, knees, ankles.
POINTS = 17
#: The first of them that is below the head.
FIRST_OF_BODY = 5


@dataclass(frozen=True, eq=False)
class Poses:
    """The persons that were found in an image, the surest first.

    Attributes:
        boxes: float32 ``[n, 4]``, left, top, right, bottom, pixels.
        scores: float32 ``[n]``, 0 to 1.
        points: float32 ``[n, 17, 2]``, x and y, pixels, in COCO's order.
        seen: float32 ``[n, 17]``, how sure each point is, 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray
    seen: np.ndarray


class PoseNetwork:
    """Finds poses with weights of ultralytics, such as ``yolo11n-pose.pt``, on the processor.

    Args:
        weights: the file; none is shipped with this package.
        confidence: least score of a person, 0 to 1.

    Attributes:
        fingerprint: the first digits of the file's SHA-256.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it finds no poses of 17 points, or the confidence is out of range.
        ImportError: ultralytics is not installed.
    """

    def __init__(self, weights: Path, confidence: float) -> None:
        if not weights.is_file():
            raise FileNotFoundError(f"weights: there is no file {weights}")
        self.confidence = check_confidence(confidence)
        self.fingerprint = digest(weights)
        ultralytics = import_ultralytics()
        adopt_threads()
        self._model = ultralytics.YOLO(str(weights))
        shape = getattr(self._model.model.model[-1], "kpt_shape", None)
        if self._model.task != "pose" or tuple(shape or ()) != (POINTS, 3):
            raise ValueError(f"weights: {weights} finds no poses of {POINTS} points")

    def __call__(self, image: np.ndarray) -> Poses:
        """The poses in an image.

        Args:
            image: uint8 ``[H, W, 3]`` RGB.

        Raises:
            ValueError: it is no such image.
        """
        check_images([image])
        # ultralytics takes arrays as BGR.
        flipped = np.ascontiguousarray(image[..., ::-1])
        (result,) = self._model.predict(
            flipped, conf=self.confidence, device="cpu", save=False, verbose=False
        )
        boxes = result.boxes.cpu().numpy()
        points = result.keypoints.cpu().numpy().data.reshape(-1, POINTS, 3)[: len(boxes)]
        return Poses(boxes.xyxy, boxes.conf, points[..., :2], points[..., 2])
