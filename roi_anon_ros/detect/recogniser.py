"""Who is it? Faces to vectors, to test whether anybody can still be recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roi_anon_ros.detect.boxes import check_images
from roi_anon_ros.detect.faces import YunetFaces
from roi_anon_ros.storage import digest

#: Side in pixels of an aligned face.
SIDE = 112
#: Where ArcFace (Deng et al., 2019) wants the eyes, the nose and the corners of the mouth in it: x,
#: y, the left one in the image first.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


class YunetLandmarks(YunetFaces):
    """The eyes, the nose and the corners of the mouth with YuNet; arguments and errors are those of
    `YunetFaces`.
    """

    def landmarks(self, image: np.ndarray) -> np.ndarray | None:
        """Return the points of the surest face in an image (uint8 [H, W, 3] RGB), None where there
        is no face.

        The points are float32 [5, 2], x and y in pixels, in the order of `TEMPLATE`; they may lie
        outside the image.
        """
        check_images([image])
        self._yunet.setInputSize((image.shape[1], image.shape[0]))
        _, faces = self._yunet.detect(np.ascontiguousarray(image[..., ::-1]))
        return None if faces is None else faces[faces[:, -1].argmax(), 4:14].reshape(5, 2)


class FaceRecogniser:
    """Vectors of faces with a network of the ArcFace type, on OpenCV's CPU engine.

    model_path: an .onnx file that takes [n, 3, 112, 112], RGB, (x - 127.5) / 127.5, or 0 to 255
        where its name has sface in it, as OpenCV's Zoo has it; none is shipped with this package.

    fingerprint: the first digits of the file's SHA-256.

    Raises FileNotFoundError without that file, ValueError for a file that is no such network. Not
    for use from two threads at once.
    """

    def __init__(self, model_path: str | Path) -> None:
        """Load the network and try it."""
        import cv2

        if not Path(model_path).is_file():
            raise FileNotFoundError(f"model_path: there is no file {model_path}")
        data = Path(model_path).read_bytes()
        self.fingerprint = digest(data)
        self._is_sface = "sface" in Path(model_path).name
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
            shape = self._run(np.zeros((SIDE, SIDE, 3), np.uint8)).shape
        except cv2.error as error:
            raise ValueError(
                f"model_path: {model_path} is no network for faces: {error.err}"
            ) from error
        if len(shape) != 2:
            raise ValueError(
                f"model_path: {model_path} gives {list(shape)}, expected one vector a face"
            )
        self._length = shape[1]

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        """Return the vectors of aligned faces (uint8 [112, 112, 3] RGB, from `align`).

        They are float32 [n, d] of length 1, d = 512 as a rule: the dot product of two is their
        cosine similarity. Raises ValueError, naming the entry, for anything else than such faces.
        """
        check_images(faces)
        for i, face in enumerate(faces):
            if face.shape != (SIDE, SIDE, 3):
                raise ValueError(
                    f"faces[{i}].shape: expected {[SIDE, SIDE, 3]}, got {list(face.shape)}"
                )
        # One by one, so that a face's vector does not depend on what else is in the list; a batch
        # is no faster.
        vectors = np.concatenate([np.empty((0, self._length), np.float32), *map(self._run, faces)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

    def _run(self, face: np.ndarray) -> np.ndarray:
        values = face.astype(np.float32)
        if not self._is_sface:
            values = (values - 127.5) / 127.5
        self._net.setInput(values.transpose(2, 0, 1)[None])
        return self._net.forward()


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Return the rotation, scale and shift that bring points [n, 2] nearest to others, float64 [2,
    3].

    Least squares after Umeyama (1991), equations (40) to (42). Raises ValueError where all points
    are one.
    """
    points = np.asarray(points, np.float64)
    onto = np.asarray(onto, np.float64)
    mean = points.mean(0)
    mean_onto = onto.mean(0)
    spread = np.square(points - mean).sum()
    if not spread > 0:
        raise ValueError(f"points: expected different finite points, got {points.tolist()}")
    u, d, vt = np.linalg.svd((onto - mean_onto).T @ (points - mean))
    sign = np.array([1, np.sign(np.linalg.det(u @ vt))])  # never mirrored
    linear = (d * sign).sum() / spread * (u * sign) @ vt
    return np.column_stack([linear, mean_onto - linear @ mean])


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return a face brought onto `TEMPLATE`, uint8 [112, 112, 3]; black beyond the image's edges.

    image: uint8 [H, W, 3] RGB.
    landmarks: [5, 2], as `YunetLandmarks` gives them.

    Raises ValueError for another image or other points.
    """
    import cv2

    check_images([image])
    if np.shape(landmarks) != (5, 2):
        raise ValueError(f"landmarks: expected [5, 2], got {list(np.shape(landmarks))}")
    return cv2.warpAffine(
        image, similarity(landmarks, TEMPLATE), (SIDE, SIDE), flags=cv2.INTER_LINEAR
    )
