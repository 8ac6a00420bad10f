"""Persons with YOLO."""

from __future__ import annotations

import logging
import os
import shutil
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect.boxes import Detections, check_confidence, check_images, gather
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import find_weights
from roi_anon_ros.detect.yolo_graph import YoloGraph
from roi_anon_ros.processors import adopt_threads, count_threads, has_gpu
from roi_anon_ros.storage import digest

log = logging.getLogger(__name__)


class YoloPersons:
    """Find persons with any ultralytics weights that know the class "person".

    weights: a name that `find_weights` knows, or a path to a .pt or .onnx file.
    confidence: least score, 0 to 1.
    engine: what runs the weights: "torch" (an .onnx file: ONNX Runtime), or "openvino", faster on
        x86 processors, in bfloat16 where they have it, and without torch once the weights are
        converted; "auto": openvino where it is installed and the machine has no GPU of NVIDIA's.
    image_size: side in pixels of the square that images are fitted into, a multiple of 32 from 32
        to 4096; an .onnx file of fixed size keeps its own.
    device: as torch names it ("cpu", "cuda:0"); None takes a GPU where there is one.

    Raises ImportError without ultralytics, WeightsError where weights cannot be had, ValueError for
    arguments out of range and for weights without persons. The weights are loaded and run once
    here, not on the first image.
    """

    def __init__(
        self,
        weights: str = "yolov8n",
        confidence: float = 0.25,
        image_size: int = 640,
        device: str | None = None,
        engine: str = "torch",
    ) -> None:
        """Load the weights and try them."""
        self.confidence = check_confidence(confidence)
        if image_size not in range(32, 4097, 32):
            raise ValueError(
                f"image_size: expected a multiple of 32 from 32 to 4096, got {image_size}"
            )
        self.image_size = image_size
        self.device = device
        self.weights: Path = find_weights(weights)
        suffix = self.weights.suffix.lower()
        if suffix not in (".pt", ".onnx"):
            raise ValueError(f"weights: expected a .pt or .onnx file, got {self.weights}")
        if engine not in ("torch", "openvino", "auto"):
            raise ValueError(f"engine: expected torch, openvino or auto, got {engine!r}")
        self._persons: list[int] | None = None
        self._model: Any = None
        form = self._find_form(engine)
        self._graph = self._open_graph(form) if form else None
        # An exported file may be fixed to one image a call.
        self._one_by_one = suffix == ".onnx"
        if self._graph is not None:
            names = self._graph.names
        else:
            names = self._load_ultralytics(form or self.weights)
        self._persons = [i for i, name in names.items() if name == "person"]
        if not self._persons:
            raise ValueError(f"weights: {self.weights} knows no class 'person'")

    def _find_form(self, engine: str) -> Path | None:
        """The weights as OpenVINO reads them, where that is to run them."""
        free = engine == "auto"
        if engine == "torch" or (free and (find_spec("openvino") is None or has_gpu())):
            return None
        try:
            return openvino_form(self.weights)
        except (
            Exception
        ) as error:  # of the conversion, whatever it is, or of a cache that is read-only
            if not free:
                raise
            log.warning("the detector goes without OpenVINO: %s", error)
            return None

    def _open_graph(self, form: Path) -> YoloGraph | None:
        """The network without torch and ultralytics, run once; None where it needs the latter."""
        try:
            graph = YoloGraph(form, self.image_size, count_threads())
        except ValueError as error:
            log.info("ultralytics runs the detector: %s", error)
            return None
        graph([self._black()], [], self.confidence)
        return graph

    def _load_ultralytics(self, file: Path) -> dict[int, str]:
        """Have ultralytics load a file or folder, and run it once; returns the classes' names."""
        ultralytics = import_ultralytics()
        import torch  # there, now that ultralytics is

        adopt_threads()
        # An exported file does not say its task reliably.
        self._model = ultralytics.YOLO(str(file), task="detect" if self._one_by_one else None)
        if self._model.task not in ("detect", "segment", "pose"):
            raise ValueError(
                f"weights: {self.weights} does {self._model.task}, expected one that gives boxes"
            )
        threads = torch.get_num_threads()
        self._predict([self._black()])
        torch.set_num_threads(threads)  # on a CPU, the first run takes one from the whole process
        return dict(self._model.predictor.model.names)

    def _black(self) -> np.ndarray:
        """An image of the shape that most cameras send: networks are made ready for a shape."""
        return np.zeros((3 * self.image_size // 4, self.image_size, 3), np.uint8)

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Return the persons in each image (uint8 [H, W, 3] RGB), in order, highest score first.

        An image's boxes do not depend on what else is in the list, to within rounding. Raises
        ValueError, naming the entry, for anything else than such images.
        """
        check_images(images)
        # Images of one shape make one batch: mixed shapes would be padded more, and so seen
        # differently.
        batches: dict[object, list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            batches[i if self._one_by_one else image.shape].append(i)
        found: dict[int, Detections] = {}
        for batch in batches.values():
            results = self._find([images[i] for i in batch])
            for i, (boxes, scores) in zip(batch, results, strict=True):
                found[i] = gather(boxes, scores, "person", images[i])
        return [found[i] for i in range(len(images))]

    def _find(self, images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes and scores of the persons in images of one size."""
        if self._graph is not None:
            return self._graph(images, self._persons or [], self.confidence)
        found = [result.boxes.cpu().numpy() for result in self._predict(images)]
        return [(boxes.xyxy, boxes.conf) for boxes in found]

    def _predict(self, images: list[np.ndarray]) -> list:
        import cv2  # there, with ultralytics

        return self._model.predict(
            [
                cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in images
            ],  # ultralytics takes arrays as BGR
            batch=len(images),
            classes=self._persons,
            conf=self.confidence,
            imgsz=self.image_size,
            device=self.device,
            save=False,
            verbose=False,
        )


def openvino_form(weights: Path) -> Path:
    """Return the folder of these weights as OpenVINO reads them; it is kept in the cache.

    Of a .pt file any size and batch, of an .onnx file what it was exported for. Raises ImportError
    without openvino or ultralytics, OSError where the cache cannot be written.
    """
    if find_spec("openvino") is None:
        raise ImportError("engine openvino is not installed: pip install 'roi_anon_ros[server]'")
    try:
        made_by = f"{version('ultralytics')}-{version('openvino')}"
    except PackageNotFoundError:
        import_ultralytics()  # raises, and says what is missing
        raise
    kept = cache_dir() / "weights" / f"{digest(weights)}-{made_by}_openvino_model"
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            if weights.suffix.lower() == ".onnx":
                made = _from_onnx(weights, Path(folder))
            else:
                made = _from_torch(weights, Path(folder))
            try:
                os.rename(made, kept)
            except OSError:
                if not kept.is_dir():  # unless another process was faster
                    raise
    return kept


def _from_torch(weights: Path, folder: Path) -> Path:
    """Convert a .pt file into a folder for OpenVINO within this one."""
    ultralytics = import_ultralytics()
    import torch

    copy = shutil.copy(weights, folder)  # ultralytics writes beside the weights
    threads = torch.get_num_threads()
    made = ultralytics.YOLO(copy).export(format="openvino", dynamic=True, verbose=False)
    torch.set_num_threads(threads)  # an export takes one from the whole process
    return Path(made)


def _from_onnx(weights: Path, folder: Path) -> Path:
    """Convert an .onnx file into ``<folder>/<its name>_openvino_model``, laid out as ultralytics
    reads it.
    """
    import onnxruntime
    import openvino

    made = folder / f"{weights.stem}_openvino_model"
    made.mkdir()
    openvino.save_model(
        openvino.convert_model(str(weights)), made / "model.xml", compress_to_fp16=False
    )
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    (made / "metadata.yaml").write_text(yaml.safe_dump(session.get_modelmeta().custom_metadata_map))
    return made
