"""Regions through time: an object has one number, and is hidden where it was missed, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roi_anon_ros.anonymize.regions import Box, Region, Regions
from roi_anon_ros.detect.matching import overlaps

#: Least intersection over union with a track's last place, both grown, for it to be the same
#: object.
SAME = 0.1
#: What places are grown by before they are compared: small fast objects do not overlap otherwise.
REACH = 1.6
#: A held region grows by this share of its sides a second, since the object moves on unseen.
SPREAD = 0.5


@dataclass
class _Track:
    number: int
    last: Region
    time: float


class Tracker:
    """Forward in time, for streams: numbers objects and holds those that are no longer found.

    Args:
        hold: seconds that a region stays after its object was found for the last time, 0 or more.

    Raises:
        ValueError: hold is out of bounds.
    """

    def __init__(self, hold: float) -> None:
        if not 0 <= hold < float("inf"):
            raise ValueError(f"hold: got {hold}, must be 0 or more seconds")
        self._hold = hold
        self._tracks: list[_Track] = []
        self._next = 0
        self._size: tuple[int, int] | None = None
        self._time = -float("inf")

    def __call__(self, found: Regions, time: float) -> Regions:
        """The regions of the next image: those found, numbered, and those held.

        A time before the last one, or an image of another size, ends all tracks.

        Args:
            found: of this image.
            time: of this image, seconds.
        """
        if found.size != self._size or time < self._time:
            self._tracks = []
        last = self._time
        self._size = found.size
        self._time = time
        old = [t for t in self._tracks if t.time == last or time - t.time <= self._hold]
        self._tracks = list(old)
        chosen = _pair([track.last for track in old], found.items)
        regions = []
        for index, region in enumerate(found.items):
            track = old[chosen[index]] if index in chosen else self._begin(region, time)
            track.last = replace(region, track=track.number)
            track.time = time
            regions.append(track.last)
        seen = set(chosen.values())
        for index, track in enumerate(old):
            if index not in seen and time - track.time <= self._hold:
                regions.append(_spread(track.last, time - track.time))
        return replace(found, items=tuple(regions))

    def _begin(self, region: Region, time: float) -> _Track:
        track = _Track(self._next, region, time)
        self._next += 1
        self._tracks.append(track)
        return track


def fill_gaps(found: Sequence[Regions], times: Sequence[float], hold: float) -> list[Regions]:
    """Forward and backward in time, for files: numbers objects, and fills gaps of their tracks.

    Between two images with an object it is put on a straight line where it was missed for not more
    than two holds; before the first and after the last one it stays for one hold, growing as time
    goes.

    Args:
        found: regions of each image, in order, all of one size.
        times: of each image, seconds, rising.
        hold: seconds, 0 or more.

    Returns:
        As many.
    """
    tracker = Tracker(2 * hold)
    tracks: dict[int, list[tuple[int, Region]]] = {}
    filled: list[list[Region]] = [[] for _ in found]
    for index, regions in enumerate(found):
        numbered = tracker(regions, times[index]).items[: len(regions)]
        for region in numbered:
            filled[index].append(region)
            tracks.setdefault(region.track, []).append((index, region))
    for places in tracks.values():
        _fill_track(places, times, hold, filled)
    return [replace(regions, items=tuple(filled[index])) for index, regions in enumerate(found)]


def _fill_track(
    places: list[tuple[int, Region]],
    times: Sequence[float],
    hold: float,
    filled: list[list[Region]],
) -> None:
    first_index, first = places[0]
    for index in range(first_index - 1, -1, -1):
        if times[first_index] - times[index] > hold:
            break
        filled[index].append(_spread(first, times[first_index] - times[index]))
    for (before_index, before), (after_index, after) in zip(places, places[1:], strict=False):
        for index in range(before_index + 1, after_index):
            between = max(times[after_index] - times[before_index], 1e-9)
            share = (times[index] - times[before_index]) / between
            box = _between(before.box, after.box, share)
            filled[index].append(before.moved(box))
    last_index, last = places[-1]
    for index in range(last_index + 1, len(times)):
        if times[index] - times[last_index] > hold:
            break
        filled[index].append(_spread(last, times[index] - times[last_index]))


def _spread(region: Region, seconds: float) -> Region:
    return region.grown(1 + SPREAD * seconds)


def _between(a: Box, b: Box, share: float) -> Box:
    mixed = np.asarray(a) * (1 - share) + np.asarray(b) * share
    left, top, right, bottom = mixed.tolist()
    return left, top, right, bottom


def _pair(old: Sequence[Region], new: Sequence[Region]) -> dict[int, int]:
    """Index of the old region that each new one continues: closest pairs of one label first."""
    if not old or not new:
        return {}
    close = overlaps(_boxes(new), _boxes(old))
    for i, region in enumerate(new):
        of_another_label = [earlier.label != region.label for earlier in old]
        close[i, of_another_label] = 0
    chosen: dict[int, int] = {}
    for flat in np.argsort(-close, axis=None, kind="stable"):
        i, j = (int(index) for index in np.unravel_index(flat, close.shape))
        if close[i, j] < SAME:
            break
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return chosen


def _boxes(regions: Sequence[Region]) -> np.ndarray:
    return np.array(
        [replace(region, shape="box", mask=None).grown(REACH).box for region in regions]
    )
