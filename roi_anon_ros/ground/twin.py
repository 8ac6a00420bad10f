"""The JSON of a digital twin: one object a cycle, described in docs/twin.schema.json.

"Nobody" and "camera dead" are different sentences: `people` without entries means nobody only where
`complete` is true, and a zone is "free" only while all of it is seen by cameras that are alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.floor import Floor
from roi_anon_ros.ground.site import Zone
from roi_anon_ros.ground.tracks import Track

if TYPE_CHECKING:
    from roi_anon_ros.ground.people import CameraState

#: Of the format; a change that breaks readers counts it up.
SCHEMA = "roi_anon_ros/twin/1"


def utc(stamp: float) -> str:
    """Seconds of the epoch as UTC in ISO 8601, milliseconds."""
    when = datetime.fromtimestamp(stamp, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe_camera(
    name: str, state: CameraState, camera: Camera | None, floor: Floor
) -> dict[str, Any]:
    """A camera's entry; without place and view while its lens or pose are not known."""
    return {
        "name": name,
        "state": state.state,
        "age": None if state.age is None else round(state.age, 3),
        "reason": state.reason,
        "position": None if camera is None else _rounded(camera.pose.position),
        "view": None if camera is None else _rounded(camera.view(floor)),
    }


def describe_person(id: int, track: Track, z: float, cameras: list[str]) -> dict[str, Any]:
    """A person's entry: everything of it is a place, a motion or a random id."""
    covariance = track.covariance[:2, :2]
    return {
        "id": f"{id:08x}",
        "position": _rounded(np.append(track.state[:2], z)),
        "covariance": [round(float(c), 5) for c in covariance[[0, 0, 1], [0, 1, 1]]],
        "velocity": _rounded(track.state[2:]),
        "confidence": round(track.confidence, 3),
        "cameras": sorted(cameras),
    }


def describe_zone(zone: Zone, state: str) -> dict[str, Any]:
    """A zone's entry."""
    polygon = _rounded(zone.polygon)
    return {"name": zone.name, "kind": zone.kind, "state": state, "polygon": polygon}


def describe_robot(x: float, y: float, yaw: float) -> dict[str, Any]:
    """The robot's entry."""
    return {"position": _rounded(np.array([x, y])), "yaw": round(yaw, 4)}


def to_nvschema(
    camera: str,
    stamp: float,
    persons: Iterable[tuple[int, Track, float, tuple[float, float, float, float]]],
) -> dict[str, Any]:
    """A frame in the form of NVIDIA Metropolis' nvschema 4.0.

    Its `embedding` is biometric and does not exist here. All values of `info` are texts there: the
    foot point is "x,y" in metres; `coordinate` has it with the floor's height.

    Args:
        camera: the sensor's id.
        stamp: of the image, seconds of the epoch.
        persons: id, track, floor height in metres, and box in pixels of each.
    """
    objects = []
    for id, track, z, box in persons:
        x0, y0, x1, y1 = (round(value, 1) for value in box)
        x, y, height = _rounded(np.append(track.state[:2], z))
        objects.append(
            {
                "id": f"{id:08x}",
                "bbox": {"leftX": x0, "topY": y0, "rightX": x1, "bottomY": y1},
                "type": "Person",
                "confidence": round(track.confidence, 3),
                "info": {"footLocation3D": f"{x},{y}"},
                "coordinate": {"x": x, "y": y, "z": height},
            }
        )
    when = utc(stamp)
    return {
        "version": "4.0",
        "id": f"{camera}-{when}",
        "timestamp": when,
        "sensorId": camera,
        "objects": objects,
    }


def _rounded(values: np.ndarray) -> list[Any]:
    """Millimetres are enough, and a negative zero is none."""
    return (np.round(np.asarray(values, float), 3) + 0.0).tolist()
