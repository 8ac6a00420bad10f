"""How a camera looks at a scene: upright, turned, with swapped channels, grey, close up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.codec.image import as_grey
from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.datasets.subsets import first_byte
from roi_anon_ros.files import read_pixels

#: A close-up is made of heads of at least this height, pixels: smaller ones are a blur.
CLOSE_UP_HEAD = 48
#: A close-up has at least this height, pixels; its sides are 4 to 3 where the image allows it.
CLOSE_UP_HEIGHT = 240
#: Height of the head in a close-up, in heights of the close-up.
CLOSE_UP_SHARES = (0.5, 1.5)
#: A box of which a close-up shows a smaller share is ignored.
VISIBLE = 1 / 3

#: An image, uint8 ``[H, W, 3]``, or a mask of its pixels, bool ``[H, W]``.
Pixels = np.ndarray


@dataclass(frozen=True)
class View:
    """One way to look at scenes.

    Attributes:
        send: the image as the camera sends it, of the scene's, uint8 ``[H, W, 3]`` RGB.
        undo: what was decoded, or a mask of it, as the scene stands: who looks for somebody
            turns an image upright first. Channels of masks are not there to be swapped.
        crop: what of a scene the camera sees, with its boxes; None: all.
    """

    send: Callable[[Pixels], Pixels]
    undo: Callable[[Pixels], Pixels]
    crop: Callable[[np.ndarray, Record], tuple[np.ndarray, Record]] | None = None

    def see(self, record: Record) -> tuple[np.ndarray, Record]:
        """The scene of a record, uint8 ``[H, W, 3]`` RGB, and its boxes."""
        image = read_pixels(record.path)
        if self.crop is None:
            return image, record
        return self.crop(image, record)

    def takes(self, record: Record) -> bool:
        """Whether there is something to see."""
        return self.crop is None or largest_head(record) is not None


def largest_head(record: Record) -> np.ndarray | None:
    """The tallest head that a close-up can be made of, float32 ``[4]``; None without any."""
    heads = record.heads.xyxy[~record.heads.ignore]
    heights = heads[:, 3] - heads[:, 1]
    if heights.max(initial=0) < CLOSE_UP_HEAD:
        return None
    return heads[int(heights.argmax())]


def close_up(image: np.ndarray, record: Record) -> tuple[np.ndarray, Record]:
    """Crop around the largest head, which then has half to 1.5 times the image's height.

    The share is spread over the images by a digest of their names.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        record: with a head, see :func:`largest_head`.
    """
    head = largest_head(record)
    assert head is not None
    least, most = CLOSE_UP_SHARES
    share = least + (most - least) * first_byte(record.path.name) / 255
    tall = min(round(float(head[3] - head[1]) / share), record.height)
    wide = min(round(tall * 4 / 3), record.width)
    left = _place((head[0] + head[2]) / 2, wide, record.width)
    top = _place((head[1] + head[3]) / 2, tall, record.height)
    crop = image[top : top + tall, left : left + wide]
    scale = max(CLOSE_UP_HEIGHT / tall, 1.0)
    size = round(wide * scale), round(tall * scale)
    if scale > 1:
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
    window = (left, top, scale, size)
    width, height = size
    seen = replace(
        record,
        width=width,
        height=height,
        persons=_crop_boxes(record.persons, *window),
        heads=_crop_boxes(record.heads, *window),
        faces=_crop_boxes(record.faces, *window),
        helmets=np.zeros(0, np.int8),
    )
    return np.ascontiguousarray(crop), seen


def _place(centre: float, length: int, whole: int) -> int:
    """Where a window of this length begins that is centred as well as the whole allows."""
    return int(min(max(round(float(centre) - length / 2), 0), whole - length))


def _crop_boxes(boxes: Boxes, left: int, top: int, scale: float, size: tuple[int, int]) -> Boxes:
    """Boxes in a window that is scaled; those that are hardly visible are ignored."""
    corner = np.array([left, top, left, top], np.float32)
    moved: np.ndarray = (boxes.xyxy - corner) * np.float32(scale)
    clipped = clip_boxes(moved, *size)
    kept = at_least(clipped, 1)
    before = (moved[:, 2:] - moved[:, :2]).prod(axis=1)
    after = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
    hidden = after < VISIBLE * before
    return Boxes(clipped[kept], (boxes.ignore | hidden)[kept])


def _turned(turns: int) -> View:
    """A camera that is mounted turned by quarter turns clockwise."""
    return View(
        lambda image: np.ascontiguousarray(np.rot90(image, -turns)),
        lambda decoded: np.ascontiguousarray(np.rot90(decoded, turns)),
    )


def _swap(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels


#: Views by name.
VIEWS: dict[str, View] = {
    "upright": View(np.asarray, np.asarray),
    "turned-90": _turned(1),
    "turned-180": _turned(2),
    "swapped": View(_swap, _swap),
    "grey": View(as_grey, np.asarray),
    "close-up": View(np.asarray, np.asarray, close_up),
}


def find_view(name: str) -> View:
    """A view by its name.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in VIEWS:
        raise ValueError(f"view: got {name!r}, must be one of {', '.join(VIEWS)}")
    return VIEWS[name]
