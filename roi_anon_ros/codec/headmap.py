"""From the head map's answer to regions: a pyramid of the image, a threshold, stamps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.regions import CELL, Regions
from roi_anon_ros.codec.second_look import (
    HEAD,
    HELMET,
    SecondLook,
    look_closer,
)

#: What runs the network: uint8 ``[H, W, 3]`` RGB to float32 ``[4, rows, columns]``, see
#: ``networks.headmap``.
RunMap = Callable[[np.ndarray], np.ndarray]
#: What finds heads: an image and a threshold to what `find_heads` returns.
FindHeads = Callable[[np.ndarray, float], tuple[Regions, float]]

#: Cells of at least this probability speak of heads.
THRESHOLD = 0.2
#: The image is halved until its longer side has at most this many pixels: a head that fills it is
#: found there.
COARSEST = 224
#: A level that is shrunk by 4 or more has no say on heads of fewer pixels in it: finer ones see
#: them better, and its cells cover 32 pixels. Shrunk by 2 it has: without it heads of 16 to 32
#: pixels with helmets are found in 0.65 instead of 0.75 of the cases.
LEAST_COARSE = 24
#: Heads of fewer pixels are not looked for: nobody is known by so few, and in leaves and gravel the
#: map sees hundreds of them. It learned heads from 8 pixels on.
LEAST_SIDE = 6
#: Two heads of the pyramid are one where their centres are closer than this share of the larger
#: one's side.
SAME_HEAD = 0.5
#: Heads in one image at most; further ones are painted without a stamp.
MAX_HEADS = 256
#: Cells agree on a head where they place it within this share of its side and size it within so
#: many octaves.
AGREE = 0.35
AGREE_OCTAVES = 0.7
#: Without a second look, cells at least this share as probable as their head's most probable one
#: are painted with it: what is less probable lies mostly next to the head.
BELONGS = 0.5
#: A head of this probability is one, whatever the second look says.
SURE = 0.95
#: Below this logit the second look says that there is no head; of heads from this many pixels on it
#: must be surer, for a false one covers a person. Of the heads of 32 pixels and more on four kinds
#: of images, upright and turned, 0.977 and 0.955 are painted with -0.75, 0.976 and 0.953 with -0.5,
#: 0.973 and 0.946 with -0.25 (and 0.5 more for large ones); a detector keeps 0.72, 0.73 and 0.75 of
#: its average precision in masked crowds.
LEAST_LOOK = -0.5
LEAST_LOOK_LARGE = 0.0
LARGE = 64
#: A head is painted this much larger than it is seen.
GROWN = 1.05
#: A head that has this much of itself, or of the other one, in common with a surer one of about its
#: size is the same once more. Without this rule 0.003 more of the heads are painted, a
#: twentieth more of the images, and a detector keeps 0.02 to 0.03 less of its average precision.
REPEATS = 0.8
SAME_SIZE = 2.0
#: A head of at least this share of the image's shorter side needs no second look: who is that close
#: is recognised most easily, and the image shows little around a head to tell it by. Of heads in
#: close-ups of Construction-PPE 0.89 were painted with it, without it 0.67 (the model before).
CLOSE = 0.7
#: From this logit on a head wears a helmet.
LEAST_HELMET = 0.0


def find_heads(
    run: RunMap,
    image: np.ndarray,
    threshold: float = THRESHOLD,
    look: SecondLook | None = None,
    helmets: bool = False,
) -> tuple[Regions, float]:
    """Find the heads in an image.

    Args:
        run: the head map.
        image: uint8 ``[H, W, 3]`` RGB.
        threshold: on the probability of a cell, 0 to 1.
        look: the second look at each head; None: what the map says counts.
        helmets: whether the regions say which heads wear one; it needs the second look.

    Returns:
        The regions, and the highest probability of any cell.
    """
    votes, highest = ask_map(run, image, threshold)
    height, width = image.shape[:2]
    if not len(votes):
        return Regions.empty(width, height), highest
    heads, owners = merge_heads(votes)
    stays = np.ones(len(heads), bool)
    worn = None
    # What belongs to no head, since there are too many, is painted.
    painted = owners < 0
    if look is None:
        painted |= votes[:, 3] >= BELONGS * heads[owners, 3]
    else:
        unsure = (heads[:, 3] < SURE) & (heads[:, 2] < CLOSE * min(height, width))
        least = np.where(heads[:, 2] >= LARGE, LEAST_LOOK_LARGE, LEAST_LOOK)
        heads, answer = look_closer(look, image, heads)
        logits = np.where(unsure, answer[:, HEAD], np.inf)
        stays = drop_repeats(heads, logits, logits >= least)
        heads[:, 2] *= GROWN
        worn = answer[stays, HELMET] >= LEAST_HELMET if helmets else None
    covered = Regions.of_heads(heads[stays, :3], width, height)
    cells = covered.cells | _cells_of(votes[painted], *covered.cells.shape)
    return Regions(cells, covered.heads, worn), highest


def drop_repeats(heads: np.ndarray, logits: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Say which heads are none that is there already: the map often names one twice, once beside
    it or at another size.

    Args:
        heads: ``[n, 3]`` or wider: centre x, centre y, side, pixels.
        logits: ``[n]``, how sure each is a head.
        stays: bool ``[n]``, which ones are heads at all.

    Returns:
        bool ``[n]``, which of these stay.
    """
    x, y, side = heads[:, :3].T
    half = side / 2
    across = np.minimum.outer(x + half, x + half) - np.maximum.outer(x - half, x - half)
    down = np.minimum.outer(y + half, y + half) - np.maximum.outer(y - half, y - half)
    common = np.clip(across, 0, None) * np.clip(down, 0, None)
    smaller = np.minimum.outer(side, side)
    alike = np.maximum.outer(side, side) < SAME_SIZE * smaller
    repeats = alike & (common > REPEATS * smaller**2)
    kept = np.zeros(len(heads), bool)
    for index in np.argsort(-logits, kind="stable"):
        surer = kept & repeats[index] & (logits > logits[index])
        kept[index] = stays[index] and not surer.any()
    return kept


def _cells_of(votes: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The cells of the image that votes come from, bool ``[rows, columns]``."""
    cells = np.zeros((rows, columns), bool)
    scales = votes[:, 4].astype(int)
    for scale in np.unique(scales).tolist():
        level = np.zeros((-(-rows // scale), -(-columns // scale)), bool)
        row, column = votes[scales == scale, 5:].astype(int).T
        level[row, column] = True
        cells |= level.repeat(scale, axis=0).repeat(scale, axis=1)[:rows, :columns]
    return cells


def ask_map(run: RunMap, image: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """Ask the map at every level of the pyramid.

    Args:
        run: the head map.
        image: uint8 ``[H, W, 3]`` RGB.
        threshold: on the probability of a cell, 0 to 1.

    Returns:
        The votes ``[n, 7]``, one for each cell above the threshold that sees a head of
        :data:`LEAST_SIDE` pixels or more: the head's centre x, centre y and side in pixels of the
        image, the probability, the level's scale (1, 2, 4 ...), and the cell's row and column in
        it. And the highest probability of any cell.
    """
    height, width = image.shape[:2]
    votes = []
    highest = 0.0
    scale = 1
    level = image
    while True:
        probability, heads = read_map(run(level))
        shown = probability[: -(-level.shape[0] // CELL), : -(-level.shape[1] // CELL)]
        highest = max(highest, float(shown.max()))
        least = LEAST_COARSE if scale >= 4 else LEAST_SIDE / scale
        hot = (shown >= threshold) & (heads[2, : shown.shape[0], : shown.shape[1]] >= least)
        rows, columns = np.nonzero(hot)
        found = heads[:, rows, columns] * scale
        scales = np.full(len(rows), scale)
        votes.append(np.stack([*found, shown[hot], scales, rows, columns], axis=1))
        if max(level.shape[:2]) <= COARSEST:
            return np.concatenate(votes), highest
        scale *= 2
        level = resize(image, max(width // scale, CELL), max(height // scale, CELL))


def read_map(answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[rows, columns]``; heads ``[3, rows, columns]``, x, y and side in pixels."""
    logit, right, down, octave = answer
    probability = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
    side = CELL * np.exp2(np.clip(octave, -1, 9))
    rows, columns = logit.shape
    centre_x = (np.arange(columns) + 0.5) * CELL
    centre_y = (np.arange(rows) + 0.5) * CELL
    x = centre_x[None, :] + np.clip(right, -1.5, 1.5) * side
    y = centre_y[:, None] + np.clip(down, -1.5, 1.5) * side
    return probability, np.stack([x, y, side])


def merge_heads(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One head for each group of cells that speak of the same one.

    The most probable cell begins a group. The head is the mean, weighed by probability, of those
    that nearly agree with it (the side's in octaves).

    Args:
        votes: ``[n, 7]``, see :func:`ask_map`.

    Returns:
        The heads ``[m, 5]``, the most probable first: centre x, centre y, side, probability, and
        the highest probability on another level than that of the most probable cell, 0 where none
        agrees. And the number of each vote's head, ``[n]``, -1 beyond :data:`MAX_HEADS`.
    """
    x, y, side, probability, scale = votes[:, :5].T
    octave = np.log2(side)
    owners = np.full(len(votes), -1)
    heads: list[tuple[float, ...]] = []
    for first in np.argsort(-probability, kind="stable"):
        if owners[first] >= 0:
            continue
        if len(heads) == MAX_HEADS:
            break
        larger = np.maximum(side, side[first])
        distance = np.hypot(x - x[first], y - y[first]) / larger
        free = owners < 0
        agree = free & (distance <= AGREE) & (np.abs(octave - octave[first]) < AGREE_OCTAVES)
        weight = probability * agree / probability[agree].sum()
        elsewhere = probability[agree & (scale != scale[first])].max(initial=0.0)
        mean_side = 2 ** (octave @ weight)
        heads.append((x @ weight, y @ weight, mean_side, probability[first], elsewhere))
        owners[free & (distance <= SAME_HEAD)] = len(heads) - 1
    return np.array(heads).reshape(-1, 5), owners
