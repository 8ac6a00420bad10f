"""A watch over what is sent: whether faces show in anonymized images, without knowing any."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from roi_anon_ros.codec.regions import are_painted
from roi_anon_ros.detect import Detector

#: Share of the images that may show a face before that is an alarm.
DEFAULT_MOST = 0.02
#: Images that are looked back on.
DEFAULT_WINDOW = 100


@dataclass(frozen=True)
class Look:
    """What was found in one image.

    Attributes:
        faces: that are not painted ones.
        stamps: faces that are found on the paint: nobody's.
    """

    faces: int
    stamps: int


class Watchdog:
    """Counts the faces in a sample of one camera's anonymized images.

    It compares a face with nothing but the places that were painted over, keeps no image and no
    face, and knows nobody.

    Args:
        find_faces: a detector that took no part in the training of the codec.
        most: share of the images, 0 to below 1, that may show a face.
        window: images that are looked back on, 1 or more.

    Attributes:
        images: looked at so far.
        shown: those of them that showed a face.
        stamps: faces found on the paint so far.

    Raises:
        ValueError: names the argument that is out of bounds.
    """

    def __init__(
        self, find_faces: Detector, most: float = DEFAULT_MOST, window: int = DEFAULT_WINDOW
    ) -> None:
        if not 0 <= most < 1:
            raise ValueError(f"most: got {most}, must be from 0 to below 1")
        if window < 1:
            raise ValueError(f"window: got {window}, must be 1 or more")
        self._find_faces = find_faces
        self._most = most
        self._recent: deque[bool] = deque(maxlen=window)
        self._last_shown: float | None = None
        self.images = 0
        self.shown = 0
        self.stamps = 0

    def look(self, image: np.ndarray, painted: np.ndarray | None = None) -> Look:
        """Look at one image.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, as a receiver sees it.
            painted: bool ``[H, W]``, where the image shows paint; None: unknown, and every face
                counts.
        """
        (found,) = self._find_faces([image])
        stamps = 0
        if painted is not None:
            stamps = int(are_painted(found.boxes, painted).sum())
        look = Look(len(found.boxes) - stamps, stamps)
        self.images += 1
        self.stamps += stamps
        self._recent.append(look.faces > 0)
        if look.faces:
            self.shown += 1
            self._last_shown = time.monotonic()
        return look

    @property
    def alarm(self) -> str:
        """Why this is an alarm; empty while it is none.

        It is one as soon as more of the last images showed a face than ``most`` of a whole window.
        """
        shown = sum(self._recent)
        if shown <= self._most * (self._recent.maxlen or 1):
            return ""
        return (
            f"{shown} of the last {len(self._recent)} images show a face, must be at most "
            f"{self._most:.1%} of {self._recent.maxlen}"
        )

    def describe(self) -> dict[str, str]:
        """Counts, and seconds since a face was last seen, by name."""
        ago = "" if self._last_shown is None else f"{time.monotonic() - self._last_shown:.0f}"
        return {
            "images looked at": str(self.images),
            "images with a face": str(self.shown),
            "faces on paint, nobody's": str(self.stamps),
            "last face (s ago)": ago,
        }
