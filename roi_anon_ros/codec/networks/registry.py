"""The networks by name."""

from __future__ import annotations

from roi_anon_ros.codec.networks.base import AnonymizingCodec
from roi_anon_ros.codec.networks.fast import FastCodec
from roi_anon_ros.codec.networks.gained import GainedCodec
from roi_anon_ros.codec.networks.paper import PaperCodec

#: What a model file may name as its architecture.
ARCHITECTURES: dict[str, type[AnonymizingCodec] | type[GainedCodec]] = {
    "paper": PaperCodec,
    "fast": FastCodec,
    "gained": GainedCodec,
}

#: The paper's networks and ours, by name: (architecture, hyperparameters).
NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    "roi-128-2": ("paper", {"N": 128, "M": 2}),
    "roi-256-2": ("paper", {"N": 256, "M": 2}),
    "roi-256-1": ("paper", {"N": 256, "M": 1}),
    "fast": ("fast", {"N": 128}),
    "gained": ("gained", {"N": 40}),
}


def build(network: str) -> AnonymizingCodec | GainedCodec:
    """A freshly initialised network of one of the named :data:`NETWORKS`.

    Raises:
        ValueError: no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"network: {network!r}, must be one of {', '.join(NETWORKS)}")
    architecture, hyperparameters = NETWORKS[network]
    return ARCHITECTURES[architecture](**hyperparameters)
