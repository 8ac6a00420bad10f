"""Whether two views of one person look alike: the self-supervised branch of arXiv 2504.14301."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from roi_anon_ros.train.losses import Regions

#: Height and width of a view, pixels.
VIEW = 64, 32
#: A view has a share of its person's box from this one to 1, in height and in width.
LEAST_SHARE = 0.6
#: Persons whose shorter side is below this, pixels, have no views.
SMALLEST = 16
#: Persons of a batch, the largest.
MOST = 32
#: Temperature of NT-Xent, τ.
TEMPERATURE = 0.1


def make_strided(widths: Sequence[int]) -> nn.Sequential:
    """Convolutions that halve the sides of an RGB image, each with a group norm and a ReLU.

    Args:
        widths: channels of each, multiples of 8.
    """
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(8, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers)


class ViewNetwork(nn.Module):
    """From views to places on a sphere.

    .. code-block:: none

        4 × [conv3(stride 2), group norm, ReLU]: 32, 64, 128, 128 channels
            │ mean over the places │ linear(→64) │ length 1
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = make_strided((32, 64, 128, 128))
        self.last = nn.Linear(128, 64)

    def forward(self, views: Tensor) -> Tensor:
        """Return ``[n, 64]`` of length 1, of views ``[n, 3, 64, 32]`` around [0, 1]."""
        seen = self.layers(4 * (views - 0.5)).mean((2, 3))
        places = self.last(seen)
        precision = torch.promote_types(places.dtype, torch.float32)
        return F.normalize(places.to(precision), dim=1)


def choose_boxes(persons: Regions, images: Tensor) -> Regions:
    """The boxes that views are cut from: persons of 16 pixels and more, the 32 largest of them; of
    an image without any, the whole.

    Args:
        persons: of all images.
        images: ``[B, 3, H, W]``.
    """
    count, _, height, width = images.shape
    sides = persons.boxes[:, 2:] - persons.boxes[:, :2]
    shorter = sides.amin(1)
    order = torch.argsort(shorter, descending=True, stable=True)[:MOST]
    order = order[shorter[order] >= SMALLEST]
    empty = torch.ones(count, dtype=torch.bool, device=images.device)
    empty[persons.image[order]] = False
    (without,) = torch.nonzero(empty, as_tuple=True)
    whole = torch.tensor([0, 0, width, height], device=images.device).expand(len(without), 4)
    boxes = torch.cat([persons.boxes[order], whole])
    return Regions(boxes, torch.cat([persons.image[order], without]))


def cut_views(images: Tensor, boxes: Regions) -> Tensor:
    """One random view of each box: ``[n, 3, 64, 32]``, with the images' gradient.

    Args:
        images: ``[B, 3, H, W]``.
        boxes: at least one.
    """
    height, width = images.shape[-2:]
    device = images.device
    size = torch.tensor([width, height], device=device)
    low = boxes.boxes[:, :2] / size
    sides = boxes.boxes[:, 2:] / size - low
    # Drawn on the processor: the same on every device.
    share = LEAST_SHARE + (1 - LEAST_SHARE) * torch.rand(len(sides), 2).to(device)
    place = torch.rand(len(sides), 2).to(device)
    shown = sides * share
    centre = low + place * (sides - shown) + shown / 2
    # From -1 to 1 is the view in the grid, and the whole image where it samples.
    transform = torch.zeros(len(sides), 2, 3, device=device, dtype=images.dtype)
    transform[:, 0, 0] = shown[:, 0]
    transform[:, 1, 1] = shown[:, 1]
    transform[:, :, 2] = 2 * centre - 1
    grid = F.affine_grid(transform, [len(sides), 3, *VIEW], align_corners=False)
    return F.grid_sample(images[boxes.image], grid, padding_mode="border", align_corners=False)


def draw_frames(images: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Two random frames of each clip, ``[B, 3, H, W]`` each; of single images the same one twice.

    Args:
        images: ``[B · frames, 3, H, W]``.
        frames: of a clip.
    """
    if frames == 1:
        return images, images
    clips = images.unflatten(0, (-1, frames))
    # Drawn on the processor: the same on every device.
    places = torch.rand(len(clips), frames).argsort(1)[:, :2].to(images.device)
    numbers = torch.arange(len(clips), device=images.device)
    return clips[numbers, places[:, 0]], clips[numbers, places[:, 1]]


def nt_xent(one: Tensor, other: Tensor) -> Tensor:
    """NT-Xent: how badly each view is told from the others by its partner, a scalar of 0 or more.

    .. code-block:: none

        mean over the 2 n views i of  − ln( exp(z_i · z_j / τ) / Σ_{k ≠ i} exp(z_i · z_k / τ) )

    j is the other view of the same person. Chance is ln(2 n − 1).

    Args:
        one: ``[n, d]`` of length 1, one view of each person.
        other: the other views, in the same order.
    """
    places = torch.cat([one, other])
    likeness = places @ places.T / TEMPERATURE
    likeness = likeness.masked_fill(torch.eye(len(places), device=places.device).bool(), -math.inf)
    partner = torch.arange(len(places), device=places.device).roll(len(one))
    return F.cross_entropy(likeness, partner)


class ViewBranch(nn.Module):
    """A network that learns to tell people by their views, and what a codec learns against it.

    With L the NT-Xent of two views of each person, cut out of the decoded images:

    .. code-block:: none

        learns  =  L                           teaches the network alone
        hides   =  relu(ln(2 n − 1) − L)       teaches the codec alone

    The paper has − L for the codec. Beyond chance nothing pulls here: views of one person that look
    less alike than others tell who it is as well. One backward pass serves both, as the paper's two
    updates in turn: the network learns on what the codec gave, the codec against the network as it
    was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ViewNetwork()

    def forward(self, x_hat: Tensor, persons: Regions, frames: int = 1) -> tuple[Tensor, Tensor]:
        """Return what the network learns from, and what the codec does: two scalars.

        Args:
            x_hat: decoded images, ``[B · frames, 3, H, W]`` around [0, 1], with the codec's
                gradient.
            persons: on them; of clips, in all frames of a clip in the same place.
            frames: of each clip, one after the other; the two views are of two of them.
        """
        one, other = draw_frames(x_hat, frames)
        boxes = choose_boxes(persons, one)
        views = torch.cat([cut_views(one, boxes), cut_views(other, boxes)])
        learns = nt_xent(*self.network(views.detach()).chunk(2))
        frozen = {name: value.detach() for name, value in self.network.named_parameters()}
        seen = nt_xent(*functional_call(self.network, frozen, (views,)).chunk(2))
        chance = math.log(len(views) - 1)
        return learns, (chance - seen).relu()
