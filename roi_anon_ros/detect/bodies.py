"""Who is it, without a face? Images of whole persons to vectors, to test whether anybody can still
be found again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roi_anon_ros.detect.boxes import check_images
from roi_anon_ros.storage import digest

#: Mean and standard deviation of ImageNet's colours, R G B, of values in [0, 1].
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_SD = np.array([0.229, 0.224, 0.225], np.float32)


class BodyRecogniser:
    """Vectors of persons with a network for re-identification, on one thread of OpenVINO.

    Args:
        model_path: a network ``[n, 3, height, width]`` to one vector a person; none is shipped
            with this package. An ``.onnx`` file is fed as those of deep-person-reid (OSNet): RGB,
            ImageNet's mean and standard deviation. An ``.xml`` file, with its ``.bin`` beside it,
            as those of the Open Model Zoo (person-reidentification-retail): BGR, 0 to 255.

    Attributes:
        fingerprint: the first digits of the SHA-256 of its files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such network.
        ImportError: openvino is not installed.
    """

    def __init__(self, model_path: Path) -> None:
        files = [model_path]
        if model_path.suffix == ".xml":
            files.append(model_path.with_suffix(".bin"))
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"model_path: there is no file {file}")
        if model_path.suffix not in (".onnx", ".xml"):
            raise ValueError(f"model_path: got {model_path}, must end with .onnx or .xml")
        import openvino

        self.fingerprint = digest(*files)
        self._is_zoo = model_path.suffix == ".xml"
        core = openvino.Core()
        # One thread and no bfloat16: a vector does not depend on the machine more than it must.
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            graph = core.read_model(model_path)
            shape = graph.input(0).partial_shape
            self._size = (shape[3].get_length(), shape[2].get_length())
            graph.reshape([1, 3, self._size[1], self._size[0]])
            self._network = core.compile_model(graph, "CPU", settings)
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"model_path: {model_path} is no network for persons") from error
        given = tuple(self._network.output(0).shape)
        if len(self._network.outputs) != 1 or len(given) != 2:
            raise ValueError(f"model_path: {model_path} gives {given}, must be one vector a person")
        self._length = given[1]

    def __call__(self, persons: list[np.ndarray]) -> np.ndarray:
        """The vectors of persons.

        Args:
            persons: uint8 ``[H, W, 3]`` RGB, each filled by a person; any size.

        Returns:
            float32 ``[n, d]`` of length 1: the dot product of two is their cosine similarity.

        Raises:
            ValueError: names the entry that is no such image.
        """
        check_images(persons)
        rows = [self._run(person) for person in persons]
        vectors = np.concatenate([np.empty((0, self._length), np.float32), *rows])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

    def _run(self, person: np.ndarray) -> np.ndarray:
        import cv2

        fitted = cv2.resize(person, self._size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
        if self._is_zoo:
            values = fitted[..., ::-1]
        else:
            values = (fitted / 255 - IMAGENET_MEAN) / IMAGENET_SD
        batch = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)
        return np.array(self._network(batch)[0])
