"""The ground that people stand on: planes, polygons, and where nobody is placed or tracked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plane:
    """A floor: z = height + slope[0] * x + slope[1] * y.

    Attributes:
        height: metres at the origin of the site frame.
        slope: rise in x and in y, metres a metre.
    """

    height: float = 0.0
    slope: tuple[float, float] = (0.0, 0.0)

    def height_at(self, places: np.ndarray) -> np.ndarray:
        """Height of the floor at places of shape (..., 2), metres."""
        return self.height + places @ np.asarray(self.slope)

    def reach(self, origin: np.ndarray, direction: np.ndarray, above: float = 0.0) -> float:
        """How many directions long a ray is when it arrives at the plane.

        Args:
            origin: where the ray starts, (3,), metres.
            direction: of the ray, (3,).
            above: metres over the plane that count as arrived.

        Returns:
            The factor s of origin + s * direction; negative where the plane is at the ray's back,
            infinite where the ray is parallel to it.
        """
        rise = direction[2] - direction[0] * self.slope[0] - direction[1] * self.slope[1]
        if rise == 0.0:
            return np.inf
        return float((self.height_at(origin[:2]) + above - origin[2]) / rise)


def is_inside(polygon: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which places lie in a polygon, by counting the edges to the right of each.

    Args:
        polygon: corners in order, (K, 2), metres.
        places: (N, 2), metres.

    Returns:
        (N,) of bool.
    """
    x = places[:, None, 0]
    y = places[:, None, 1]
    start = polygon[None]
    end = np.roll(polygon, -1, axis=0)[None]
    crosses = (start[..., 1] > y) != (end[..., 1] > y)
    rise = np.where(crosses, end[..., 1] - start[..., 1], 1.0)
    edge_x = start[..., 0] + (y - start[..., 1]) * (end[..., 0] - start[..., 0]) / rise
    return (crosses & (x < edge_x)).sum(1) % 2 == 1


@dataclass(frozen=True)
class Patch:
    """A part of the site with a floor that differs from the rest."""

    polygon: np.ndarray
    plane: Plane


@dataclass(frozen=True)
class Floor:
    """All of a site's ground.

    Attributes:
        plane: the floor wherever no patch is.
        patches: parts whose floor differs.
        area: polygon (K, 2) outside of which nobody is placed; None: everywhere.
        untracked: polygons in which nobody is tracked.
    """

    plane: Plane = Plane()
    patches: tuple[Patch, ...] = ()
    area: np.ndarray | None = None
    untracked: tuple[np.ndarray, ...] = ()

    def plane_under(self, origin: np.ndarray, direction: np.ndarray, above: float = 0.0) -> Plane:
        """The plane at which a ray arrives first: a patch counts only within its polygon."""
        nearest = np.inf
        found = self.plane
        for patch in self.patches:
            reach = patch.plane.reach(origin, direction, above)
            if 0.0 < reach < nearest:
                place = (origin + reach * direction)[None, :2]
                if is_inside(patch.polygon, place)[0]:
                    nearest = reach
                    found = patch.plane
        return found

    def height_at(self, places: np.ndarray) -> np.ndarray:
        """Height of the ground at places of shape (N, 2), metres."""
        heights = self.plane.height_at(places)
        for patch in self.patches:
            inside = is_inside(patch.polygon, places)
            heights = np.where(inside, patch.plane.height_at(places), heights)
        return heights

    def refuse(self, place: np.ndarray) -> str | None:
        """Why nobody is placed at (2,): "outside" of the area, "untracked", or None."""
        if self.area is not None and not is_inside(self.area, place[None])[0]:
            return "outside"
        if any(is_inside(polygon, place[None])[0] for polygon in self.untracked):
            return "untracked"
        return None
