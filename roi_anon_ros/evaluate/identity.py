"""Does anybody remain recognisable? Verification and identification of faces before and after each
method.

Images of faces, several of a person, are placed as heads on persons in a plain scene, one face size
at a time (cameras see faces of 20 to 200 pixels); a method sends the scene, and a face recogniser
compares what arrives with

- ``raw``: the images themselves. Somebody has a photo of you and looks for you in what the camera
  sent.
- ``linked``: the other scenes that arrived. Somebody follows you from one image to another.

The attacker is given more than he would have: he knows eyes, nose and mouth from the image as it
was before it was sent, at its full size, so that a face which no detector finds any more is
compared all the same. And he is given
less: the recogniser never saw what a codec makes of a face. The method ``attack:FILE`` puts a
trained attacker before it.

Nothing but the head differs from scene to scene: who is recognised is recognised by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.detect.recogniser import YunetLandmarks, align
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.precision import RESAMPLES
from roi_anon_ros.evaluate.retrieval import worst_by_chance, worst_tenth
from roi_anon_ros.evaluate.vectors import keep_rows
from roi_anon_ros.files import read_pixels
from roi_anon_ros.storage import IMAGE_SUFFIXES

#: Side of a scene, in heights of the head.
SIDE = 4
#: Where the head's top is in a scene, in heights of the head.
TOP = 0.5
#: What a grey face is multiplied with to have the colour of skin, R G B.
SKIN = (1.08, 0.92, 0.8)
#: Changes where a scene is drawn in another way.
SCENE_VERSION = 1


class Embedder(Protocol):
    """Makes a vector of each aligned face, such as ``FaceRecogniser`` and ``FaceAttributes``."""

    fingerprint: str

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        """Vectors ``[n, d]`` of aligned faces."""


@dataclass(frozen=True)
class Face:
    """An image of a person's face.

    Attributes:
        name: of the person.
        path: of the image.
        landmarks: float32 ``[5, 2]``, x and y in pixels of the image, in the order of
            ``detect/recogniser.py``.
    """

    name: str
    path: Path
    landmarks: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A person with a given head before a plain wall.

    Attributes:
        size: longest side of the head's image in the scene, 16 to 512 pixels; the scene's sides
            are 4 times that.
        grey: as a monochrome camera sees it. Otherwise a grey head gets the colour of skin.

    Raises:
        ValueError: the size is out of range.
    """

    size: int = 64
    grey: bool = False

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 512:
            raise ValueError(f"size: {self.size} pixels, must be from 16 to 512")

    def __call__(self, face: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place a head.

        Args:
            face: uint8 ``[h, w, 3]`` RGB that a face fills; an oval of it is shown.
            landmarks: ``[5, 2]`` in pixels of it.

        Returns:
            The scene, uint8 ``[4 * size, 4 * size, 3]`` RGB, and the landmarks in it.
        """
        scale = self.size / max(face.shape[:2])
        height, width = (max(round(side * scale), 1) for side in face.shape[:2])
        head = cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        if np.ptp(face, axis=2).max() == 0:
            head *= np.array(SKIN, np.float32)
        side = SIDE * self.size
        x = (side - width) // 2
        y = round(TOP * self.size)
        columns = (np.arange(side) + 0.5) / self.size
        rows = (np.arange(side)[:, None] + 0.5) / self.size
        canvas = np.empty((side, side, 3), np.float32)
        canvas[:] = (np.array([185, 180, 170], np.float32) - 15 * rows[..., None]) - 8 * columns[
            :, None
        ]  # lit from the left
        beneath = TOP + height / self.size
        _blend(
            canvas,
            _oval(columns - SIDE / 2, rows - beneath, 0.28, 0.4, column=True),
            105 * np.array(SKIN, np.float32),
        )
        _blend(
            canvas,
            _oval(columns - SIDE / 2, rows - beneath - 1, 1.25, 0.9, column=True),
            np.array([50, 60, 90], np.float32),
        )
        patch = canvas[y : y + height, x : x + width]
        across, down = (np.arange(n) / n + 0.5 / n - 0.5 for n in (width, height))
        _blend(patch, _oval(across, down[:, None], 0.42, 0.5), head)
        image = canvas.clip(0, 255).round().astype(np.uint8)
        if self.grey:
            image = as_grey(image)
        factor = np.array([width, height]) / face.shape[1::-1]
        return image, (np.asarray(landmarks) + 0.5) * factor - 0.5 + (x, y)


def _oval(
    x: np.ndarray, y: np.ndarray, half_width: float, half_height: float, column: bool = False
) -> np.ndarray:
    """1 within an ellipse about 0, 0 outside, soft between; as a column, it goes on downwards."""
    radius = np.hypot(x / half_width, (np.minimum(y, 0) if column else y) / half_height)
    return ((1 - radius) * min(half_width, half_height) / 0.05).clip(0, 1).astype(np.float32)


def _blend(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    canvas += alpha[..., None] * (colour - canvas)


def read_people(folder: Path, limit: int = 0) -> list[tuple[str, Path]]:
    """Images in folders by a person's name, as LFW has them.

    Args:
        folder: of the folders.
        limit: how many people, the first ones; 0: all.

    Returns:
        Names and images, sorted. A person with one image only is told apart from others, and
        never found.

    Raises:
        ValueError: there are fewer than two people, or nobody has two images.
        OSError: there is no such folder.
    """
    people: dict[str, list[Path]] = {}
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = sorted(path for path in person.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if images and not 0 < limit <= len(people):
            people[person.name] = images
    if len(people) < 2 or all(len(images) < 2 for images in people.values()):
        raise ValueError(
            f"{folder}: needs images in folders by name, of two people or more, two or more of one"
        )
    return [(name, path) for name, images in people.items() for path in images]


def find_faces(people: Iterable[tuple[str, Path]], finder: YunetLandmarks) -> Iterator[Face | None]:
    """Yield the surest face on each image; None where there is none, for the caller to count and
    leave out.

    Raises:
        ValueError: an image cannot be read.
    """
    for name, path in people:
        try:
            image = read_pixels(path)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        landmarks = finder.landmarks(image)
        yield None if landmarks is None else Face(name, path, landmarks)


def embed(
    faces: Sequence[Face],
    recogniser: Embedder,
    cache: Path,
    method: Method | None = None,
    scene: Scene | None = None,
) -> Iterator[np.ndarray]:
    """Yield the vector of each face, float32 ``[d]`` of length 1; those of a former run where there
    are any.

    Args:
        faces: from :func:`find_faces`.
        recogniser: makes the vectors.
        cache: folder where the vectors are kept once all have been made.
        method: sends the image first.
        scene: the image is placed in it before that; None: it is what it is.

    Raises:
        ValueError: an image cannot be read. What the method raises is passed on.
    """
    digest = hashlib.sha256(
        f"{method and method.key}\n{scene} {SCENE_VERSION}\n{recogniser.fingerprint}\n".encode()
    )
    for face in faces:
        digest.update(hashlib.sha256(face.path.read_bytes()).digest() + face.landmarks.tobytes())
    label = slug(method.name) if method else "images"
    path = cache / f"identity-{label}-{digest.hexdigest()[:12]}.npy"
    received = _receive(faces, method, scene)
    yield from keep_rows(path, (recogniser([face])[0] for face in received))


def _receive(
    faces: Sequence[Face], method: Method | None, scene: Scene | None
) -> Iterator[np.ndarray]:
    """Yield each face as it arrives, aligned."""
    for face in faces:
        image = read_pixels(face.path)
        landmarks = face.landmarks
        if scene is not None:
            image, landmarks = scene(image, landmarks)
        if method is not None:
            image = method.decode(method.encode(image))
        yield align(image, landmarks)


def false_accepts(
    genuine: np.ndarray, impostors: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """What it costs to accept each genuine pair: the share of impostor pairs that are accepted with
    it.

    Args:
        genuine: ``[g]``, similarities of pairs of one person.
        impostors: ``[k]``, those of pairs of different people, ascending.
        weights: ``[k]`` of the impostors, 0 or more; None: all 1.

    Returns:
        float64 ``[2, g]``: the weight of the impostors that are as similar or more, and of those
        that are more similar.
    """
    total = np.arange(len(impostors) + 1.0) if weights is None else np.append(0, np.cumsum(weights))
    below = [np.searchsorted(impostors, genuine, side) for side in ("left", "right")]
    return 1 - total[np.stack(below)] / total[-1]


def area(shares: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a genuine pair is more similar than an impostor pair; a
    tie counts half.

    Args:
        shares: from :func:`false_accepts`.
        weights: ``[g]`` of the genuine pairs.
    """
    return float(1 - np.average(shares.mean(0), weights=weights))


def true_accepts(shares: np.ndarray, far: float, weights: np.ndarray | None = None) -> float:
    """Share of genuine pairs accepted at the smallest threshold with so few false accepts.

    Args:
        shares: from :func:`false_accepts`.
        far: greatest share of impostors that are at the threshold or above it. Where there are
            fewer than 1 / far impostors, none is.
        weights: ``[g]`` of the genuine pairs.
    """
    return float(np.average(shares[0] <= far + 1e-12, weights=weights))  # 1 - 0.9 is not quite 0.1


def rank_one(similarities: np.ndarray, own: np.ndarray) -> np.ndarray:
    """How far each probe is identified: 1 where its own gallery entry is most similar, 1 / n where
    it is one of n.

    Args:
        similarities: ``[p, n]``, of probes and gallery.
        own: int ``[p]``, the gallery entry that shows the probe's person.

    Returns:
        float64 ``[p]``.
    """
    best = similarities == similarities.max(axis=1, keepdims=True)
    return best[np.arange(len(own)), own] / best.sum(axis=1)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of images by their similarity, and whom they show.

    Attributes:
        genuine: ``[g]``, similarities of pairs that show one person.
        whose: int ``[g]``, that person.
        impostors: ``[i]``, similarities of pairs that show two people, rising.
        one: int ``[i]``, the one of the two.
        other: int ``[i]``, the other.
        hits: ``[p]``, from :func:`rank_one`.
        probed: int ``[p]``, the person that each of its probes shows.
    """

    genuine: np.ndarray
    whose: np.ndarray
    impostors: np.ndarray
    one: np.ndarray
    other: np.ndarray
    hits: np.ndarray
    probed: np.ndarray

    def figures(self, draws: np.ndarray | None = None) -> dict[str, float]:
        """The figures of :func:`compare`, where each person was drawn so often; None: once."""
        # A pair is drawn as often as its two people are; nobody is an impostor of himself, drawn
        # twice.
        each = None
        between = None
        probe = None
        if draws is not None:
            each = draws[self.whose]
            between = draws[self.one] * draws[self.other]
            probe = draws[self.probed]
        shares = false_accepts(self.genuine, self.impostors, between)
        return {
            "auc": area(shares, each),
            "tar_far_1": true_accepts(shares, 0.01, each),
            "tar_far_01": true_accepts(shares, 0.001, each),
            "rank1": float(np.average(self.hits, weights=probe)),
        }


def _pair_up(scores: np.ndarray, first: np.ndarray, person: np.ndarray, each_once: bool) -> _Pairs:
    """Sort the similarities ``[n, n]`` of probes and gallery.

    Args:
        scores: the similarities.
        first: int ``[people]``, the first image of each person.
        person: int ``[n]``, on each image.
        each_once: probes and gallery are the same.
    """
    n = len(person)
    others = np.setdiff1d(np.arange(n), first)
    hits = rank_one(scores[np.ix_(others, first)], person[others])
    a, b = np.tril_indices(n, -1) if each_once else np.nonzero(~np.eye(n, dtype=bool))
    scores = scores[a, b]
    one = person[a]
    other = person[b]
    same = one == other
    order = np.flatnonzero(~same)[np.argsort(scores[~same])]
    return _Pairs(
        genuine=scores[same],
        whose=one[same],
        impostors=scores[order],
        one=one[order],
        other=other[order],
        hits=hits,
        probed=person[others],
    )


def compare(
    names: Sequence[str], gallery: np.ndarray, probes: np.ndarray | None = None, seed: int = 0
) -> dict:
    """Verification and identification of every image against every other; an image is never
    compared with itself.

    Memory grows with the square of the number of images: about 100 bytes a pair.

    Args:
        names: n, of the person on each image.
        gallery: ``[n, d]``, vectors of length 1.
        probes: ``[n, d]``, what was made of the same images; None: the gallery's images are
            compared among themselves, and each pair counts once.
        seed: of the bootstrap.

    Returns:
        For JSON: ``genuine`` and ``impostors``, numbers of pairs; ``auc``; ``tar_far_1`` and
        ``tar_far_01``, share of genuine pairs accepted where 1 % and 0.1 % of the impostors are;
        ``roc``, 101 points ``[FAR, TAR]``, FAR from 1e-4 to 1; ``rank1``, share of ``probes`` (a
        person's images but the first) most similar to their own person's first image among
        those of all people, and ``rank1_chance``; ``worst_tenth``, rank 1 of the tenth of the
        people who are found most often, and ``worst_tenth_chance``. ``<name>_interval`` of
        ``auc``, ``tar_far_1``, ``tar_far_01`` and ``rank1``: 95 %, from draws of as many people
        with replacement.

    Raises:
        ValueError: there are fewer than two people, or nobody has two images.
    """
    _, first, person = np.unique(np.asarray(names), return_index=True, return_inverse=True)
    people = len(first)
    n = len(person)
    if not 1 < people < n:
        raise ValueError(
            f"names: {n} images of {people} people, need two people or more, two images of one"
        )
    scores = (gallery if probes is None else probes) @ gallery.T
    pairs = _pair_up(scores, first, person, each_once=probes is None)
    shares = false_accepts(pairs.genuine, pairs.impostors)
    result: dict[str, Any] = {
        "genuine": len(pairs.genuine),
        "impostors": len(pairs.impostors),
        **pairs.figures(),
    }
    rng = np.random.default_rng(seed)
    draws = [
        np.bincount(rng.integers(people, size=people), minlength=people) for _ in range(RESAMPLES)
    ]
    # A draw without two people, or without two images of one, says nothing.
    drawn = [
        pairs.figures(draw.astype(float))
        for draw in draws
        if (draw > 0).sum() > 1 and draw[pairs.whose].any()
    ]
    for name in drawn[0] if drawn else ():
        result[f"{name}_interval"] = np.percentile(
            [figure[name] for figure in drawn], [2.5, 97.5]
        ).tolist()
    result["roc"] = [[float(far), true_accepts(shares, far)] for far in np.geomspace(1e-4, 1, 101)]
    result["worst_tenth"] = worst_tenth(pairs.hits, pairs.probed)
    result["worst_tenth_chance"] = worst_by_chance(1 / people, pairs.probed)
    return result | {"probes": len(pairs.probed), "people": people, "rank1_chance": 1 / people}


def summary(names: Sequence[str], images: np.ndarray, sent: np.ndarray) -> dict[str, Any]:
    """The figures of one method.

    Args:
        names: n, of the person on each image.
        images: ``[n, d]``, vectors of the images themselves.
        sent: ``[n, d]``, those of what a method made of them.

    Returns:
        ``raw`` and ``linked``, each as from :func:`compare`.
    """
    return {"raw": compare(names, images, sent), "linked": compare(names, sent)}
