"""Is anybody found again without a face? Re-identification of whole persons before and after each
method.

Images of persons, of several cameras, are placed before a plain wall; a method sends the scene, and
a network for re-identification compares what arrives of the person with

- ``raw``: the images themselves, of the other cameras. Somebody has images of you, and looks for
  you in what was sent. On the original this is what re-identification is without any protection.
- ``linked``: what arrived from the other cameras. Somebody follows you from camera to camera.

Both are read twice: what a site that may follow people keeps, and what a stranger can link. The
attacker knows where in the scene the person was. An image's background comes with it: a network may
know a camera's street as well as a person's coat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros.datasets.bodies import Body
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.retrieval import by_chance, find_again, number, sum_up
from roi_anon_ros.evaluate.vectors import keep_rows
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.progress import Track
from roi_anon_ros.train.validation import to_decibels

#: Side of a scene, in heights of the person.
SIDE = 2
#: Changes where a scene is drawn in another way.
SCENE_VERSION = 1
#: Makes vectors of length 1, float32 ``[n, d]``, of images of persons.
Embedder = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Judge:
    """A network that finds people again.

    Attributes:
        name: for tables.
        fingerprint: tells it from others.
        embed: makes the vectors.
    """

    name: str
    fingerprint: str
    embed: Embedder


@dataclass(frozen=True)
class BodyScene:
    """A person before a plain wall.

    Attributes:
        size: height of the person's image in the scene, 32 to 512 pixels; the scene's sides are
            twice that.

    Raises:
        ValueError: the size is out of range.
    """

    size: int = 128

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 512:
            raise ValueError(f"size: {self.size} pixels, must be from 32 to 512")

    def __call__(self, person: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Place a person.

        Args:
            person: uint8 ``[h, w, 3]`` RGB that a person fills.

        Returns:
            The scene, uint8 ``[2 * size, 2 * size, 3]`` RGB, and the rows and columns of the
            person in it.
        """
        scale = self.size / person.shape[0]
        side = SIDE * self.size
        width = min(max(round(person.shape[1] * scale), 1), side)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        fitted = cv2.resize(person, (width, self.size), interpolation=how)
        light = np.linspace(1, 0.85, side)[:, None, None]
        canvas = np.broadcast_to(light * np.array([185, 180, 170]), (side, side, 3))
        scene = canvas.round().astype(np.uint8)
        top = (side - self.size) // 2
        left = (side - width) // 2
        place = (slice(top, top + self.size), slice(left, left + width))
        scene[place] = fitted
        return scene, place


class Sent:
    """What arrives of each person; each image is sent once, when it is first asked for.

    Args:
        bodies: the images.
        method: sends them; None: they are what they are.
        scene: they are placed in it before that.
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        method: Method | None = None,
        scene: BodyScene | None = None,
    ) -> None:
        self.bodies = bodies
        self.method = method
        self.scene = scene
        self._crops: list[np.ndarray] = []

    @property
    def key(self) -> str:
        """All that the crops depend on besides the images."""
        return f"{self.method and self.method.key}\n{self.scene} {SCENE_VERSION}"

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the persons, uint8 ``[h, w, 3]`` RGB."""
        for index, body in enumerate(self.bodies):
            if index == len(self._crops):
                self._crops.append(self._send(body))
            yield self._crops[index]

    def _send(self, body: Body) -> np.ndarray:
        image = read_pixels(body.path)
        place = (slice(None), slice(None))
        if self.scene is not None:
            image, place = self.scene(image)
        if self.method is not None:
            image = self.method.decode(self.method.encode(image))
        return image[place].copy()


def embed_bodies(sent: Sent, judge: Judge, cache: Path) -> Iterator[np.ndarray]:
    """Yield the vector of each person, float32 ``[d]`` of length 1; those of a former run where
    there are any.

    Args:
        sent: what arrives of each.
        judge: makes the vectors.
        cache: folder where the vectors are kept once all have been made.

    Raises:
        ValueError: an image cannot be read. What the method raises is passed on.
    """
    digest = hashlib.sha256(f"{sent.key}\n{judge.fingerprint}\n".encode())
    yield from keep_rows(_file(sent, "bodies", digest, cache), (judge.embed([c])[0] for c in sent))


def measure_errors(sent: Sent, originals: Sent, cache: Path) -> Iterator[np.ndarray]:
    """Yield the mean squared error of each person, float64 ``[1]``, of values from 0 to 255; those
    of a former run where there are any.

    Args:
        sent: what arrives of each.
        originals: the same, sent by no method.
        cache: folder where they are kept once all have been made.
    """
    digest = hashlib.sha256(f"{sent.key}\nsquared error\n".encode())
    both = zip(sent, originals, strict=True)
    rows = (np.array([np.square(a.astype(float) - b).mean()]) for a, b in both)
    yield from keep_rows(_file(sent, "errors", digest, cache), rows)


def _file(sent: Sent, what: str, digest: hashlib._Hash, cache: Path) -> Path:
    """Where rows of what arrives are kept; ``digest`` has all else that they depend on."""
    for body in sent.bodies:
        digest.update(hashlib.sha256(body.path.read_bytes()).digest())
    label = slug(sent.method.name) if sent.method else "images"
    return cache / f"{what}-{label}-{digest.hexdigest()[:12]}.npy"


def measure_bodies(
    bodies: Sequence[Body],
    methods: Sequence[Method],
    judges: Sequence[Judge],
    scenes: Mapping[str, BodyScene],
    cache: Path,
    track: Track,
) -> dict[str, Any]:
    """Look for everybody in what every method sends.

    Args:
        bodies: from :func:`~roi_anon_ros.datasets.bodies.read_bodies`.
        methods: the original among them.
        judges: the networks that look.
        scenes: by name.
        cache: folder of vectors.
        track: shows how far it is.

    Returns:
        For JSON: ``images``, ``people`` and ``cameras``, their numbers; ``chance``, as from
        :func:`~roi_anon_ros.evaluate.retrieval.by_chance`; ``judges``: by the judge's name, by the
        scene's and by the method's, ``raw`` and ``linked``, each as from
        :func:`~roi_anon_ros.evaluate.retrieval.sum_up`; ``psnr``: by the scene's name and by the
        method's, dB of the mean squared error over all persons, None where there is none.
    """
    person = number([body.name for body in bodies])
    camera = number([body.camera for body in bodies])

    def vectors(sent: Sent, judge: Judge, label: str) -> np.ndarray:
        steps = embed_bodies(sent, judge, cache)
        return np.array(list(track(steps, len(bodies), f"{judge.name}: {label}")))

    images = Sent(bodies)
    photos = {judge.name: vectors(images, judge, "images") for judge in judges}
    figures: dict[str, dict[str, Any]] = {judge.name: {} for judge in judges}
    psnr: dict[str, dict[str, float | None]] = {}
    for label, scene in scenes.items():
        psnr[label] = {}
        originals = Sent(bodies, None, scene)
        for method in methods:
            sent = Sent(bodies, method, scene)
            steps = measure_errors(sent, originals, cache)
            error = float(np.mean(list(track(steps, len(bodies), f"{method.name}, {label}"))))
            psnr[label][method.name] = to_decibels(error / 255**2) if error else None
            for judge in judges:
                arrived = vectors(sent, judge, f"{method.name}, {label}")
                raw = find_again(arrived @ photos[judge.name].T, person, camera)
                linked = find_again(arrived @ arrived.T, person, camera)
                both = {"raw": sum_up(raw), "linked": sum_up(linked)}
                figures[judge.name].setdefault(label, {})[method.name] = both
    return {
        "images": len(bodies),
        "people": int(person.max()) + 1,
        "cameras": int(camera.max()) + 1,
        "chance": by_chance(person, camera),
        "judges": figures,
        "psnr": psnr,
    }
