"""What is compared: every way to send an image, made by its name."""

from roi_anon_ros.evaluate.methods.making import make_method, make_methods
from roi_anon_ros.evaluate.methods.method import (
    ATTACKED,
    OPENED,
    ORIGINAL,
    Method,
    fingerprints,
    slug,
)
from roi_anon_ros.evaluate.methods.names import PIXELS, Kind, Name, parse_name

__all__ = [
    "ATTACKED",
    "ORIGINAL",
    "Kind",
    "Method",
    "Name",
    "OPENED",
    "PIXELS",
    "fingerprints",
    "make_method",
    "make_methods",
    "parse_name",
    "slug",
]
