"""A small network that says what is done in a clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from roi_anon_ros.detect.network_file import write_network

#: Channels of the maps at strides 2, 4, 8 and 16.
WIDTHS = (24, 48, 96, 128)
#: What a difference between two frames is multiplied by: most are small.
MOTION = 3.0
#: Share of the values before the last layer that a step leaves out.
DROPPED = 0.5


class ActionNetwork(nn.Module):
    """From the frames of a clip to what is done in it.

    .. code-block:: none

        each frame, and its difference to the next one (6 channels)
          4 × [conv3(stride 2), group norm, ReLU]: 24, 48, 96, 128 channels
            │ mean and maximum over the places
          conv3 over time, 128 channels, ReLU │ mean over time │ linear

    264 thousand weights for two actions.

    Args:
        labels: names of the actions, at least 2.
        frames: of a clip, at least 2.
        side: of a frame that it learned from, pixels.

    Raises:
        ValueError: there are fewer than two labels or frames.
    """

    def __init__(self, labels: Sequence[str], frames: int = 8, side: int = 96) -> None:
        super().__init__()
        if len(labels) < 2:
            raise ValueError(f"labels: got {len(labels)}, must be 2 or more")
        if frames < 2:
            raise ValueError(f"frames: got {frames}, must be 2 or more")
        self.labels = list(labels)
        self.frames = frames
        self.side = side
        before = 6
        layers = []
        for width in WIDTHS:
            convolution = nn.Conv2d(before, width, 3, 2, 1)
            layers.append(nn.Sequential(convolution, nn.GroupNorm(8, width), nn.ReLU()))
            before = width
        self.layers = nn.ModuleList(layers)
        self.time = nn.Conv1d(2 * before, 128, 3, padding=1)
        self.last = nn.Linear(128, len(labels))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps of every frame, at strides 2 to 16: each ``[B · T, C, h, w]``.

        Args:
            x: the frames of the clips one after the other, ``[B · T, 3, H, W]`` around [0, 1].

        Raises:
            ValueError: there are no whole clips.
        """
        if len(x) % self.frames:
            raise ValueError(f"x: got {len(x)} frames, must be a multiple of {self.frames}")
        clips = x.unflatten(0, (-1, self.frames))
        motion = clips[:, 1:] - clips[:, :-1]
        motion = torch.cat([motion, motion[:, -1:]], 1)
        seen = torch.cat([2 * clips - 1, MOTION * motion], 2).flatten(0, 1)
        maps = []
        for layer in self.layers:
            seen = layer(seen)
            maps.append(seen)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the actions, ``[B, labels]``, for the frames that :meth:`maps`
        takes.
        """
        seen = self.maps(x)[-1]
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        moments = pooled.unflatten(0, (-1, self.frames)).transpose(1, 2)
        whole = torch.relu(self.time(moments)).mean(2)
        return self.last(F.dropout(whole, DROPPED, self.training))


def save_actions(network: ActionNetwork, path: Path, training: dict[str, object]) -> None:
    """Write a network, in place of what was there only when it is whole.

    Args:
        network: to be written.
        path: a ``.safetensors`` file.
        training: for JSON: what it learned from, and how.
    """
    about = {"labels": network.labels, "frames": network.frames, "side": network.side}
    metadata = {"actions": json.dumps(about), "training": json.dumps(training)}
    write_network(network, path, metadata)


def load_actions(path: Path) -> ActionNetwork:
    """Read what :func:`save_actions` wrote.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: the file holds none; the message names it.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["actions"])
        network = ActionNetwork(**about)
        network.load_state_dict(load_file(path))
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: holds no network of actions: {error}") from error
    return network.eval()
