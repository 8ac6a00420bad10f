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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.retrieval import by_chance, find_again, number, sum_up
from roi_anon_ros.evaluate.vectors import keep_rows
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.progress import Track
from roi_anon_ros.storage import IMAGE_SUFFIXES

#: Side of a scene, in heights of the person.
SIDE = 2
#: Changes where a scene is drawn in another way.
SCENE_VERSION = 1
#: Names of files as those of Market-1501: the person, the camera, and whatever follows.
MARKET = re.compile(r"(?P<person>-?\d+)_c(?P<camera>\d+)")

#: Makes vectors of length 1, float32 ``[n, d]``, of images of persons.
Embedder = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Body:
    """An image that a person fills.

    Attributes:
        name: of the person.
        camera: that took it.
        path: of the image.
    """

    name: str
    camera: str
    path: Path


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


def read_bodies(folder: Path, limit: int = 0) -> list[Body]:
    """Images of persons with who it is and which camera took it, in a folder and its subfolders.

    Either a file is named as those of Market-1501, ``PERSON_cCAMERA...``: ``0004_c1s6_016996.jpg``.
    Or its folder is named after the person, and the file's name begins with the camera and an
    underscore: ``009/02_5.png``. An image that is there twice counts once.

    Args:
        folder: of the images.
        limit: how many people, the first ones by name; 0: all.

    Raises:
        ValueError: an image is named in another way, there are fewer than two people, or nobody
            was taken by two cameras.
        OSError: there is no such folder.
    """
    found: dict[tuple[str, str, str], Body] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            body = _read_name(path)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.setdefault((body.name, body.camera, content), body)
    names = sorted({body.name for body in found.values()})
    chosen = set(names[:limit] if limit else names)
    bodies = [body for body in found.values() if body.name in chosen]
    cameras = {(body.name, body.camera) for body in bodies}
    if len(chosen) < 2 or len(cameras) == len(chosen):
        raise ValueError(
            f"{folder}: got {len(chosen)} people, must be two or more, one of them seen by two "
            "cameras; files are named PERSON_cCAMERA..., or PERSON/CAMERA_..."
        )
    return sorted(bodies, key=lambda body: (body.name, body.path))


def _read_name(path: Path) -> Body:
    """Who is on an image, and which camera took it, by its name."""
    market = MARKET.match(path.name)
    if market:
        return Body(market["person"], market["camera"], path)
    camera, underscore, _ = path.stem.partition("_")
    if not underscore:
        raise ValueError(f"{path}: name says no camera, must be PERSON_cCAMERA... or CAMERA_...")
    return Body(path.parent.name, camera, path)


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
    for body in sent.bodies:
        digest.update(hashlib.sha256(body.path.read_bytes()).digest())
    label = slug(sent.method.name) if sent.method else "images"
    path = cache / f"bodies-{label}-{digest.hexdigest()[:12]}.npy"
    yield from keep_rows(path, (judge.embed([crop])[0] for crop in sent))


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
        bodies: from :func:`read_bodies`.
        methods: the original among them.
        judges: the networks that look.
        scenes: by name.
        cache: folder of vectors.
        track: shows how far it is.

    Returns:
        For JSON: ``images``, ``people`` and ``cameras``, their numbers; ``chance``, as from
        :func:`~roi_anon_ros.evaluate.retrieval.by_chance`; ``judges``: by the judge's name, by the
        scene's and by the method's, ``raw`` and ``linked``, each as from
        :func:`~roi_anon_ros.evaluate.retrieval.sum_up`.
    """
    person = number([body.name for body in bodies])
    camera = number([body.camera for body in bodies])

    def vectors(sent: Sent, judge: Judge, label: str) -> np.ndarray:
        steps = embed_bodies(sent, judge, cache)
        return np.array(list(track(steps, len(bodies), f"{judge.name}: {label}")))

    images = Sent(bodies)
    photos = {judge.name: vectors(images, judge, "images") for judge in judges}
    figures: dict[str, dict[str, Any]] = {judge.name: {} for judge in judges}
    for label, scene in scenes.items():
        for method in methods:
            sent = Sent(bodies, method, scene)
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
    }
