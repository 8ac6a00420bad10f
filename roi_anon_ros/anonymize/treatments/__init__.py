"""How a region is hidden: one file a family, each by its name."""

from __future__ import annotations

from pathlib import Path

from roi_anon_ros.anonymize.treatments.base import Scene, Treatment, Window, treat
from roi_anon_ros.anonymize.treatments.bodies import Mannequin
from roi_anon_ros.anonymize.treatments.dcgan import Dcgan
from roi_anon_ros.anonymize.treatments.deepprivacy import DeepPrivacy2, load
from roi_anon_ros.anonymize.treatments.faces import RealisticFaces
from roi_anon_ros.anonymize.treatments.flat import MaskOut, Silhouette
from roi_anon_ros.anonymize.treatments.inpaint import Inpaint
from roi_anon_ros.anonymize.treatments.smooth import Blur, Pixelate

__all__ = ["TREATMENTS", "Scene", "Treatment", "Window", "make_treatment", "treat"]

#: Names, and what may stand after a colon.
TREATMENTS = {
    "blur": "blur: an eighth of the region; blur:7: that many pixels",
    "pixelate": "pixelate: 6 cells; pixelate:8: that many",
    "mask": "mask: grey; mask:0: that grey, 0 to 255",
    "silhouette": "a colour for each object",
    "inpaint": "what is around",
    "face": "face: a mean of faces of nobody; face:FILE: of this DCGAN",
    "body": "a mannequin in the colours of the clothes",
    "deepprivacy": "deepprivacy:FILE: an installed DeepPrivacy2 with this configuration",
}


def make_treatment(name: str, match: str = "mean") -> Treatment:
    """A treatment by its name, as in :data:`TREATMENTS`.

    Args:
        name: with its value after a colon.
        match: of realistic faces, see
            :class:`~roi_anon_ros.anonymize.treatments.faces.RealisticFaces`.

    Raises:
        ValueError: there is no such treatment, or its value is out of bounds.
        FileNotFoundError: there is no such file.
        ImportError: it needs a package that is not installed.
    """
    kind, _, value = name.partition(":")
    if kind == "blur":
        return Blur(_number(name, value) if value else None)
    if kind == "pixelate":
        return Pixelate(int(_number(name, value))) if value else Pixelate()
    if kind == "mask":
        return MaskOut(int(_number(name, value))) if value else MaskOut()
    if kind == "face":
        return RealisticFaces(Dcgan(Path(value)) if value else None, match)
    if kind == "deepprivacy":
        return DeepPrivacy2(load(Path(value)))
    plain: dict[str, type[Treatment]] = {
        "silhouette": Silhouette,
        "inpaint": Inpaint,
        "body": Mannequin,
    }
    if kind not in plain or value:
        raise ValueError(f"treatment: got {name!r}, must be one of {', '.join(TREATMENTS)}")
    return plain[kind]()


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"treatment: got {name!r}, must have a number after the colon") from error
