"""Realistic faces: faces of nobody, placed with pose, light and colour of the scene.

Two origins: means of 32 faces each, which ship with the package (``average_faces.npz``, made by
``make_average_faces.py`` of generated faces of rendered people), and a generator from the user's
file (``dcgan.py``). Neither looks at who is hidden: which face an object gets depends on the run's
key and its track.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.anonymize.regions import Region, assumed_landmarks
from roi_anon_ros.anonymize.treatments.base import Scene, Window, mean_colour, seed
from roi_anon_ros.anonymize.treatments.dcgan import LATENT, SIDE, Dcgan
from roi_anon_ros.anonymize.treatments.histograms import match_colours
from roi_anon_ros.anonymize.treatments.inpaint import Inpaint

MATCHES = ("mean", "histogram", "latent", "none")
#: Generated faces among which the most symmetric one is taken: it looks ahead and is evenly lit.
CANDIDATES = 12
#: Bounds of what the contrast of a face is multiplied by when its mean colour is changed.
GAIN = (0.7, 1.3)
#: Surroundings whose colours a face is matched to: width over the region's longer side.
RING = 0.5


class RealisticFaces:
    """A face of nobody.

    Args:
        generator: makes the faces; None takes the means.
        match: how its light and colour are made those of the scene. ``"mean"``: its mean colour
            becomes the mean colour of the region; ``"histogram"``: saturation and brightness those
            of the surroundings; ``"latent"``: the same by changing the generator's latent, which
            needs one in torch; ``"none"``.

    Raises:
        ValueError: there is no such match, or it needs a generator.
    """

    def __init__(self, generator: Dcgan | None = None, match: str = "mean") -> None:
        if match not in MATCHES:
            raise ValueError(f"match: got {match!r}, must be one of {', '.join(MATCHES)}")
        if match == "latent" and generator is None:
            raise ValueError("match: latent needs a generator: --treatment face:FILE")
        self._match = match
        self._generator = generator
        self._means, self._landmarks = _average_faces()
        self._choice = _last(self._choose)
        self._around = Inpaint()

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        surroundings = window.grown(int(RING * region.side), scene.image)
        ring = surroundings.of(scene.image)[~surroundings.of(scene.hidden)]
        face = self._choice(scene, region)
        if self._match == "latent" and self._generator is not None and len(ring):
            latent = _symmetric_latent(self._generator, scene, region)
            face = self._generator.matched(latent, ring)
        placed = self._place(face, region, window, cv2.BORDER_REPLICATE)
        shape = self._place(_oval(), region, window, cv2.BORDER_CONSTANT)[..., None] / 255.0
        if self._match == "histogram":
            placed = match_colours(placed, ring)
        elif self._match == "mean":
            inside = window.of(region.drawn(scene.image.shape[1], scene.image.shape[0]))
            placed = _shifted(placed, shape, mean_colour(window.of(scene.image)[inside]))
        around = self._around(scene, region, window)
        return (around * (1 - shape) + placed * shape).round().astype(np.uint8)

    def _choose(self, scene: Scene, region: Region) -> np.ndarray:
        if self._generator is None:
            return self._means[seed(scene, region, "average face").integers(len(self._means))]
        return self._generator(_symmetric_latent(self._generator, scene, region))

    def _place(self, face: np.ndarray, region: Region, window: Window, border: int) -> np.ndarray:
        """The face on the region's landmarks, by the affine map of least squares."""
        target = region.landmarks
        if target is None:
            target = assumed_landmarks(region.box)
        ones = np.ones((5, 1))
        source = np.hstack([self._landmarks, ones])
        to_image = np.linalg.lstsq(source, target, rcond=None)[0].T
        to_image[:, 2] -= (window.columns.start, window.rows.start)
        height, width = window.size
        size = (width, height)
        return cv2.warpAffine(face, to_image, size, flags=cv2.INTER_LINEAR, borderMode=border)


@cache
def _average_faces() -> tuple[np.ndarray, np.ndarray]:
    """The means, uint8 ``[12, 64, 64, 3]`` RGB, and their landmarks, ``[5, 2]``."""
    with np.load(Path(__file__).with_name("average_faces.npz")) as content:
        return content["faces"], content["landmarks"]


def _asymmetry(face: np.ndarray) -> float:
    middle = face[16:60, 8:56].astype(np.float32)
    return float(np.abs(middle - middle[:, ::-1]).mean())


def _symmetric_latent(generator: Dcgan, scene: Scene, region: Region) -> np.ndarray:
    """The latent of the most symmetric face of some that the key draws, float32 ``[100]``."""
    draw = seed(scene, region, "latent")
    latents = draw.standard_normal((CANDIDATES, LATENT)).astype(np.float32)
    return min(latents, key=lambda latent: _asymmetry(generator(latent)))


@cache
def _oval() -> np.ndarray:
    """How much of a face is seen: uint8 ``[64, 64]``, 255 in the middle, 0 at the edge."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(drawn, (SIDE // 2, SIDE // 2 + 2), (20, 26), 0, 0, 360, 255, cv2.FILLED)
    return cv2.GaussianBlur(drawn, (0, 0), 2)


def _shifted(patch: np.ndarray, shape: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """A patch whose mean colour, weighted with its shape, is the given one."""
    own = (patch * shape).sum((0, 1)) / max(float(shape.sum()), 1e-6)
    gain = np.clip(mean / np.maximum(own, 1), *GAIN)
    return ((patch - own) * gain + mean).clip(0, 255)


def _last(choose: Callable[[Scene, Region], np.ndarray]) -> Callable[[Scene, Region], np.ndarray]:
    """Remember what was chosen for the last tracks: along a track it is the same."""
    chosen: dict[tuple[bytes, int], np.ndarray] = {}

    def remember(scene: Scene, region: Region) -> np.ndarray:
        if region.track < 0:
            return choose(scene, region)
        name = (scene.key, region.track)
        if name not in chosen:
            if len(chosen) >= 256:
                chosen.pop(next(iter(chosen)))
            chosen[name] = choose(scene, region)
        return chosen[name]

    return remember
