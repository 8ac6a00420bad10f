"""Where regions come from: detectors, annotations, polygons that somebody drew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from roi_anon_ros.anonymize.regions import Region, Regions, assumed_landmarks, mask_of, polygon
from roi_anon_ros.codec.headmap import THRESHOLD, FindHeads
from roi_anon_ros.codec.regions import HEAD_HEIGHT, HEAD_WIDTH
from roi_anon_ros.codec.regions import Regions as CodecRegions
from roi_anon_ros.detect import Detector
from roi_anon_ros.files.images import read_image

#: Side of the square around a person that MediaPipe's pose network sees, over the longer side of
#: the box.
POSE_CROP = 1.25
#: A body mask counts from this probability on; 0.5 leaves hands and hair out.
BODY = 0.3
#: A body mask that covers less of its box is not trusted.
LEAST_COVER = 0.15


class Detected:
    """What a detector finds.

    Args:
        detector: of anything.
        labels: only these of its classes; None takes all.
        shape: ``"box"`` or ``"ellipse"``.
        grow: what the sides of a found box are multiplied by, 1 to 4. The ellipse of a box grown by
            1.42 has all of the box that was found inside.

    Raises:
        ValueError: there is no such shape, or grow is out of bounds.
    """

    def __init__(
        self,
        detector: Detector,
        labels: Collection[str] | None = None,
        shape: str = "box",
        grow: float = 1.0,
    ) -> None:
        if shape not in ("box", "ellipse"):
            raise ValueError(f"shape: got {shape!r}, must be box or ellipse")
        if not 1 <= grow <= 4:
            raise ValueError(f"grow: got {grow}, must be from 1 to 4")
        self._detector = detector
        self._labels = labels
        self._shape = shape
        self._grow = grow

    def __call__(self, image: np.ndarray) -> Regions:
        """See :class:`~roi_anon_ros.anonymize.regions.RegionSource`."""
        found = self._detector([image])[0]
        regions = []
        for i, label in enumerate(found.labels):
            if self._labels is not None and label not in self._labels:
                continue
            left, top, right, bottom = found.boxes[i].astype(float).tolist()
            box = (left, top, right, bottom)
            points = assumed_landmarks(box) if label == "face" else None
            if found.landmarks is not None:
                points = found.landmarks[i]
            region = Region(box, self._shape, label, float(found.scores[i]), landmarks=points)
            regions.append(region.grown(self._grow))
        return Regions((image.shape[1], image.shape[0]), tuple(regions))


class Heads:
    """The heads that a model's head map finds, from all sides.

    Args:
        find_heads: see :meth:`~roi_anon_ros.codec.Codec.find_heads`.
        grow: what the sides of a found head are multiplied by, 1 to 4.

    Raises:
        ValueError: grow is out of bounds.
    """

    def __init__(self, find_heads: FindHeads, grow: float = 1.0) -> None:
        if not 1 <= grow <= 4:
            raise ValueError(f"grow: got {grow}, must be from 1 to 4")
        self._find_heads = find_heads
        self._grow = grow

    def __call__(self, image: np.ndarray) -> Regions:
        """See :class:`~roi_anon_ros.anonymize.regions.RegionSource`."""
        height, width = image.shape[:2]
        found, _ = self._find_heads(image, THRESHOLD)
        items = []
        for x, y, side in found.heads.astype(float).tolist():
            half_width = HEAD_WIDTH * side / 2
            half_height = HEAD_HEIGHT * side / 2
            box = (x - half_width, y - half_height, x + half_width, y + half_height)
            items.append(Region(box, "ellipse", "head").grown(self._grow))
        # Cells that the map calls head and that no head's ellipse touches.
        touched = CodecRegions.of_heads(found.heads, width, height)
        lonely = replace(found, cells=found.cells & ~touched.cells)
        rest = mask_of(lonely.mask(width, height), label="head")
        if rest is not None:
            items.append(rest)
        return Regions((width, height), tuple(items))


class Bodies:
    """Masks of the persons in the boxes of another source, by MediaPipe's pose network.

    A box whose mask is not to be trusted, since the network sees no person in it or the mask covers
    little of it, stays a box: too much is hidden rather than too little.

    Args:
        source: of boxes of persons.
        pose: a file ``pose_landmark_lite.tflite`` or ``pose_landmark_full.tflite``; OpenVINO runs
            it.
        grow: what masks, and boxes that stay, grow by.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such network.
        ImportError: openvino is not installed.
    """

    def __init__(self, source: Detected, pose: Path, grow: float = 1.06) -> None:
        if not pose.is_file():
            raise FileNotFoundError(f"pose: there is no file {pose}")
        import openvino

        try:
            network = openvino.Core().compile_model(pose, "CPU", {"INFERENCE_NUM_THREADS": 1})
        except RuntimeError as error:
            raise ValueError(f"pose: {pose} is no network that OpenVINO reads") from error
        outputs = {
            tuple(output.get_partial_shape().to_shape()): output for output in network.outputs
        }
        if (1, 256, 256, 1) not in outputs or (1, 1) not in outputs:
            raise ValueError(
                f"pose: {pose} gives {sorted(outputs)}, must give a body mask of 256 x 256"
            )
        self._source = source
        self._grow = grow
        self._network = network
        self._mask = outputs[1, 256, 256, 1]
        self._presence = outputs[1, 1]

    def __call__(self, image: np.ndarray) -> Regions:
        """See :class:`~roi_anon_ros.anonymize.regions.RegionSource`."""
        found = self._source(image)
        return replace(
            found,
            items=tuple(self._masked(image, region).grown(self._grow) for region in found.items),
        )

    def _masked(self, image: np.ndarray, region: Region) -> Region:
        left, top, right, bottom = region.box
        scale = 256 / (region.side * POSE_CROP)
        centre_x = (left + right) / 2
        centre_y = (top + bottom) / 2
        to_crop = np.array([[scale, 0, 128 - scale * centre_x], [0, scale, 128 - scale * centre_y]])
        crop = cv2.warpAffine(image, to_crop, (256, 256)).astype(np.float32) / 255
        results = self._network(crop[None])
        presence = float(results[self._presence][0, 0])
        body = np.asarray(results[self._mask])[0, :, :, 0]
        size = (image.shape[1], image.shape[0])
        logits = cv2.warpAffine(
            body, to_crop, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR, borderValue=-20
        )
        inside = logits > np.log(BODY / (1 - BODY))
        inside &= region.grown(1.1).drawn(*size)
        enough = LEAST_COVER * region.drawn(*size).sum()
        if presence < 0.5 or inside.sum() < enough:
            return region
        mask = mask_of(inside, label=region.label, score=region.score, track=region.track)
        return region if mask is None else mask


class Annotated:
    """Boxes that somebody drew on the images of a set.

    An image is known by its pixels, so it may have another name or lie elsewhere. One that is not
    in the set, or on which boxes of this kind were not looked for, is an error: it is not taken for
    one without.

    Args:
        boxes: of each image file, float ``[n, 4]`` in pixels upright; None where none were looked
            for.
        label: of the regions.
        shape: ``"box"`` or ``"ellipse"``.
        grow: what the boxes' sides are multiplied by, 1 or more.

    Raises:
        ValueError, OSError: an image cannot be read.
    """

    def __init__(
        self,
        boxes: Mapping[Path, np.ndarray | None],
        label: str,
        shape: str = "box",
        grow: float = 1.0,
    ) -> None:
        self._label = label
        self._shape = shape
        self._grow = grow
        self._boxes: dict[bytes, np.ndarray | None] = {}
        for path, drawn in boxes.items():
            self._boxes[_digest(read_image(path).image)] = drawn

    def __call__(self, image: np.ndarray) -> Regions:
        """See :class:`~roi_anon_ros.anonymize.regions.RegionSource`."""
        found = self._boxes.get(_digest(image))
        if found is None:
            raise ValueError(f"annotated: no {self._label} was looked for on this image in the set")
        regions = []
        for left, top, right, bottom in np.asarray(found, float).reshape(-1, 4).tolist():
            box = (left, top, right, bottom)
            points = assumed_landmarks(box) if self._label == "face" else None
            region = Region(box, self._shape, self._label, landmarks=points)
            regions.append(region.grown(self._grow))
        return Regions((image.shape[1], image.shape[0]), tuple(regions))


class Polygons:
    """Static zones: the same polygons in each image.

    Args:
        polygons: corners of each, x and y, as shares of the image's width and height, 0 to 1.

    Raises:
        ValueError: one has less than three corners, or a corner that is out of bounds.
    """

    def __init__(self, polygons: Sequence[Sequence[Sequence[float]]]) -> None:
        self._polygons = []
        for number, corners in enumerate(polygons, 1):
            array = np.asarray(corners, float)
            if array.ndim != 2 or array.shape[1:] != (2,) or len(array) < 3:
                raise ValueError(
                    f"polygon {number}: got {corners}, must be three or more pairs of x and y"
                )
            if not ((array >= 0) & (array <= 1)).all():
                raise ValueError(
                    f"polygon {number}: got {corners}, must be shares of the image from 0 to 1"
                )
            self._polygons.append(array)

    @classmethod
    def read(cls, path: Path) -> Polygons:
        """From a JSON file: a list of polygons, each a list of ``[x, y]``.

        Raises:
            ValueError: it is no such file.
            OSError: it cannot be read.
        """
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: no JSON: {error}") from error
        if not isinstance(content, list):
            raise ValueError(f"{path}: got {type(content).__name__}, must be a list of polygons")
        try:
            return cls(content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def __call__(self, image: np.ndarray) -> Regions:
        """See :class:`~roi_anon_ros.anonymize.regions.RegionSource`."""
        height, width = image.shape[:2]
        drawn = (
            polygon(corners * (width, height), width, height, label="zone")
            for corners in self._polygons
        )
        return Regions((width, height), tuple(region for region in drawn if region is not None))


def _digest(image: np.ndarray) -> bytes:
    size = f"{image.shape}".encode()
    return hashlib.sha256(size + np.ascontiguousarray(image).tobytes()).digest()
