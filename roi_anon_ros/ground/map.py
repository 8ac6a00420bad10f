"""The twin seen from above, as an image; the page shows the same, and moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of cameras, and of zones by their state.
CAMERA_COLOURS = {"alive": "tab:green", "late": "tab:orange", "dead": "tab:red"}
ZONE_COLOURS = {"free": "tab:green", "occupied": "tab:red", "unknown": "tab:orange"}
OTHER = "tab:gray"
#: Of an ellipse that holds a place with 95 %: the chi-square quantile of two dimensions.
QUANTILE = -2 * np.log(0.05)
#: Seconds that a person's arrow looks ahead.
AHEAD = 1.0
#: Metres around cameras, zones and people that the map shows; views may reach beyond.
MARGIN = 1.0


def draw_map(axes: Axes, cycles: Sequence[dict[str, Any]]) -> None:
    """Draw the last of some cycles, with tails of those before.

    Args:
        axes: of matplotlib; x and y in metres.
        cycles: of the twin's JSON, at least one, in their order.
    """
    from matplotlib.patches import Ellipse, Polygon

    cycle = cycles[-1]
    shown: list[Sequence[float]] = []
    for zone in cycle["zones"]:
        colour = ZONE_COLOURS.get(zone["state"], OTHER)
        axes.add_patch(Polygon(zone["polygon"], facecolor=colour, alpha=0.15))
        x, y = zone["polygon"][0]
        axes.text(x, y, f"{zone['name']}: {zone['state']}", fontsize=8)
        shown += zone["polygon"]
    for camera in cycle["cameras"]:
        if camera["position"] is None:
            continue
        colour = CAMERA_COLOURS[camera["state"]]
        axes.add_patch(Polygon(camera["view"], fill=False, edgecolor=colour, linewidth=1))
        x, y, _ = camera["position"]
        axes.plot(x, y, marker="s", color=colour)
        said = f"{camera['name']}: {camera['state']}"
        axes.annotate(said, (x, y), (0, -12), textcoords="offset points", fontsize=8)
        shown.append((x, y))
    for tail in _tails(cycles).values():
        axes.plot(tail[:, 0], tail[:, 1], color="tab:blue", linewidth=1)
        shown += tail.tolist()
    for person in cycle["people"]:
        x, y, _ = person["position"]
        xx, xy, yy = person["covariance"]
        spread, turn = np.linalg.eigh([[xx, xy], [xy, yy]])
        sides = 2 * np.sqrt(QUANTILE * spread)
        angle = np.degrees(np.arctan2(turn[1, 1], turn[0, 1]))
        axes.add_patch(Ellipse((x, y), sides[1], sides[0], angle=angle, alpha=0.3))
        axes.plot(x, y, marker="o", color="tab:blue")
        vx, vy = person["velocity"]
        axes.annotate("", (x + AHEAD * vx, y + AHEAD * vy), (x, y), arrowprops={"arrowstyle": "->"})
        axes.annotate(person["id"], (x, y), (6, 6), textcoords="offset points", fontsize=8)
    shown = shown or [(0.0, 0.0)]
    low = np.min(shown, 0) - MARGIN
    high = np.max(shown, 0) + MARGIN
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)


def _tails(cycles: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Places (N, 2) of each person of the last cycle, by id."""
    there = {person["id"] for person in cycles[-1]["people"]}
    places = defaultdict(list)
    for cycle in cycles:
        for person in cycle["people"]:
            if person["id"] in there:
                places[person["id"]].append(person["position"][:2])
    return {name: np.array(tail) for name, tail in places.items()}
