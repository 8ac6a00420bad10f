"""YOLOX-nano in torch: a small anchor-free detector, built from its public description.

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430. Batch normalisation is
folded into the convolutions, as in the published ONNX file, of which the weights are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from roi_anon_ros.detect.yolox_cells import STRIDES

#: Width of the three scales, and of the head.
WIDTHS = (64, 128, 256)
HEAD_WIDTH = 64
#: SHA-256 of the published weights: 80 classes of COCO, Apache-2.0, Megvii.
PUBLISHED = "615e266100c341c28d62abe255f7a6d9d7e2b91c1b0b87fc24c5d9e53141a57b"


class Conv(nn.Sequential):
    """Convolution with bias, then SiLU; the side shrinks by the stride alone."""

    def __init__(self, into: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        padding = (kernel - 1) // 2
        convolution = nn.Conv2d(into, out, kernel, stride, padding, groups=groups)
        super().__init__(convolution, nn.SiLU())


class DepthwiseConv(nn.Sequential):
    """A 3 × 3 `Conv` of every channel for itself, then a 1 × 1 `Conv` over the channels."""

    def __init__(self, into: int, out: int, stride: int = 1):
        super().__init__(Conv(into, into, 3, stride, groups=into), Conv(into, out))


class Bottleneck(nn.Sequential):
    """1 × 1, then depthwise 3 × 3; ``residual`` adds the input."""

    def __init__(self, width: int, residual: bool):
        super().__init__(Conv(width, width), DepthwiseConv(width, width))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        y = super().forward(x)
        return x + y if self.residual else y


class CrossStage(nn.Module):
    """Cross-stage partial layer: half of the channels go through bottlenecks, half around them.

    x ─┬─ main ── bottlenecks ─┬─ merge
       └─ side ────────────────┘
    """

    def __init__(self, into: int, out: int, depth: int, residual: bool):
        super().__init__()
        half = out // 2
        self.main = Conv(into, half)
        self.side = Conv(into, half)
        self.bottlenecks = nn.Sequential(*[Bottleneck(half, residual) for _ in range(depth)])
        self.merge = Conv(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same sides."""
        main = self.bottlenecks(self.main(x))
        return self.merge(torch.cat([main, self.side(x)], 1))


class PyramidPooling(nn.Module):
    """Maxima over 5, 9 and 13 cells joined to the map itself."""

    def __init__(self, width: int):
        super().__init__()
        self.narrow = Conv(width, width // 2)
        self.merge = Conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        x = self.narrow(x)
        five = F.max_pool2d(x, 5, 1, 2)
        nine = F.max_pool2d(five, 5, 1, 2)  # the maximum of maxima over 5 is the one over 9
        thirteen = F.max_pool2d(nine, 5, 1, 2)
        return self.merge(torch.cat([x, five, nine, thirteen], 1))


class Backbone(nn.Module):
    """CSPDarknet, a third as deep and a quarter as wide: maps of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        # The published network moves 2 × 2 pixels into channels and convolves 3 × 3 of them; that
        # is a convolution of 6 × 6 pixels with stride 2.
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 6, 2, 2), nn.SiLU())
        self.stride4 = nn.Sequential(DepthwiseConv(16, 32, 2), CrossStage(32, 32, 1, True))
        self.stride8 = nn.Sequential(DepthwiseConv(32, 64, 2), CrossStage(64, 64, 3, True))
        self.stride16 = nn.Sequential(DepthwiseConv(64, 128, 2), CrossStage(128, 128, 3, True))
        self.stride32 = nn.Sequential(
            DepthwiseConv(128, 256, 2), PyramidPooling(256), CrossStage(256, 256, 1, False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the three maps, of widths 64, 128 and 256."""
        eighth = self.stride8(self.stride4(self.stem(x)))
        sixteenth = self.stride16(eighth)
        return [eighth, sixteenth, self.stride32(sixteenth)]


class Pyramid(nn.Module):
    """PAFPN: coarse maps go down to the fine ones, then fine maps up to the coarse ones."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.narrow32 = Conv(coarse, middle)
        self.down16 = CrossStage(2 * middle, middle, 1, False)
        self.narrow16 = Conv(middle, fine)
        self.down8 = CrossStage(2 * fine, fine, 1, False)
        self.shrink8 = DepthwiseConv(fine, fine, 2)
        self.up16 = CrossStage(2 * fine, middle, 1, False)
        self.shrink16 = DepthwiseConv(middle, middle, 2)
        self.up32 = CrossStage(2 * middle, coarse, 1, False)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return three maps of the same shapes as the given ones."""
        eighth, sixteenth, thirtysecond = maps
        narrow32 = self.narrow32(thirtysecond)
        down16 = self.down16(torch.cat([_double(narrow32), sixteenth], 1))
        narrow16 = self.narrow16(down16)
        down8 = self.down8(torch.cat([_double(narrow16), eighth], 1))
        up16 = self.up16(torch.cat([self.shrink8(down8), narrow16], 1))
        up32 = self.up32(torch.cat([self.shrink16(up16), narrow32], 1))
        return [down8, up16, up32]


class Head(nn.Module):
    """Decoupled head of one scale: classes on one branch, box and objectness on the other."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.stem = Conv(width, HEAD_WIDTH)
        self.class_branch = nn.Sequential(*[DepthwiseConv(HEAD_WIDTH, HEAD_WIDTH) for _ in "12"])
        self.classes = nn.Conv2d(HEAD_WIDTH, classes, 1)
        self.box_branch = nn.Sequential(*[DepthwiseConv(HEAD_WIDTH, HEAD_WIDTH) for _ in "12"])
        self.box = nn.Conv2d(HEAD_WIDTH, 4, 1)
        self.objectness = nn.Conv2d(HEAD_WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, 5 + classes, h, w]``: box, objectness, classes, the last two as logits."""
        x = self.stem(x)
        classes = self.classes(self.class_branch(x))
        box = self.box_branch(x)
        return torch.cat([self.box(box), self.objectness(box), classes], 1)


class YoloxNano(nn.Module):
    """YOLOX-nano: 0.9 million weights.

    Images are ``[B, 3, H, W]``, RGB in [0, 1]; H and W are multiples of 32. The published network
    takes BGR from 0 to 255: `read_onnx` turns its first convolution around, so that nothing needs
    to be done to an image here.

        image ── backbone ──► strides 8, 16, 32 ── pyramid ──► the same ── heads ──► n cells

    n = H·W/64 + H·W/256 + H·W/1024 cells, the fine ones first, each scale row by row.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        # Modules stand in the order in which they run: so do the weights in an ONNX file.
        self.backbone = Backbone()
        self.pyramid = Pyramid()
        self.heads = nn.ModuleList(Head(width, classes) for width in WIDTHS)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return six inner maps: strides 8, 16, 32 of the backbone, then of the pyramid.

        Widths are 64, 128, 256, twice.

        Raises:
            ValueError: sides that are no multiples of 32.
        """
        height, width = x.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"x: got sides {height} x {width}, must be multiples of 32")
        maps = self.backbone(x)
        return [*maps, *self.pyramid(maps)]

    def logits(self, x: Tensor) -> Tensor:
        """Return what `forward` does, with objectness and classes before their sigmoid."""
        maps = self.features(x)[len(STRIDES) :]
        cells = [head(m).flatten(2) for head, m in zip(self.heads, maps, strict=True)]
        return torch.cat(cells, 2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, n, 5 + classes]``, one row for each cell.

        With the cell's column c and row r and its stride s, the columns are (x/s − c, y/s − r,
        ln(w/s), ln(h/s)) of a box with centre x, y and sides w, h in pixels, then objectness and
        the classes, each in [0, 1]. A class's score is the product of both.
        """
        logits = self.logits(x)
        return torch.cat([logits[..., :4], logits[..., 4:].sigmoid()], -1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def load_yolox(path: Path, classes: Sequence[int] | None = None) -> YoloxNano:
    """Load a network out of a file.

    Args:
        path: ``.safetensors``, as `write_network` writes it, or the published ``.onnx``.
        classes: of the published file, see `read_onnx`; the other kind has the classes it has.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: the file holds no such network.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return read_onnx(path, classes)
    try:
        tensors = load_file(path)
        network = YoloxNano(len(tensors["heads.0.classes.weight"]))
        network.load_state_dict(tensors)
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: holds no YOLOX-nano: {error}") from error
    return network.eval()


def read_onnx(path: Path, classes: Sequence[int] | None = None) -> YoloxNano:
    """Read the published weights of YOLOX-nano.

    Args:
        path: the ONNX file with the SHA-256 `PUBLISHED`.
        classes: numbers of the classes to keep, in COCO's order (0 is "person"); None: all 80.

    Returns:
        The network in evaluation mode.

    Raises:
        ImportError: onnx is not installed.
        ValueError: it is another file.
    """
    import onnx
    from onnx import numpy_helper

    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != PUBLISHED:
        raise ValueError(f"{path}: got SHA-256 {digest}, must be {PUBLISHED}")
    graph = onnx.load_model_from_string(content).graph
    arrays = {one.name: numpy_helper.to_array(one).copy() for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    network = YoloxNano()
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        for convolution, node in zip(convolutions, nodes, strict=True):
            weight, bias = (torch.from_numpy(arrays[name]) for name in node.input[1:])
            if convolution is network.backbone.stem[0]:
                weight = _unfold_stem(weight)
            if weight.shape != convolution.weight.shape:
                expected = tuple(convolution.weight.shape)
                raise ValueError(
                    f"{path}: {node.name}: got {tuple(weight.shape)}, must be {expected}"
                )
            convolution.load_state_dict({"weight": weight, "bias": bias})
        if classes is not None:
            for head in network.heads:
                assert isinstance(head, Head)
                head.classes = _keep_rows(head.classes, classes)
    return network.eval()


def _unfold_stem(weight: Tensor) -> Tensor:
    """Turn ``[16, 12, 3, 3]`` over BGR from 0 to 255 into ``[16, 3, 6, 6]`` over RGB in [0, 1].

    The 12 channels are B, G, R of four pixels: upper left, lower left, upper right, lower right.
    """
    pixels = weight.reshape(len(weight), 2, 2, 3, 3, 3)  # column, row, colour, 3 rows, 3 columns
    unfolded = pixels.permute(0, 3, 4, 2, 5, 1).reshape(len(weight), 3, 6, 6)
    return 255 * unfolded.flip(1)


def _keep_rows(convolution: nn.Conv2d, rows: Sequence[int]) -> nn.Conv2d:
    kept = nn.Conv2d(convolution.in_channels, len(rows), 1)
    kept.load_state_dict(
        {name: values[list(rows)] for name, values in convolution.state_dict().items()}
    )
    return kept
