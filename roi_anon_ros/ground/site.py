"""A site as one YAML file: cameras, floors, zones. config/site.yaml explains each line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.ground.cameras import Lens, Pose
from roi_anon_ros.ground.floor import Floor, Patch, Plane
from roi_anon_ros.ground.locate import BodyPrior

#: What a zone may be: watched for people, a floor of other height, or without any tracking.
KINDS = ("watched", "floor", "untracked")


class SiteError(RoiAnonError):
    """A site file makes no sense; the message names the field and the bound."""


@dataclass(frozen=True)
class SiteCamera:
    """A camera as the site file has it.

    Attributes:
        name: the camera's namespace.
        lens: None: its CameraInfo will say.
        pose: None: TF will say.
    """

    name: str
    lens: Lens | None
    pose: Pose | None


@dataclass(frozen=True)
class Zone:
    """A named part of the site.

    Attributes:
        name: for the twin.
        kind: of KINDS.
        polygon: corners (K, 2), metres.
    """

    name: str
    kind: str
    polygon: np.ndarray


@dataclass(frozen=True)
class Site:
    """All that is known of a site.

    Attributes:
        name: for the twin.
        frame: the TF frame of all coordinates.
        floor: the ground.
        body: what is known of people.
        cameras: by name.
        zones: by name.
    """

    name: str
    frame: str
    floor: Floor
    body: BodyPrior
    cameras: dict[str, SiteCamera]
    zones: dict[str, Zone]


def read_site(path: Path) -> Site:
    """Read a site file.

    Raises:
        SiteError: the file cannot be read or makes no sense.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SiteError(f"{path}: {error}") from None
    try:
        return make_site(content)
    except SiteError as error:
        raise SiteError(f"{path}: {error}") from None


def make_site(content: Any) -> Site:
    """Make a site of a file's content.

    Raises:
        SiteError: it makes no sense.
    """
    known = ("site", "frame", "floor", "area", "body", "cameras", "zones")
    fields = _fields(content, "file", known, ("site", "frame", "cameras"))
    frame = _text(fields["frame"], "frame")
    if frame.startswith("/"):
        raise SiteError(f"frame: got {frame!r}, must have no leading slash")
    cameras = {
        _text(name, "cameras"): _camera(name, value)
        for name, value in _mapping(fields["cameras"], "cameras").items()
    }
    if not cameras:
        raise SiteError("cameras: got none, must be one or more")
    zones = {}
    patches = []
    for name, value in _mapping(fields.get("zones") or {}, "zones").items():
        zone, plane = _zone(_text(name, "zones"), value)
        zones[zone.name] = zone
        if plane is not None:
            patches.append(Patch(zone.polygon, plane))
    area = fields.get("area")
    untracked = [zone.polygon for zone in zones.values() if zone.kind == "untracked"]
    floor = Floor(
        plane=_plane(fields.get("floor") or {}, "floor"),
        patches=tuple(patches),
        area=None if area is None else _polygon(area, "area"),
        untracked=tuple(untracked),
    )
    body = _body(fields.get("body") or {})
    return Site(_text(fields["site"], "site"), frame, floor, body, cameras, zones)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SiteError(f"{where}: got {type(value).__name__}, must be fields with values")
    return value


def _fields(
    value: Any, where: str, known: tuple[str, ...], needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    fields = _mapping(value, where)
    for name in fields:
        if name not in known:
            raise SiteError(f"{where}: got field {name!r}, must be of {', '.join(known)}")
    for name in needed:
        if fields.get(name) is None:
            raise SiteError(f"{where}: has no {name!r}, must have {', '.join(needed)}")
    return fields


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SiteError(f"{where}: got {value!r}, must be a text that is not empty")
    return value


def _numbers(value: Any, where: str, count: int | None = None) -> list[float]:
    want = "numbers" if count is None else f"{count} numbers"
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        raise SiteError(f"{where}: got {value!r}, must be {want}") from None
    if (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
        raise SiteError(f"{where}: got {value!r}, must be {want}, all finite")
    return numbers


def _number(value: Any, where: str, least: float = -np.inf) -> float:
    number = _numbers([value], where, 1)[0]
    if number < least:
        raise SiteError(f"{where}: got {number:g}, must be {least:g} or more")
    return number


def _polygon(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, list) or len(value) < 3:
        raise SiteError(f"{where}: got {value!r}, must be 3 corners [x, y] or more")
    corners = [_numbers(corner, f"{where}: corner {n}", 2) for n, corner in enumerate(value)]
    return np.asarray(corners)


def _plane(value: Any, where: str) -> Plane:
    fields = _fields(value, where, ("height", "slope"))
    slope = _numbers(fields.get("slope", (0.0, 0.0)), f"{where}: slope", 2)
    return Plane(_number(fields.get("height", 0.0), f"{where}: height"), (slope[0], slope[1]))


def _body(value: Any) -> BodyPrior:
    known = tuple(BodyPrior.__dataclass_fields__)
    fields = _fields(value, "body", known)
    numbers = {name: _number(number, f"body: {name}", 0.0) for name, number in fields.items()}
    return BodyPrior(**numbers)


def _zone(name: str, value: Any) -> tuple[Zone, Plane | None]:
    where = f"zones: {name}"
    fields = _fields(value, where, ("kind", "polygon", "height", "slope"), ("kind", "polygon"))
    kind = fields["kind"]
    if kind not in KINDS:
        raise SiteError(f"{where}: kind: got {kind!r}, must be of {', '.join(KINDS)}")
    zone = Zone(name, kind, _polygon(fields["polygon"], f"{where}: polygon"))
    shape = {key: fields[key] for key in ("height", "slope") if key in fields}
    if kind == "floor":
        return zone, _plane(shape, where)
    if shape:
        raise SiteError(f"{where}: got {', '.join(shape)}, must be only in zones of kind floor")
    return zone, None


def _camera(name: str, value: Any) -> SiteCamera:
    where = f"cameras: {name}"
    lens_fields = ("width", "height", "distortion_model", "d", "k")
    pose_fields = ("position", "orientation")
    fields = _fields(value or {}, where, lens_fields + pose_fields)
    lens = None
    pose = None
    try:
        if any(key in fields for key in lens_fields):
            _fields(fields, where, lens_fields + pose_fields, ("width", "height", "k"))
            lens = Lens.from_camera_info(
                int(_number(fields["width"], "width", 1)),
                int(_number(fields["height"], "height", 1)),
                str(fields.get("distortion_model", "plumb_bob")),
                _numbers(fields.get("d", ()), "d"),
                _numbers(fields["k"], "k", 9),
            )
        if any(key in fields for key in pose_fields):
            _fields(fields, where, lens_fields + pose_fields, pose_fields)
            position = _numbers(fields["position"], "position", 3)
            orientation = _numbers(fields["orientation"], "orientation", 4)
            pose = Pose.from_quaternion(position, orientation)
    except (ValueError, SiteError) as error:
        message = str(error)
        raise SiteError(message if message.startswith(where) else f"{where}: {message}") from None
    return SiteCamera(name, lens, pose)
