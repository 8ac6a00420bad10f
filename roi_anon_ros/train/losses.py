"""The region-of-interest loss of arXiv 2406.05726, and a bounded way to hide.

    L = λ_r · R + λ_bg · L_bg + λ_hbox · L_hide(head boxes) + λ_vbox · L_0(person boxes)

``R`` is the rate in bits per pixel and ``L_bg`` the mean squared error (MSE) of the picture. A region loss
averages over the boxes of a picture, then over the pictures of a batch; a picture without boxes counts as 0.
``L_0`` is the MSE of a box. What hides the heads is a choice:

* ``"inverse"``, the paper's ``L_1``: 1 − MSE of a box. It has no minimum to settle in.
* ``"flatten"``: the MSE of a box against its own mean colour. With it, the other two terms leave the heads'
  pixels out, for they would ask for the opposite.

Boxes are averaged with summed-area tables: no loop runs over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HIDE = ("flatten", "inverse")


@dataclass(frozen=True)
class Regions:
    """The boxes of one kind in a batch of pictures.

    Attributes:
        boxes: int64 ``[n, 4]``, x1 y1 x2 y2 in pixels, x2 and y2 excluded, inside the picture and not empty.
        picture: int64 ``[n]``, which picture of the batch a box lies on.
    """

    boxes: Tensor
    picture: Tensor

    @classmethod
    def stack(cls, boxes: list[Tensor]) -> Regions:
        """From one ``[n_i, 4]`` tensor for each picture of the batch."""
        picture = torch.cat([torch.full((len(b),), i, dtype=torch.long) for i, b in enumerate(boxes)])
        return cls(torch.cat(boxes).reshape(-1, 4).long(), picture)

    def to(self, device: torch.device) -> Regions:
        """The same boxes on another device."""
        return Regions(self.boxes.to(device), self.picture.to(device))


def box_sums(values: Tensor, regions: Regions) -> Tensor:
    """Sum of ``values`` (``[B, C, H, W]``) over each box, ``[n, C]`` in float64, from a summed-area table."""
    table = torch.nn.functional.pad(values.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    i = regions.picture
    return table[i, :, y2, x2] - table[i, :, y1, x2] - table[i, :, y2, x1] + table[i, :, y1, x1]


def areas(regions: Regions) -> Tensor:
    """Pixels of each box, float64 ``[n]``."""
    x1, y1, x2, y2 = regions.boxes.double().unbind(1)
    return (x2 - x1) * (y2 - y1)


def mean_over_pictures(per_box: Tensor, regions: Regions, pictures: int) -> Tensor:
    """Mean over the boxes of each picture, then over all ``pictures``; a picture without boxes counts as 0."""
    count = torch.bincount(regions.picture, minlength=pictures).clamp(min=1)
    return (per_box / count[regions.picture]).sum() / pictures


def region_mse(x_hat: Tensor, x: Tensor, regions: Regions, keep: Tensor | None = None) -> Tensor:
    """MSE of each box, ``[n]``.

    Args:
        x_hat: ``[B, 3, H, W]``.
        x: ``[B, 3, H, W]``.
        regions: the boxes.
        keep: ``[B, 1, H, W]``, 1 where a pixel counts and 0 where not; a box without such pixels has MSE 0.
    """
    error = (x_hat - x).square().mean(1, keepdim=True)
    if keep is None:
        return box_sums(error, regions)[:, 0] / areas(regions)
    return box_sums(error * keep, regions)[:, 0] / box_sums(keep, regions)[:, 0].clamp(min=1)


def flatness(x_hat: Tensor, x: Tensor, regions: Regions) -> Tensor:
    """MSE of each box of ``x_hat`` against the box's mean colour in ``x``, ``[n]``.

    With E over the pixels of the box: E[(x̂ − m)²] = E[x̂²] − 2 m E[x̂] + m², m = E[x].
    """
    area = areas(regions)[:, None]
    target = box_sums(x, regions) / area
    mean, mean_square = box_sums(x_hat, regions) / area, box_sums(x_hat.square(), regions) / area
    return (mean_square - 2 * target * mean + target.square()).mean(1)


def outside(regions: Regions, like: Tensor) -> Tensor:
    """Mask ``[B, 1, H, W]`` of the pixels of ``like`` that no box covers, 1 outside and 0 inside."""
    b, _, h, w = like.shape
    corners = torch.zeros(b, h + 1, w + 1, device=like.device)
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    ones = torch.ones(len(x1), device=like.device)
    for x, y, sign in ((x1, y1, 1), (x2, y1, -1), (x1, y2, -1), (x2, y2, 1)):
        corners.index_put_((regions.picture, y, x), sign * ones, accumulate=True)
    covered = corners.cumsum(1).cumsum(2)[:, :h, :w] > 0.5
    return (~covered).to(like.dtype)[:, None]


def bits_per_pixel(likelihoods: Tensor, pixels: int) -> Tensor:
    """Rate estimated from the prior: −Σ log2 p over ``[B, N, h, w]``, divided by all pixels of the batch."""
    return -likelihoods.log2().sum() / pixels


@dataclass(frozen=True)
class RoiLoss:
    """The whole loss; the defaults are the paper's weights.

    Attributes:
        rate: λ_r.
        background: λ_bg.
        heads: λ_hbox.
        persons: λ_vbox.
        hide: ``"flatten"`` or ``"inverse"``, how the heads are hidden.
    """

    rate: float = 0.04
    background: float = 1.0
    heads: float = 0.6
    persons: float = 1.0
    hide: str = "flatten"

    def __post_init__(self) -> None:
        if self.hide not in HIDE:
            raise ValueError(f"hide: {self.hide!r}, must be one of {', '.join(HIDE)}")

    def __call__(
        self, output: dict[str, Tensor | dict[str, Tensor]], x: Tensor, heads: Regions, persons: Regions
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            output: what the codec's ``forward`` returned.
            x: ``[B, 3, H, W]`` in [0, 1].
            heads: boxes to hide.
            persons: boxes to keep.

        Returns:
            Scalars ``loss``, ``bpp``, ``background``, ``heads``, ``persons``.
        """
        x_hat = output["x_hat"].float()
        b, _, h, w = x.shape
        bpp = bits_per_pixel(output["likelihoods"]["y"], b * h * w)
        if self.hide == "flatten":
            keep = outside(heads, x)
            error = (x_hat - x).square().mean(1, keepdim=True)
            background = (error * keep).sum() / keep.sum().clamp(min=1)
            hidden = flatness(x_hat, x, heads)
        else:
            keep = None
            background = (x_hat - x).square().mean()
            hidden = 1 - region_mse(x_hat, x, heads)
        heads_loss = mean_over_pictures(hidden, heads, b).float()
        persons_loss = mean_over_pictures(region_mse(x_hat, x, persons, keep), persons, b).float()
        loss = self.rate * bpp + self.background * background + self.heads * heads_loss + self.persons * persons_loss
        return {
            "loss": loss,
            "bpp": bpp,
            "background": background,
            "heads": heads_loss,
            "persons": persons_loss,
        }
