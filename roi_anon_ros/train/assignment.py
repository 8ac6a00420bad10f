"""Which cells of the detector shall find which person, and what it costs that they do not yet."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

from roi_anon_ros.detect.yolox_cells import place_cells

#: A cell may find a person whose centre is within this many of its strides.
RADIUS = 2.5
#: Cells whose overlaps with a person sum up to how many cells shall find it.
BEST = 10
#: Weight of the overlap against the score where cells compete for a person.
OVERLAP_WEIGHT = 3.0
#: Cost of a cell that is not both near the person's centre and inside its box.
FAR = 1e5
#: Weight of the boxes in the loss.
BOX_WEIGHT = 5.0
#: A box of which this share lies on an ignored one is no mistake.
IGNORED_SHARE = 0.5


def place(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the corners, ``[n, 2]`` in pixels, and the strides, ``[n]``, of all cells."""
    count = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    columns, lines, strides = place_cells(np.arange(count), height, width)
    corners = np.stack([columns * strides, lines * strides], 1)
    return torch.from_numpy(corners).to(device), torch.from_numpy(strides).to(device)


def decode(logits: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Return boxes ``[..., n, 4]``, left, top, right, bottom in pixels, of ``[..., n, 6]``."""
    centres = corners + logits[..., :2] * strides[:, None]
    halves = logits[..., 2:4].clamp(max=10).exp() * strides[:, None] / 2
    return torch.cat([centres - halves, centres + halves], -1)


@torch.no_grad()
def assign(
    boxes: Tensor, scores: Tensor, corners: Tensor, strides: Tensor, persons: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose the cells that shall find each person of one image.

    Source: SimOTA of arXiv 2107.08430. Cells near a person's centre or inside its box compete for
    it: the cost of a cell is −ln(score) − 3 ln(overlap), and much more where it is not both. A
    person gets as many cells as the ten best overlaps sum up to, 1 at least; a cell that several
    persons choose takes the one at which it is cheapest.

    Args:
        boxes: ``[n, 4]``, that the cells give now, pixels.
        scores: ``[n]``, in [0, 1], that they give now.
        corners: ``[n, 2]``, upper left of each cell, pixels.
        strides: ``[n]``, sides of the cells, pixels.
        persons: ``[m, 4]``, to be found, pixels.

    Returns:
        Number of each cell's person, int64 ``[n]``, -1 where it shall find none; and how much the
        cell's box overlaps it, float32 ``[n]``.
    """
    chosen = torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
    overlap_of_chosen = torch.zeros(len(boxes), device=boxes.device)
    if len(persons) == 0:
        return chosen, overlap_of_chosen
    middles = (corners + strides[:, None] / 2)[None]
    away = (middles - (persons[:, None, :2] + persons[:, None, 2:]) / 2).abs().amax(-1)
    near = away < RADIUS * strides
    inside = ((middles > persons[:, None, :2]) & (middles < persons[:, None, 2:])).all(-1)
    overlaps = box_iou(persons, boxes)
    cost = -scores.clamp(min=1e-8).log() - OVERLAP_WEIGHT * overlaps.clamp(min=1e-8).log()
    cost = cost + FAR * ~(near & inside)
    cost = cost.masked_fill(~(near | inside), torch.inf)
    able = overlaps.masked_fill(~(near | inside), 0)
    counts = able.topk(min(BEST, len(boxes)), 1).values.sum(1).int().clamp(min=1)
    order = cost.argsort(1)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(len(boxes), device=boxes.device).expand_as(order))
    taken = (rank < counts[:, None]) & cost.isfinite()
    least = cost.masked_fill(~taken, torch.inf).min(0)
    found = least.values.isfinite()
    chosen[found] = least.indices[found]
    overlap_of_chosen[found] = overlaps[least.indices[found], found.nonzero()[:, 0]]
    return chosen, overlap_of_chosen


def measure_loss(
    logits: Tensor, truths: list[Tensor], height: int, width: int
) -> dict[str, Tensor]:
    """Return the loss of a batch and its terms.

    For the cells that `assign` chose: the generalized overlap of the box (arXiv 1902.09630), and
    the class, which shall be the overlap. Objectness, of all cells, shall be 1 where chosen and 0
    where not; boxes that lie on ignored persons do not count. Each is summed over the batch and
    divided by the number of chosen cells, 1 at least.

    Args:
        logits: ``[B, n, 6]``, of `YoloxNano.logits`.
        truths: of each image ``[m, 5]``: left, top, right, bottom in pixels, and 1 where ignored.
        height: of the images, pixels.
        width: the same.

    Returns:
        ``loss``, ``box``, ``objectness`` and ``person``, scalars.
    """
    logits = logits.float()
    corners, strides = place(height, width, logits.device)
    boxes = decode(logits, corners, strides)
    scores = logits[..., 4:].sigmoid().prod(-1).detach()
    box = logits.new_zeros(())
    objectness = logits.new_zeros(())
    person = logits.new_zeros(())
    chosen_cells = 0
    for of_image, of_boxes, of_scores, truth in zip(logits, boxes, scores, truths, strict=True):
        persons = truth[truth[:, 4] == 0, :4]
        ignored = truth[truth[:, 4] == 1, :4]
        seen = of_boxes.detach()
        chosen, overlaps = assign(seen, of_scores, corners, strides, persons)
        positive = chosen >= 0
        counts = positive | ~lie_on(seen, ignored)
        cost = F.binary_cross_entropy_with_logits(
            of_image[:, 4], positive.float(), reduction="none"
        )
        objectness = objectness + (cost * counts).sum()
        person = person + F.binary_cross_entropy_with_logits(
            of_image[positive, 5], overlaps[positive], reduction="sum"
        )
        box = box + generalized_box_iou_loss(
            of_boxes[positive], persons[chosen[positive]], reduction="sum"
        )
        chosen_cells += int(positive.sum())
    terms = {"box": box, "objectness": objectness, "person": person}
    terms = {name: term / max(chosen_cells, 1) for name, term in terms.items()}
    loss = BOX_WEIGHT * terms["box"] + terms["objectness"] + terms["person"]
    return {"loss": loss, **terms}


def lie_on(boxes: Tensor, ignored: Tensor) -> Tensor:
    """Return, bool ``[n]``, which boxes ``[n, 4]`` lie on an ignored one of ``[m, 4]``."""
    upper = torch.maximum(boxes[:, None, :2], ignored[None, :, :2])
    lower = torch.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1e-6)
    return (common / area[:, None] >= IGNORED_SHARE).any(1)
