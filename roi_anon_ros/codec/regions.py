"""Regions: what of an image is hidden, and how it is painted before anything else sees it.

A frame's regions are a grid of cells of 8 × 8 coded pixels: a cell is painted whole or not at all.
Heads, where they are known, add a place and a size each, for a stamp. The painted image is a
function of the regions and of the pixels outside them alone: what stood under them cannot be told
from it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.boxes import share_covered
from roi_anon_ros.codec.errors import PacketError

#: Pixels on a side of a cell.
CELL = 8
#: Width and height of a head, in its sides: the side is the longer one.
HEAD_WIDTH = 5 / 6
HEAD_HEIGHT = 1.0
#: A stamp is larger than its head by this factor: it brings the hair and the neck that are painted
#: over.
STAMP_SCALE = 1.7
#: A head paints all cells that touch its ellipse, scaled by this factor.
GROWTH = 1.0
#: A face whose box is painted to this share shows nobody: nothing under the paint was ever sent.
PAINTED_FACE = 0.9


def are_painted(boxes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which faces show paint, and so nobody: bool ``[n]``.

    Args:
        boxes: of the faces, float ``[n, 4]``, left, top, right, bottom, pixels.
        mask: bool ``[H, W]``, what is painted.
    """
    shares = [share_covered(box, mask) for box in boxes]
    return np.array(shares, float) >= PAINTED_FACE


def count_cells(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the grid over an image of this size, pixels."""
    return -(-width // CELL), -(-height // CELL)


@dataclass(frozen=True)
class Regions:
    """What is painted in one image.

    Attributes:
        cells: bool ``[ceil(H / 8), ceil(W / 8)]``, True where all pixels are painted.
        heads: int32 ``[n, 3]``, centre x, centre y and side of each stamp, coded pixels; the side
            is 1 or more. A stamp shows only where cells are painted.
        helmets: bool ``[n]``, which of them get the stamp with a helmet; None: none does.
    """

    cells: np.ndarray
    heads: np.ndarray
    helmets: np.ndarray | None = None

    @classmethod
    def empty(cls, width: int, height: int) -> Regions:
        """No regions in an image of this size, pixels."""
        columns, rows = count_cells(width, height)
        return cls(np.zeros((rows, columns), bool), np.zeros((0, 3), np.int32))

    @classmethod
    def of_heads(cls, heads: np.ndarray, width: int, height: int) -> Regions:
        """Every cell that touches a head.

        Args:
            heads: ``[n, 3]``, centre x, centre y, side, pixels, of any number type.
            width: of the image, pixels.
            height: of the image, pixels.
        """
        columns, rows = count_cells(width, height)
        rounded = np.rint(np.asarray(heads, np.float64).reshape(-1, 3)).astype(np.int32)
        rounded[:, 2] = np.maximum(rounded[:, 2], 1)
        cells = np.zeros((rows, columns), bool)
        for x, y, side in rounded:
            _cover_ellipse(cells, float(x), float(y), float(side))
        return cls(cells, rounded)

    @classmethod
    def of_polygons(cls, polygons: list[np.ndarray], width: int, height: int) -> Regions:
        """Every cell that touches a polygon.

        Args:
            polygons: each ``[n, 2]``, n at least 3, x and y in pixels; parts outside the image are
                cut off.
            width: of the image, pixels.
            height: of the image, pixels.
        """
        columns, rows = count_cells(width, height)
        mask = np.zeros((rows * CELL, columns * CELL), np.uint8)
        for polygon in polygons:
            points = np.rint(np.asarray(polygon, np.float64)).astype(np.int32)
            cv2.fillPoly(mask, [points.reshape(-1, 1, 2)], 1)
        return cls.of_mask(mask[:height, :width] != 0)

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Regions:
        """Every cell with a pixel of a mask, bool ``[H, W]``."""
        height, width = mask.shape
        columns, rows = count_cells(width, height)
        padded = np.zeros((rows * CELL, columns * CELL), bool)
        padded[:height, :width] = mask
        cells = padded.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
        return cls(cells, np.zeros((0, 3), np.int32))

    def union(self, other: Regions) -> Regions:
        """What either of two regions of one image hides."""
        if self.cells.shape != other.cells.shape:
            raise ValueError(
                f"cells: got {other.cells.shape}, must be {self.cells.shape}, of the same image"
            )
        heads = np.concatenate([self.heads, other.heads])
        helmets = np.concatenate([self.with_helmet, other.with_helmet])
        return Regions(self.cells | other.cells, heads, helmets)

    @property
    def with_helmet(self) -> np.ndarray:
        """:attr:`helmets`, False where they are None."""
        return np.zeros(len(self.heads), bool) if self.helmets is None else self.helmets

    @property
    def share(self) -> float:
        """Share of the cells that are painted, 0 to 1."""
        return float(self.cells.mean())

    def to_bytes(self) -> bytes:
        """The cells as a packet carries them; nothing where none is painted."""
        if not self.cells.any():
            return b""
        return zlib.compress(np.packbits(self.cells).tobytes(), 9)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, width: int, height: int) -> Regions:
        """The cells that :meth:`to_bytes` wrote, of an image of this size.

        Raises:
            PacketError: reason ``"regions"``; these bytes are not such cells.
        """
        if len(data) == 0:
            return cls.empty(width, height)
        columns, rows = count_cells(width, height)
        size = -(-columns * rows // 8)
        inflater = zlib.decompressobj()
        try:
            bits = inflater.decompress(data, size + 1)
        except zlib.error as error:
            raise PacketError("regions", f"{error}") from error
        if len(bits) != size or not inflater.eof or inflater.unused_data:
            raise PacketError("regions", f"got {len(bits)} bytes, must be {size} and nothing more")
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8))
        if unpacked[columns * rows :].any():
            raise PacketError("regions", f"got a cell above {columns * rows - 1}")
        cells = unpacked[: columns * rows].reshape(rows, columns).astype(bool)
        return cls(cells, np.zeros((0, 3), np.int32))

    def mask(self, width: int, height: int) -> np.ndarray:
        """The painted pixels of an image of this size: bool ``[height, width]``."""
        full = self.cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
        return full[:height, :width]


def _cover_ellipse(cells: np.ndarray, x: float, y: float, side: float) -> None:
    """Mark the cells that touch the grown ellipse of a head."""
    reach_x = GROWTH * HEAD_WIDTH * side / 2
    reach_y = GROWTH * HEAD_HEIGHT * side / 2
    rows, columns = cells.shape
    left = max(int((x - reach_x) // CELL), 0)
    right = min(int((x + reach_x) // CELL) + 1, columns)
    top = max(int((y - reach_y) // CELL), 0)
    bottom = min(int((y + reach_y) // CELL) + 1, rows)
    if left >= right or top >= bottom:
        return
    # The point of each cell that is nearest to the centre.
    first_x = np.arange(left, right) * CELL
    first_y = np.arange(top, bottom) * CELL
    near_x = (np.clip(x, first_x, first_x + CELL) - x) / reach_x
    near_y = (np.clip(y, first_y, first_y + CELL) - y) / reach_y
    touched = near_y[:, None] ** 2 + near_x[None, :] ** 2 <= 1
    cells[top:bottom, left:right] |= touched


def paint(image: np.ndarray, regions: Regions, stamp: str = "average") -> np.ndarray:
    """Paint an image's regions over.

    The cells get the colours around them, spread inwards; then each head gets its stamp.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        regions: of that image.
        stamp: one of :data:`STAMPS`; heads with a helmet get "helmet", but with "ring".

    Returns:
        uint8 ``[H, W, 3]``, a new array; the input where nothing is painted.

    Raises:
        ValueError: the regions are of another size, or there is no such stamp.
    """
    height, width = image.shape[:2]
    columns, rows = count_cells(width, height)
    if regions.cells.shape != (rows, columns):
        raise ValueError(f"cells: got {regions.cells.shape}, must be {(rows, columns)}")
    if stamp not in STAMPS:
        raise ValueError(f"stamp: got {stamp!r}, must be one of {', '.join(STAMPS)}")
    if not regions.cells.any():
        return image
    mask = regions.mask(width, height)
    fill = spread_colours(image, regions.cells)
    canvas = fill.copy()
    if stamp != "ring":
        # Small stamps last: in a crowd the near ones would cover them.
        order = np.argsort(-regions.heads[:, 2], kind="stable")
        with_helmet = regions.with_helmet
        for index in order.tolist():
            x, y, side = regions.heads[index].tolist()
            kind = "helmet" if with_helmet[index] else stamp
            _place_stamp(canvas, fill, x, y, side, kind)
    return cv2.copyTo(canvas, mask.astype(np.uint8), image.copy())


def spread_colours(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Fill painted cells with the colours around them (push-pull over a pyramid).

    Args:
        image: uint8 ``[H, W, 3]``; its painted pixels are not read.
        cells: bool ``[rows, columns]``.

    Returns:
        uint8 ``[H, W, 3]``, smooth everywhere.
    """
    height, width = image.shape[:2]
    rows, columns = cells.shape
    padded = cv2.copyMakeBorder(
        image, 0, rows * CELL - height, 0, columns * CELL - width, cv2.BORDER_REPLICATE
    )
    # Exact in float32: sums of 64 bytes are whole numbers.
    means = cv2.resize(padded.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    known = (~cells).astype(np.float64)
    # Painted cells are set to 0 whatever is in them.
    colour = np.where(cells[..., None], 0, means.astype(np.float64))
    filled = _pull(colour, known)
    # Bilinear between the centres of cells.
    large = cv2.resize(
        filled.astype(np.float32), (columns * CELL, rows * CELL), interpolation=cv2.INTER_LINEAR
    )
    return cv2.convertScaleAbs(large)[:height, :width]


def _pull(colour: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill the unknown from coarser levels; ``colour [h, w, 3]`` is 0 where ``known [h, w]`` is."""
    if known.all():
        return colour
    if not known.any():
        return np.full_like(colour, 128.0)
    height, width = known.shape
    if height == 1 and width == 1:
        return colour
    even_height = height + height % 2
    even_width = width + width % 2
    weight = np.zeros((even_height, even_width))
    weight[:height, :width] = known
    total = np.zeros((even_height, even_width, 3))
    total[:height, :width] = colour * known[..., None]
    weight_small = weight.reshape(even_height // 2, 2, even_width // 2, 2).sum(axis=(1, 3))
    total_small = total.reshape(even_height // 2, 2, even_width // 2, 2, 3).sum(axis=(1, 3))
    mean = total_small / np.maximum(weight_small, 1)[..., None]
    coarse = _pull(mean, (weight_small > 0).astype(np.float64))
    up = cv2.resize(coarse, (even_width, even_height), interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None] > 0, colour, up[:height, :width])


#: What a head is painted with: only the colours around it; a grey ellipse; a dark head from behind;
#: the mean of many heads; the same under a yellow helmet.
STAMPS = ("ring", "grey", "silhouette", "average", "helmet")


@lru_cache(maxsize=512)
def _stamp(kind: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A stamp of this size: float32 colours ``[h, w, 3]`` and cover ``[h, w, 1]``, 0 to 1."""
    width = max(round(STAMP_SCALE * HEAD_WIDTH * side), 1)
    height = max(round(STAMP_SCALE * HEAD_HEIGHT * side), 1)
    colours, cover = _master(kind)
    shrinks = height < colours.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(colours, (width, height), interpolation=interpolation)
    cover = cv2.resize(cover, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, 3), cover.reshape(height, width, 1)


@cache
def _master(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A stamp at the size at which it is kept: float32 ``[82, 68, 3]`` and cover ``[82, 68]``."""
    height = 82
    width = 68
    reach = STAMP_SCALE
    v, u = np.mgrid[-reach : reach : height * 1j, -reach : reach : width * 1j]
    radius = (np.abs(u) ** 2.3 + np.abs(v) ** 2.3) ** (1 / 2.3)
    cover = np.clip((1.0 - radius) / 0.12, 0, 1).astype(np.float32)
    if kind == "grey":
        colours = np.full((height, width, 3), 128.0, np.float32)
    elif kind == "silhouette":
        shade = 46 + 18 * np.clip(-v, 0, 1) - 10 * np.abs(u)
        colours = np.repeat(shade[..., None], 3, axis=2).astype(np.float32)
        colours *= np.array([1.05, 0.98, 0.92], np.float32)
    else:
        with np.load(Path(__file__).with_name("average_head.npz")) as kept:
            colours = kept["colours"].astype(np.float32)
            cover = kept["cover"].astype(np.float32) / 255
        if kind == "helmet":
            colours, cover = _put_helmet(colours, cover, u, v)
    return colours, cover


def _put_helmet(
    colours: np.ndarray, cover: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a yellow helmet on a head.

    Args:
        colours: of the head, float32 ``[h, w, 3]``.
        cover: of it, float32 ``[h, w]``, 0 to 1.
        u: float64 ``[h, w]``, across, -1 to 1 over the head's width.
        v: the same, down, over its height.
    """
    dome = np.clip((1 - np.hypot(u / 0.98, (v + 0.16) / 0.84)) / 0.1, 0, 1) * (v <= -0.16)
    brim = (np.abs(u) <= 1.02) & (np.abs(v + 0.12) <= 0.07)
    helmet = np.maximum(dome, brim).astype(np.float32)[..., None]
    # Light from above, a ridge along the middle, a darker brim.
    light = 1.05 - 0.25 * np.abs(u) - 0.12 * (v + 1) + 0.1 * (np.abs(u) < 0.12) - 0.2 * brim
    yellow = np.array([250, 200, 30], np.float32)
    painted = np.clip(light[..., None] * yellow, 0, 255).astype(np.float32)
    return colours * (1 - helmet) + painted * helmet, np.maximum(cover, helmet[..., 0])


def _place_stamp(
    canvas: np.ndarray, fill: np.ndarray, x: int, y: int, side: int, kind: str
) -> None:
    """Blend a stamp into ``canvas``, in place."""
    colours, cover = _stamp(kind, side)
    height, width = canvas.shape[:2]
    tall, wide = cover.shape[:2]
    left = x - wide // 2
    top = y - tall // 2
    first_x = max(left, 0)
    last_x = min(left + wide, width)
    first_y = max(top, 0)
    last_y = min(top + tall, height)
    if first_x >= last_x or first_y >= last_y:
        return
    source = np.s_[first_y - top : last_y - top, first_x - left : last_x - left]
    target = np.s_[first_y:last_y, first_x:last_x]
    alpha = cover[source]
    blended = canvas[target] * (1 - alpha) + colours[source] * alpha
    canvas[target] = np.rint(blended).astype(np.uint8)
