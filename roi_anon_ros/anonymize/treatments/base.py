"""What every treatment is, and how its content comes into an image."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roi_anon_ros.anonymize.regions import Region, Regions, feathered


@dataclass(frozen=True)
class Scene:
    """What a treatment may look at.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, in which smaller regions are treated already.
        hidden: bool ``[H, W]``, all regions of the image: what lies in them never fills another
            one.
        key: secret of the run, see :func:`seed`.
    """

    image: np.ndarray
    hidden: np.ndarray
    key: bytes = b""


@dataclass(frozen=True)
class Window:
    """The rows and columns of an image that a region and its soft edge take."""

    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def of(self, array: np.ndarray) -> np.ndarray:
        """A view of this window of an array ``[H, W, ...]``."""
        return array[self.rows, self.columns]

    def grown(self, margin: int, array: np.ndarray) -> Window:
        """The window with a margin, as far as there is one in the array."""
        height, width = array.shape[:2]
        rows = slice(max(self.rows.start - margin, 0), min(self.rows.stop + margin, height))
        columns = slice(max(self.columns.start - margin, 0), min(self.columns.stop + margin, width))
        return Window(rows, columns)


class Treatment(Protocol):
    """Content for a region."""

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """Return what the window, in which the region lies, becomes: uint8 ``[h, w, 3]`` RGB."""
        ...


def treat(
    image: np.ndarray,
    regions: Regions,
    treatment: Treatment,
    feather: float = 0.0,
    key: bytes = b"",
) -> np.ndarray:
    """Treat each region of an image.

    Each pixel of a region becomes the treatment's; outside, a soft edge leads to the image, which
    stays as it was beyond. Small regions come first and the larger ones see them treated, so that
    where two overlap the stronger treatment of the larger one stays.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        regions: of this image.
        treatment: what they become.
        feather: width of the soft edge over the longer side of its region, 0 or more.
        key: secret of the run; see :func:`seed`.

    Returns:
        A new array, shaped as the image.

    Raises:
        ValueError: the regions are of an image of another size.
    """
    height, width = image.shape[:2]
    if regions.size != (width, height):
        raise ValueError(f"regions: got those of {regions.size}, must be of {(width, height)}")
    out = image.copy()
    scene = Scene(out, regions.drawn(), key)
    for region in sorted(regions.items, key=lambda region: region.side):
        inside = region.drawn(width, height)
        if not inside.any():
            continue
        margin = feather * region.side
        window = _bounds(inside).grown(int(np.ceil(margin)), inside)
        weight = feathered(window.of(inside), margin)[..., None]
        patch = treatment(scene, region, window).astype(np.float32)
        view = window.of(out)
        view[...] = (view * (1 - weight) + patch * weight).round().astype(np.uint8)
    return out


def seed(scene: Scene, region: Region, purpose: str) -> np.random.Generator:
    """Random numbers of an object: the same along its track, unknown without the key.

    HMAC-SHA256 of the purpose and the track, or of the box where there is no track.
    """
    name = f"track {region.track}" if region.track >= 0 else f"box {region.box}"
    digest = hmac.new(scene.key, f"{purpose} {name}".encode(), hashlib.sha256).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def mean_colour(pixels: np.ndarray) -> np.ndarray:
    """Mean of pixels, uint8 ``[..., 3]``: float ``[3]``, grey where there are none."""
    flat = pixels.reshape(-1, 3)
    return flat.mean(0) if len(flat) else np.full(3, 127.0)


def _bounds(inside: np.ndarray) -> Window:
    rows = np.flatnonzero(inside.any(1))
    columns = np.flatnonzero(inside.any(0))
    return Window(
        slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    )
