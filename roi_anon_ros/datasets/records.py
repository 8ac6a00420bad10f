"""What is known of one annotated image."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from roi_anon_ros.boxes import clip_boxes

KINDS = ("person", "head", "face")


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one kind on an image.

    Attributes:
        xyxy: float32 ``[n, 4]``, left, top, right, bottom in pixels, inside the image.
        ignore: bool ``[n]``, whether the source calls a box invalid, a crowd, or not to be counted.
    """

    xyxy: np.ndarray
    ignore: np.ndarray


@dataclass(frozen=True, eq=False)
class Record:
    """One annotated image.

    Attributes:
        path: of the image.
        width: upright, pixels.
        height: upright, pixels.
        persons: boxes of whole persons.
        heads: boxes of heads, with what is worn on them.
        faces: boxes of faces.
        annotated: those of "person", "head" and "face" that were looked for on this image; with
            one of them and no box, there is none of the kind. Heads that were grown from faces
            count.
        by_detector: those of them with boxes on this image that a detector found and nobody drew.
        complete: those of which people drew every one: where no box is, there is none. Heads that
            were grown from faces are not complete: the back of a head has no face. Nor is a kind
            that was drawn on some of the people only; its boxes are there, and it is not
            ``annotated``.
        collection: name of the set that the image came from, in a file that joins several.
        helmets: int8, for each head 1 where a helmet is on it, 0 where none is, -1 where that is
            not known; empty: of no head.
    """

    path: Path
    width: int
    height: int
    persons: Boxes
    heads: Boxes
    faces: Boxes
    annotated: frozenset[str]
    by_detector: frozenset[str] = frozenset()
    complete: frozenset[str] = frozenset()
    collection: str = ""
    helmets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))

    @property
    def source(self) -> str:
        """Name of the image that this file was made from, without folder and suffix.

        Roboflow exports ``a.jpg`` as several ``a_jpg.rf.<hash>.jpg``: copies that differ in colour,
        angle or crop.
        """
        return re.sub(r"(_(jpe?g|png|bmp|webp|tiff?))?\.rf\.\w+$", "", self.path.stem, flags=re.I)

    @property
    def face_truth(self) -> Boxes | None:
        """What detected faces are judged by: faces, heads where no faces are annotated, None
        without either.
        """
        if "face" in self.annotated:
            return self.faces
        return self.heads if "head" in self.annotated else None


def heads_of(faces: Boxes, width: int, height: int) -> Boxes:
    """Heads grown from faces: 1.3 times as wide, 1.45 times as high, most of it upwards, clipped to
    the image.
    """
    sides = faces.xyxy[:, [2, 3, 2, 3]] - faces.xyxy[:, [0, 1, 0, 1]]
    grown = faces.xyxy + sides * np.array([-0.15, -0.35, 0.15, 0.1], np.float32)
    return Boxes(clip_boxes(grown, width, height), faces.ignore)
