"""What validation shows besides numbers of pixels: who is still found in the decoded images, and
the images.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.datasets import Record
from roi_anon_ros.detect import Detector
from roi_anon_ros.detect.matching import match

log = logging.getLogger(__name__)

#: Least overlap, intersection over union, of a detected face with an annotated one. Detectors
#: differ in what they call the box of a face, and where only heads are annotated, half of the box
#: is no face.
FACE_OVERLAP = 0.4
#: Height of an image on a sheet, pixels.
SHEET_HEIGHT = 240


def to_decibels(error: float) -> float:
    """PSNR of a mean squared error above 0 of values in [0, 1], dB."""
    return -10 * math.log10(error)


class Witnesses:
    """YOLOv8 looks for persons, MTCNN for faces, in the originals (once) and in what was decoded.

    Where a detector is not to be had, a warning says why and it stays out.

    Args:
        weights: of YOLOv8, name or file.
    """

    def __init__(self, weights: str) -> None:
        from roi_anon_ros.detect import MtcnnFaces
        from roi_anon_ros.detect.choice import make_detector

        self._detectors: dict[str, Detector] = {}
        makers: dict[str, Callable[[], Detector]] = {
            "persons": lambda: make_detector(weights, engine="torch"),
            "faces": MtcnnFaces,
        }
        for name, make in makers.items():
            try:
                self._detectors[name] = make()
            except (ImportError, RuntimeError) as error:
                log.warning("validation goes without %s: %s", name, error)
        self._originals: dict[tuple[str, int], int] = {}
        self.begin()

    def __deepcopy__(self, memo: dict[int, object]) -> Witnesses:
        """The weight-averaged copy of a training shares its witnesses: a detector's session cannot
        be copied.
        """
        return self

    def begin(self) -> None:
        """Forget what was seen in decoded images."""
        self._seen = dict.fromkeys(self._detectors, 0)
        self._of = dict.fromkeys(self._detectors, 0)

    def look(self, number: int, record: Record, original: np.ndarray, decoded: np.ndarray) -> None:
        """Count the annotated persons and faces that are found in an image before and after.

        Args:
            number: of the image, the same in every validation.
            record: its boxes.
            original: uint8 ``[H, W, 3]`` RGB, at any size.
            decoded: the same image, decoded.
        """
        for name in self._detectors:
            if (name, number) not in self._originals:
                self._originals[name, number] = self._found(name, record, original)
            self._of[name] += self._originals[name, number]
            self._seen[name] += self._found(name, record, decoded)

    def ratios(self) -> dict[str, float]:
        """``persons`` and ``faces``: found in the decoded images for each one found in the
        originals.
        """
        return {name: self._seen[name] / of for name, of in self._of.items() if of}

    def _found(self, name: str, record: Record, image: np.ndarray) -> int:
        (found,) = self._detectors[name]([image])
        scale = np.array(image.shape[1::-1] * 2) / (
            record.width,
            record.height,
            record.width,
            record.height,
        )
        if name == "persons":
            return int((match(found, record.persons.xyxy * scale) >= 0).sum())
        faces = record.face_truth
        return (
            0 if faces is None else int((match(found, faces.xyxy * scale, FACE_OVERLAP) >= 0).sum())
        )


def sheet(shown: list[tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> np.ndarray:
    """Write an image that shows originals with their heads marked, and below each what was
    decoded.

    Args:
        shown: originals and decoded images, uint8 ``[H, W, 3]`` RGB, and head boxes ``[n, 4]``.
        path: a .png file; its folder is made.

    Returns:
        The sheet, uint8 ``[H, W, 3]`` RGB.
    """
    columns = []
    for original, decoded, heads in shown:
        marked = original.copy()
        for x1, y1, x2, y2 in heads.tolist():
            cv2.rectangle(marked, (int(x1), int(y1)), (int(x2) - 1, int(y2) - 1), (255, 200, 0), 1)
        width = max(round(original.shape[1] * SHEET_HEIGHT / original.shape[0]), 1)
        columns.append(
            np.vstack(
                [
                    cv2.resize(p, (width, SHEET_HEIGHT), interpolation=cv2.INTER_AREA)
                    for p in (marked, decoded)
                ]
            )
        )
    image = np.hstack(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return image
