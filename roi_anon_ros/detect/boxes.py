"""What every detector takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roi_anon_ros.boxes import clip_boxes


@dataclass
class Detections:
    """What was found in one image; row i of each field is the same object.

    boxes: float32 [n, 4], left, top, right, bottom in pixels of the image given, inside it.
    scores: float32 [n], 0 to 1.
    labels: n class names.
    landmarks: of faces, by a detector that finds them, float32 [n, 5, 2], x and y in pixels: the
        eye at the image's left, the other eye, nose, the corner of the mouth at the image's left,
        the other corner.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: list[str]
    landmarks: np.ndarray | None = None


class Detector(Protocol):
    """Anything that finds objects in a batch of images."""

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Return one `Detections` per image (uint8 [H, W, 3] RGB), in order."""
        ...


class AdjustableDetector(Detector, Protocol):
    """A detector whose least score may be set at any time.

    Attributes:
        confidence: least score of what it returns, 0 to 1.
    """

    confidence: float


def check_images(images: list[np.ndarray]) -> None:
    """Raise ValueError, naming the entry, unless all are uint8 [H, W, 3] arrays of at least one
    pixel.
    """
    if isinstance(images, np.ndarray):
        raise ValueError(
            f"images: expected a list of images, got one array of shape {images.shape}"
        )
    for i, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise ValueError(f"images[{i}]: expected a numpy array, got {type(image).__name__}")
        if image.dtype != np.uint8:
            raise ValueError(f"images[{i}].dtype: expected uint8, got {image.dtype}")
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(
                f"images[{i}].shape: expected [H, W, 3] RGB with H, W >= 1, got {list(image.shape)}"
            )


def check_confidence(confidence: float) -> float:
    """Return it, or raise ValueError where it is not within 0 to 1."""
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence: expected 0 to 1, got {confidence}")
    return float(confidence)


def gather(
    boxes: np.ndarray,
    scores: np.ndarray,
    label: str,
    image: np.ndarray,
    landmarks: np.ndarray | None = None,
) -> Detections:
    """Clip boxes [n, 4] to the image, drop those left without area, and give all the rest one
    label.
    """
    height, width = image.shape[:2]
    return gather_within(boxes, scores, label, width, height, landmarks)


def gather_within(
    boxes: np.ndarray,
    scores: np.ndarray,
    label: str,
    width: int,
    height: int,
    landmarks: np.ndarray | None = None,
) -> Detections:
    """Do what `gather` does, for an image of which only the sides are known, pixels."""
    boxes = clip_boxes(boxes, width, height)
    scores = np.asarray(scores, np.float32).reshape(-1)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if landmarks is not None:
        landmarks = np.asarray(landmarks, np.float32).reshape(-1, 5, 2)[kept]
    return Detections(boxes[kept], scores[kept], [label] * int(kept.sum()), landmarks)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Which boxes stay: greedy, best first, none that overlaps a better one too much.

    Args:
        boxes: ``[n, 4]``, left, top, right, bottom.
        scores: ``[n]``, in [0, 1].
        overlap: greatest intersection over union.

    Returns:
        Their numbers, highest score first.
    """
    import cv2  # here, for a detector that is only imported costs nothing

    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, overlap)
    return np.asarray(kept, np.int64).reshape(-1)
