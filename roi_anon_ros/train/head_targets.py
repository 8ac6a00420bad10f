"""What the head map shall say of a crop: heads, no heads, and what is unknown.

A cell of 8 × 8 pixels is head where its centre lies in a head's ellipse. Around a head lies a ring
that is neither: boxes are not exact. Unknown is the upper part of a person without an annotated
head, unless every head of the image was drawn: of many sets, only faces are known. On an upright
person, where every person was drawn and heads were not, a head is guessed: a weak one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roi_anon_ros.codec.networks.headmap import CELL
from roi_anon_ros.datasets import Record

#: A cell within this share of a head's ellipse is head; of a guessed head, less.
INNER = 0.85
INNER_GUESSED = 0.5
#: The ring around a head's ellipse ends at this many half axes, and half a cell further out; around
#: a guessed head it also reaches to this many half axes.
RING = 1.35
RING_GUESSED = 2.0
#: A person at least this many times as high as wide stands upright: there is a head on top.
UPRIGHT = 1.9
#: Side of a guessed head, in heights and in widths of its person, whichever is less.
GUESSED_OF_HEIGHT = 0.15
GUESSED_OF_WIDTH = 0.6
#: The cells of a head weigh this much in all, of a guessed head 0.4 times that.
HEAD_WEIGHT = 3.0
GUESSED_WEIGHT = 0.4
#: Heads of at most 4 cells weigh this many times more.
SMALL_HEAD = 1.3
#: The least weight of a cell that is head.
LEAST_WEIGHT = 0.15


@dataclass(frozen=True)
class HeadLabels:
    """What is known of the heads in an image, pixels.

    Attributes:
        heads: float64 ``[n, 4]``, centre x, centre y, width, height.
        guessed: the same, of heads that nobody drew.
        unknown: float64 ``[n, 4]``, x1 y1 x2 y2, where heads may be.
    """

    heads: np.ndarray
    guessed: np.ndarray
    unknown: np.ndarray


def to_centres(xyxy: np.ndarray) -> np.ndarray:
    """Boxes ``[n, 4]`` as centre x, centre y, width, height, float64."""
    xyxy = np.asarray(xyxy, np.float64).reshape(-1, 4)
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def label_heads(record: Record) -> HeadLabels:
    """What a record tells of heads; ignored persons are crowds, of which nothing is known."""
    heads = to_centres(record.heads.xyxy)
    guesses = "person" in record.complete and "head" not in record.complete
    guessed = []
    unknown = []
    for box, ignored in zip(record.persons.xyxy.tolist(), record.persons.ignore, strict=True):
        x1, y1, x2, y2 = box
        if ignored:
            unknown.append(box)
            continue
        width = x2 - x1
        height = y2 - y1
        if "head" in record.complete or _has_head(heads, x1, y1, width, height):
            continue
        left = x1 - 0.05 * width
        top = y1 - 0.05 * height
        unknown.append((left, top, left + 1.1 * width, top + 0.55 * height))
        # A person cut off by the upper edge shows no head.
        if guesses and height > UPRIGHT * width and y1 > 2:
            side = min(GUESSED_OF_HEIGHT * height, GUESSED_OF_WIDTH * width)
            guessed.append((x1 + width / 2, y1 + 0.01 * height + side / 2, side, side))
    return HeadLabels(
        heads,
        np.array(guessed, np.float64).reshape(-1, 4),
        np.array(unknown, np.float64).reshape(-1, 4),
    )


def _has_head(heads: np.ndarray, x: float, y: float, width: float, height: float) -> bool:
    """Whether the centre of a head lies in or near the upper part of a person."""
    across = (heads[:, 0] > x - 0.1 * width) & (heads[:, 0] < x + 1.1 * width)
    down = (heads[:, 1] > y - 0.15 * height) & (heads[:, 1] < y + 0.45 * height)
    return bool((across & down).any())


@dataclass(frozen=True)
class View:
    """How a crop shows an image: ``crop = turn @ image + shift``, pixels.

    Attributes:
        turn: float64 ``[2, 2]``, a rotation, perhaps mirrored, times ``scale``.
        shift: float64 ``[2]``.
        scale: pixels of the crop for one of the image.
        size: side of the crop, a multiple of 8.
    """

    turn: np.ndarray
    shift: np.ndarray
    scale: float
    size: int


@dataclass(frozen=True)
class HeadTargets:
    """What the map shall say of a crop, on a grid of g = size / 8 cells a side; float32 all.

    Attributes:
        head: ``[g, g]``, 1 where there is a head, 0 where not.
        weight: ``[g, g]``, what a cell counts; 0 where nothing is known.
        place: ``[3, g, g]``: offset (right, down) from the cell to the nearest head's centre in
            sides of the head, and log2 of its longer side in cells.
        place_weight: ``[g, g]``, what the place counts.
    """

    head: np.ndarray
    weight: np.ndarray
    place: np.ndarray
    place_weight: np.ndarray


def make_targets(labels: HeadLabels, view: View, background: float) -> HeadTargets:
    """Make the targets of one crop.

    Args:
        labels: of the image.
        view: of the crop.
        background: weight of a cell without a head.
    """
    grid = view.size // CELL
    axis = np.arange(grid) * CELL + (CELL - 1) / 2
    across, down = np.meshgrid(axis, axis)
    cells = np.stack([across, down]).reshape(2, -1)
    canvas = _Canvas(cells, view, background)
    for x1, y1, x2, y2 in labels.unknown:
        x, y = canvas.source
        canvas.weight[(x > x1) & (x < x2) & (y > y1) & (y < y2)] = 0
    # Drawn heads last: they stand over guessed ones.
    for box in labels.guessed:
        canvas.add(box, guessed=True)
    for box in labels.heads:
        canvas.add(box, guessed=False)
    shape = (grid, grid)
    return HeadTargets(
        canvas.head.reshape(shape),
        canvas.weight.reshape(shape),
        canvas.place.reshape(3, *shape),
        canvas.place_weight.reshape(shape),
    )


class _Canvas:
    """The targets of a crop while heads are added, cell by cell in one row."""

    def __init__(self, cells: np.ndarray, view: View, background: float) -> None:
        count = cells.shape[1]
        self.cells = cells
        self.view = view
        #: The cells' centres in the image, [2, n]: there the ellipses are upright.
        self.source = np.linalg.inv(view.turn) @ (cells - view.shift[:, None])
        self.head = np.zeros(count, np.float32)
        self.weight = np.full(count, background, np.float32)
        self.place = np.zeros((3, count), np.float32)
        self.place_weight = np.zeros(count, np.float32)
        self._nearest = np.full(count, np.inf)

    def add(self, box: np.ndarray, guessed: bool) -> None:
        """Add a head, its centre and sides in pixels of the image."""
        view = self.view
        width, height = box[2:]
        centre = view.turn @ box[:2] + view.shift
        reach = box[2:] * view.scale
        if (centre <= -reach).any() or (centre >= view.size + reach).any():
            return
        radius = self._radius(box[:2], max(width / 2, 1e-3), max(height / 2, 1e-3))
        half_cell = CELL / 2 / view.scale
        ring = self._radius(box[:2], width / 2 * RING + half_cell, height / 2 * RING + half_cell)
        around = ring < 1
        inner = radius < (INNER_GUESSED if guessed else INNER)
        if guessed:
            around |= radius < RING_GUESSED
        if (centre >= 0).all() and (centre < view.size).all():
            # The smallest head has the cell of its centre.
            column, row = np.minimum((centre + 0.5) // CELL, view.size // CELL - 1).astype(int)
            inner[row * (view.size // CELL) + column] = True
        self.weight[around & (self.head == 0)] = 0
        count = int(inner.sum())
        if count:
            share = GUESSED_WEIGHT if guessed else 1.0
            weight = share * HEAD_WEIGHT / np.sqrt(count) * (SMALL_HEAD if count <= 4 else 1.0)
            self.head[inner] = 1
            self.weight[inner] = max(weight, LEAST_WEIGHT)
        if not guessed:
            self._place(centre, max(width, height) * view.scale, radius, inner)

    def _place(
        self, centre: np.ndarray, side: float, radius: np.ndarray, inner: np.ndarray
    ) -> None:
        """Let the cells of a head point at its centre, where no nearer head is."""
        nearer = ((radius < 1) | inner) & (radius < self._nearest)
        self._nearest[nearer] = radius[nearer]
        self.place[:2, nearer] = (centre[:, None] - self.cells[:, nearer]) / side
        self.place[2, nearer] = np.log2(max(side, 2) / CELL)
        self.place_weight[nearer] = 1 / np.sqrt(max(int(inner.sum()), 1))

    def _radius(self, centre: np.ndarray, across: float, down: float) -> np.ndarray:
        """Distance of the cells from a centre, in half axes of an upright ellipse."""
        x, y = self.source
        return np.hypot((x - centre[0]) / across, (y - centre[1]) / down)
