"""Every attack on faces: recognition, and what can be told of those who are not recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from roi_anon_ros.evaluate.closed_set import measure_closed_set
from roi_anon_ros.evaluate.discrimination import measure_discrimination
from roi_anon_ros.evaluate.identity import Embedder, Face, Scene, embed, summary
from roi_anon_ros.evaluate.inference import sum_up_attributes
from roi_anon_ros.evaluate.methods import Method
from roi_anon_ros.files.progress import Track


def measure_faces(
    faces: Sequence[Face],
    methods: Sequence[Method],
    recogniser: Embedder,
    scenes: Mapping[str, Scene],
    cache: Path,
    track: Track,
    attributes: Embedder | None = None,
    discrimination: bool = False,
    closed_set: bool = False,
) -> dict[str, dict[str, Any]]:
    """Look for everybody in what every method sends.

    Args:
        faces: from :func:`~roi_anon_ros.evaluate.identity.find_faces`.
        methods: the original among them.
        recogniser: that looks.
        scenes: by name.
        cache: folder of vectors.
        track: shows how far it is.
        attributes: tells sex and age; None: nobody asks.
        discrimination: whether faces are picked out of candidates as well.
        closed_set: whether a recogniser is trained on what is sent as well.

    Returns:
        For JSON, by the scene's name and by the method's: as from
        :func:`~roi_anon_ros.evaluate.identity.summary`,
        :func:`~roi_anon_ros.evaluate.inference.sum_up_attributes`, and ``discrimination``, as from
        :func:`~roi_anon_ros.evaluate.discrimination.measure_discrimination`, and ``closed_set``, as
        from :func:`~roi_anon_ros.evaluate.closed_set.measure_closed_set`.
    """
    names = [face.name for face in faces]

    def vectors(embedder: Embedder, label: str, *where: Any) -> np.ndarray:
        steps = embed(faces, embedder, cache, *where)
        return np.array(list(track(steps, len(faces), label)))

    photos = vectors(recogniser, "images")
    clear = None if attributes is None else vectors(attributes, "sex and age of images")
    figures: dict[str, dict[str, Any]] = {}
    for name, scene in scenes.items():
        figures[name] = {}
        for method in methods:
            label = f"{method.name}, {name}"
            one = summary(names, photos, vectors(recogniser, label, method, scene))
            if attributes is not None and clear is not None:
                told = vectors(attributes, f"sex and age of {label}", method, scene)
                one |= sum_up_attributes(names, clear, told)
            if discrimination:
                picking = f"picked out of {label}"
                one["discrimination"] = measure_discrimination(
                    faces, method, scene, cache, track, picking
                )
            if closed_set:
                naming = f"{label}, to learn from"
                one["closed_set"] = measure_closed_set(faces, method, scene, cache, track, naming)
            figures[name][method.name] = one
    return figures
