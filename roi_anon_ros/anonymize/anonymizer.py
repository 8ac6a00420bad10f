"""Regions and a treatment together: images in, treated images out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roi_anon_ros.anonymize.regions import Regions, RegionSource, union
from roi_anon_ros.anonymize.sources import Annotated, Bodies, Detected, Heads, Polygons
from roi_anon_ros.anonymize.treatments import Treatment, make_treatment, treat
from roi_anon_ros.codec import DEFAULT_MODEL, Codec

#: Names of sources, and what may stand after a colon.
SOURCES = {
    "face": "face: by MTCNN; face:FILE.onnx: by YuNet",
    "head": "head: by the codec's head map, from all sides; head:MODEL",
    "person": "person: by yolov8n; person:persons, the package's own; person:WEIGHTS",
    "annotated": "annotated:KIND:SET: the set's boxes of this kind: face, head or person",
    "polygon": "polygon:FILE.json: [[[x, y], ...], ...] in shares of the image",
}
#: What a found box grows by. With 1.42 the ellipse has the whole box inside.
GROW = {"face": 1.42, "head": 1.42, "person": 1.1}
#: What a head that the head map finds grows by.
GROW_FOUND_HEAD = 1.1
#: Raised where sources or treatments change: what was measured of them is measured anew.
VERSION = 2
#: Soft edge of a region, over its longer side.
FEATHER = 0.06
#: Bytes of a key, at least.
KEY = 16


class Anonymizer:
    """Finds regions in an image and treats them.

    Args:
        sources: all of them say what is hidden; at least one.
        treatment: of all regions.
        feather: width of the soft edge over the longer side of a region, 0 to 1.
        key: secret that decides who becomes which face or colour; None draws one.

    Raises:
        ValueError: no source, or feather is out of bounds.
    """

    def __init__(
        self,
        sources: Sequence[RegionSource],
        treatment: Treatment,
        feather: float = FEATHER,
        key: bytes | None = None,
    ) -> None:
        if not sources:
            raise ValueError("sources: got none, must be at least one")
        if not 0 <= feather <= 1:
            raise ValueError(f"feather: got {feather}, must be from 0 to 1")
        self.find = union(sources)
        self._treatment = treatment
        self._feather = feather
        self._key = secrets.token_bytes(32) if key is None else key

    def treat(self, image: np.ndarray, regions: Regions, scope: str = "") -> np.ndarray:
        """The image, uint8 ``[H, W, 3]`` RGB, with these regions treated, as a new array.

        Args:
            image: uint8 ``[H, W, 3]`` RGB.
            regions: of this image.
            scope: in which tracks are numbered, such as a file: track 3 of another one is somebody
                else.
        """
        return treat(image, regions, self._treatment, self._feather, self._key + scope.encode())

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image, uint8 ``[H, W, 3]`` RGB, with what is found in it treated, as a new array."""
        return self.treat(image, self.find(image))


def make_anonymizer(
    regions: Sequence[str],
    treatment: str,
    grow: float | None = None,
    feather: float = FEATHER,
    pose: Path | None = None,
    match: str = "mean",
    key: Path | None = None,
) -> Anonymizer:
    """An anonymizer of names, as the command line and the node take them.

    Args:
        regions: as in :data:`SOURCES`; all of them are hidden.
        treatment: as in :data:`~roi_anon_ros.anonymize.treatments.TREATMENTS`.
        grow: see :func:`make_source`, as ``pose``.
        feather: see :class:`Anonymizer`.
        pose: file of MediaPipe's pose network.
        match: see :func:`~roi_anon_ros.anonymize.treatments.make_treatment`.
        key: file of :data:`KEY` or more secret bytes; None draws a key.

    Raises:
        ValueError: a name is not known, a value is out of bounds, or the key is too short.
        OSError: a file cannot be read.
        WeightsError: weights cannot be had.
        ImportError: a package is not installed.
        ModelFileError: the model cannot be loaded.
    """
    secret = None
    if key is not None:
        secret = key.read_bytes()
        if len(secret) < KEY:
            raise ValueError(f"key: got {len(secret)} bytes in {key}, must be at least {KEY}")
    made = make_treatment(treatment, match)
    sources = [make_source(name, grow, pose) for name in regions]
    return Anonymizer(sources, made, feather, secret)


def make_source(name: str, grow: float | None = None, pose: Path | None = None) -> RegionSource:
    """A source by its name, as in :data:`SOURCES`.

    Args:
        name: with its value after a colon.
        grow: what found boxes grow by, 1 to 4; None: as in :data:`GROW`.
        pose: file of MediaPipe's pose network; persons become masks by it, and stay boxes without
            it.

    Raises:
        ValueError: there is no such source, or a value is out of bounds.
        OSError: a file cannot be read.
        WeightsError: weights cannot be had.
        ImportError: a package is not installed.
        ModelFileError: the model cannot be loaded.
    """
    from roi_anon_ros.detect import MtcnnFaces, YunetFaces
    from roi_anon_ros.detect.choice import DEFAULT, make_detector

    kind, _, value = name.partition(":")
    if kind == "face":
        detector = YunetFaces(value) if value else MtcnnFaces()
        return Detected(detector, shape="ellipse", grow=GROW["face"] if grow is None else grow)
    if kind == "head":
        return _heads(value or DEFAULT_MODEL, GROW_FOUND_HEAD if grow is None else grow)
    if kind == "person":
        persons = make_detector(value or DEFAULT, engine="torch")
        if pose is not None:
            return Bodies(Detected(persons), pose, *([] if grow is None else [grow]))
        return Detected(persons, grow=GROW["person"] if grow is None else grow)
    if kind == "annotated":
        return _annotated(value, grow)
    if kind == "polygon":
        return Polygons.read(Path(value))
    raise ValueError(f"region: got {name!r}, must be one of {', '.join(SOURCES)}")


def _heads(model: str, grow: float) -> Heads:
    """What the head map of a model finds."""
    codec = Codec.load(model)
    if not codec.model.has_head_map:
        raise ValueError(f"region: model {model} has no head map")
    return Heads(codec.find_heads, grow)


def _annotated(value: str, grow: float | None) -> Annotated:
    """Boxes of one kind of a set, of ``KIND:SET``."""
    from roi_anon_ros.datasets import read_set

    kind, _, annotations = value.partition(":")
    if kind not in ("face", "head", "person") or not annotations:
        raise ValueError(f"region: got annotated:{value!r}, must be annotated:KIND:SET")
    boxes = {}
    for record in read_set(Path(annotations)).records:
        drawn = {"face": record.faces, "head": record.heads, "person": record.persons}[kind]
        boxes[record.path] = drawn.xyxy if kind in record.annotated else None
    shape = "box" if kind == "person" else "ellipse"
    return Annotated(boxes, kind, shape, GROW[kind] if grow is None else grow)
