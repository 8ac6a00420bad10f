"""A recogniser that is trained straight on what is sent: on the latent of a model, on the decoded
image of others.

No face recogniser, no decoder: a closed set of people, some scenes of each to learn from, and
another photo of one of them, who is it? The attacker knows where the head is, and reads the cells
around it with a linear layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros.evaluate.identity import SCENE_VERSION, SIDE, TOP, Face, Scene, rank_one
from roi_anon_ros.evaluate.methods import Method, slug
from roi_anon_ros.evaluate.precision import count_draws, to_interval
from roi_anon_ros.evaluate.retrieval import number, worst_by_chance, worst_tenth
from roi_anon_ros.evaluate.vectors import keep_rows
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.progress import Track

#: Weight of the squared weights of the linear layer, for features of mean square 1.
RIDGE = 0.1
#: A head that is sent as an image is read at this side, pixels: fine enough for a face.
READ = 32


def measure_closed_set(
    faces: Sequence[Face], method: Method, scene: Scene, cache: Path, track: Track, label: str
) -> dict[str, Any]:
    """Train the recogniser on what a method sends of everybody, and let it name further photos.

    Args:
        faces: from :func:`~roi_anon_ros.evaluate.identity.find_faces`.
        method: sends the scenes.
        scene: that everybody is placed in.
        cache: folder where what it reads is kept.
        track: shows how far it is.
        label: what it calls this.

    Returns:
        See :func:`sum_up_named`.

    Raises:
        ValueError: an image cannot be read, or nobody has two photos. What the method raises is
            passed on.
    """
    digest = hashlib.sha256(f"{method.key}\n{scene} {SCENE_VERSION} {READ}\n".encode())
    for face in faces:
        digest.update(hashlib.sha256(face.path.read_bytes()).digest())
    path = cache / f"closed-{slug(method.name)}-{digest.hexdigest()[:12]}.npy"
    rows = track(keep_rows(path, _read(faces, method, scene)), len(faces), label)
    person = number([face.name for face in faces])
    return sum_up_named(person, name_photos(np.array(list(rows)), person))


def _read(faces: Sequence[Face], method: Method, scene: Scene) -> Iterator[np.ndarray]:
    for face in faces:
        image, _ = scene(read_pixels(face.path), face.landmarks)
        sent = method.encode(image)
        if method.latent is None:
            yield read_head(method.decode(sent).transpose(2, 0, 1), is_image=True)
        else:
            yield read_head(method.latent(sent), is_image=False)


def read_head(received: np.ndarray, is_image: bool) -> np.ndarray:
    """What is read of a scene.

    Args:
        received: ``[C, h, w]``, of the whole scene.
        is_image: an image is read where the head is, at 32 x 32 pixels; of a latent all values of
            the cells that the head touches, and of those next to them.

    Returns:
        float32 ``[d]``.
    """
    height, width = received.shape[1:]
    rows = np.array([TOP, TOP + 1]) / SIDE * height
    columns = np.array([SIDE - 1, SIDE + 1]) / 2 / SIDE * width
    margin = 0 if is_image else 1
    top, bottom = np.clip([np.floor(rows[0]) - margin, np.ceil(rows[1]) + margin], 0, height)
    left, right = np.clip([np.floor(columns[0]) - margin, np.ceil(columns[1]) + margin], 0, width)
    part = received[:, int(top) : int(bottom), int(left) : int(right)].astype(np.float32)
    if not is_image:
        return part.ravel()
    pixels = np.ascontiguousarray(part.transpose(1, 2, 0))
    return cv2.resize(pixels, (READ, READ), interpolation=cv2.INTER_AREA).ravel() / 255


def name_photos(features: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Name each photo, by a linear layer that learned from all photos but those of its turn.

    In turn k the k-th photo of everybody is left out and then named; nobody is named who has only
    one. The layer is a ridge regression onto who it is, in closed form.

    Args:
        features: ``[n, d]``.
        person: int ``[n]``, numbers without gaps.

    Returns:
        float64 ``[n]``: 1 where the person has the highest score, 1 / k where it is one of k, else
        0; nan for those who are not named.

    Raises:
        ValueError: nobody has two photos.
    """
    photos = np.bincount(person)
    if photos.max() < 2:
        raise ValueError("person: nobody has two photos, one must")
    turn = np.zeros(len(person), int)
    for one in range(len(photos)):
        turn[person == one] = np.arange(photos[one])
    hits = np.full(len(person), np.nan)
    for k in range(int(photos.max())):
        left_out = (turn == k) & (photos[person] > 1)
        learned = ~left_out
        scores = _score(features[learned], person[learned], features[left_out])
        hits[left_out] = rank_one(scores, person[left_out])
    return hits


def _score(known: np.ndarray, person: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Scores ``[m, people]`` of unknown features ``[m, d]`` by those known, ``[n, d]``."""
    mean = known.mean(axis=0)
    centred = (known - mean).astype(np.float64)
    scale = np.sqrt(np.square(centred).mean()) or 1.0
    centred /= scale
    others = (unknown - mean) / scale
    wanted = (person[:, None] == np.arange(person.max() + 1)).astype(float)
    wanted -= wanted.mean(axis=0)
    # As many equations as photos, not as values: the dual form.
    likeness = centred @ centred.T / centred.shape[1]
    weights = np.linalg.solve(likeness + RIDGE * np.eye(len(known)), wanted)
    return others @ centred.T / centred.shape[1] @ weights


def sum_up_named(person: np.ndarray, hits: np.ndarray) -> dict[str, Any]:
    """The figures of :func:`name_photos`.

    Args:
        person: int ``[n]``.
        hits: ``[n]``.

    Returns:
        For JSON: ``rank1``, with its ``_interval`` (95 %, from draws of as many people);
        ``worst_tenth``, of the tenth of the people who are named most often; ``rank1_chance`` and
        ``worst_tenth_chance``; ``photos`` and ``people``, their numbers.
    """
    named = ~np.isnan(hits)
    probed = person[named]
    of = np.unique(probed, return_inverse=True)[1]
    weights = count_draws(int(of.max()) + 1)[:, of]
    people = int(person.max()) + 1
    return {
        "photos": int(named.sum()),
        "people": people,
        "rank1": float(hits[named].mean()),
        "rank1_interval": to_interval(weights @ hits[named] / weights.sum(axis=1)),
        "rank1_chance": 1 / people,
        "worst_tenth": worst_tenth(hits[named], probed),
        "worst_tenth_chance": worst_by_chance(1 / people, probed),
    }
