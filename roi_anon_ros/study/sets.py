"""Treated images on disk, laid out as ultralytics reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from roi_anon_ros import storage
from roi_anon_ros.datasets import KEYPOINTS, Instance, Scene
from roi_anon_ros.files import read_pixels
from roi_anon_ros.files.images import encode_image
from roi_anon_ros.files.progress import Track
from roi_anon_ros.study.arms import Arm

#: Images of all arms are JPEGs of this quality, the original's as well: they differ in the
#: treatment alone.
QUALITY = 95
#: Training images that ultralytics wants to validate on; the result is not used.
VALIDATED = 2


def write_images(scenes: Sequence[Scene], arm: Arm, folder: Path, track: Track) -> list[Path]:
    """Treat images and write them; those that are there already stay.

    Args:
        scenes: of which image.
        arm: what treats them.
        folder: for files ``000000.jpg`` and so on, in the order of the scenes.
        track: shows how far it is.

    Returns:
        The files.

    Raises:
        ValueError: an image cannot be read or treated; the message names it.
    """
    files = []
    for number, scene in enumerate(track(scenes, len(scenes), f"{arm.name}: images")):
        file = folder / f"{number:06}.jpg"
        if not file.is_file():
            try:
                treated = arm.treat(read_pixels(scene.path), scene)
            except (OSError, ValueError) as error:
                raise ValueError(f"{scene.path}: {arm.name}: {error}") from error
            jpeg = encode_image(treated, "JPEG", quality=QUALITY, subsampling=0)
            storage.write_bytes(file, jpeg)
        files.append(file)
    return files


def write_labels(scenes: Sequence[Scene], images: Sequence[Path], task: str) -> Path:
    """Write what is on treated images for a training.

    Args:
        scenes: of the images.
        images: in ``FOLDER/images``; labels go to ``FOLDER/labels``.
        task: of :data:`~roi_anon_ros.datasets.TASKS`.

    Returns:
        The set's YAML file.
    """
    folder = images[0].parents[1]
    for scene, image in zip(scenes, images, strict=True):
        counted = [person for person in scene.persons if not person.ignore]
        lines = [label_of(person, scene.size, task) for person in counted]
        text = "".join(f"{line}\n" for line in lines)
        storage.write_bytes(folder / "labels" / f"{image.stem}.txt", text.encode())
    shown = "".join(f"./images/{image.name}\n" for image in images[:VALIDATED])
    storage.write_bytes(folder / "validated.txt", shown.encode())
    told = {
        "path": str(folder.absolute()),
        "train": "images",
        "val": "validated.txt",
        "names": {0: "person"},
    }
    if task == "pose":
        told |= {"kpt_shape": [len(KEYPOINTS), 3], "flip_idx": mirrored_keypoints()}
    file = folder / "data.yaml"
    storage.write_bytes(file, yaml.safe_dump(told).encode())
    return file


def label_of(person: Instance, size: tuple[int, int], task: str) -> str:
    """The line of YOLO's labels for a person, in shares of the image.

    Several outlines become one, which goes from each to the next and back.
    """
    sides = np.array(size, float)
    if task == "segment":
        points = np.concatenate([*person.outlines, *_ways_back(person.outlines)])
        return _line((points / sides).clip(0, 1).ravel())
    corners = np.reshape(person.box, (2, 2)) / sides
    numbers = [(corners[0] + corners[1]) / 2, corners[1] - corners[0]]
    if task == "pose" and person.keypoints is not None:
        shares = person.keypoints / [*sides, 1]
        shares[:, :2] = shares[:, :2].clip(0, 1)
        shares[person.keypoints[:, 2] == 0] = 0
        numbers.append(shares.ravel())
    return _line(np.concatenate(numbers))


def _line(shares: np.ndarray) -> str:
    """Class 0 and numbers: shares of the image, and whether keypoints are visible."""
    return " ".join(["0", *(f"{value:.6g}" for value in shares)])


def _ways_back(outlines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """From the end of the last outline to its begin, to the end of the one before, and so on."""
    pairs = zip(outlines[-1:0:-1], outlines[-2::-1], strict=True)
    return [np.stack([later[0], earlier[-1]]) for later, earlier in pairs]


def mirrored_keypoints() -> list[int]:
    """Which keypoint each one becomes where an image is mirrored."""
    swapped = []
    for name in KEYPOINTS:
        side, _, rest = name.partition("_")
        other = {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
        swapped.append(KEYPOINTS.index(other))
    return swapped
