"""Who is it? An attacker who learns to link what is received of a person to an original.

He has images of his own and what the method sends of them, and learns for a fixed number of steps
to tell which original view belongs to which received one. Then he is shown people he never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from roi_anon_ros.train.losses import Regions
from roi_anon_ros.train.views import ViewNetwork, cut_views, nt_xent

#: Height and width of a person, pixels.
SIZE = 128, 64
#: Persons whose box is narrower or lower than this are left out, pixels.
SMALLEST = 24
#: Persons a step.
BATCH = 32
LEARNING_RATE = 1e-3
#: Views in which each person is looked for.
DRAWS = 8


@dataclass(frozen=True, eq=False)
class People:
    """The same persons twice.

    Attributes:
        received: float32 ``[n, 3, 128, 64]`` in [0, 1].
        originals: the same, in the same order.
    """

    received: Tensor
    originals: Tensor

    def __len__(self) -> int:
        return len(self.received)

    @classmethod
    def cut(
        cls,
        received: np.ndarray,
        original: np.ndarray,
        boxes: np.ndarray,
        smallest: int = SMALLEST,
    ) -> People:
        """The persons of an image.

        Args:
            received: uint8 ``[H, W, 3]`` RGB.
            original: the same size.
            boxes: of persons, ``[n, 4]``, pixels, inside the image.
            smallest: narrower and lower persons are left out, pixels.
        """
        crops: list[list[Tensor]] = [[], []]
        for left, top, right, bottom in np.round(boxes).astype(int).tolist():
            if min(right - left, bottom - top) < smallest:
                continue
            for kept, image in zip(crops, (received, original), strict=True):
                crop = image[top:bottom, left:right]
                scaled = cv2.resize(crop, SIZE[::-1], interpolation=cv2.INTER_AREA)
                kept.append(torch.from_numpy(scaled).permute(2, 0, 1).float() / 255)
        nobody = torch.zeros(0, 3, *SIZE)
        one, other = (torch.stack(kept) if kept else nobody for kept in crops)
        return cls(one, other)

    @classmethod
    def join(cls, parts: list[People]) -> People:
        """All of them."""
        received = torch.cat([part.received for part in parts])
        return cls(received, torch.cat([part.originals for part in parts]))


def learn_links(own: People, steps: int, seed: int = 0) -> ViewNetwork:
    """Train the attacker.

    Args:
        own: persons of his own, at least 2.
        steps: his budget; the same for methods that are compared.
        seed: of everything random.

    Raises:
        ValueError: there are fewer than 2 persons.
    """
    if len(own) < 2:
        raise ValueError(f"own: got {len(own)} persons of {SMALLEST} pixels, must be at least 2")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ViewNetwork()
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for _ in range(steps):
            chosen = torch.randperm(len(own))[:BATCH]
            seen = network(draw_views(own.received[chosen]))
            loss = nt_xent(seen, network(draw_views(own.originals[chosen])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def link(network: ViewNetwork, others: People, seed: int = 0) -> np.ndarray:
    """How often the first guess is right, who of all originals a received person is.

    The view of the original is another one than that of the received person.

    Args:
        network: of :func:`learn_links`.
        others: persons that it did not learn from.
        seed: of the views.

    Returns:
        Of each person, 0 to 1, float64 ``[n]``; chance is 1 / n.
    """
    right = torch.zeros(len(others), dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(DRAWS):
            seen = network(draw_views(others.received))
            known = network(draw_views(others.originals))
            right += (seen @ known.T).argmax(1) == torch.arange(len(others))
    return (right / DRAWS).numpy()


def draw_views(people: Tensor) -> Tensor:
    """A random view of each person, ``[n, 3, 64, 32]``."""
    height, width = SIZE
    boxes = torch.tensor([[0, 0, width, height]]).expand(len(people), 4)
    return cut_views(people, Regions(boxes, torch.arange(len(people))))
