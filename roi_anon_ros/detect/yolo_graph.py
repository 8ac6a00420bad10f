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
from roi_anon_ros.detect.yolo_sides import free_sides, place_all

#: Of two boxes of a class that overlap more, intersection over union, the one with the lower score
#: goes.
OVERLAP = 0.7
#: Most objects in one image.
MOST = 300
#: Grey around an image that does not fill the network's.
PADDING = 114
#: Up to this share of the network's size images are not enlarged: it costs four times the time, and
#: finds fewer persons of a robot's camera of 320 × 240. Larger ones lose by their own size.
AS_THEY_ARE = 0.5


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
        image_size: side of the square that images are fitted into, pixels, see `fit_into`; a
            network of fixed size that cannot be freed of it keeps its own.
        threads: of the processor.

    Attributes:
        names: of the classes, by number.
        fixed: whether it takes images of one size alone.

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
        self._freed = shape.is_static and free_sides(graph)
        self.fixed = shape.is_static and not self._freed
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
            images: uint8 ``[H, W, 3]`` RGB, one or more; one where the file is for one.
            classes: numbers of the classes that are wanted.
            confidence: least score.

        Returns:
            For each image boxes ``[n, 4]``, left, top, right, bottom in its pixels, and scores
            ``[n]``, highest first.
        """
        fit, batch = self.prepare(images)
        return [choose(rows, classes, confidence, fit) for rows in self.run(batch)]

    def prepare(self, images: list[np.ndarray]) -> tuple[Fit, np.ndarray]:
        """Lay images of one size as the network takes them, float32 ``[B, 3, h, w]`` in [0, 1]."""
        height, width = images[0].shape[:2]
        fit, size = fit_into((height, width), self._size, None if self.fixed else self._stride)
        batch = np.stack([lay(image, fit, size) for image in images])
        return fit, np.multiply(batch.transpose(0, 3, 1, 2), np.float32(1 / 255), order="C")

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The network's answer, ``[B, 4 + classes, n]``; the next call of this thread overwrites
        it.
        """
        inputs = [batch]
        if self._freed:
            inputs += place_all(*batch.shape[2:])
        if not hasattr(self._mine, "request"):
            self._mine.request = self._compiled.create_infer_request()
        return self._mine.request.infer(
            dict(enumerate(inputs)), share_inputs=True, share_outputs=True
        )[0]


def fit_into(
    shape: tuple[int, int], size: tuple[int, int], stride: int | None
) -> tuple[Fit, tuple[int, int]]:
    """How images are laid into the network's.

    Args:
        shape: height and width of the images, pixels.
        size: height and width that they are scaled to fit into; with a stride, images up to
            `AS_THEY_ARE` of it keep their size.
        stride: the network's sides are the least multiples of it that the scaled image fits into;
            None: they are ``size``.

    Returns:
        The fit, and height and width of the network's image.
    """
    height, width = shape
    scale = min(size[0] / height, size[1] / width)
    if stride is not None and scale * AS_THEY_ARE >= 1:
        scale = 1.0
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
    if (height, width) == size:
        return image
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
    sure = np.flatnonzero((scores[wanted] > confidence).any(0))
    # Few cells are left to compare all classes in.
    best = scores[:, sure].argmax(0)
    is_wanted = np.isin(best, wanted)
    candidates = sure[is_wanted]
    best = best[is_wanted]
    of_best = scores[best, candidates]
    centres = rows[:2, candidates].T
    halves = rows[2:4, candidates].T / 2
    boxes = np.concatenate([centres - halves, centres + halves], 1)
    kept: list[int] = []
    for number in wanted:
        of_class = np.flatnonzero(best == number)
        stay = suppress(boxes[of_class], of_best[of_class], OVERLAP)
        kept += of_class[stay].tolist()
    found = of_best[kept]
    order = np.argsort(-found, kind="stable")[:MOST]
    padding = np.array([fit.left, fit.top, fit.left, fit.top], np.float32)
    return (boxes[kept][order] - padding) / fit.scale, found[order]
