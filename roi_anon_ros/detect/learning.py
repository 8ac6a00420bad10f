"""Training a detector through ultralytics, and looking with what was trained.

ultralytics is AGPL-3.0 and optional: it is imported when something is trained, through the one
door.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import find_weights
from roi_anon_ros.storage import draft_of

#: Detections of an image, at most, as COCO counts them; from this score on, which makes the curves
#: of precision over recall whole.
MOST = 100
LEAST_SCORE = 0.001


@dataclass(frozen=True)
class Schedule:
    """How a detector is trained.

    Attributes:
        epochs: 1 or more.
        image_size: side of the square that images are fitted into, a multiple of 32.
        batch: images of a step, 2 or more.
    """

    epochs: int
    image_size: int
    batch: int


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image; row i of each field is the same person.

    Attributes:
        boxes: float32 ``[n, 4]``, left, top, right, bottom, pixels.
        scores: float32 ``[n]``, 0 to 1.
        outlines: of a network that segments, polygons float ``[k, 2]``, pixels; empty of others.
        keypoints: of a network of poses, float32 ``[n, 17, 2]``, pixels; ``[n, 0, 2]`` of others.
    """

    boxes: np.ndarray
    scores: np.ndarray
    outlines: list[np.ndarray]
    keypoints: np.ndarray


def find_start(weights: str) -> Path:
    """The file that a training begins with.

    Args:
        weights: of a network, as :func:`find_weights` takes them; or ``NAME.yaml``, an
            architecture of ultralytics', trained from nothing.

    Raises:
        WeightsError: there is no way to them.
        ImportError: ultralytics is not installed.
    """
    import_ultralytics()
    return Path(weights) if weights.endswith(".yaml") else find_weights(weights)


def learn(start: Path, data: Path, target: Path, task: str, schedule: Schedule, seed: int) -> None:
    """Train a network on a YOLO set, and write its weights as they are at the end.

    No image but those for training has a say in which weights these are.

    Args:
        start: see :func:`find_start`.
        data: the set's YAML file.
        target: ``.pt`` file that is written, whole or not at all.
        task: ``"detect"``, ``"segment"`` or ``"pose"``.
        schedule: of the training.
        seed: of the order of images, of their augmentation and of new layers.

    Raises:
        ImportError: ultralytics is not installed.
        ValueError: the network is none for this task.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as folder, _quiet() as ultralytics:
        model = ultralytics.YOLO(str(start))
        if model.task != task:
            raise ValueError(f"weights: {start} are for {model.task}, must be for {task}")
        model.train(
            data=str(data.resolve()),
            epochs=schedule.epochs,
            imgsz=schedule.image_size,
            batch=schedule.batch,
            seed=seed,
            project=str(Path(folder).resolve()),  # a relative one would be in its own folder
            name="run",
            workers=0,
            amp=False,  # its check would fetch another network
            patience=0,
            val=False,
            plots=False,
            verbose=False,
        )
        draft = draft_of(target)
        shutil.copy(Path(folder) / "run" / "weights" / "last.pt", draft)
        draft.replace(target)


class Finder:
    """Finds persons with trained weights.

    Args:
        weights: ``.pt`` file of :func:`learn`, or another one that knows persons.
        image_size: side of the square that images are fitted into, a multiple of 32.

    Raises:
        ImportError: ultralytics is not installed.
        ValueError: the weights know no persons.
    """

    def __init__(self, weights: Path, image_size: int) -> None:
        self._image_size = image_size
        with _quiet() as ultralytics:
            self._model: Any = ultralytics.YOLO(str(weights))
        persons = [i for i, name in self._model.names.items() if name == "person"]
        if not persons:
            raise ValueError(f"weights: {weights} know no class 'person'")
        self._persons = persons

    def __call__(self, image: np.ndarray) -> Found:
        """What is found in an image, uint8 ``[H, W, 3]`` RGB, the surest first."""
        with _quiet():
            (result,) = self._model.predict(
                np.ascontiguousarray(image[..., ::-1]),  # ultralytics takes arrays as BGR
                imgsz=self._image_size,
                conf=LEAST_SCORE,
                max_det=MOST,
                classes=self._persons,
                save=False,
                verbose=False,
            )
        boxes = result.boxes.cpu().numpy()
        outlines = [] if result.masks is None else list(result.masks.xy)
        points = np.zeros((len(boxes), 0, 2), np.float32)
        if result.keypoints is not None:
            points = result.keypoints.xy.cpu().numpy()
        return Found(boxes.xyxy, boxes.conf, outlines, points)


@contextmanager
def _quiet() -> Iterator[Any]:
    """ultralytics, with torch's settings as they were afterwards."""
    ultralytics = import_ultralytics()
    import torch  # there, now that ultralytics is

    threads = torch.get_num_threads()
    exact = torch.are_deterministic_algorithms_enabled()
    try:
        yield ultralytics
    finally:
        # On a CPU it takes its own number of threads for the whole process.
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)
