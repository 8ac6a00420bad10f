"""Weights of a network in a file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from roi_anon_ros.storage import write_bytes


def write_network(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights, in place of what was there only when they are whole.

    Args:
        network: to be written.
        path: a ``.safetensors`` file; its folders are made.
        metadata: what else the file tells, such as the origin of its weights.
    """
    tensors = {name: one.detach().cpu().contiguous() for name, one in network.state_dict().items()}
    write_bytes(Path(path), save(tensors, metadata))
