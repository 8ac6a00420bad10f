"""Persons with YOLO."""

from __future__ import annotations

import logging
import os
import shutil
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect.boxes import Detections, check_confidence, check_images, gather
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import find_weights
from roi_anon_ros.storage import digest

log = logging.getLogger(__name__)


class YoloPersons:
    """Find persons with any ultralytics weights that know the class "person".

    weights: a name that `find_weights` knows, or a path to a .pt or .onnx file.
    confidence: least score, 0 to 1.
    engine: what runs the weights: "torch" (an .onnx file: ONNX Runtime), or "openvino", faster on
        x86 processors and in bfloat16 where they have it; "auto": openvino where it is installed
        and torch has no GPU.
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
        ultralytics = import_ultralytics()
        import torch  # there, now that ultralytics is

        self.weights: Path = find_weights(weights)
        suffix = self.weights.suffix.lower()
        if suffix not in (".pt", ".onnx"):
            raise ValueError(f"weights: expected a .pt or .onnx file, got {self.weights}")
        if engine not in ("torch", "openvino", "auto"):
            raise ValueError(f"engine: expected torch, openvino or auto, got {engine!r}")
        free = engine == "auto"
        if free:
            engine = (
                "openvino" if find_spec("openvino") and not torch.cuda.is_available() else "torch"
            )
        # An exported file does not say its task reliably, and may be fixed to one image a call.
        self._one_by_one = suffix == ".onnx"
        self._model = ultralytics.YOLO(
            str(self.weights), task="detect" if self._one_by_one else None
        )
        threads = torch.get_num_threads()
        if engine == "openvino":
            try:
                self._model = ultralytics.YOLO(
                    str(openvino_form(self.weights)), task=self._model.task
                )
            except (
                Exception
            ) as error:  # of the conversion, whatever it is, or of a cache that is read-only
                if not free:
                    raise
                log.warning("the detector goes without OpenVINO: %s", error)
        if self._model.task not in ("detect", "segment", "pose"):
            raise ValueError(
                f"weights: {self.weights} does {self._model.task}, expected one that gives boxes"
            )
        self._persons: list[int] | None = None
        self._predict([np.zeros((image_size, image_size, 3), np.uint8)])
        torch.set_num_threads(
            threads
        )  # on a CPU, an export and the first run take one from the whole process
        names: dict[int, str] = self._model.predictor.model.names
        self._persons = [i for i, name in names.items() if name == "person"]
        if not self._persons:
            raise ValueError(f"weights: {self.weights} knows no class 'person'")

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
            results = self._predict([images[i] for i in batch])
            for i, result in zip(batch, results, strict=True):
                boxes = result.boxes.cpu().numpy()
                found[i] = gather(boxes.xyxy, boxes.conf, "person", images[i])
        return [found[i] for i in range(len(images))]

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
    without openvino, OSError where the cache cannot be written.
    """
    if find_spec("openvino") is None:
        raise ImportError("engine openvino is not installed: pip install 'roi_anon_ros[server]'")
    ultralytics = import_ultralytics()
    import openvino

    made_by = f"{ultralytics.__version__}-{openvino.__version__.split('-')[0]}"
    kept = cache_dir() / "weights" / f"{digest(weights)}-{made_by}_openvino_model"
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            if weights.suffix.lower() == ".onnx":
                made = _from_onnx(weights, Path(folder))
            else:
                copy = shutil.copy(weights, folder)  # ultralytics writes beside the weights
                made = ultralytics.YOLO(copy).export(format="openvino", dynamic=True, verbose=False)
            try:
                os.rename(made, kept)
            except OSError:
                if not kept.is_dir():  # unless another process was faster
                    raise
    return kept


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
