"""YOLO in OpenVINO's form, run without torch and ultralytics, whose import alone costs seconds and
half a gigabyte.

Images are fitted and boxes are chosen as ultralytics does it for predictions.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roi_anon_ros.detect.boxes import suppress

#: Of two boxes of a class that overlap more, intersection over union, the one with the lower score
#: goes.
OVERLAP = 0.7
#: Most objects in one image.
MOST = 300
#: Grey around an image that does not fill the network's.
PADDING = 114


@dataclass(frozen=True)
class Fit:
    """How an image lies in the network's.

    Attributes:
        scale: pixels of the network's for one of the image's.
        left: pixels of the padding.
        top: the same.
    """

    scale: float
    left: int
    top: int


class YoloGraph:
    """A network as ``YOLO.export(format="openvino")`` writes it.

    Args:
        folder: with the network (.xml) and ``metadata.yaml``.
        image_size: side of the square that images are fitted into, pixels; a network of fixed size
            keeps its own.
        threads: of the processor.

    Attributes:
        names: of the classes, by number.
        fixed: whether it takes one image of one size alone.

    Raises:
        ValueError: the network gives something else than a box and a score for each class.
    """

    def __init__(self, folder: Path, image_size: int, threads: int) -> None:
        import openvino

        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
        names = metadata["names"]  # a text where it comes from an .onnx file
        self.names: dict[int, str] = yaml.safe_load(names) if isinstance(names, str) else names
        (file,) = folder.glob("*.xml")
        core = openvino.Core()
        graph = core.read_model(file)
        shape = graph.input(0).partial_shape
        rows = graph.output(0).partial_shape
        task = metadata.get("task", "detect")  # older exports do not say it
        known = 4 + len(self.names)
        if task != "detect" or len(rows) != 3 or rows[1] != known:
            raise ValueError(
                f"{file}: {task} with outputs {rows}, must be detect with {known} rows"
            )
        self.fixed = not shape.is_dynamic
        self._stride = int(metadata.get("stride", 32))
        self._size = (image_size, image_size)
        if self.fixed:
            self._size = (shape[2].get_length(), shape[3].get_length())
        bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # every process would sit on the first cores
        }
        self._compiled: Any = core.compile_model(graph, "CPU", settings)
        self._mine = threading.local()  # a request serves one thread at a time

    def __call__(
        self, images: list[np.ndarray], classes: list[int], confidence: float
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find objects in images of one size.

        Args:
            images: uint8 ``[H, W, 3]`` RGB, one or more; one where the network is fixed.
            classes: numbers of the classes that are wanted.
            confidence: least score.

        Returns:
            For each image boxes ``[n, 4]``, left, top, right, bottom in its pixels, and scores
            ``[n]``, highest first.
        """
        height, width = images[0].shape[:2]
        fit = fit_into((height, width), self._size, None if self.fixed else self._stride)
        batch = np.stack([lay(image, *fit) for image in images])
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / 255
        if not hasattr(self._mine, "request"):
            self._mine.request = self._compiled.create_infer_request()
        rows = self._mine.request.infer({0: batch})[0]
        return [choose(of_image, classes, confidence, fit[0]) for of_image in rows]


def fit_into(
    shape: tuple[int, int], size: tuple[int, int], stride: int | None
) -> tuple[Fit, tuple[int, int]]:
    """How images are laid into the network's.

    Args:
        shape: height and width of the images, pixels.
        size: height and width that they are scaled to fit into.
        stride: the network's sides are the least multiples of it that the scaled image fits into;
            None: they are ``size``.

    Returns:
        The fit, and height and width of the network's image.
    """
    height, width = shape
    scale = min(size[0] / height, size[1] / width)
    inside = round(height * scale), round(width * scale)
    spare = [whole - part for whole, part in zip(size, inside, strict=True)]
    if stride is not None:
        spare = [pixels % stride for pixels in spare]
    top, left = (round(pixels / 2 - 0.1) for pixels in spare)
    return Fit(scale, left, top), (inside[0] + spare[0], inside[1] + spare[1])


def lay(image: np.ndarray, fit: Fit, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 ``[H, W, 3]``, scaled and padded to the network's height and width."""
    height, width = (max(round(side * fit.scale), 1) for side in image.shape[:2])
    if image.shape[:2] != (height, width):
        import cv2  # here, for a detector that is only imported costs nothing

        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    laid = np.full((*size, 3), PADDING, np.uint8)
    laid[fit.top : fit.top + height, fit.left : fit.left + width] = image
    return laid


def choose(
    rows: np.ndarray, wanted: list[int], confidence: float, fit: Fit
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the network's answer for one image into boxes of the wanted classes.

    Args:
        rows: ``[4 + classes, n]``: centre, width and height in the network's pixels, then
            the scores of the classes.
        wanted: numbers of the classes.
        confidence: least score.
        fit: of the image.

    Returns:
        Boxes ``[m, 4]``, left, top, right, bottom in the image's pixels, and scores ``[m]``,
        highest first.
    """
    scores = rows[4:]
    best = scores.argmax(0)
    of_best = scores.max(0)
    candidates = np.flatnonzero((of_best > confidence) & np.isin(best, wanted))
    centres = rows[:2, candidates].T
    halves = rows[2:4, candidates].T / 2
    boxes = np.concatenate([centres - halves, centres + halves], 1)
    kept: list[int] = []
    for number in wanted:
        of_class = np.flatnonzero(best[candidates] == number)
        stay = suppress(boxes[of_class], of_best[candidates][of_class], OVERLAP)
        kept += of_class[stay].tolist()
    found = of_best[candidates][kept]
    order = np.argsort(-found, kind="stable")[:MOST]
    padding = np.array([fit.left, fit.top, fit.left, fit.top], np.float32)
    return (boxes[kept][order] - padding) / fit.scale, found[order]
