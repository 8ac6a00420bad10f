"""Which parts of an image are to be hidden: boxes, ellipses and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np

#: Shapes of a region inside its box.
SHAPES = ("box", "ellipse", "mask")

Box = tuple[float, float, float, float]

#: Where the landmarks of an upright face lie in its box, as shares: means over 5,877 generated
#: faces by YuNet.
IN_BOX = np.array([(0.285, 0.401), (0.717, 0.401), (0.5, 0.606), (0.324, 0.763), (0.676, 0.763)])


@dataclass(frozen=True, eq=False)
class Region:
    """One part of an image.

    Attributes:
        box: left, top, right, bottom in pixels; may reach beyond the image.
        shape: ``"box"``: all of the box; ``"ellipse"``: the ellipse inside it; ``"mask"``: where
            ``mask`` is set.
        label: what it shows, such as ``"face"`` or ``"person"``.
        score: of the detector, 0 to 1; 1 for what a person drew.
        mask: bool ``[h, w]``, of a mask only; its first pixel is the one that the box begins in.
        landmarks: of a face, float32 ``[5, 2]`` in pixels of the image: the eye at the image's
            left, the other eye, nose, the corner of the mouth at the image's left, the other
            corner; None where they are not known.
        track: number of the object through a video, -1 outside of one.
    """

    box: Box
    shape: str = "box"
    label: str = ""
    score: float = 1.0
    mask: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    track: int = -1

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape: got {self.shape!r}, must be one of {', '.join(SHAPES)}")
        if (self.shape == "mask") != (self.mask is not None):
            raise ValueError(
                f"mask: got {type(self.mask).__name__} for a {self.shape}, must be a mask's only"
            )
        if len(self.box) != 4 or not np.isfinite(self.box).all():
            raise ValueError(f"box: got {self.box}, must be four finite numbers")

    @property
    def side(self) -> float:
        """The longer side of its box, pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def grown(self, factor: float) -> Region:
        """The same region, its sides multiplied by a factor about its centre.

        A mask grows by as many pixels all around as its box's longer side grows at each end.
        """
        if factor == 1:
            return self
        left, top, right, bottom = self.box
        if self.mask is not None:
            margin = round((factor - 1) / 2 * self.side)
            return self._dilated(self.mask, margin)
        across = (right - left) * (factor - 1) / 2
        down = (bottom - top) * (factor - 1) / 2
        return replace(self, box=(left - across, top - down, right + across, bottom + down))

    def _dilated(self, mask: np.ndarray, margin: int) -> Region:
        if margin <= 0:
            return self
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
        wider = cv2.dilate(np.pad(mask.astype(np.uint8), margin), kernel) > 0
        left, top = np.floor(self.box[:2]) - margin
        height, width = wider.shape
        return replace(self, box=(left, top, left + width, top + height), mask=wider)

    def moved(self, box: Box) -> Region:
        """A region of the same object at another place: a mask becomes its whole box there."""
        shape = "box" if self.shape == "mask" else self.shape
        landmarks = self.landmarks
        if landmarks is not None:
            old = np.reshape(self.box, (2, 2))
            new = np.reshape(box, (2, 2))
            shares = (landmarks - old[0]) / np.maximum(old[1] - old[0], 1e-6)
            landmarks = (shares * (new[1] - new[0]) + new[0]).astype(np.float32)
        return replace(self, box=box, shape=shape, mask=None, landmarks=landmarks)

    def drawn(self, width: int, height: int) -> np.ndarray:
        """Every pixel that the region touches in an image of this size: bool ``[H, W]``."""
        left = int(np.floor(np.clip(self.box[0], -1, width + 1)))
        top = int(np.floor(np.clip(self.box[1], -1, height + 1)))
        right = int(np.ceil(np.clip(self.box[2], -1, width + 1)))
        bottom = int(np.ceil(np.clip(self.box[3], -1, height + 1)))
        inside = np.zeros((height, width), bool)
        if self.mask is not None:
            _paste(inside, self.mask, int(np.floor(self.box[0])), int(np.floor(self.box[1])))
        elif right > left and bottom > top:
            rows = slice(max(top, 0), max(bottom, 0))
            columns = slice(max(left, 0), max(right, 0))
            inside[rows, columns] = (
                True if self.shape == "box" else self._ellipse(width, height)[rows, columns]
            )
        return inside

    def _ellipse(self, width: int, height: int) -> np.ndarray:
        """Pixels whose nearest point to the centre lies in the ellipse: bool ``[H, W]``."""
        left, top, right, bottom = self.box
        x = _nearest(np.arange(width), (left + right) / 2) / max((right - left) / 2, 1e-6)
        y = _nearest(np.arange(height), (top + bottom) / 2) / max((bottom - top) / 2, 1e-6)
        return x[None] ** 2 + y[:, None] ** 2 <= 1


@dataclass(frozen=True)
class Regions:
    """All regions of one image.

    Attributes:
        size: width and height of the image, pixels.
        items: the regions, in no order.
    """

    size: tuple[int, int]
    items: tuple[Region, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.items)

    def __or__(self, other: Regions) -> Regions:
        """Both together.

        Raises:
            ValueError: of images of different sizes.
        """
        if self.size != other.size:
            raise ValueError(f"size: got {other.size}, must be {self.size}")
        return replace(self, items=self.items + other.items)

    def grown(self, factor: float) -> Regions:
        """Each of them grown, see :meth:`Region.grown`."""
        return replace(self, items=tuple(region.grown(factor) for region in self.items))

    def drawn(self) -> np.ndarray:
        """The pixels of all of them: bool ``[H, W]``."""
        width, height = self.size
        inside = np.zeros((height, width), bool)
        for region in self.items:
            inside |= region.drawn(width, height)
        return inside


class RegionSource(Protocol):
    """Anything that says what is to be hidden in an image.

    A callable of one image, uint8 ``[H, W, 3]`` RGB. What it raises is passed on, and the image is
    not treated then: an error is never taken for an image without regions.
    """

    def __call__(self, image: np.ndarray) -> Regions:
        """Return the regions of this image."""
        ...


def union(sources: Sequence[RegionSource]) -> Callable[[np.ndarray], Regions]:
    """One source of what any of these finds."""

    def find(image: np.ndarray) -> Regions:
        found = Regions((image.shape[1], image.shape[0]))
        for source in sources:
            found |= source(image)
        return found

    return find


def feathered(inside: np.ndarray, margin: float) -> np.ndarray:
    """How much each pixel is hidden: 1 in the region, falling to 0 ``margin`` pixels outside.

    The soft edge lies outside, so that all of the region is hidden fully.

    Args:
        inside: bool ``[H, W]``.
        margin: pixels, 0 or more.

    Returns:
        float32 ``[H, W]``.
    """
    weight = inside.astype(np.float32)
    if margin > 0 and inside.any() and not inside.all():
        away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        weight = np.clip(1 - away / (margin + 1), 0, 1)
    return weight


def mask_of(
    inside: np.ndarray, label: str = "", score: float = 1.0, track: int = -1
) -> Region | None:
    """A mask region of the pixels set in bool ``[H, W]``, cut to them; None where none is."""
    rows = np.flatnonzero(inside.any(1))
    columns = np.flatnonzero(inside.any(0))
    if not len(rows):
        return None
    top = int(rows[0])
    bottom = int(rows[-1]) + 1
    left = int(columns[0])
    right = int(columns[-1]) + 1
    box = (float(left), float(top), float(right), float(bottom))
    cut = inside[top:bottom, left:right].copy()
    return Region(box, "mask", label, score, mask=cut, track=track)


def polygon(
    points: Iterable[Sequence[float]], width: int, height: int, label: str = "", track: int = -1
) -> Region | None:
    """A mask region of a polygon in an image of this size; None where it lies outside of it."""
    corners = np.asarray(list(points), float).reshape(-1, 2)
    drawn = np.zeros((height, width), np.uint8)
    fixed = np.round(corners * 16).astype(np.int32)[None]
    cv2.fillPoly(drawn, fixed, 1, shift=4)
    return mask_of(drawn > 0, label, track=track)


def assumed_landmarks(box: Box) -> np.ndarray:
    """Where the landmarks of an upright face in this box lie on average, float32 ``[5, 2]``."""
    left, top, right, bottom = box
    return (IN_BOX * (right - left, bottom - top) + (left, top)).astype(np.float32)


def _paste(target: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Set what is set in a patch that may reach beyond the target."""
    height, width = patch.shape
    rows = slice(max(top, 0), min(top + height, target.shape[0]))
    columns = slice(max(left, 0), min(left + width, target.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        cut = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        target[rows, columns] |= cut


def _nearest(first: np.ndarray, centre: float) -> np.ndarray:
    """Distance from the centre to each pixel, which reaches from ``first`` to ``first + 1``."""
    return np.maximum(np.maximum(first - centre, centre - first - 1), 0)
