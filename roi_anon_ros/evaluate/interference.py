"""Non-interference, measured: what stands under the painted regions does not change the packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from roi_anon_ros.codec import Codec
from roi_anon_ros.codec.headmap import FindHeads
from roi_anon_ros.codec.hiding import Hidden, Hiding
from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.regions import Regions

#: What the pixels under the regions are replaced by.
REPLACEMENTS = ("noise", "black", "another image")


class GivenRegions(Hiding):
    """Hides what somebody else found, whatever the image shows.

    Args:
        regions: in the image at its coded size.
    """

    def __init__(self, regions: Regions) -> None:
        super().__init__()
        self.regions = regions

    def find(
        self,
        find_heads: FindHeads,
        image: np.ndarray,
        zones: list[np.ndarray],
        scale: tuple[float, float],
        stamp: float | None = None,
    ) -> tuple[np.ndarray, Hidden]:
        """See :meth:`Hiding.find`; the head map is not asked."""
        return image, Hidden(self.regions, len(self.regions.heads), 0, 1.0)


def replace_hidden(
    image: np.ndarray, regions: Regions, by: str, other: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Replace every pixel under the regions.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        regions: of the image.
        by: one of :data:`REPLACEMENTS`.
        other: another image, of any size.
        seed: of the noise.

    Returns:
        uint8 ``[H, W, 3]``; every pixel outside the regions is the image's.

    Raises:
        ValueError: there is no such replacement.
    """
    height, width = image.shape[:2]
    if by == "noise":
        new = np.random.default_rng(seed).integers(0, 256, image.shape, np.uint8)
    elif by == "black":
        new = np.zeros_like(image)
    elif by == "another image":
        new = resize(other, width, height)
    else:
        raise ValueError(f"by: got {by!r}, must be one of {', '.join(REPLACEMENTS)}")
    return np.where(regions.mask(width, height)[..., None], new, image)


def compare_packets(
    images: Iterable[np.ndarray], codec: Codec, quality: float
) -> Iterator[dict[str, bool]]:
    """Encode each image again with other pixels under its regions, and the same regions.

    Args:
        images: uint8 ``[H, W, 3]`` RGB; the one before is the other image.
        codec: of a model that paints.
        quality: 1 to 8; 0: what fits the size.

    Yields:
        For each image in which something is painted, whether the packet stayed the same, by
        replacement. A replacement that changed no pixel would prove nothing and is left out.
    """
    other = None
    for number, image in enumerate(images):
        before = codec.encode(image, 0, quality)
        assert before.hidden is not None  # of a model that paints
        regions = before.hidden.regions
        if other is None:
            other = np.ascontiguousarray(image[:, ::-1])
        same = {}
        for by in REPLACEMENTS:
            changed = replace_hidden(image, regions, by, other, number)
            if np.array_equal(changed, image):
                continue
            after = codec.encode(changed, 0, quality, GivenRegions(regions))
            same[by] = after.packet == before.packet
        other = image
        if same:
            yield same


def count_same(compared: Iterable[dict[str, bool]]) -> dict[str, dict[str, int]]:
    """``packets`` compared and those that stayed the ``same``, by replacement."""
    packets: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for one in compared:
        packets.update(one.keys())
        same.update(by for by, stayed in one.items() if stayed)
    return {by: {"packets": packets[by], "same": same[by]} for by in REPLACEMENTS}
