"""Which detector a name stands for."""

from __future__ import annotations

import logging
from pathlib import Path

from roi_anon_ros.codec.modelfile import Model, model_folders
from roi_anon_ros.detect.boxes import AdjustableDetector
from roi_anon_ros.detect.latent_persons import LatentPersons
from roi_anon_ros.detect.persons import YoloPersons
from roi_anon_ros.detect.weights import WeightsError, find_weights
from roi_anon_ros.detect.yolox_engine import int8_file, read_latent_mark
from roi_anon_ros.detect.yolox_persons import YoloxPersons

log = logging.getLogger(__name__)

#: The detectors whose weights come with the package: on images, and on latents.
OURS = "persons"
LATENT = "latent"
#: The detector that the package can do without.
DEFAULT = "yolov8n"


#: What runs YOLO where the engine of that name does not: it takes ``.onnx`` weights to ONNX Runtime
#: under any name, and has no form in int8.
YOLO_ENGINES = {"onnxruntime": "torch", "openvino-int8": "openvino"}


def make_detector(
    name: str = DEFAULT, confidence: float = 0.25, engine: str = "auto"
) -> AdjustableDetector:
    """Make a detector by its name.

    Args:
        name: see `find_detector`.
        confidence: least score, 0 to 1.
        engine: "torch", "openvino", "openvino-int8", "onnxruntime" or "auto"; YOLO takes what is
            nearest, see `YOLO_ENGINES`.

    Raises:
        ImportError: what the detector needs is not installed.
        WeightsError, OSError: its weights cannot be had.
        ValueError: an argument is out of range, or a file holds something else.
    """
    if reads_latents(name):
        raise ValueError(
            f"detector: got {name}, which reads packets; must be one that looks at images"
        )
    if name != OURS and not _is_yolox(Path(name)):
        return YoloPersons(name, confidence, engine=YOLO_ENGINES.get(engine, engine))
    return YoloxPersons(find_detector(name), confidence, engine=engine)


def make_detector_or_ours(
    name: str = DEFAULT, confidence: float = 0.25, engine: str = "auto"
) -> AdjustableDetector:
    """Make a detector for a node: where "yolov8n" cannot be had, it is "persons".

    A warning says so. To measure, use `make_detector`, which never takes another one.

    Args:
        name: see `make_detector`, also for what is raised.
        confidence: likewise.
        engine: likewise.
    """
    try:
        return make_detector(name, confidence, engine)
    except (ImportError, WeightsError) as error:
        if name != DEFAULT:
            raise
        try:
            ours = make_detector(OURS, confidence, engine)
        except (ImportError, WeightsError):
            raise error from None
        log.warning("detector: got %s, must do with %s: %s", name, OURS, error)
        return ours


def reads_latents(name: str) -> bool:
    """Return whether a detector looks at packets and not at images.

    Args:
        name: see `find_detector`.
    """
    return name == LATENT or read_latent_mark(Path(name)) is not None


def make_latent_detector(
    name: str, model: Model, confidence: float = 0.25, engine: str = "auto"
) -> LatentPersons:
    """Make a detector that `reads_latents`.

    Args:
        name: see `find_detector`.
        model: of the codec whose packets are looked at.
        confidence: least score, 0 to 1.
        engine: as in `make_detector`; where "openvino-int8" has no form of it, "openvino".

    Raises:
        ImportError: what the engine needs is not installed.
        WeightsError, OSError: its weights cannot be had.
        ValueError: it is for latents of another model, or an argument is out of range.
    """
    weights = find_detector(name)
    if engine == "openvino-int8" and not int8_file(weights).is_file():
        engine = "openvino"
    return LatentPersons(weights, model, confidence, engine)


def find_detector(name: str) -> Path:
    """Return the file of a detector's weights.

    Args:
        name: "persons" or "latent", the package's own; "yolov8n", "yolox_nano" or another name that
            `find_weights` knows; or a file: ``.safetensors`` as ``roi-anon train
            config/train/persons.yaml`` or ``latent.yaml`` writes it, else YOLO's ``.pt`` or
            ``.onnx``.

    Raises:
        WeightsError: there is no way to it.
    """
    return own_weights(name) if name in (OURS, LATENT) else find_weights(name)


def _is_yolox(name: Path) -> bool:
    """Whether a name or a file is of YOLOX-nano: what we train, or the published weights."""
    return name.suffix.lower() == ".safetensors" or name.name.startswith("yolox")


def own_weights(name: str = OURS) -> Path:
    """Return the file of a detector that comes with the package.

    Args:
        name: "persons" or "latent".

    Raises:
        WeightsError: this installation has none.
    """
    files = [folder / "detectors" / f"{name}.safetensors" for folder in model_folders()]
    for file in files:
        if file.is_file():
            return file
    raise WeightsError(f"detector {name}: there is none of {', '.join(map(str, files))}")
