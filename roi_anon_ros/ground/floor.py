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

    def reach(self, origin: np.ndarray, directions: np.ndarray, above: float = 0.0) -> np.ndarray:
        """How many directions long rays are when they arrive at the plane.

        Args:
            origin: where the rays start, (3,), metres.
            directions: of the rays, (N, 3).
            above: metres over the plane that count as arrived.

        Returns:
            The factors s of origin + s * direction, (N,); negative where the plane is at the ray's
            back, infinite where the ray is parallel to it.
        """
        rise = directions[:, 2] - directions[:, :2] @ np.asarray(self.slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = (self.height_at(origin[:2]) + above - origin[2]) / rise
        return np.where(rise == 0.0, np.inf, reach)


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

    def reach(
        self, origin: np.ndarray, directions: np.ndarray, above: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where rays arrive first: at a patch, which counts only within its polygon, or the plane.

        Args:
            origin: where the rays start, (3,), metres.
            directions: of the rays, (N, 3).
            above: metres over the ground that count as arrived.

        Returns:
            The factors of Plane.reach, (N,), and the slope there, (N, 2).
        """
        reach = self.plane.reach(origin, directions, above)
        slope = np.tile(self.plane.slope, (len(directions), 1))
        nearest = np.full(len(directions), np.inf)
        for patch in self.patches:
            there = patch.plane.reach(origin, directions, above)
            with np.errstate(invalid="ignore"):
                places = origin[:2] + there[:, None] * directions[:, :2]
                first = (there > 0) & (there < nearest) & is_inside(patch.polygon, places)
            nearest = np.where(first, there, nearest)
            reach = np.where(first, there, reach)
            slope = np.where(first[:, None], patch.plane.slope, slope)
        return reach, slope

    def height_at(self, places: np.ndarray) -> np.ndarray:
        """Height of the ground at places of shape (N, 2), metres."""
        heights = self.plane.height_at(places)
        for patch in self.patches:
            inside = is_inside(patch.polygon, places)
            heights = np.where(inside, patch.plane.height_at(places), heights)
        return heights

    def refuse(self, places: np.ndarray) -> list[str]:
        """Why nobody is placed at (N, 2): "outside" of the area, "untracked", or empty."""
        reasons = [""] * len(places)
        if self.area is not None:
            inside = is_inside(self.area, places)
            reasons = ["" if is_in else "outside" for is_in in inside]
        for polygon in self.untracked:
            for number in np.flatnonzero(is_inside(polygon, places)):
                reasons[number] = "untracked"
        return reasons
