"""Sex and age of a face, to test whether an anonymized image still tells them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roi_anon_ros.detect.boxes import check_images
from roi_anon_ros.storage import digest

#: Side in pixels of the face that the network takes.
SIDE = 62


class FaceAttributes:
    """Sex and age with a network of the Open Model Zoo's age-gender-recognition, on one thread of
    OpenVINO.

    Args:
        model_path: an ``.xml`` file with its ``.bin`` beside it: ``[1, 3, 62, 62]``, BGR, 0 to 255,
            to two probabilities (female, male) and an age over 100; none is shipped with this
            package.

    Attributes:
        fingerprint: the first digits of the SHA-256 of its files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such network.
        ImportError: openvino is not installed.
    """

    def __init__(self, model_path: Path) -> None:
        files = [model_path, model_path.with_suffix(".bin")]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"model_path: there is no file {file}")
        import openvino

        self.fingerprint = digest(*files)
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._network = openvino.Core().compile_model(model_path, "CPU", settings)
        except RuntimeError as error:
            raise ValueError(f"model_path: {model_path} is no network for sex and age") from error
        outputs = {tuple(one.shape): one for one in self._network.outputs}
        takes = tuple(self._network.input(0).shape)
        if takes != (1, 3, SIDE, SIDE) or set(outputs) != {(1, 2, 1, 1), (1, 1, 1, 1)}:
            raise ValueError(f"model_path: {model_path} is no network for sex and age")
        self._sex = outputs[1, 2, 1, 1]
        self._age = outputs[1, 1, 1, 1]

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        """Sex and age of faces.

        Args:
            faces: uint8 ``[H, W, 3]`` RGB, each filled by a face.

        Returns:
            float32 ``[n, 2]``: the probability of a man, 0 to 1, and the age, years.

        Raises:
            ValueError: names the entry that is no such image.
        """
        check_images(faces)
        return np.array([self._run(face) for face in faces], np.float32).reshape(-1, 2)

    def _run(self, face: np.ndarray) -> tuple[float, float]:
        import cv2

        fitted = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]
        batch = np.ascontiguousarray(fitted.transpose(2, 0, 1)[None], np.float32)
        results = self._network(batch)
        return float(results[self._sex].ravel()[1]), 100 * float(results[self._age].ravel()[0])
