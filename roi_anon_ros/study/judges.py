"""What else is judged of a training under a utility budget, by networks that took no part: poses,
who somebody is, and of which sex.

Nobody noted the truth of these: it is what the same network says of the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from roi_anon_ros.datasets import Record
from roi_anon_ros.detect.attributes import FaceAttributes
from roi_anon_ros.detect.bodies import BodyRecogniser
from roi_anon_ros.detect.matching import assign
from roi_anon_ros.detect.poses import FIRST_OF_BODY, PoseNetwork, Poses
from roi_anon_ros.evaluate.attack.linking import People
from roi_anon_ros.evaluate.inference import tell_sex
from roi_anon_ros.evaluate.precision import Judged, average_precisions, resamples, to_judged
from roi_anon_ros.study.scores import POINT_SPREADS, compare_points

#: What they say.
FIGURES = ("poses", "identified", "sex")
#: Least score of a person in the original whose pose counts, and least sureness of its points.
CLEAR = 0.5
#: Points of the body that a pose needs, to count.
FEWEST_POINTS = 4
#: Least similarity of a pose that is right.
LEAST_SIMILARITY = 0.5
#: Of the points below the head.
SPREADS = POINT_SPREADS[FIRST_OF_BODY:]
#: Faces narrower or lower than this are left out, pixels.
SMALLEST_FACE = 16


@dataclass
class Judges:
    """Networks that judge what arrives; each may be missing.

    Attributes:
        pose: finds poses, from low scores on.
        recogniser: for re-identification.
        attributes: tells sex from a face.
    """

    pose: PoseNetwork | None = None
    recogniser: BodyRecogniser | None = None
    attributes: FaceAttributes | None = None

    @property
    def marks(self) -> dict[str, str]:
        """What tells them from others, for JSON."""
        named = {"pose": self.pose, "recogniser": self.recogniser, "attributes": self.attributes}
        return {name: one.fingerprint for name, one in named.items() if one is not None}


@dataclass
class Seen:
    """What the judges saw in the images of one method.

    Attributes:
        judges: who they are.
        poses: of each image, those that arrived judged by those of the original.
        sexes: of each image ``[n, 2]``, the probability of a man for each face in the original,
            and in what arrived.
    """

    judges: Judges
    poses: list[Judged] = field(default_factory=list)
    sexes: list[np.ndarray] = field(default_factory=list)

    def add(self, received: np.ndarray, original: np.ndarray, record: Record) -> None:
        """Look at an image.

        Args:
            received: uint8 ``[H, W, 3]`` RGB.
            original: the same size.
            record: of the original.
        """
        pose = self.judges.pose
        if pose is not None:
            self.poses.append(judge_poses(pose(received), pose(original)))
        attributes = self.judges.attributes
        if attributes is not None:
            pair = [cut_faces(image, record) for image in (original, received)]
            men = [attributes(faces)[:, 0] for faces in pair]
            self.sexes.append(np.stack(men, axis=1))

    def sum_up(self, others: Sequence[People]) -> dict[str, list[float]]:
        """The figures, each followed by those of 200 resamples.

        Args:
            others: the persons of the images that are not the attacker's own.

        Returns:
            ``poses``, average precision; ``identified``, the share of persons of whom the most
            similar original is their own; ``sex``, area under the curve. Those that are judged.
        """
        figures = {}
        if self.judges.pose is not None:
            figures["poses"] = average_precisions(self.poses, resamples(len(self.poses))).tolist()
        if self.judges.recogniser is not None:
            hits = identify_bodies(others, self.judges.recogniser)
            figures["identified"] = (resamples(len(hits)) @ hits / len(hits)).tolist()
        if self.judges.attributes is not None:
            figures["sex"] = tell_sexes(self.sexes)
        return figures


def judge_poses(found: Poses, clear: Poses) -> Judged:
    """Judge the poses in what arrived by those in the original.

    Only persons of a score of :data:`CLEAR` with :data:`FEWEST_POINTS` sure points below the head
    count in the original; what is found of the others is left out.

    Args:
        found: in what arrived.
        clear: in the original.
    """
    sure = (clear.seen[:, FIRST_OF_BODY:] >= CLEAR).sum(axis=1) >= FEWEST_POINTS
    counted = sure & (clear.scores >= CLEAR)
    alike = compare_poses(found, clear)
    taken = assign(found.scores, alike[:, counted], LEAST_SIMILARITY)
    on_others = (alike[:, ~counted] >= LEAST_SIMILARITY).any(axis=1)
    kept = (taken >= 0) | ~on_others
    return to_judged(found.scores, clear.boxes[counted], taken, kept)


def compare_poses(found: Poses, clear: Poses) -> np.ndarray:
    """:func:`~roi_anon_ros.study.scores.compare_points` with the points below the head that are
    sure in the original; the area is that of the person's box there.

    Args:
        found: n poses.
        clear: m poses.

    Returns:
        float64 ``[n, m]``, 0 to 1; 0 where no point is sure.
    """
    alike = np.zeros((len(found.scores), len(clear.scores)))
    points = found.points[:, FIRST_OF_BODY:].astype(float)
    areas = (clear.boxes[:, 2:] - clear.boxes[:, :2]).astype(float).prod(axis=1)
    for column, area in enumerate(areas):
        sure = clear.seen[column, FIRST_OF_BODY:] >= CLEAR
        if sure.any():
            original = clear.points[column, FIRST_OF_BODY:][sure]
            alike[:, column] = compare_points(points[:, sure], original, SPREADS[sure], area)
    return alike


def identify_bodies(people: Sequence[People], recogniser: BodyRecogniser) -> np.ndarray:
    """Of whom of all originals a received person is the most similar: its own 1, another's 0.

    Args:
        people: of each image.
        recogniser: of persons.

    Returns:
        float64 ``[n]``; chance is 1 / n.
    """
    joined = People.join(list(people))
    vectors = []
    for crops in (joined.received, joined.originals):
        images = (crops * 255).round().byte().permute(0, 2, 3, 1).numpy()
        vectors.append(recogniser(list(images)))
    nearest = (vectors[0] @ vectors[1].T).argmax(axis=1)
    return (nearest == np.arange(len(joined))).astype(float)


def cut_faces(image: np.ndarray, record: Record) -> list[np.ndarray]:
    """What is where the record's faces are, uint8 ``[h, w, 3]`` each."""
    faces = []
    boxes = np.round(record.faces.xyxy[~record.faces.ignore]).astype(int)
    for left, top, right, bottom in boxes.tolist():
        if min(right - left, bottom - top) >= SMALLEST_FACE:
            faces.append(image[top:bottom, left:right])
    return faces


def tell_sexes(pairs: Sequence[np.ndarray]) -> list[float]:
    """Area under the curve of a man's probability, for the sex that the original tells, then those
    of 200 resamples of the images; nan where all are of one sex.

    Args:
        pairs: of each image, see :class:`Seen`.
    """
    image = np.repeat(np.arange(len(pairs)), [len(pair) for pair in pairs])
    clear, sent = np.concatenate(pairs).T
    weights = resamples(len(pairs))[:, image].astype(float)
    return [tell_sex(clear > 0.5, sent, one) for one in weights]
