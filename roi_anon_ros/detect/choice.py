"""Which detector a name stands for."""

from __future__ import annotations

import logging
from pathlib import Path

from roi_anon_ros.codec.modelfile import model_folders
from roi_anon_ros.detect.boxes import Detector
from roi_anon_ros.detect.persons import YoloPersons
from roi_anon_ros.detect.weights import WeightsError

log = logging.getLogger(__name__)

#: The detector whose weights come with the package.
OURS = "persons"
#: The detector that the package can do without.
DEFAULT = "yolov8n"


def make_detector(name: str = DEFAULT, confidence: float = 0.25, engine: str = "auto") -> Detector:
    """Make a detector by its name.

    Args:
        name: "persons", the package's own; "yolov8n", or another name that `find_weights` knows;
            or a file: ``.safetensors`` as ``roi-anon train config/train/persons.yaml`` writes it,
            else YOLO's ``.pt`` or ``.onnx``. Where "yolov8n" cannot be had, it is "persons", and a
            warning says so.
        confidence: least score, 0 to 1.
        engine: "torch", "openvino" or "auto"; for the package's own also "onnxruntime" and
            "openvino-int8".

    Raises:
        ImportError: what the detector needs is not installed.
        WeightsError, OSError: its weights cannot be had.
        ValueError: an argument is out of range, or a file holds something else.
    """
    if name == OURS:
        return _make_yolox(own_weights(), confidence, engine)
    if Path(name).suffix.lower() == ".safetensors":
        return _make_yolox(Path(name), confidence, engine)
    try:
        return YoloPersons(name, confidence, engine=engine)
    except (ImportError, WeightsError) as error:
        if name != DEFAULT:
            raise
        try:
            weights = own_weights()
        except WeightsError:
            raise error from None
        log.warning("detector: got %s, must do with %s: %s", name, OURS, error)
        return _make_yolox(weights, confidence, engine)


def _make_yolox(weights: Path, confidence: float, engine: str) -> Detector:
    # It needs torch, which a server with YOLO does not.
    from roi_anon_ros.detect.yolox_persons import YoloxPersons

    return YoloxPersons(weights, confidence, engine=engine)


def own_weights() -> Path:
    """Return the file of the detector that comes with the package.

    Raises:
        WeightsError: this installation has none.
    """
    files = [folder / "detectors" / f"{OURS}.safetensors" for folder in model_folders()]
    for file in files:
        if file.is_file():
            return file
    raise WeightsError(f"detector {OURS}: there is none of {', '.join(map(str, files))}")
