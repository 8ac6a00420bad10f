"""A tiny random model of every rate, whose heads are what is white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from roi_anon_ros.codec import save_model
from roi_anon_ros.codec.engines import trial_image
from roi_anon_ros.codec.networks import GainedCodec, HeadMap
from roi_anon_ros.train.tables import count_tables


@torch.no_grad()
def see_white(head_map: HeadMap) -> None:
    """Let a cell be a head, two cells wide, where it is white: logit 24 · (brightness - ½) - 6."""
    for weights in head_map.parameters():
        if weights.ndim > 1:
            weights.zero_()
    head_map.stem[0].weight[0] = 1 / head_map.stem[0].weight[0].numel()
    head_map.stages[0][0][0].weight[0, 0] = 1 / 9
    head_map.out[0][0].weight[0, 0, 1, 1] = 1
    head_map.out[1].weight[0, 0] = 24
    head_map.out[1].bias[:] = torch.tensor([-6.0, 0.0, 0.0, 1.0])


def make_gained_model(path: Path, seed: int = 0) -> Path:
    """Write the model."""
    torch.manual_seed(seed)
    net = GainedCodec(N=4).eval()
    image = trial_image(192, 128)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():  # untrained, it would code every image as zeros
        scale = 1 / net.analyse(x).std()
        net.g_a[-1].weight *= scale
        net.g_a[-1].bias *= scale
    see_white(net.head_map)
    count_tables(net, [image, np.ascontiguousarray(image[:, ::-1])], 0.1)
    save_model(net, path, name="tiny-gained")
    return path
