"""What the stamps of a stream say: which frames come late, and how many never come; without ROS."""

from __future__ import annotations

from collections import deque

import numpy as np

#: Frames in a row, in order, that are all older than the newest: then the clock was set back.
SET_BACK = 3
#: Seconds that a stamp may be ahead of this machine's clock.
AHEAD = 1.0
#: Frames that the loss is estimated from, and the fewest that it is estimated from.
WINDOW = 100
FEWEST = 20
#: The period of a stream is this percentile of the gaps between the frames that arrive.
PERIOD_PERCENTILE = 5
#: A stream is regular if half of its gaps are this close to multiples of its period, in periods.
REGULAR = 0.15


class Stamps:
    """The stamps of one stream, in seconds.

    Attributes:
        oddity: what is odd about the newest stamp; empty where nothing is.
    """

    def __init__(self) -> None:
        self.oddity = ""
        self._newest: float | None = None
        self._late: list[float] = []
        self._arrived: deque[float] = deque(maxlen=WINDOW)

    def is_late(self, stamp: float, now: float) -> bool:
        """Note a frame that arrives, and say whether a newer one arrived before it.

        Where :data:`SET_BACK` late frames come in a row and in order, the clock that stamps them
        was set back, as when a recording starts anew: the last of them is the newest then.

        Args:
            stamp: of the frame; 0 of one that was never stamped, which is never late.
            now: of the clock that should have stamped it.
        """
        self.oddity = self._name_oddity(stamp, now)
        if stamp <= 0:
            return False
        if self._newest is None or stamp >= self._newest:
            self._accept(stamp)
            return False
        if self._late and stamp <= self._late[-1]:
            self._late.clear()
        self._late.append(stamp)
        if len(self._late) < SET_BACK:
            self.oddity = f"stamps go backwards, by {self._newest - stamp:.3f} s"
            return True
        self.oddity = f"the clock of the stamps was set back by {self._newest - stamp:.3f} s"
        self._arrived.clear()
        self._accept(stamp)
        return False

    def share_lost(self) -> float:
        """Share of the frames that were stamped but never arrived, from 0 to 1.

        The gaps between the stamps that arrive are multiples of the stream's period, which is the
        smallest of them but for jitter. 0 where the gaps are irregular, or too few.
        """
        gaps = np.diff(np.array(self._arrived))
        if len(gaps) < FEWEST:
            return 0.0
        period = np.percentile(gaps, PERIOD_PERCENTILE)
        if period <= 0:
            return 0.0
        periods = gaps / period
        if np.median(np.abs(periods - np.round(periods))) > REGULAR:
            return 0.0
        expected = np.maximum(np.round(periods), 1).sum()
        return float(1 - len(gaps) / expected)

    def _accept(self, stamp: float) -> None:
        self._newest = stamp
        self._late.clear()
        self._arrived.append(stamp)

    def _name_oddity(self, stamp: float, now: float) -> str:
        if stamp <= 0:
            return "the stamp is zero"
        if stamp - now > AHEAD:
            return f"the stamp is {stamp - now:.1f} s ahead of this machine's clock"
        return ""
