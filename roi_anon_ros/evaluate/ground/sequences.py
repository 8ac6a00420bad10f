"""Sequences with boxes, calibrated cameras and truth on the ground: PETS 2009 S2.L1 and WILDTRACK.

PETS: `pets_s2l1.csv` (frame0, id, x, y, w, h, ground_x_m, ground_y_m; one camera, 7 frames a
second) and `pets_calibration/View_001.xml` (Tsai). WILDTRACK: `wildtrack.json.gz` (every half
second: id, xy, the box in each view) and `wildtrack_calibration.json` (K, rvec, tvec in cm).
"""

from __future__ import annotations

import csv
import gzip
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from roi_anon_ros.ground.cameras import Camera, Lens, Pose

PETS_PERIOD = 1 / 7
WILDTRACK_PERIOD = 0.5


@dataclass(frozen=True)
class Moment:
    """One time of a sequence.

    Attributes:
        stamp: seconds from the start.
        truth: everybody's id and place (2,), metres.
        boxes: of each camera, (N, 5): x0, y0, x1, y1, confidence.
    """

    stamp: float
    truth: dict[int, np.ndarray]
    boxes: dict[str, np.ndarray]


@dataclass(frozen=True)
class Sequence:
    """A whole sequence.

    Attributes:
        name: for tables.
        cameras: by the name that the moments' boxes have.
        moments: in order of time.
        period: seconds between them.
    """

    name: str
    cameras: dict[str, Camera]
    moments: list[Moment]
    period: float


def read_tsai(path: Path) -> Camera:
    """Read a Tsai calibration as PETS publishes them, in millimetres.

    Tsai's polynomial goes from distorted to undistorted, x_u = x_d (1 + kappa1 r_d^2); the
    coefficients of the way back are fitted over the image to plumb_bob.

    Raises:
        ValueError: it lacks an element.
    """
    root = ElementTree.parse(path).getroot()
    geometry = _read_numbers(root, "Geometry", path)
    intrinsic = _read_numbers(root, "Intrinsic", path)
    extrinsic = _read_numbers(root, "Extrinsic", path)
    focal = intrinsic["focal"]
    matrix = np.array(
        [
            [intrinsic["sx"] * focal / geometry["dpx"], 0.0, intrinsic["cx"]],
            [0.0, focal / geometry["dpy"], intrinsic["cy"]],
            [0.0, 0.0, 1.0],
        ]
    )
    corner = np.array([geometry["width"], geometry["height"], 1.0])
    widest = np.linalg.norm((np.linalg.inv(matrix) @ corner)[:2])
    distorted = np.linspace(0.01, 1.2 * widest, 200)
    undistorted = distorted * (1 + intrinsic["kappa1"] * (focal * distorted) ** 2)
    powers = np.column_stack([undistorted**3, undistorted**5, undistorted**7])
    k1, k2, k3 = np.linalg.lstsq(powers, distorted - undistorted, rcond=None)[0]
    size = (int(geometry["width"]), int(geometry["height"]))
    lens = Lens(*size, tuple(matrix.ravel()), "plumb_bob", (k1, k2, 0.0, 0.0, k3))
    angles = [extrinsic["rx"], extrinsic["ry"], extrinsic["rz"]]
    to_camera = Rotation.from_euler("xyz", angles).as_matrix()
    shift = np.array([extrinsic["tx"], extrinsic["ty"], extrinsic["tz"]]) / 1000
    return Camera(root.get("name", path.stem), lens, Pose(to_camera.T, -to_camera.T @ shift))


def _read_numbers(root: ElementTree.Element, name: str, path: Path) -> dict[str, float]:
    """The attributes of an element of a file."""
    element = root.find(name)
    if element is None:
        raise ValueError(f"{path}: lacks {name}")
    return {key: float(value) for key, value in element.attrib.items()}


def read_pets(folder: Path) -> Sequence:
    """Read PETS 2009 S2.L1, view 1."""
    camera = read_tsai(folder / "pets_calibration" / "View_001.xml")
    boxes: dict[int, list[list[float]]] = {}
    truth: dict[int, dict[int, np.ndarray]] = {}
    with (folder / "pets_s2l1.csv").open() as lines:
        for row in csv.DictReader(lines):
            frame = int(row["frame0"])
            x0 = float(row["x"])
            y0 = float(row["y"])
            box = [x0, y0, x0 + float(row["w"]), y0 + float(row["h"]), 0.9]
            boxes.setdefault(frame, []).append(box)
            place = np.array([float(row["ground_x_m"]), float(row["ground_y_m"])])
            truth.setdefault(frame, {})[int(row["id"])] = place
    moments = [
        Moment(
            stamp=frame * PETS_PERIOD,
            truth=truth.get(frame, {}),
            boxes={camera.name: np.asarray(boxes.get(frame, [])).reshape(-1, 5)},
        )
        for frame in range(max(boxes) + 1)
    ]
    return Sequence("PETS S2.L1", {camera.name: camera}, moments, PETS_PERIOD)


def read_wildtrack(folder: Path) -> Sequence:
    """Read WILDTRACK's truth and boxes of seven cameras; boxes are cut at the image's edges."""
    published = json.loads((folder / "wildtrack_calibration.json").read_text())
    cameras = {}
    for number, (name, numbers) in enumerate(published.items()):
        width, height = numbers["size"]
        lens = Lens(width, height, tuple(np.ravel(numbers["K"])))
        to_camera = cv2.Rodrigues(np.array(numbers["rvec"]))[0]
        shift = np.array(numbers["tvec_cm"]) / 100
        pose = Pose(to_camera.T, -to_camera.T @ shift)
        cameras[str(number)] = Camera(name, lens, pose)
    with gzip.open(folder / "wildtrack.json.gz", "rt") as file:
        frames = json.load(file)
    moments = []
    for index, people in enumerate(frames.values()):
        boxes: dict[str, list[list[float]]] = {name: [] for name in cameras}
        for person in people:
            for view, box in person["views"].items():
                lens = cameras[view].lens
                size = np.array([lens.width, lens.height] * 2, float)
                cut = np.clip(box, 0, size)
                if (cut[2:] > cut[:2] + 4).all():
                    boxes[view].append([*cut, 0.9])
        moments.append(
            Moment(
                stamp=index * WILDTRACK_PERIOD,
                truth={person["id"]: np.array(person["xy"]) for person in people},
                boxes={
                    cameras[view].name: np.asarray(rows).reshape(-1, 5)
                    for view, rows in boxes.items()
                },
            )
        )
    named = {camera.name: camera for camera in cameras.values()}
    return Sequence("WILDTRACK", named, moments, WILDTRACK_PERIOD)


def take_first(sequence: Sequence, count: int) -> Sequence:
    """The first moments of a sequence; 0: all."""
    return replace(sequence, moments=sequence.moments[:count]) if count else sequence
