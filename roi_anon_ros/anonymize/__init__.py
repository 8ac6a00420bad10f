"""How a region is hidden: where regions come from, and what they become.

No ROS. Read ``regions.py`` first, then ``treatments/base.py``; ``anonymizer.py`` puts them
together.
"""

from roi_anon_ros.anonymize.anonymizer import Anonymizer, make_anonymizer, make_source
from roi_anon_ros.anonymize.regions import Region, Regions, RegionSource
from roi_anon_ros.anonymize.treatments import TREATMENTS, make_treatment, treat

__all__ = [
    "TREATMENTS",
    "Anonymizer",
    "Region",
    "RegionSource",
    "Regions",
    "make_anonymizer",
    "make_source",
    "make_treatment",
    "treat",
]
