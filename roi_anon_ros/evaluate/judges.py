"""The detectors by which an evaluation judges images."""

from __future__ import annotations

from pathlib import Path

from roi_anon_ros.codec.engines import version_of
from roi_anon_ros.detect import Detector, MtcnnFaces, YunetFaces
from roi_anon_ros.detect.choice import find_detector, make_detector
from roi_anon_ros.detect.yolox_engine import int8_file
from roi_anon_ros.evaluate.measure import LEAST_SCORE
from roi_anon_ros.storage import digest


def make_judges(
    detector: str, judge: str | None = None, yunet: Path | None = None
) -> tuple[dict[str, Detector], list[str]]:
    """The detectors of an evaluation, by the names that its results have for them.

    Args:
        detector: of persons, as `find_detector` takes it; after it perhaps ``@`` and an engine,
            without one it is torch.
        judge: a second one, likewise; None: there is none.
        yunet: file of YuNet; None: it does not look for faces.

    Returns:
        The detectors: ``persons``, ``judge``, ``mtcnn``, ``yunet``; and what tells their weights
        and engines from others.

    Raises:
        ImportError: what a detector needs is not installed.
        WeightsError, OSError: its weights cannot be had.
        ValueError: there is no such engine, or a file holds something else.
    """
    detectors: dict[str, Detector] = {}
    marks = []
    for role, asked in (("persons", detector), ("judge", judge)):
        if asked is not None:
            name, _, engine = asked.partition("@")
            marks.append(_mark(find_detector(name), engine))
            detectors[role] = make_detector(name, LEAST_SCORE["persons"], engine or "torch")
    detectors["mtcnn"] = MtcnnFaces(confidence=LEAST_SCORE["faces"])
    if yunet is not None:
        detectors["yunet"] = YunetFaces(yunet, confidence=LEAST_SCORE["faces"])
        marks.append(digest(yunet, digits=12))
    return detectors, marks


def _mark(weights: Path, engine: str) -> str:
    """What a detector's boxes depend on: its weights, and its engine where that is not torch."""
    if not engine:
        return digest(weights, digits=12)
    files = [weights]
    if engine == "openvino-int8":
        files.append(int8_file(weights).with_suffix(".bin"))
    package = engine.partition("-")[0]
    return f"{digest(*files, digits=12)} {engine} {version_of(package)}"
