"""People of a site: boxes of many cameras go in, a cloud, persons and a twin's JSON come out.

A ROS node or a reader of files translates its messages and calls this. The rule of silence is
here too: what a robot must not be told when a camera is late, dead or was never set up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from roi_anon_ros.ground import twin
from roi_anon_ros.ground.cameras import Camera, Lens, Pose
from roi_anon_ros.ground.cloud import Body, make_cloud, sweep
from roi_anon_ros.ground.floor import is_inside
from roi_anon_ros.ground.locate import locate, which_are_covered
from roi_anon_ros.ground.site import Site, Zone
from roi_anon_ros.ground.tracks import Frame, Motion, Names, Track, TrackSet

#: Metres between the places of a zone at which is asked which cameras see them.
ZONE_STEP = 0.5
#: Seconds that a clock may go back before everything starts anew.
CLOCK_SLACK = 1.0


@dataclass(frozen=True)
class Policy:
    """What leaves, and when nothing does.

    Attributes:
        late_after: age of a camera's newest image from which it is late, seconds.
        dead_after: age from which it is dead, seconds.
        tolerate_late: whether the fused cloud goes on while one of the cameras that cover the
            watched zones is late or dead; some camera must be alive.
        ahead: how far an image's stamp may lie in the future, seconds.
        horizon: the cloud also holds where people will be within these seconds.
        rotate_every: seconds after which all ids change; 0: only with the session.
    """

    late_after: float = 0.5
    dead_after: float = 2.0
    tolerate_late: bool = False
    ahead: float = 0.2
    horizon: float = 0.0
    rotate_every: float = 0.0


@dataclass(frozen=True)
class CameraState:
    """How a camera is.

    Attributes:
        state: "alive", "late" or "dead".
        age: of its newest image, seconds; None before the first.
        reason: why it is not alive; empty if it is.
    """

    state: str
    age: float | None
    reason: str


@dataclass(frozen=True)
class Fused:
    """The cloud of all cameras, or why there is none.

    Attributes:
        stamp: the time of the points: of the newest image, seconds.
        cloud: of cloud.POINT; None: nothing may be sent.
        silence: why nothing may be sent; empty otherwise.
    """

    stamp: float
    cloud: np.ndarray | None
    silence: str = ""


@dataclass
class _Seat:
    """What is known of one camera."""

    lens: Lens | None
    pose: Pose | None
    newest: float | None = None
    trouble: str = ""
    refused: Counter[str] = field(default_factory=Counter)

    def missing(self) -> str:
        """What the camera still waits for; empty: nothing."""
        if self.lens is None:
            return "no camera_info yet"
        return "no pose yet" if self.pose is None else ""

    def camera(self, name: str) -> Camera | None:
        """The camera; None: it still waits for something, see :meth:`missing`."""
        if self.lens is None or self.pose is None:
            return None
        return Camera(name, self.lens, self.pose)


@dataclass(frozen=True)
class _Coverage:
    """Which cameras see a part of a zone, and whether together they see all of it."""

    cameras: frozenset[str]
    whole: bool


class People:
    """All people of a site. For one thread at a time."""

    def __init__(
        self, site: Site, policy: Policy | None = None, motion: Motion | None = None
    ) -> None:
        """Start with nobody.

        Args:
            site: cameras, floor and zones.
            policy: what leaves and when nothing does.
            motion: how people move, and how late a frame may be.
        """
        self.site = site
        self.policy = policy or Policy()
        self.motion = motion or Motion()
        self._seats = {c.name: _Seat(c.lens, c.pose) for c in site.cameras.values()}
        self._names = Names(self.policy.rotate_every)
        self._tracks = TrackSet(site.floor, self.motion)
        self._now = -np.inf
        self._covers: dict[str, _Coverage] = {}

    @property
    def refused(self) -> Counter[str]:
        """Boxes and frames that were refused, by reason."""
        total: Counter[str] = Counter()
        for seat in self._seats.values():
            total.update(seat.refused)
        return total

    def set_lens(self, camera: str, lens: Lens) -> None:
        """Say how a camera sees, as its CameraInfo has it.

        Raises:
            KeyError: the site has no such camera.
        """
        if self._seats[camera].lens != lens:
            self._seats[camera].lens = lens
            self._covers.clear()

    def set_pose(self, camera: str, pose: Pose) -> None:
        """Say where a camera is, as TF has it for the frame that comes next.

        Raises:
            KeyError: the site has no such camera.
        """
        known = self._seats[camera].pose
        if known is not None and np.array_equal(known.rotation, pose.rotation):
            if np.array_equal(known.position, pose.position):
                return
        self._seats[camera].pose = pose
        self._covers.clear()

    def fail(self, camera: str, reason: str) -> None:
        """Say that a frame of a camera failed: it counts as one that never came."""
        self._seats[camera].trouble = reason
        self._seats[camera].refused["failed"] += 1

    def trouble(self, camera: str) -> str:
        """Why the newest frame of a camera was refused or failed; empty: it was taken."""
        return self._seats[camera].trouble

    def add(self, camera: str, stamp: float, boxes: np.ndarray, now: float) -> bool:
        """Take in what a detector found in a frame, nobody included.

        Args:
            camera: its name.
            stamp: of the image, seconds of the epoch.
            boxes: (N, 5): x0, y0, x1, y1 in pixels of the image, confidence from 0 to 1.
            now: seconds of the epoch.

        Returns:
            Whether it was taken: only then is there a cloud of it.

        Raises:
            KeyError: the site has no such camera.
            ValueError: boxes has another shape.
        """
        boxes = np.asarray(boxes, float)
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            raise ValueError(f"boxes: got shape {boxes.shape}, must be (N, 5)")
        self._notice(now)
        seat = self._seats[camera]
        why = seat.missing()
        if stamp > now + self.policy.ahead:
            why = "stamp in the future"
        elif stamp < now - self.policy.dead_after:
            why = "stamp too old"
        where = seat.camera(camera)
        if why or where is None:
            return self._refuse(seat, why)
        sightings, reasons = locate(where, boxes, self.site.floor, self.site.body)
        seat.refused.update(reasons)
        if not self._tracks.add(Frame(stamp, where, tuple(sightings))):
            return self._refuse(seat, "stamp before the window, or twice")
        seat.newest = stamp if seat.newest is None else max(stamp, seat.newest)
        seat.trouble = ""
        self._names.forget_all_but({track.key for track in self._tracks.at(self._tracks.newest)})
        return True

    def cloud(self, camera: str, stamp: float) -> np.ndarray | None:
        """The points of a frame that `add` has taken.

        Returns:
            Of cloud.POINT: everybody whom the camera shows, or who stands hidden in its view;
            without rows if nobody does. None: no cloud may be sent; of a frame that a newer one
            has overtaken neither, for a planner takes what comes last for the newest.
        """
        seat = self._seats[camera]
        where = seat.camera(camera)
        if where is None or seat.newest is None or stamp < seat.newest:
            return None
        if not self._tracks.holds(camera, stamp):
            return None
        tracks = self._tracks.at(stamp)
        shown: dict[str, float | None] = {camera: stamp}
        there = [track for track in tracks if self._counts(track, shown)]
        places = np.array([track.state[:2] for track in there]).reshape(-1, 2)
        chests = np.column_stack([places, self.site.floor.height_at(places) + 1.2])
        in_view = where.sees(chests) if there else np.empty(0, bool)
        pairs = zip(there, in_view, strict=True)
        mine = [track for track, seen in pairs if seen or _is_shown(track, shown)]
        return make_cloud(self._body(track, stamp) for track in mine)

    def fused(self, now: float) -> Fused:
        """The points of all cameras together, or why none may be sent.

        Args:
            now: seconds of the epoch.
        """
        self._notice(now)
        states = self.states(now)
        stamp = self._tracks.newest
        covering = self._covering()
        absent = sorted(name for name in covering if states[name].state != "alive")
        alive = len(covering) - len(absent)
        if not covering:
            return Fused(stamp, None, "no camera sees a watched zone")
        if absent and (not self.policy.tolerate_late or not alive):
            reasons = [f"{name}: {states[name].reason}" for name in absent]
            return Fused(stamp, None, "; ".join(reasons))
        return Fused(stamp, make_cloud(self._body(t, stamp) for t in self._present(stamp)))

    def confirmed(self, stamp: float) -> list[Track]:
        """Persons who are believed in, predicted to a time."""
        tracks = self._tracks.at(stamp)
        return [track for track in tracks if track.log_odds >= self.motion.confirmed]

    def id_of(self, track: Track) -> int:
        """The random id of a person for all messages."""
        return self._names.of(track.key, self._tracks.newest)

    def states(self, now: float) -> dict[str, CameraState]:
        """How each camera is.

        Args:
            now: seconds of the epoch.
        """
        found = {}
        for name, seat in self._seats.items():
            age = None if seat.newest is None else now - seat.newest
            why = seat.trouble or seat.missing()
            if age is None:
                found[name] = CameraState("dead", None, why or "no image yet")
            elif age > self.policy.dead_after:
                found[name] = CameraState("dead", age, why or f"no image for {age:.1f} s")
            elif age > self.policy.late_after or seat.missing():
                found[name] = CameraState("late", age, why or f"no image for {age:.1f} s")
            else:
                found[name] = CameraState("alive", age, "")
        return found

    def twin(self, now: float, robot: tuple[float, float, float] | None = None) -> dict[str, Any]:
        """One cycle of the twin's JSON, of docs/twin.schema.json.

        Args:
            now: the time it is for, seconds of the epoch.
            robot: x, y in metres and yaw in radians, if it is known.
        """
        self._notice(now)
        people = self.confirmed(now)
        states = self.states(now)
        cameras = []
        for name, seat in self._seats.items():
            where = seat.camera(name)
            cameras.append(twin.describe_camera(name, states[name], where, self.site.floor))
        persons = []
        for track in people:
            newest = [n for n, hit in track.hits.items() if hit.stamp == self._seats[n].newest]
            z = float(self.site.floor.height_at(track.state[None, :2])[0])
            persons.append(twin.describe_person(self.id_of(track), track, z, newest))
        zones = []
        for zone in self.site.zones.values():
            zones.append(twin.describe_zone(zone, self._zone_state(zone, people, states)))
        return {
            "schema": twin.SCHEMA,
            "site": self.site.name,
            "frame": self.site.frame,
            "time": twin.utc(now),
            "complete": all(state.state == "alive" for state in states.values()),
            "cameras": cameras,
            "people": persons,
            "zones": zones,
            "robot": None if robot is None else twin.describe_robot(*robot),
            "refused": dict(self.refused),
        }

    def nvschema(self, camera: str, stamp: float) -> dict[str, Any]:
        """A camera's frame as NVIDIA's nvschema, without its embedding."""
        persons = []
        for track in self.confirmed(stamp):
            hit = track.hits.get(camera)
            if hit is not None and hit.stamp == stamp:
                z = float(self.site.floor.height_at(track.state[None, :2])[0])
                persons.append((self.id_of(track), track, z, hit.sighting.box))
        return twin.to_nvschema(camera, stamp, persons)

    def _notice(self, now: float) -> None:
        """A clock that goes back starts everything anew: no old stamp may hold up new ones."""
        if now < self._now - CLOCK_SLACK:
            self._tracks = TrackSet(self.site.floor, self.motion)
            for seat in self._seats.values():
                seat.newest = None
        self._now = now

    @staticmethod
    def _refuse(seat: _Seat, why: str) -> bool:
        seat.trouble = why
        seat.refused[why] += 1
        return False

    def _present(self, stamp: float) -> list[Track]:
        shown = {name: seat.newest for name, seat in self._seats.items()}
        return [track for track in self._tracks.at(stamp) if self._counts(track, shown)]

    def _counts(self, track: Track, shown: dict[str, float | None]) -> bool:
        """A planner hears of all who are believed in, and at once of all whom an image shows."""
        return track.log_odds >= self.motion.confirmed or _is_shown(track, shown)

    def _body(self, track: Track, stamp: float) -> Body:
        places = sweep(track.state[:2], track.state[2:], self.policy.horizon)
        last = max(track.hits.values(), key=lambda hit: hit.stamp)
        if last.sighting.nearest is not None and last.stamp == track.last_hit:
            places = np.concatenate([places, last.sighting.nearest[None]])
        feet = np.column_stack([places, self.site.floor.height_at(places)])
        name = self._names.of(track.key, stamp)
        return Body(name, feet, track.state[2:], track.confidence)

    def _covering(self) -> set[str]:
        """Cameras that see a watched zone, or of which that is not known."""
        watched = [zone for zone in self.site.zones.values() if zone.kind == "watched"]
        if not watched:
            return set(self._seats)
        return set().union(*(self._coverage(zone).cameras for zone in watched))

    def _coverage(self, zone: Zone) -> _Coverage:
        if zone.name not in self._covers:
            places = _places_in(zone.polygon)
            cameras = set()
            covered = np.zeros(len(places), bool)
            for name, seat in self._seats.items():
                where = seat.camera(name)
                if where is None:  # it may see the zone
                    cameras.add(name)
                    continue
                seen = which_are_covered(where, places, self.site.floor, self.site.body)
                covered |= seen
                if seen.any():
                    cameras.add(name)
            self._covers[zone.name] = _Coverage(frozenset(cameras), bool(covered.all()))
        return self._covers[zone.name]

    def _zone_state(self, zone: Zone, people: list[Track], states: dict[str, CameraState]) -> str:
        """Say "occupied", "free", or "unknown": not all of it is seen by cameras that are alive."""
        if zone.kind != "watched":
            return "not watched"
        places = np.array([track.state[:2] for track in people]).reshape(-1, 2)
        if is_inside(zone.polygon, places).any():
            return "occupied"
        coverage = self._coverage(zone)
        alive = all(states[name].state == "alive" for name in coverage.cameras)
        return "free" if alive and coverage.whole else "unknown"


def _is_shown(track: Track, shown: dict[str, float | None]) -> bool:
    """Whether one of the images, a stamp for each camera, shows the person."""
    return any(hit.stamp == shown.get(name) for name, hit in track.hits.items())


def _places_in(polygon: np.ndarray) -> np.ndarray:
    """The corners of a polygon and a grid of places in it, (N, 2), metres."""
    low = polygon.min(0)
    high = polygon.max(0)
    x = np.arange(low[0], high[0], ZONE_STEP)
    y = np.arange(low[1], high[1], ZONE_STEP)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return np.concatenate([polygon, grid[is_inside(polygon, grid)]])
