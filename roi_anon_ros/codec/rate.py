"""A quality for each image of a stream, so that the stream keeps to a bit rate."""

from __future__ import annotations

import math

from roi_anon_ros.codec.packet import MAX_QUALITY, MIN_QUALITY

#: Levels of quality that double the bits, about: the models' card has the curves.
LEVELS_TO_DOUBLE = 2.0
#: Share of a step towards the quality wanted: images differ, and each step overshoots a little.
EAGERNESS = 0.6
#: Seconds over which too many or too few bits are made up for.
WINDOW = 1.0
#: A gap between two images of more seconds than this is a pause, and earns no bits.
PAUSE = 1.0
#: The quality of the first image, and the period that is assumed before its successor, seconds.
FIRST_QUALITY = 4.0
FIRST_PERIOD = 0.1
#: Least share of an image's usual bits that are asked for while too many are made up for.
LEAST_SHARE = 0.1


class RateControl:
    """Holds a bit rate over about a second, by the quality of each image.

    The bits of an image are taken to double with each two levels: from what the last one cost,
    the quality follows that would have cost what there is to spend.

    Args:
        kilobits: a second, more than 0.
        most: the best quality that may be chosen, 1 to 8.

    Attributes:
        quality: for the next image, 1 to ``most``.
    """

    def __init__(self, kilobits: float, most: float = MAX_QUALITY) -> None:
        if not kilobits > 0:
            raise ValueError(f"kilobits: got {kilobits}, must be more than 0")
        self.quality = min(FIRST_QUALITY, most)
        self._rate = 1000.0 * kilobits
        self._most = most
        self._period = FIRST_PERIOD
        self._last_stamp: float | None = None
        self._debt = 0.0

    @property
    def is_held(self) -> bool:
        """Whether the rate is held; it is not where even quality 1 costs too much for a second."""
        return self.quality > MIN_QUALITY or self._debt < WINDOW * self._rate

    def spend(self, bits: int, stamp: float) -> None:
        """Take note of what an image cost, coded at :attr:`quality`.

        Args:
            bits: of its packet.
            stamp: of the image, seconds; one that is not later than the last one's earns no bits.
        """
        earned = self._rate * FIRST_PERIOD
        if self._last_stamp is not None:
            gap = stamp - self._last_stamp
            earned = 0.0
            if 0 < gap <= PAUSE:
                self._period += 0.2 * (gap - self._period)
                earned = self._rate * gap
        self._last_stamp = stamp
        bound = WINDOW * self._rate
        self._debt = min(max(self._debt + bits - earned, -bound), bound)
        usual = self._rate * self._period
        wanted = usual - self._debt * self._period / WINDOW
        wanted = max(wanted, LEAST_SHARE * usual)
        step = EAGERNESS * LEVELS_TO_DOUBLE * math.log2(wanted / max(bits, 1))
        self.quality = min(max(self.quality + step, MIN_QUALITY), self._most)
