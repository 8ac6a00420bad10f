"""From a box in an image to a place on the ground with a covariance, or to a reason why not.

A person stands on the middle of the box's lower edge. Where the image's lower edge hides the feet,
the place is the one where a person of usual height has the head at the box's upper edge. A box that
the image cuts at both ends says in which direction the person is and how near at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.floor import Floor

#: Why a box gives no place. "box": not a box within the image; "lens": no ray for this pixel;
#: "behind": the ray goes up, so the line meets the ground at the camera's back; "horizon": it
#: arrives too far away to say where; "outside" and "untracked": see Floor.refuse.
REASONS = ("box", "lens", "behind", "horizon", "outside", "untracked")


@dataclass(frozen=True)
class BodyPrior:
    """What is known of people, and how wrong boxes are.

    Attributes:
        height: mean of people's heights with shoes, metres.
        height_deviation: their standard deviation, metres.
        narrowest: least width of a person in an image, seen from the side, metres.
        widest: greatest width, arms and stride, metres.
        pixel_error: standard deviation of a box's edge, pixels.
        relative_error: and in parts of the box's height; both add as variances.
        ground_error: standard deviation of what a box's lower edge means: a body's middle is not
            where its nearer foot is; metres, each axis.
        most_uncertain: a place with a greater standard deviation in any direction is none, metres.
    """

    height: float = 1.72
    height_deviation: float = 0.10
    narrowest: float = 0.25
    widest: float = 0.9
    pixel_error: float = 1.5
    relative_error: float = 0.03
    ground_error: float = 0.1
    most_uncertain: float = 3.0


@dataclass(frozen=True)
class Sighting:
    """A person as one camera saw them in one frame.

    Attributes:
        place: (2,), metres in the site frame.
        covariance: of the place, (2, 2), square metres.
        source: "feet", "head" or "bearing".
        box: x0, y0, x1, y1, pixels.
        confidence: the detector's, 0 to 1.
        nearest: for "bearing", the place nearest to the camera that is possible, (2,).
    """

    place: np.ndarray
    covariance: np.ndarray
    source: str
    box: tuple[float, float, float, float]
    confidence: float
    nearest: np.ndarray | None = None


def locate(
    camera: Camera, boxes: np.ndarray, floor: Floor, prior: BodyPrior
) -> tuple[list[Sighting], list[str]]:
    """Place boxes on the ground.

    Args:
        camera: that saw them.
        boxes: (N, 5): x0, y0, x1, y1 in pixels, confidence from 0 to 1.
        floor: of the site.
        prior: of people and boxes.

    Returns:
        The sightings, and the reason of each box that gave none, of REASONS.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 5)
    size = np.array([camera.lens.width, camera.lens.height] * 2, float)
    with np.errstate(invalid="ignore"):
        cut = np.clip(boxes[:, :4], 0, size)
        usable = np.isfinite(boxes).all(1) & (cut[:, 2:] > cut[:, :2]).all(1)
    reasons = ["box"] * int((~usable).sum())
    found = _Boxes(camera, np.column_stack([cut, boxes[:, 4]])[usable], floor, prior).locate()
    placed = [sighting for sighting in found if isinstance(sighting, Sighting)]
    reasons += [reason for reason in found if isinstance(reason, str)]
    if not placed:
        return [], reasons
    refused = floor.refuse(np.stack([sighting.place for sighting in placed]))
    reasons += [reason for reason in refused if reason]
    pairs = zip(placed, refused, strict=True)
    return [sighting for sighting, reason in pairs if not reason], reasons


def which_are_covered(
    camera: Camera, places: np.ndarray, floor: Floor, prior: BodyPrior
) -> np.ndarray:
    """At which places the camera would show a person's feet near enough to say where.

    Args:
        camera: that looks there.
        places: (N, 2), metres.
        floor: of the site.
        prior: of people and boxes.

    Returns:
        (N,) of bool.
    """
    feet = np.column_stack([places, floor.height_at(places)])
    lower = camera.project(feet)
    upper = camera.project(feet + [0.0, 0.0, prior.height])
    half = 0.2 * np.abs(lower[:, 1] - upper[:, 1])
    covered = camera.sees(feet) & np.isfinite(upper).all(1)
    boxes = np.column_stack(
        [lower[:, 0] - half, upper[:, 1], lower[:, 0] + half, lower[:, 1], np.ones(len(places))]
    )
    found = _Boxes(camera, boxes[covered], floor, prior).locate()
    covered[covered] = [isinstance(sighting, Sighting) for sighting in found]
    return covered


@dataclass(frozen=True)
class _Hits:
    """Where rays arrive: places (N, 2), covariances (N, 2, 2), reasons why not (empty: it does)."""

    places: np.ndarray
    covariances: np.ndarray
    reasons: list[str]


class _Boxes:
    """All boxes of one frame, cut at the image's edges, with their rays."""

    def __init__(self, camera: Camera, boxes: np.ndarray, floor: Floor, prior: BodyPrior) -> None:
        self.origin = camera.pose.position
        self.boxes = boxes
        self.floor = floor
        self.prior = prior
        x0, y0, x1, y1, _ = boxes.T
        middle_x = (x0 + x1) / 2
        middle_y = (y0 + y1) / 2
        pixels = np.stack(
            [
                np.column_stack([middle_x, y1]),
                np.column_stack([middle_x, y0]),
                np.column_stack([x0, middle_y]),
                np.column_stack([x1, middle_y]),
            ]
        )
        # The centre and its neighbours half a pixel away, from which the derivatives come.
        steps = np.array([[0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
        around = pixels[:, :, None] + steps
        rays = camera.rays(around.reshape(-1, 2)).reshape(4, len(boxes), 5, 3)
        self.feet = rays[0]
        self.head = rays[1]
        self.left = rays[2, :, 0]
        self.right = rays[3, :, 0]
        size = np.array([camera.lens.width, camera.lens.height])
        margin = np.maximum(2.0, 0.005 * size)
        self.cut_top = y0 <= margin[1]
        self.cut_bottom = y1 >= size[1] - margin[1]
        self.cut_side = (x0 <= margin[0]) | (x1 >= size[0] - margin[0])

    def locate(self) -> list[Sighting | str]:
        """A sighting or a reason for each box."""
        by_feet = self._hit(self.feet, 0.0)
        by_head = self._hit(self.head, self.prior.height)
        found: list[Sighting | str] = []
        for number in range(len(self.boxes)):
            # A camera at the height of heads cannot tell how far they are: then the bearing.
            use_head = not self.cut_top[number] and not by_head.reasons[number]
            if not self.cut_bottom[number]:
                found.append(by_feet.reasons[number] or self._make(number, by_feet, "feet"))
            elif use_head:
                found.append(self._make(number, by_head, "head"))
            else:
                found.append(self._take_bearing(number))
        return found

    def _hit(self, rays: np.ndarray, above: float) -> _Hits:
        """Where rays arrive at a height above the floor.

        With p = o + s d and the floor's normal n, dp/dd = s (I - d n' / (n' d)) and
        dp/dabove = d / (n' d).
        """
        ray = rays[:, 0]
        reach, slope = self.floor.reach(self.origin, ray, above)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            normal = np.column_stack([-slope, np.ones(len(ray))])
            along = ray / (normal * ray).sum(1)[:, None]
            outer = along[:, :, None] * normal[:, None]
            to_place = reach[:, None, None] * (np.eye(3) - outer)
            to_ray = np.stack([rays[:, 1] - rays[:, 2], rays[:, 3] - rays[:, 4]], axis=2)
            jacobian = (to_place @ to_ray)[:, :2]
            covariances = jacobian @ self._pixel_covariances() @ jacobian.transpose(0, 2, 1)
            covariances += self.prior.ground_error**2 * np.eye(2)
            if above:
                level = along[:, :2]
                height = self.prior.height_deviation**2
                covariances += height * level[:, :, None] * level[:, None]
            places = (self.origin + reach[:, None] * ray)[:, :2]
            least = (covariances[:, 0, 0] + covariances[:, 1, 1]) / 2
            apart = np.hypot(
                (covariances[:, 0, 0] - covariances[:, 1, 1]) / 2, covariances[:, 0, 1]
            )
            vague = ~(least + apart <= self.prior.most_uncertain**2)  # the greater eigenvalue
        known = np.isfinite(rays).all((1, 2))
        reasons = np.where(vague, "horizon", "")
        reasons = np.where(reach <= 0, "behind", reasons)
        reasons = np.where(known, reasons, "lens")
        return _Hits(places, covariances, reasons.tolist())

    def _pixel_covariances(self) -> np.ndarray:
        """Of the edges, (N, 2, 2), square pixels; a side that the image cuts hides the middle."""
        x0, y0, x1, y1, _ = self.boxes.T
        edge = self.prior.pixel_error**2 + (self.prior.relative_error * (y1 - y0)) ** 2
        usual_width = 0.4 * (y1 - y0)
        missing = np.maximum(0.0, usual_width - (x1 - x0)) / 2
        spread = np.zeros((len(self.boxes), 2, 2))
        spread[:, 0, 0] = edge + np.where(self.cut_side, missing**2, 0.0)
        spread[:, 1, 1] = edge
        return spread

    def _take_bearing(self, number: int) -> Sighting | str:
        """Place a box that shows neither feet nor head: from its width, between two distances."""
        head = self.head[number, 0]
        feet = self.feet[number, 0]
        sides = np.stack([self.left[number], self.right[number]])
        if not np.isfinite([*sides, head, feet]).all():
            return "lens"
        middle = sides[0] + sides[1]
        level = np.linalg.norm(middle[:2])
        if level < 1e-6:  # straight up or down
            return "horizon"
        direction = middle[:2] / level
        angle = np.arccos(np.clip(sides[0] @ sides[1], -1.0, 1.0))
        near = 0.0 if self.cut_side[number] else self.prior.narrowest / angle
        far = self.prior.widest / angle
        below = self.floor.reach(self.origin, feet[None])[0][0]
        if below > 0:  # the feet are under the image, so nearer than its lower edge
            far = min(far, below * np.linalg.norm(feet[:2]))
        tallest = self.prior.height + 2 * self.prior.height_deviation
        over = self.floor.reach(self.origin, head[None], tallest)[0][0]
        if self.cut_top[number] and over > 0 and head[2] < 0:  # the head is over the image
            near = max(near, over * np.linalg.norm(head[:2]))
        near = min(near, far)
        distance = (near + far) / 2
        along = (far - near) / np.sqrt(12)  # of a uniform distribution
        across = distance * angle / 4
        turn = np.column_stack([direction, [-direction[1], direction[0]]])
        spread = np.diag([along**2, across**2]) + self.prior.ground_error**2 * np.eye(2)
        *box, confidence = self.boxes[number].tolist()
        return Sighting(
            place=self.origin[:2] + distance * direction,
            covariance=turn @ spread @ turn.T,
            source="bearing",
            box=tuple(box),
            confidence=confidence,
            nearest=self.origin[:2] + near * direction,
        )

    def _make(self, number: int, hits: _Hits, source: str) -> Sighting:
        *box, confidence = self.boxes[number].tolist()
        place = hits.places[number]
        return Sighting(place, hits.covariances[number], source, tuple(box), confidence)
