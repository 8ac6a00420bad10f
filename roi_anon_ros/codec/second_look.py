"""The second look: whether what the head map calls a head is one, each by itself, from close by.

The map answers for every cell of an image, so it must be small. Of the few places that it names,
most people and all false ones can be told apart by a network that sees nothing else than the place
and, coarsely, what is around it: a body under a head. It says no to false ones alone: nothing is
hidden that the map did not name. And it says whether a head wears a helmet, for sites that look for
helmets, and where around the place the head really is: the map often names one beside it.

It knows people best who stand upright. So it also says of a place which way is up; where the places
of an image agree that the camera lies on its side or is upside down, they are looked at once more,
turned. So is a place that disagrees: nobody is shown because he lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from roi_anon_ros.codec.image import resize

#: Pixels on a side of what it looks at, and how many sides of the head that shows: first the head
#: itself, then what it stands on.
SIDE = 48
REACHES = (3.0, 8.0)
#: Stride of each convolution for each reach, see ``networks.second_look``.
STRIDES = ((2, 2, 1, 2, 1, 1), (2, 2, 2, 1))
#: How the network's tensors are called in a model.
PREFIX = "second_look."
#: What it answers, logits: "this is a head", "it wears a helmet", and by how many quarters, 0 to 3,
#: ``np.rot90`` has to turn the place so that it is upright. And the way to the head: how far right
#: and below of the place its centre is, in sides of the place, and how many octaves larger it is.
HEAD = 0
HELMET = 1
TURNS = slice(2, 6)
MOVE = slice(6, 9)
ANSWERS = 9
#: A head is moved by at most so many sides, and made larger or smaller by so many octaves.
FARTHEST = 0.75
#: From this logit on a place is looked at once more where its head is, and moved this share of the
#: way that is left. With as many heads painted, a twentieth less of the images is.
WORTH_A_CLOSER_LOOK = -2.5
CLOSER = 0.5
#: A place that is no head has this share of a vote on which way is up. And upright is by so much
#: likelier than another way, in the logarithm.
NO_HEAD_VOTES = 0.05
UPRIGHT = 1.0
#: A place that is at least this likely turned in its own way is looked at that way too.
OWN_WAY = 0.4


class SecondLook:
    """The network, see :class:`~roi_anon_ros.codec.networks.SecondLook`, by numpy alone.

    Args:
        tensors: of a model, by name; those that begin with ``second_look.`` are used.

    Raises:
        KeyError: a tensor is missing.
        ValueError: it gives other answers, as that of an older model does.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        def read(name: str) -> np.ndarray:
            return tensors[PREFIX + name].astype(np.float32)

        self._branches = []
        for reach, strides in enumerate(STRIDES):
            layers = []
            for index, stride in enumerate(strides):
                name = f"branches.{reach}.{index}"
                weight = read(f"{name}.weight")
                matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))
                layers.append((matrix, read(f"{name}.bias"), weight.shape[2], stride))
            self._branches.append(layers)
        self._hidden = read("hidden.weight").T, read("hidden.bias")
        self._last = read("last.weight").T, read("last.bias")
        given = len(self._last[1])
        if given != ANSWERS:
            raise ValueError(f"{PREFIX}last.bias: got {given} answers, must be {ANSWERS}")

    def __call__(self, crops: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """Look at places.

        Args:
            crops: uint8 ``[n, 2, 48, 48, 3]`` RGB, of :func:`crop_heads`.
            evidence: float32 ``[n, 3]``, of :func:`weigh`.

        Returns:
            float32 ``[n, 9]``, see :data:`HEAD`, :data:`HELMET`, :data:`TURNS` and :data:`MOVE`.
        """
        if not len(crops):
            return np.zeros((0, ANSWERS), np.float32)
        flat = []
        for reach, layers in enumerate(self._branches):
            x = crops[:, reach].astype(np.float32) / 255 - 0.5
            for matrix, bias, kernel, stride in layers:
                x = np.maximum(_convolve(x, matrix, kernel, stride) + bias, 0)
            # As torch flattens it: channels first.
            flat.append(x.transpose(0, 3, 1, 2).reshape(len(x), -1))
        weight, bias = self._hidden
        hidden = np.maximum(np.concatenate(flat, axis=1) @ weight + bias, 0)
        weight, bias = self._last
        return np.concatenate([hidden, evidence], axis=1) @ weight + bias


def _convolve(x: np.ndarray, matrix: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """A convolution of ``[n, h, w, c]`` whose padding is half the kernel."""
    margin = kernel // 2
    count, height, width, channels = x.shape
    padded = np.zeros((count, height + 2 * margin, width + 2 * margin, channels), np.float32)
    padded[:, margin : margin + height, margin : margin + width] = x
    # NumPy 1's stub knows one axis only.
    every = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))  # type: ignore[call-overload]
    windows = every[:, ::stride, ::stride]
    rows, columns = windows.shape[1:3]
    # [n, rows, columns, c, k, k] to one row for each place: k, k, c.
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(count * rows * columns, -1)
    return (patches @ matrix).reshape(count, rows, columns, -1)


def look_upright(look: SecondLook, crops: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Look at the places of one image, once more and turned where its camera is not upright, and at
    a place that looks turned by itself that way as well: the surer answer counts.

    Args:
        look: the network.
        crops: uint8 ``[n, 2, 48, 48, 3]`` RGB, of :func:`crop_heads`.
        evidence: float32 ``[n, 3]``, of :func:`weigh`.

    Returns:
        As of the network; the way to the head is that in the crops as they are.
    """
    answers = look(crops, evidence)
    turns = tell_turns(answers)
    votes = _to_votes(answers)
    own = votes.argmax(axis=1)
    clear = votes.max(axis=1, initial=-np.inf) > np.log(OWN_WAY)
    result = _look_turned(look, crops, evidence, turns) if turns else answers.copy()
    # Which way is up stays what the places as they are said.
    kept = [HEAD, *range(MOVE.start, MOVE.stop)]
    for other in range(votes.shape[1]):
        places = np.flatnonzero(clear & (own == other))
        if other == turns or not len(places):
            continue
        again = answers[places]
        if other:
            again = _look_turned(look, crops[places], evidence[places], other)
        surer = again[:, HEAD] > result[places, HEAD]
        result[np.ix_(places[surer], kept)] = again[np.ix_(surer, kept)]
    return result


def _look_turned(
    look: SecondLook, crops: np.ndarray, evidence: np.ndarray, turns: int
) -> np.ndarray:
    """The answers about crops that ``np.rot90`` turns by so many quarters before."""
    answers = look(np.rot90(crops, turns, (2, 3)), evidence)
    for _ in range(turns):
        right, down = answers[:, MOVE.start : MOVE.start + 2].T.copy()
        answers[:, MOVE.start] = -down
        answers[:, MOVE.start + 1] = right
    return answers


def look_closer(
    look: SecondLook, image: np.ndarray, heads: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Look at heads, and once more at those that may be some, where the first look saw them.

    Args:
        look: the network.
        image: uint8 ``[H, W, 3]`` RGB.
        heads: of the map, ``[n, 5]``, see :func:`~roi_anon_ros.codec.headmap.merge_heads`.

    Returns:
        The heads where they are seen, ``[n, 5]``; and the answers about them, the mean of both
        looks, ``[n, 9]``.
    """
    evidence = weigh(heads)
    answers = look_upright(look, crop_heads(image, heads), evidence)
    moved = move_heads(heads, answers)
    likely = answers[:, HEAD] > WORTH_A_CLOSER_LOOK
    again = look_upright(look, crop_heads(image, moved[likely]), evidence[likely])
    moved[likely] = move_heads(moved[likely], again, CLOSER)
    answers[likely] = (answers[likely] + again) / 2
    return moved, answers


def move_heads(heads: np.ndarray, answers: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Move heads to where the second look sees them.

    Args:
        heads: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        answers: ``[n, 9]``, of :func:`look_upright`.
        share: of the way, 0 to 1.

    Returns:
        The same heads elsewhere and of another size.
    """
    right, down, octaves = share * np.clip(answers[:, MOVE], -FARTHEST, FARTHEST).T
    moved = heads.copy()
    side = heads[:, 2]
    moved[:, 0] += right * side
    moved[:, 1] += down * side
    moved[:, 2] = side * 2**octaves
    return moved


def tell_turns(answers: np.ndarray) -> int:
    """By how many quarters an image has to be turned to be upright, 0 to 3.

    Args:
        answers: of its places, ``[n, 9]``.
    """
    if not len(answers):
        return 0
    votes = _to_votes(answers)
    # Heads know best, and places of one image are alike: many say little more than a few.
    likely = 1 / (1 + np.exp(-answers[:, HEAD])) + NO_HEAD_VOTES
    total = likely @ votes / np.sqrt(likely.sum())
    total[0] += UPRIGHT
    return int(total.argmax())


def _to_votes(answers: np.ndarray) -> np.ndarray:
    """The logarithm of how likely each way is up at each place, ``[n, 4]``."""
    logits = answers[:, TURNS]
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def crop_heads(
    image: np.ndarray,
    heads: np.ndarray,
    side: int = SIDE,
    reaches: Sequence[float] = REACHES,
) -> np.ndarray:
    """Cut heads out of an image, each with what is around it.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        heads: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        side: of the crops, pixels.
        reaches: how many sides of the head each crop of it shows.

    Returns:
        uint8 ``[n, reaches, side, side, 3]``; outside the image its edge.
    """
    crops = np.empty((len(heads), len(reaches), side, side, 3), np.uint8)
    halves = [image]
    for views, (x, y, head) in zip(crops, heads[:, :3].astype(float), strict=True):
        for crop, reach in zip(views, reaches, strict=True):
            show(halves, np.eye(2) * side / (reach * head), np.array([x, y]), crop)
    return crops


def show(halves: list[np.ndarray], turn: np.ndarray, centre: np.ndarray, crop: np.ndarray) -> None:
    """Show a place of an image in the middle of a crop.

    Args:
        halves: the image, uint8 ``[H, W, 3]``, and as many as there are already of what it becomes
            when halved again and again; those that are needed are added.
        turn: ``[2, 2]``, from pixels of the image to pixels of the crop.
        centre: x and y of the place, pixels.
        crop: uint8 ``[side, side, 3]``, is filled; outside the image with its edge.
    """
    # Halved beforehand: bilinear sampling alone would alias.
    scale = np.sqrt(abs(np.linalg.det(turn)))
    step = 0
    while scale < 0.5 and min(halves[step].shape[:2]) > 1:
        scale *= 2
        step += 1
        if step == len(halves):
            height, width = halves[-1].shape[:2]
            halves.append(resize(halves[-1], max(width // 2, 1), max(height // 2, 1)))
    matrix = turn * 2**step
    middle = np.full(2, (len(crop) - 1) / 2)
    shift = middle - matrix @ ((centre + 0.5) / 2**step - 0.5)
    cv2.warpAffine(
        halves[step],
        np.column_stack([matrix, shift]),
        crop.shape[:2],
        crop,
        cv2.INTER_LINEAR,
        cv2.BORDER_REPLICATE,
    )


def weigh(heads: np.ndarray) -> np.ndarray:
    """What the map itself says of heads, as the network takes it.

    Args:
        heads: ``[n, 5]``, see :func:`~roi_anon_ros.codec.headmap.merge_heads`.

    Returns:
        float32 ``[n, 3]``: the logit of the probability, four times the probability on another
        level, and the octave of the side above 16 pixels.
    """
    probability = np.clip(heads[:, 3], 1e-3, 1 - 1e-3)
    logit = np.log(probability / (1 - probability))
    octave = np.log2(np.maximum(heads[:, 2], 1) / 16)
    return np.stack([logit, 4 * heads[:, 4], octave], axis=1).astype(np.float32)
