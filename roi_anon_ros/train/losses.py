"""The region-of-interest loss of arXiv 2406.05726, and a bounded way to hide.

    L = λ_r · R + λ_bg · L_bg + λ_hbox · L_hide(head boxes) + λ_vbox · L_0(person boxes)

``R`` is the rate in bits per pixel and ``L_bg`` the mean squared error (MSE) of the image. A
region loss averages over the boxes of an image, then over the images of a batch; an image
without boxes counts as 0. ``L_0`` is the MSE of a box. What hides the heads is a choice:

* ``"inverse"``, the paper's ``L_1``: 1 − MSE of a box. It has no minimum to settle in.
* ``"flatten"`` and ``"silhouette"``: the MSE of a box against a target that hides the head, see
  :func:`hidden_target`. With them, the other two terms leave the heads' pixels out, for they would
  ask for the opposite.

No loop runs over the boxes: a mean over boxes is a weighted sum over pixels, see
:func:`region_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from roi_anon_ros.codec.networks import pad_to_multiple

HIDE = ("silhouette", "flatten", "inverse")


@dataclass(frozen=True)
class Regions:
    """The boxes of one kind in a batch of images.

    Attributes:
        boxes: int64 ``[n, 4]``, x1 y1 x2 y2 in pixels, x2 and y2 excluded, inside the image and
            not empty.
        image: int64 ``[n]``, which image of the batch a box lies on.
    """

    boxes: Tensor
    image: Tensor

    @classmethod
    def stack(cls, boxes: list[Tensor]) -> Regions:
        """From one ``[n_i, 4]`` tensor for each image of the batch."""
        image = torch.cat([torch.full((len(b),), i, dtype=torch.long) for i, b in enumerate(boxes)])
        return cls(torch.cat(boxes).reshape(-1, 4).long(), image)

    def to(self, device: torch.device) -> Regions:
        """The same boxes on another device."""
        return Regions(self.boxes.to(device), self.image.to(device))


def box_sums(values: Tensor, regions: Regions) -> Tensor:
    """Sum of ``values`` (``[B, C, H, W]``) over each box, ``[n, C]`` in float64, from a summed-area
    table.
    """
    table = F.pad(values.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    i = regions.image
    return table[i, :, y2, x2] - table[i, :, y1, x2] - table[i, :, y2, x1] + table[i, :, y1, x1]


def areas(regions: Regions) -> Tensor:
    """Pixels of each box, float64 ``[n]``."""
    x1, y1, x2, y2 = regions.boxes.double().unbind(1)
    return (x2 - x1) * (y2 - y1)


def box_map(per_box: Tensor, regions: Regions, like: Tensor) -> Tensor:
    """Sum over the boxes that cover a pixel of their values (``[n]``): ``[B, 1, H, W]`` as large as
    ``like``.
    """
    b, _, h, w = like.shape
    corners = torch.zeros(b, h + 1, w + 1, dtype=torch.float64, device=like.device)
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    for x, y, sign in ((x1, y1, 1), (x2, y1, -1), (x1, y2, -1), (x2, y2, 1)):
        corners.index_put_((regions.image, y, x), sign * per_box.double(), accumulate=True)
    return corners.cumsum(1).cumsum(2)[:, None, :h, :w].to(like.dtype)


def shares(regions: Regions, images: int) -> Tensor:
    """Weight of each box, ``[n]``, in a mean over the boxes of each image, then over all
    ``images``.

    An image without boxes counts as 0.
    """
    count = torch.bincount(regions.image, minlength=images).clamp(min=1)
    return 1.0 / (count[regions.image].double() * images)


def region_weights(regions: Regions, like: Tensor, keep: Tensor | None = None) -> Tensor:
    """Weight of each pixel, ``[B, 1, H, W]``, whose product with an error map sums to the mean of
    :func:`shares`.

    The sum over all pixels of ``weights · error`` is the mean over the images of the mean over
    their boxes of
    the mean error in a box: the equation that takes a loop over boxes, turned around so that none
    is needed.

    Args:
        regions: the boxes.
        like: ``[B, C, H, W]``.
        keep: ``[B, 1, H, W]``, 1 where a pixel counts and 0 where not; a box without such pixels
            counts as 0.
    """
    area = areas(regions) if keep is None else box_sums(keep, regions)[:, 0].clamp(min=1)
    weights = box_map(shares(regions, len(like)) / area, regions, like)
    return weights if keep is None else weights * keep


def hidden_target(x: Tensor, regions: Regions, hide: str) -> Tensor:
    """The image that a bounded loss asks for: ``x`` with its regions painted over, ``[B, 3, H,
    W]``.

    ``"flatten"`` paints each box with its mean colour. ``"silhouette"`` paints the superellipse
    |u|³ + |v|³ = 1 inscribed in the box, with a soft edge, in the mean colour of the box's upper
    quarter (hair, helmet): a head seen from behind. Where regions overlap, their colours mix.
    """
    b, _, h, w = x.shape
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    width = x2 - x1
    height = y2 - y1
    # Every pixel of every box, in one list.
    pixels = width * height
    box = torch.repeat_interleave(pixels)
    number = torch.arange(len(box), device=x.device) - (pixels.cumsum(0) - pixels)[box]
    column = number % width[box]
    row = number // width[box]
    place = (regions.image[box] * h + y1[box] + row) * w + x1[box] + column
    if hide == "flatten":
        cover = torch.ones(len(box), device=x.device)
        source = cover
    else:
        u = (2 * column + 1) / width[box] - 1
        v = (2 * row + 1) / height[box] - 1
        cover = ((1.1 - (u.abs() ** 3 + v.abs() ** 3) ** (1 / 3)) / 0.25).clamp(0, 1)
        source = (4 * row < height[box]).float()

    def mean_colour(index: Tensor, length: int, weight: Tensor, colour: Tensor) -> Tensor:
        """Weighted mean colour of the listed pixels at each index, ``[length, 3]``."""
        sums = torch.zeros(length, 4, device=x.device)
        sums.index_add_(0, index, weight[:, None] * F.pad(colour, (0, 1), value=1.0))
        return sums[:, :3] / sums[:, 3:].clamp(min=1e-6)

    rgb = x.float().permute(0, 2, 3, 1).reshape(-1, 3)
    fill = mean_colour(box, len(pixels), source, rgb[place])
    paint = mean_colour(place, len(rgb), cover, fill[box])
    most = torch.zeros(len(rgb), device=x.device).scatter_reduce_(0, place, cover, "amax")[:, None]
    painted = rgb + most * (paint - rgb)
    return painted.reshape(b, h, w, 3).permute(0, 3, 1, 2)


def outside(regions: Regions, like: Tensor) -> Tensor:
    """Mask ``[B, 1, H, W]`` of the pixels of ``like`` that no box covers: 1 outside, 0 inside."""
    count = box_map(torch.ones(len(regions.boxes), device=like.device), regions, like)
    return (count < 0.5).to(like.dtype)


def head_cells(keep: Tensor, factor: int) -> Tensor:
    """Which cells of a latent are head: ``[B, 1, ceil(H / factor), ceil(W / factor)]`` in [0, 1].

    A cell that heads cover by half or more is 1, one with none 0, in between it is twice the share.

    Args:
        keep: ``[B, 1, H, W]``, what :func:`outside` gives.
        factor: pixels on a side of a cell.
    """
    return (2 * F.avg_pool2d(pad_to_multiple(1 - keep, factor), factor)).clamp(max=1)


def bits_per_pixel(likelihoods: Tensor, pixels: int) -> Tensor:
    """Rate estimated from the prior: −Σ log2 p over ``[B, N, h, w]``, divided by all pixels of the
    batch.
    """
    return -likelihoods.log2().sum() / pixels


@dataclass(frozen=True)
class RoiLoss:
    """The whole loss; the defaults are the paper's weights.

    Attributes:
        rate: λ_r.
        background: λ_bg.
        heads: λ_hbox.
        persons: λ_vbox.
        hide: ``"silhouette"``, ``"flatten"`` or ``"inverse"``, how the heads are hidden.
    """

    rate: float = 0.04
    background: float = 1.0
    heads: float = 0.6
    persons: float = 1.0
    hide: str = "silhouette"

    def __post_init__(self) -> None:
        if self.hide not in HIDE:
            raise ValueError(f"hide: {self.hide!r}, must be one of {', '.join(HIDE)}")

    def __call__(
        self,
        output: Mapping[str, Any],
        x: Tensor,
        heads: Regions,
        persons: Regions,
        warm: float = 1.0,
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            output: what the codec's ``forward`` returned.
            x: ``[B, 3, H, W]`` in [0, 1].
            heads: boxes to hide.
            persons: boxes to keep.
            warm: share of its weight that the head term has in a warm-up, 0 to 1.

        Returns:
            Scalars ``loss``, ``bpp``, ``background``, ``heads``, ``persons``.
        """
        x_hat = output["x_hat"].float()
        b, _, h, w = x.shape
        bpp = bits_per_pixel(output["likelihoods"]["y"], b * h * w)
        error = (x_hat - x).square().mean(1, keepdim=True)
        if self.hide == "inverse":
            keep = None
            background = error.mean()
            with_heads = shares(heads, b).sum()
            heads_loss = (with_heads - (error * region_weights(heads, x)).sum()).float()
        else:
            keep = outside(heads, x)
            background = (error * keep).sum() / keep.sum().clamp(min=1)
            hidden = (x_hat - hidden_target(x, heads, self.hide)).square().mean(1, keepdim=True)
            heads_loss = (hidden * region_weights(heads, x)).sum()
        persons_loss = (error * region_weights(persons, x, keep)).sum()
        loss = self.rate * bpp + self.background * background
        loss = loss + warm * self.heads * heads_loss + self.persons * persons_loss
        return {
            "loss": loss,
            "bpp": bpp,
            "background": background,
            "heads": heads_loss,
            "persons": persons_loss,
        }
