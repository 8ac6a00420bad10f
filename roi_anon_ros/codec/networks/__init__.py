"""The networks: analysis transform, factorized prior, synthesis transform.

Three architectures:

* :class:`PaperCodec`, the network of arXiv 2406.05726 for any width ``N`` and depth ``M``;
* :class:`FastCodec`, a network for cameras: a twelfth of the operations of ``PaperCodec(128, 2)``
  and a receptive field wide enough for a head that fills most of the image;
* :class:`GainedCodec`, every rate in one network, with a head map (:class:`HeadMap`) that says
  what is painted before the analysis.
"""

from roi_anon_ros.codec.networks.base import (
    AnonymizingCodec,
    check_size,
    pad_to_multiple,
)
from roi_anon_ros.codec.networks.fast import Bottleneck, FastCodec, GatedConv
from roi_anon_ros.codec.networks.gained import GainedCodec
from roi_anon_ros.codec.networks.headmap import HeadMap
from roi_anon_ros.codec.networks.paper import PaperCodec
from roi_anon_ros.codec.networks.registry import ARCHITECTURES, NETWORKS, build
from roi_anon_ros.codec.networks.second_look import SecondLook

__all__ = [
    "ARCHITECTURES",
    "NETWORKS",
    "AnonymizingCodec",
    "Bottleneck",
    "FastCodec",
    "GainedCodec",
    "GatedConv",
    "HeadMap",
    "PaperCodec",
    "SecondLook",
    "build",
    "check_size",
    "pad_to_multiple",
]
