"""What is hidden in a stream of images: zones, heads that are found, heads of a moment ago
and of the next moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roi_anon_ros.codec.headmap import THRESHOLD, FindHeads
from roi_anon_ros.codec.regions import CELL, Regions, paint

#: Seconds for which a head stays hidden where it was last found.
DEFAULT_HOLD = 0.5
#: A walking person's head moves by this many of its sides in a second (1.4 m/s, 0.25 m).
WALKING = 5.6
#: A held head is not grown beyond this many of its sides.
LARGEST_GROWTH = 2.5
#: A head was found again where one of at least half its size lies within this many sides.
FOUND_AGAIN = 0.75


@dataclass(frozen=True)
class Hidden:
    """What is hidden in one image.

    Attributes:
        regions: all of it, in the coded image.
        heads: how many heads the map found.
        held: how many heads are hidden because they were found a moment ago, or will be.
        confidence: the highest probability of a head in any cell, 0 to 1.
    """

    regions: Regions
    heads: int
    held: int
    confidence: float

    @property
    def found(self) -> np.ndarray:
        """The heads that the map found, ``[heads, 3]``, as in :class:`Regions`."""
        return self.regions.heads

    def with_later(self, later: Sequence[tuple[float, np.ndarray]]) -> Hidden:
        """What is hidden, and the heads that are found in the next images and not in this one.

        Args:
            later: for each of them how much later it is, seconds, and its heads ``[n, 3]``.
        """
        grown = [
            grow_head(head, age)
            for age, heads in later
            for head in heads.astype(np.float64)
            if not is_found_again(head, self.found, age)
        ]
        if not grown:
            return self
        rows, columns = self.regions.cells.shape
        covered = Regions.of_heads(np.array(grown), columns * CELL, rows * CELL)
        regions = replace(self.regions, cells=self.regions.cells | covered.cells)
        return Hidden(regions, self.heads, self.held + len(grown), self.confidence)


class Hiding:
    """Finds what to hide in the images of one camera; keep one for each camera.

    Args:
        zones: polygons ``[[x, y], ...]`` in pixels of the source, hidden always; not even the head
            map sees what is in them.
        hold: seconds for which a head that is no longer found stays hidden, 0 or more.
        threshold: on the probability of a head, 0 to 1.
        helmets: whether heads with a helmet are painted with one, for sites that look for helmets.

    Raises:
        ValueError: a zone, the hold or the threshold is out of bounds.
    """

    def __init__(
        self,
        zones: Sequence[Sequence[Sequence[float]]] = (),
        hold: float = DEFAULT_HOLD,
        threshold: float = THRESHOLD,
        helmets: bool = False,
    ) -> None:
        if not 0 <= hold <= 60:
            raise ValueError(f"hold: got {hold} s, must be from 0 to 60")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: got {threshold}, must be between 0 and 1")
        self.zones = check_zones(zones)
        self.hold = hold
        self.threshold = threshold
        self.helmets = helmets
        self._remembered: list[tuple[float, np.ndarray]] = []

    def find(
        self,
        find_heads: FindHeads,
        image: np.ndarray,
        zones: list[np.ndarray],
        scale: tuple[float, float],
        stamp: float | None = None,
    ) -> tuple[np.ndarray, Hidden]:
        """Paint the zones, find the heads, and say what all is hidden.

        Args:
            find_heads: of a codec, see :meth:`~roi_anon_ros.codec.Codec.find_heads`.
            image: uint8 ``[H, W, 3]`` RGB at the coded size.
            zones: of :attr:`zones`, turned as the image is.
            scale: coded pixels for each pixel of the source, ``(x, y)``.
            stamp: of the image, seconds; None: it stands alone, nothing is held.

        Returns:
            The image with its zones painted, and what is hidden.
        """
        height, width = image.shape[:2]
        regions = Regions.empty(width, height)
        if zones:
            polygons = [zone * np.array(scale) for zone in zones]
            regions = Regions.of_polygons(polygons, width, height)
            image = paint(image, regions)
        found, confidence = find_heads(image, self.threshold)
        held = self._hold(found.heads, width, height, stamp)
        # A stamp for a head that may not be there any more would be a person who is not there.
        covered = Regions.of_heads(held, width, height)
        past = Regions(covered.cells, np.zeros((0, 3), np.int32))
        everything = regions.union(past).union(found)
        return image, Hidden(everything, len(found.heads), len(held), confidence)

    def _hold(self, heads: np.ndarray, width: int, height: int, stamp: float | None) -> np.ndarray:
        """The heads of the last seconds that are not found now, grown, ``[n, 3]``."""
        if stamp is None or self.hold == 0:
            return np.zeros((0, 3))
        largest = np.array([width, height, max(width, height)])
        kept = []
        grown = []
        for when, head in self._remembered:
            age = stamp - when
            if not 0 <= age <= self.hold:  # a clock that jumps back forgets
                continue
            absolute = head * largest
            if is_found_again(absolute, heads, age):
                continue
            kept.append((when, head))
            grown.append(grow_head(absolute, age))
        self._remembered = kept
        for head in heads:
            self._remembered.append((stamp, head / largest))
        return np.array(grown).reshape(-1, 3)


def grow_head(head: np.ndarray, age: float) -> np.ndarray:
    """A head ``[3]`` as large as where it can be after that many seconds of walking."""
    growth = 1 + min(WALKING * age, LARGEST_GROWTH)
    return head * np.array([1, 1, growth])


def is_found_again(head: np.ndarray, heads: np.ndarray, age: float) -> bool:
    """Whether one of ``heads [n, 3]`` is the one that was at ``head [3]`` a while ago."""
    if not len(heads):
        return False
    reach = (FOUND_AGAIN + WALKING * age) * head[2]
    distance = np.hypot(heads[:, 0] - head[0], heads[:, 1] - head[1])
    return bool(((distance <= reach) & (heads[:, 2] >= head[2] / 2)).any())


def check_zones(zones: Sequence[Sequence[Sequence[float]]]) -> list[np.ndarray]:
    """Polygons as arrays ``[n, 2]``.

    Raises:
        ValueError: names the zone that is none.
    """
    checked = []
    for number, zone in enumerate(zones):
        try:
            polygon = np.asarray(zone, np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"zones[{number}]: got {str(zone)[:80]!r}, must be [[x, y], [x, y], [x, y], ...]"
            ) from None
        if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
            raise ValueError(
                f"zones[{number}]: got shape {polygon.shape}, must be [n, 2] with n of 3 or more"
            )
        if not np.isfinite(polygon).all():
            raise ValueError(f"zones[{number}]: got a corner that is not finite")
        checked.append(polygon)
    return checked


def turn_zones(zones: list[np.ndarray], size: tuple[int, int], turns: int) -> list[np.ndarray]:
    """Polygons of an image of this ``(width, height)`` in the image that is turned clockwise."""
    width, height = size
    turned = []
    for zone in zones:
        x, y = zone.T
        if turns == 1:
            corners = [height - y, x]
        elif turns == 2:
            corners = [width - x, height - y]
        elif turns == 3:
            corners = [y, width - x]
        else:
            corners = [x, y]
        turned.append(np.stack(corners, axis=1))
    return turned
