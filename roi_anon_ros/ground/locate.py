"""From a box in an image to a place on the ground with a covariance, or to a reason why not.

A person stands on the middle of the box's lower edge. Where the image's lower edge hides the feet,
the place is the one where a person of usual height has the head at the box's upper edge. A box that
the image cuts at both ends says in which direction the person is and how near at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cameras import Camera
from .floor import Floor, Plane

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


class _Refused(Exception):
    """Carries one of REASONS."""


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
    reasons = []
    cut = []
    size = np.array([camera.lens.width, camera.lens.height], float)
    for box in boxes:
        corners = np.clip(box[:4].reshape(2, 2), 0, size)
        if np.isfinite(box).all() and (corners[1] > corners[0]).all():
            cut.append(np.append(corners.ravel(), box[4]))
        else:
            reasons.append("box")
    sightings = []
    rays = _BoxRays(camera, np.asarray(cut).reshape(-1, 5), floor, prior)
    for number in range(len(cut)):
        try:
            sighting = rays.locate(number)
            why = floor.refuse(sighting.place)
            if why:
                raise _Refused(why)
            sightings.append(sighting)
        except _Refused as refused:
            reasons.append(str(refused))
    return sightings, reasons


class _BoxRays:
    """The rays of all boxes of one frame, found at once, and the places one by one."""

    def __init__(self, camera: Camera, boxes: np.ndarray, floor: Floor, prior: BodyPrior) -> None:
        self.camera = camera
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
        spread = pixels[:, :, None] + steps
        rays = camera.rays(spread.reshape(-1, 2)).reshape(4, len(boxes), 5, 3)
        self.feet = rays[0]
        self.head = rays[1]
        self.left = rays[2, :, 0]
        self.right = rays[3, :, 0]
        margin = np.maximum(2.0, 0.005 * np.array([camera.lens.width, camera.lens.height]))
        self.cut_top = y0 <= margin[1]
        self.cut_bottom = y1 >= camera.lens.height - margin[1]
        self.cut_side = (x0 <= margin[0]) | (x1 >= camera.lens.width - margin[0])

    def locate(self, number: int) -> Sighting:
        """Place one box.

        Raises:
            _Refused: there is no place.
        """
        if not self.cut_bottom[number]:
            place, covariance = self._hit(self.feet[number], number, 0.0)
            return self._sighting(number, place, covariance, "feet")
        if not self.cut_top[number]:
            try:
                place, covariance = self._hit(self.head[number], number, self.prior.height)
                return self._sighting(number, place, covariance, "head")
            except _Refused:  # a camera at the height of heads cannot tell how far they are
                pass
        return self._bearing(number)

    def _hit(
        self, rays: np.ndarray, number: int, above: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Place and covariance of a ray that arrives at a height above the floor.

        With p = o + s d and the plane's normal n, dp/dd = s (I - d n' / (n' d)) and
        dp/dabove = d / (n' d).
        """
        ray = rays[0]
        if not np.isfinite(rays).all():
            raise _Refused("lens")
        plane = self.floor.plane_under(self.origin, ray, above)
        reach = plane.reach(self.origin, ray, above)
        if reach <= 0:
            raise _Refused("behind")
        if not np.isfinite(reach):
            raise _Refused("horizon")
        normal = np.array([-plane.slope[0], -plane.slope[1], 1.0])
        rise = normal @ ray
        to_place = reach * (np.eye(3) - np.outer(ray, normal) / rise)
        to_ray = np.column_stack([rays[1] - rays[2], rays[3] - rays[4]])
        jacobian = (to_place @ to_ray)[:2]
        covariance = jacobian @ self._pixel_covariance(number) @ jacobian.T
        covariance += self.prior.ground_error**2 * np.eye(2)
        if above:
            along = ray[:2] / rise
            covariance += self.prior.height_deviation**2 * np.outer(along, along)
        if np.linalg.eigvalsh(covariance)[-1] > self.prior.most_uncertain**2:
            raise _Refused("horizon")
        return (self.origin + reach * ray)[:2], covariance

    def _pixel_covariance(self, number: int) -> np.ndarray:
        """Of a box's edge, (2, 2), square pixels; a side that the image cuts hides the middle."""
        x0, y0, x1, y1, _ = self.boxes[number]
        edge = self.prior.pixel_error**2 + (self.prior.relative_error * (y1 - y0)) ** 2
        across = edge
        if self.cut_side[number]:
            usual_width = 0.4 * (y1 - y0)
            across += (max(0.0, usual_width - (x1 - x0)) / 2) ** 2
        return np.diag([across, edge])

    def _bearing(self, number: int) -> Sighting:
        """Place a box that shows neither feet nor head: from its width, between two distances."""
        head = self.head[number, 0]
        sides = np.stack([self.left[number], self.right[number], head, self.feet[number, 0]])
        if not np.isfinite(sides).all():
            raise _Refused("lens")
        middle = sides[0] + sides[1]
        level = np.linalg.norm(middle[:2])
        if level < 1e-6:  # straight up or down
            raise _Refused("horizon")
        direction = middle[:2] / level
        angle = np.arccos(np.clip(sides[0] @ sides[1], -1.0, 1.0))
        near = 0.0 if self.cut_side[number] else self.prior.narrowest / angle
        far = self.prior.widest / angle
        plane = self.floor.plane_under(self.origin, self.feet[number, 0])
        feet = plane.reach(self.origin, self.feet[number, 0])
        if feet > 0:  # they are below the image, so nearer than its lower edge
            far = min(far, feet * np.linalg.norm(self.feet[number, 0, :2]))
        top = plane.reach(self.origin, head, self.prior.height + self.prior.height_deviation)
        if self.cut_top[number] and top > 0 and head[2] < 0:
            near = max(near, top * np.linalg.norm(head[:2]))
        near = min(near, far)
        distance = (near + far) / 2
        along = (far - near) / np.sqrt(12)
        across = distance * angle / 4
        turn = np.column_stack([direction, [-direction[1], direction[0]]])
        spread = np.diag([along**2, across**2]) + self.prior.ground_error**2 * np.eye(2)
        covariance = turn @ spread @ turn.T
        place = self.origin[:2] + distance * direction
        nearest = self.origin[:2] + near * direction
        return self._sighting(number, place, covariance, "bearing", nearest)

    def _sighting(
        self,
        number: int,
        place: np.ndarray,
        covariance: np.ndarray,
        source: str,
        nearest: np.ndarray | None = None,
    ) -> Sighting:
        x0, y0, x1, y1, confidence = (float(value) for value in self.boxes[number])
        box = (x0, y0, x1, y1)
        return Sighting(place, covariance, source, box, confidence, nearest)
