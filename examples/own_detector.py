"""A detector that you write yourself: OpenCV's HOG, before the codec and after it."""

import cv2
import numpy as np

from roi_anon_ros.codec import Codec
from roi_anon_ros.detect import Detections, Detector
from roi_anon_ros.evaluate.latency.images import default_image


class HogPersons:
    """Find upright persons with OpenCV's HOG (Dalal and Triggs 2005); no weights to fetch."""

    def __init__(self) -> None:
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """The persons in each image, uint8 ``[H, W, 3]`` RGB, in order."""
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        found = []
        margins = []
        if height >= 128 and width >= 64:  # OpenCV's window; it crashes on smaller images
            bgr = np.ascontiguousarray(image[..., ::-1])
            found, margins = self._hog.detectMultiScale(bgr, winStride=(8, 8))
        corners = np.asarray(found, np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]  # left, top, width, height to left, top, right, bottom
        boxes = np.clip(corners, 0, [width, height, width, height]).astype(np.float32)
        scores = 1 / (1 + np.exp(-np.asarray(margins, np.float32).reshape(-1)))
        return Detections(boxes, scores, ["person"] * len(boxes))


def main() -> None:
    """Count the persons before and after."""
    image, name = default_image()
    codec = Codec.load("roi")
    decoded = codec.decode(codec.encode(image).packet).at_source_size()
    detector: Detector = HogPersons()
    before, after = detector([image, decoded])
    print(f"{name}: {len(before.boxes)} persons in the original, {len(after.boxes)} in the decoded")


if __name__ == "__main__":
    main()
