"""Persons in a codec's latents, without any image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from roi_anon_ros.codec import Opened
from roi_anon_ros.codec.modelfile import Model, latent_mark
from roi_anon_ros.detect.boxes import Detections, check_confidence, gather_within, suppress
from roi_anon_ros.detect.yolox_cells import decode_rows
from roi_anon_ros.detect.yolox_engine import make_run, read_latent_mark
from roi_anon_ros.detect.yolox_persons import MOST, OVERLAP

#: Pixels on a side for each value of the latents that the detector reads.
CELL = 16


class LatentPersons:
    """Find persons in what packets hold; no image is made.

    Args:
        weights: a file for `load_latent`; the exported network beside it needs no torch.
        model: of the codec whose packets are looked at.
        confidence: least score, 0 to 1.
        engine: see `make_run`.

    Attributes:
        confidence: least score of what it returns, 0 to 1.
        engine: the one that runs.

    Raises:
        ImportError: what the engine needs is not installed.
        OSError: the weights cannot be read.
        ValueError: the weights are for latents of another model, or an argument is out of range.
    """

    def __init__(
        self, weights: Path, model: Model, confidence: float = 0.25, engine: str = "torch"
    ) -> None:
        self.confidence = check_confidence(confidence)
        known = read_latent_mark(weights)
        given = latent_mark(model.tensors)
        if known != given:
            raise ValueError(
                f"detector: {weights.name} is for latents {known}, must be for {given}, those of "
                f"model {model.metadata['name']}: train it on them, or take another detector"
            )
        self.engine, self._run = make_run(weights, engine)
        self._run(np.zeros((1, model.latents.channels, 4, 4), np.float32))

    def __call__(self, opened: list[Opened]) -> list[Detections]:
        """Return the persons in each packet, in coded pixels, highest score first."""
        latents = [pad_even(one.latent.astype(np.float32)) for one in opened]
        batches: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, latent in enumerate(latents):
            batches[latent.shape].append(i)
        found: dict[int, Detections] = {}
        for (_, height, width), batch in batches.items():
            rows = self._run(np.stack([latents[i] for i in batch]))
            for i, of_latent in zip(batch, rows, strict=True):
                boxes, scores = decode_rows(of_latent, CELL * height, CELL * width, self.confidence)
                kept = suppress(boxes, scores, OVERLAP)[:MOST]
                size = opened[i].header.coded_size
                found[i] = gather_within(boxes[kept], scores[kept], "person", *size)
        return [found[i] for i in range(len(opened))]


def pad_even(latent: np.ndarray) -> np.ndarray:
    """Add a row and a column of zeros to ``[N, h, w]`` where a side is odd."""
    return np.pad(latent, ((0, 0), (0, latent.shape[1] % 2), (0, latent.shape[2] % 2)))
