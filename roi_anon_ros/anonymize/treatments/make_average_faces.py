"""How ``average_faces.npz`` was made: means of faces of nobody.

``python -m roi_anon_ros.anonymize.treatments.make_average_faces weights.tar
face_detection_yunet_2023mar.onnx``

1. 6,000 faces by DCGAN (``dcgan.py``, weights of the package gan-face-generate 1.1.1, MIT, trained
   on rendered people), of normal numbers by numpy's default generator with seed 2026.
2. YuNet (OpenCV Zoo, MIT) finds their landmarks at three times the size, with a score of 0.8 or
   more. Faces whose nose is not in the middle, and those in the dark, are left out.
3. Each is warped to the mean landmarks, by the affine map of least squares.
4. Sorted by the brightness of their skin, they make 4 quarters; in each, 3 times 32 faces, drawn
   without repetition, make 3 means.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.anonymize.treatments.dcgan import LATENT, SIDE, Dcgan

COUNT = 6000
SEED = 2026
SCALE = 3
SCORE = 0.8
#: The nose's place between the eyes: 0 at the image's left one, 1 at the other.
NOSE = (0.35, 0.65)
#: Least mean brightness of the skin, 0 to 255.
LIGHT = 50
QUARTERS = 4
MEANS = 3
K = 32


def main(generator: str, yunet: str) -> None:
    """Write the file next to this module."""
    generate = Dcgan(Path(generator))
    latents = np.random.default_rng(SEED).standard_normal((COUNT, LATENT)).astype(np.float32)
    detector = cv2.FaceDetectorYN.create(yunet, "", (SIDE * SCALE,) * 2, score_threshold=SCORE)
    faces = []
    marks = []
    for latent in latents:
        face = generate(latent)
        large = cv2.resize(face, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        _, found = detector.detect(np.ascontiguousarray(large[..., ::-1]))
        if found is None or len(found) != 1:
            continue
        points = found[0, 4:14].reshape(5, 2) / SCALE
        between = (points[2, 0] - points[0, 0]) / max(points[1, 0] - points[0, 0], 1)
        if NOSE[0] <= between <= NOSE[1]:
            faces.append(face)
            marks.append(points)
    canonical = np.mean(marks, axis=0).astype(np.float32)
    canonical[:, 0] = (canonical[:, 0] + (SIDE - canonical[[1, 0, 2, 4, 3], 0])) / 2
    canonical[:, 1] = (canonical[:, 1] + canonical[[1, 0, 2, 4, 3], 1]) / 2
    aligned = np.stack(
        [_align(face, points, canonical) for face, points in zip(faces, marks, strict=True)]
    )
    brightness = aligned[:, 24:44, 20:44].mean((1, 2, 3))
    aligned = aligned[brightness >= LIGHT]
    order = np.argsort(brightness[brightness >= LIGHT], kind="stable")
    draw = np.random.default_rng(SEED)
    means = []
    for quarter in np.array_split(order, QUARTERS):
        for members in draw.permutation(quarter)[: MEANS * K].reshape(MEANS, K):
            means.append(aligned[members].mean(0).round().astype(np.uint8))
    target = Path(__file__).with_name("average_faces.npz")
    np.savez_compressed(target, faces=np.stack(means), landmarks=canonical, k=K)
    print(f"{len(order)} faces of {COUNT}: {target}")


def _align(face: np.ndarray, points: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    ones = np.ones((5, 1))
    solution = np.linalg.lstsq(np.hstack([points, ones]), canonical, rcond=None)[0]
    return cv2.warpAffine(
        face, solution.T, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
