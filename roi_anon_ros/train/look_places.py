"""The places that the second look learns from: what a head map calls heads, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from roi_anon_ros.codec import headmap, second_look
from roi_anon_ros.codec.headmap import ask_map, merge_heads
from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.codec.second_look import (
    HEAD,
    SecondLook,
    crop_heads,
    look_upright,
    show,
    weigh,
)
from roi_anon_ros.datasets import Record
from roi_anon_ros.files import read_pixels
from roi_anon_ros.train.crops import ImageCrops
from roi_anon_ros.train.head_crops import PARTIAL, change_colours
from roi_anon_ros.train.head_targets import HeadLabels, label_heads
from roi_anon_ros.train.look_teacher import Describer, ask_teacher, make_hints
from roi_anon_ros.train.sets import TrainingImages

#: Places of at least this probability are learned from: more than are painted.
LEAST_PROBABILITY = 0.15
#: Places of one image at most.
MOST_PLACES = 80
#: Share of the images that are turned by a quarter, a half or three quarters for the map.
TURNED = 0.5
#: Share of the images that are grey.
GREY = 0.15
#: Share of the places that are shown turned: the second look learns by them which way is up.
SHOWN_TURNED = 0.3
#: A place is a head where it is within this share of the larger one's side and of the head's own,
#: and their sides differ by less than this factor.
NEAR = 0.5
SIMILAR = 2.0
#: Of several heads a place is that one which is nearest, in sides of the larger one, where another
#: octave counts as so many.
UNLIKE_OCTAVE = 0.3
#: Around a head, up to this many half axes and this many pixels more, a place is neither.
AROUND = 1.4
MARGIN = 8
#: Standard deviations of what a crop is scaled, turned (degrees) and moved (sides of the head) by.
SCALED = 0.12
TILTED = 8.0
MOVED = 0.06
#: Share of the places of which the map says only half as much as it did: another may.
WEAKENED = 0.15
#: The places of one kind in an image count together as their number to this power fewer.
ALIKE = 0.8
#: Heads with a helmet are few: they are drawn this many times as often.
WITH_HELMET = 4.0
#: Large places are few, and a false one costs a person: they are drawn this many times as often.
OF_LARGE = 2.0
#: How much of a target is the teacher's answer, where people drew a head, and where they drew none
#: although they drew every head.
TEACHER_ON_HEADS = 0.3
TEACHER_ELSEWHERE = 0.7


@dataclass(frozen=True)
class Places:
    """What a head map calls heads, and what they are.

    Attributes:
        image: int64 ``[n]``, the number of the image of each.
        place: float64 ``[n, 3]``: centre x, centre y and side in the upright image, pixels.
        grey: bool ``[n]``, whether the map saw its image in grey.
        evidence: float32 ``[n, 3]``, see :func:`~roi_anon_ros.codec.second_look.weigh`.
        heads: float32 ``[n]``, how likely each is one, 0 to 1.
        helmets: int8 ``[n]``, 1 a head with a helmet, 0 one without, -1 not known, or no head.
        moves: float32 ``[n, 3]``, the way to the head, see
            :data:`~roi_anon_ros.codec.second_look.MOVE`; NaN where no head was drawn.
        weights: float64 ``[n]``, how likely each is drawn.
        hints: float32 ``[n, h]``, of a teacher; without one ``[n, 0]``.
    """

    image: np.ndarray
    place: np.ndarray
    grey: np.ndarray
    evidence: np.ndarray
    heads: np.ndarray
    helmets: np.ndarray
    moves: np.ndarray
    weights: np.ndarray
    hints: np.ndarray


def judge_places(labels: HeadLabels, places: np.ndarray, known: bool) -> np.ndarray:
    """Say what the places in an image are.

    Args:
        labels: of the image.
        places: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        known: every person of the image was drawn.

    Returns:
        int8 ``[n]``: 1 a head, 0 none, -1 not known.
    """
    x, y, side = places[:, :3].T
    result = np.full(len(places), 0 if known else -1, np.int8)
    for x1, y1, x2, y2 in labels.unknown:
        result[(x > x1) & (x < x2) & (y > y1) & (y < y2)] = -1
    around = np.zeros(len(places), bool)
    heads = np.zeros(len(places), bool)
    for centre_x, centre_y, width, height in np.concatenate([labels.guessed, labels.heads]):
        across = np.abs(x - centre_x) < AROUND * width / 2 + MARGIN
        around |= across & (np.abs(y - centre_y) < AROUND * height / 2 + MARGIN)
    for centre_x, centre_y, width, height in labels.heads:
        longer = max(width, height)
        distance = np.hypot(x - centre_x, y - centre_y)
        ratio = np.maximum(side / longer, longer / side)
        heads |= (distance < NEAR * np.minimum(np.maximum(side, longer), 1.2 * longer)) & (
            ratio < SIMILAR
        )
    result[around] = -1
    result[heads] = 1
    return result


def find_moves(labels: HeadLabels, places: np.ndarray) -> np.ndarray:
    """Say how the nearest drawn head of about its size lies to each place.

    Args:
        labels: of the image, at least one head.
        places: ``[n, 3]`` or wider: centre x, centre y, side, pixels.

    Returns:
        float32 ``[n, 3]``: how far right and below its centre is, in sides of the place, and by how
        many octaves it is larger.
    """
    longer = labels.heads[:, 2:].max(axis=1)
    side = places[:, 2:3]
    right = labels.heads[:, 0] - places[:, :1]
    down = labels.heads[:, 1] - places[:, 1:2]
    octaves = np.log2(longer / side)
    unlike = np.hypot(right, down) / np.maximum(side, longer) + UNLIKE_OCTAVE * np.abs(octaves)
    nearest = unlike.argmin(axis=1)
    every = np.arange(len(places))
    moves = np.stack([right / side, down / side, octaves], axis=2)
    return moves[every, nearest].astype(np.float32)


def tell_helmets(record: Record, places: np.ndarray) -> np.ndarray:
    """Say which heads wear a helmet.

    Args:
        record: of the image.
        places: heads in it, ``[n, 3]`` or wider: centre x, centre y, side, pixels.

    Returns:
        int8 ``[n]``: 1 with a helmet, 0 without, -1 not known.
    """
    boxes = record.heads.xyxy
    if not len(record.helmets) or not len(places):
        return np.full(len(places), -1, np.int8)
    x = (boxes[:, 0] + boxes[:, 2]) / 2
    y = (boxes[:, 1] + boxes[:, 3]) / 2
    distance = np.hypot(places[:, :1] - x, places[:, 1:2] - y)
    return record.helmets[distance.argmin(axis=1)]


@dataclass(frozen=True)
class Teacher:
    """Who says of places what people did not say.

    Attributes:
        describe: what the teacher's classifier is learned from.
        before: the second look so far: where nothing is known, the surer one counts, so that a new
            one forgets no head.
    """

    describe: Describer
    before: SecondLook


@dataclass(frozen=True)
class _Seen:
    """The places of one image; as in :class:`Places`, and what a teacher needs."""

    place: np.ndarray
    grey: np.ndarray
    evidence: np.ndarray
    heads: np.ndarray
    helmets: np.ndarray
    moves: np.ndarray
    described: np.ndarray
    before: np.ndarray


def find_places(
    images: TrainingImages,
    ask: Callable[[np.ndarray], np.ndarray],
    seed: int,
    teacher: Teacher | None = None,
) -> Places:
    """Let a head map name places in all images, some of them turned or grey.

    Args:
        images: to look at.
        ask: the head map, see :data:`~roi_anon_ros.codec.headmap.RunMap`.
        seed: of everything random.
        teacher: None: there is none, and places of which it is not known whether they are heads
            are left out.

    Raises:
        ValueError: it names no head, or nothing but heads; see :func:`ask_teacher`.
    """
    rng = np.random.default_rng(seed)
    numbers = []
    seen = []
    for index, record in enumerate(images.records):
        if index % 200 == 0:
            rank_zero_info(f"places: {index} of {len(images.records)} images")
        known = bool(record.complete) and images.backgrounds[index] > PARTIAL
        found = _look_at(record, known, ask, rng, teacher)
        if found is not None:
            seen.append(found)
            numbers.append(np.full(len(found.heads), index))

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(found, name) for found in seen])

    heads = join("heads") if seen else np.zeros(0, np.int8)
    if not (heads == 1).any() or not (heads == 0).any():
        raise ValueError(
            f"train: got {int((heads == 1).sum())} heads of {len(heads)} places, must be some"
        )
    image = np.concatenate(numbers)
    place = join("place")
    helmet = join("helmets")
    likely = heads.astype(np.float32)
    hints = np.zeros((len(heads), 0), np.float32)
    if teacher is not None:
        described = join("described")
        weights = weigh_places(images, image, place, heads)
        answers = ask_teacher(described, heads, image, weights, seed)
        share = np.where(heads == 1, TEACHER_ON_HEADS, TEACHER_ELSEWHERE)
        surer = np.maximum(answers, join("before"))
        mixed = np.where(heads >= 0, share * answers + (1 - share) * likely, surer)
        likely = mixed.astype(np.float32)
        hints = make_hints(described, seed)
    weights = weigh_places(images, image, place, (likely > 0.5).astype(np.int8))
    weights[helmet == 1] *= WITH_HELMET
    rank_zero_info(
        f"places: {len(heads)}, {int((likely > 0.5).sum())} of them heads, "
        f"{int((helmet == 1).sum())} with a helmet, {int((helmet == 0).sum())} without"
    )
    return Places(
        image=image,
        place=place,
        grey=join("grey"),
        evidence=join("evidence"),
        heads=likely,
        helmets=helmet,
        moves=join("moves"),
        weights=weights,
        hints=hints,
    )


def _look_at(
    record: Record,
    known: bool,
    ask: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    teacher: Teacher | None,
) -> _Seen | None:
    """The places that the map names in one image, at most :data:`MOST_PLACES`; None: there are
    none.

    Args:
        record: of the image.
        known: every person of it was drawn.
        ask: see :func:`find_places`.
        rng: turns the image, takes its colours, and chooses.
        teacher: see :func:`find_places`.
    """
    upright_image = read_pixels(record.path)
    turns = int(rng.integers(1, 4)) if rng.random() < TURNED else 0
    image = np.ascontiguousarray(np.rot90(upright_image, turns))
    grey = rng.random() < GREY
    if grey:
        image = as_grey(image)
    votes, _ = ask_map(ask, image, LEAST_PROBABILITY)
    if not len(votes):
        return None
    places, _ = merge_heads(votes)
    upright = turn_back(places, image.shape[1], image.shape[0], turns)
    labels = label_heads(record)
    judged = judge_places(labels, upright, known)
    usable = np.flatnonzero((judged >= 0) | (teacher is not None))
    chosen = rng.permutation(usable)[:MOST_PLACES]
    if not len(chosen):
        return None
    places = places[chosen]
    upright = upright[chosen]
    judged = judged[chosen]
    worn = tell_helmets(record, upright)
    moves = np.full((len(chosen), 3), np.nan, np.float32)
    drawn = judged == 1
    if drawn.any():
        moves[drawn] = find_moves(labels, upright[drawn])
    described = np.zeros((len(chosen), 0), np.float16)
    before = np.zeros(len(chosen))
    if teacher is not None:
        described = teacher.describe(upright_image, upright)
        answers = look_upright(teacher.before, crop_heads(image, places), weigh(places))
        before = 1 / (1 + np.exp(-answers[:, HEAD]))
    return _Seen(
        place=upright[:, :3],
        grey=np.full(len(chosen), grey),
        evidence=weigh(places),
        heads=judged,
        helmets=np.where(drawn, worn, -1).astype(np.int8),
        moves=moves,
        described=described,
        before=before,
    )


def weigh_places(
    images: TrainingImages, image: np.ndarray, place: np.ndarray, heads: np.ndarray
) -> np.ndarray:
    """How likely places are drawn: half of them heads; images are alike, and so are the places of
    one kind in an image.

    Args:
        images: that they are in.
        image: int64 ``[n]``, the number of each place's image.
        place: ``[n, 3]``: centre x, centre y, side, pixels.
        heads: int8 ``[n]``: 1 a head, 0 none, -1 not known.

    Returns:
        float64 ``[n]`` of sum 1; 0 where it is not known.
    """
    often = np.where(place[:, 2] >= headmap.LARGE, OF_LARGE, 1.0)
    if images.weights is not None:
        often = often * images.weights[image]
    weights = np.zeros(len(heads))
    for kind in (0, 1):
        of_kind = np.flatnonzero(heads == kind)
        count = np.bincount(image[of_kind], minlength=len(images.records))
        weights[of_kind] = often[of_kind] / count[image[of_kind]] ** ALIKE
        weights[of_kind] /= 2 * weights[of_kind].sum()
    return weights


def turn_back(places: np.ndarray, width: int, height: int, turns: int) -> np.ndarray:
    """Move places in an image of this size, that ``np.rot90`` turned, to where they were."""
    moved = places.copy()
    for _ in range(turns):
        x, y = moved[:, :2].T.copy()
        moved[:, 0] = height - 1 - y
        moved[:, 1] = x
        height, width = width, height
    return moved


class LookCrops(ImageCrops):
    """Crops of places, turned, mirrored, moved, in other colours; item ``i``, for any ``i`` from 0,
    is the same in every run.

    Args:
        images: see :func:`find_places`.
        ask: the same.
        seed: of everything random.
        teacher: see :func:`find_places`.
    """

    def __init__(
        self,
        images: TrainingImages,
        ask: Callable[[np.ndarray], np.ndarray],
        seed: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(images.records, second_look.SIDE, seed)
        self._places = find_places(images, ask, seed, teacher)
        self._place_ends = np.cumsum(self._places.weights)
        self._halves: dict[int, list[np.ndarray]] = {}

    def __getitem__(self, item: int) -> tuple[Tensor, ...]:
        """Crop ``item``: uint8 ``[2, 3, 48, 48]``; float32 ``[3]`` of evidence; how likely it is a
        head; 1, 0 or -1 for its helmet; by how many quarters ``np.rot90`` makes it upright; float32
        ``[3]``, the way to the head in the crop, NaN where it is not known; float32 ``[h]``, the
        teacher's hints.
        """
        rng = np.random.default_rng((self.seed, item))
        places = self._places
        drawn = np.searchsorted(self._place_ends, rng.random() * self._place_ends[-1], "right")
        index = min(int(drawn), len(places.heads) - 1)
        turns = int(rng.integers(1, 4)) if rng.random() < SHOWN_TURNED else 0
        both, move = self._show(index, turns, rng)
        if places.grey[index]:
            both = as_grey(both)
        crops = change_colours(both, rng).reshape(len(second_look.REACHES), -1, *both.shape[1:])
        evidence = places.evidence[index].copy()
        if rng.random() < WEAKENED:
            evidence /= 2
        return (
            torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))),
            torch.from_numpy(evidence),
            torch.tensor(float(places.heads[index])),
            torch.tensor(float(places.helmets[index])),
            torch.tensor(turns),
            torch.from_numpy(move),
            torch.from_numpy(places.hints[index]),
        )

    def _show(
        self, index: int, turns: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Crops of a place for each reach, one below the other, turned clockwise by so many
        quarters; and the way to the head in them.
        """
        number = self._places.image[index]
        place = self._places.place[index]
        image = self._image(number)
        assert image is not None  # it was read when its places were found
        halves = self._halves.get(number, [image])
        if number in self._cache:
            self._halves[number] = halves
        size = np.exp(rng.normal(0, SCALED))
        angle = np.deg2rad(90 * turns + rng.normal(0, TILTED))
        mirrored = -1.0 if rng.random() < 0.5 else 1.0
        cosine = np.cos(angle) * size
        sine = np.sin(angle) * size
        turn = np.array([[cosine * mirrored, -sine], [sine * mirrored, cosine]])
        head = place[2]
        beside = rng.normal(0, MOVED, 2)
        centre = place[:2] + beside * head
        crops = np.empty((len(second_look.REACHES), self.size, self.size, 3), np.uint8)
        for crop, reach in zip(crops, second_look.REACHES, strict=True):
            show(halves, turn * self.size / (reach * head), centre, crop)
        right, down, octaves = self._places.moves[index]
        move = np.append(turn @ ([right, down] - beside), octaves + np.log2(size))
        return crops.reshape(-1, self.size, 3), move.astype(np.float32)
