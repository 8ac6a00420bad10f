"""Persons with YOLOX-nano, in images at their own size."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from roi_anon_ros.detect.boxes import Detections, check_confidence, check_images, gather, suppress
from roi_anon_ros.detect.weights import find_weights
from roi_anon_ros.detect.yolox_cells import LEAST_SIDE, decode_rows, fit
from roi_anon_ros.detect.yolox_engine import make_run

#: Of two boxes that overlap more, intersection over union, the one with the lower score goes.
OVERLAP = 0.65
#: Most persons in one image.
MOST = 300


class YoloxPersons:
    """Find persons with YOLOX-nano.

    Images are seen at their own size: padded to multiples of 32, and shrunk only where their
    longest side is more than ``max_side``.

    Args:
        weights: a name that `find_weights` knows, or a file for `load_yolox`; the exported networks
            beside it need no torch.
        confidence: least score, 0 to 1.
        max_side: pixels, a multiple of 32 from 128 to 4096.
        engine: see `make_run`.

    Attributes:
        engine: the one that runs.

    Raises:
        ImportError: what the engine needs is not installed.
        WeightsError, OSError: the weights cannot be had.
        ValueError: an argument is out of range, or the weights are of another kind.
    """

    def __init__(
        self,
        weights: str | Path,
        confidence: float = 0.25,
        max_side: int = 640,
        engine: str = "torch",
    ) -> None:
        self.confidence = check_confidence(confidence)
        if max_side not in range(LEAST_SIDE, 4097, 32):
            raise ValueError(
                f"max_side: got {max_side}, must be a multiple of 32 from {LEAST_SIDE} to 4096"
            )
        self.max_side = max_side
        self.weights = find_weights(weights)
        self.engine, self._run = make_run(self.weights, engine)
        # What fails does so here, not on the first image.
        self([np.zeros((LEAST_SIDE, LEAST_SIDE, 3), np.uint8)])

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Return the persons in each image, uint8 ``[H, W, 3]`` RGB, highest score first.

        Raises:
            ValueError: names the entry that is no such image.
        """
        check_images(images)
        fitted = [fit(image, self.max_side) for image in images]
        batches: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(fitted):
            batches[image.shape].append(i)
        found: dict[int, Detections] = {}
        for shape, batch in batches.items():
            rows = self._run(np.stack([fitted[i] for i in batch]))
            for i, of_image in zip(batch, rows, strict=True):
                boxes, scores = decode_rows(of_image, shape[0], shape[1], self.confidence)
                kept = suppress(boxes, scores, OVERLAP)[:MOST]
                scale = max(1.0, max(images[i].shape[:2]) / self.max_side)
                found[i] = gather(boxes[kept] * scale, scores[kept], "person", images[i])
        return [found[i] for i in range(len(images))]
