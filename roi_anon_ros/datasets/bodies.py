"""Images of persons with who it is and which camera took it, as sets for re-identification have
them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from roi_anon_ros.storage import IMAGE_SUFFIXES

#: Names of files as those of Market-1501: the person, the camera, and whatever follows.
MARKET = re.compile(r"(?P<person>-?\d+)_c(?P<camera>\d+)")


@dataclass(frozen=True)
class Body:
    """An image that a person fills.

    Attributes:
        name: of the person.
        camera: that took it.
        path: of the image.
    """

    name: str
    camera: str
    path: Path


def read_bodies(folder: Path, limit: int = 0) -> list[Body]:
    """Images of persons with who it is and which camera took it, in a folder and its subfolders.

    Either a file is named as those of Market-1501, ``PERSON_cCAMERA...``: ``0004_c1s6_016996.jpg``.
    Or its folder is named after the person, and the file's name begins with the camera and an
    underscore: ``009/02_5.png``. An image that is there twice counts once.

    Args:
        folder: of the images.
        limit: how many people, the first ones by name; 0: all.

    Raises:
        ValueError: an image is named in another way, there are fewer than two people, or nobody
            was taken by two cameras.
        OSError: there is no such folder.
    """
    found: dict[tuple[str, str, str], Body] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            body = _read_name(path)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.setdefault((body.name, body.camera, content), body)
    names = sorted({body.name for body in found.values()})
    chosen = set(names[:limit] if limit else names)
    bodies = [body for body in found.values() if body.name in chosen]
    cameras = {(body.name, body.camera) for body in bodies}
    if len(chosen) < 2 or len(cameras) == len(chosen):
        raise ValueError(
            f"{folder}: got {len(chosen)} people, must be two or more, one of them seen by two "
            "cameras; files are named PERSON_cCAMERA..., or PERSON/CAMERA_..."
        )
    return sorted(bodies, key=lambda body: (body.name, body.path))


def _read_name(path: Path) -> Body:
    """Who is on an image, and which camera took it, by its name."""
    market = MARKET.match(path.name)
    if market:
        return Body(market["person"], market["camera"], path)
    camera, underscore, _ = path.stem.partition("_")
    if not underscore:
        raise ValueError(f"{path}: name says no camera, must be PERSON_cCAMERA... or CAMERA_...")
    return Body(path.parent.name, camera, path)
