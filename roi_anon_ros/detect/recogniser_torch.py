"""A face recogniser with gradient: it tells an attacker's training who is on what he recovers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.storage import digest


class TorchRecogniser(nn.Module):
    """An .onnx network of the ArcFace type in torch, frozen.

    Args:
        model_path: made of convolutions, PReLU, sums, and one linear layer with normalisation at
            the end, as MobileFaceNet is; it takes ``[n, 3, 112, 112]``, RGB, (x - 127.5) / 127.5.

    Attributes:
        fingerprint: the first digits of the file's SHA-256.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such network; names the operation that is not known.
        ImportError: onnx is not installed.
    """

    def __init__(self, model_path: Path) -> None:
        super().__init__()
        if not model_path.is_file():
            raise FileNotFoundError(f"model_path: there is no file {model_path}")
        import onnx
        from google.protobuf.message import DecodeError

        self.fingerprint = digest(model_path)
        try:
            graph = onnx.load(model_path).graph
        except DecodeError as error:
            raise ValueError(f"model_path: {model_path} is no .onnx file") from error
        for tensor in graph.initializer:
            value = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            self.register_buffer(_name(tensor.name), value)
        known = {tensor.name for tensor in graph.initializer}
        self._input = next(one.name for one in graph.input if one.name not in known)
        self._output = graph.output[0].name
        #: What each step does: operation, names of its inputs, name of its output, attributes.
        self._steps = []
        for node in graph.node:
            if node.op_type not in OPERATIONS:
                raise ValueError(f"model_path: {model_path} has {node.op_type}, which is not known")
            settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            self._steps.append((node.op_type, list(node.input), node.output[0], settings))

    def forward(self, faces: Tensor) -> Tensor:
        """Vectors of length 1, ``[n, d]``, of faces ``[n, 3, 112, 112]`` around [0, 1]."""
        values = {self._input: 2 * faces - 1}
        for operation, inputs, output, settings in self._steps:
            given = [
                values[name] if name in values else self.get_buffer(_name(name)) for name in inputs
            ]
            values[output] = OPERATIONS[operation](given, settings)
        return F.normalize(values[self._output], dim=1)


def _name(name: str) -> str:
    """A name of ONNX as one of torch, which has no dots in it."""
    return "onnx_" + name.replace(".", "_")


def _convolve(given: list[Tensor], settings: dict) -> Tensor:
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    padded = F.pad(given[0], (left, right, top, bottom))
    bias = given[2] if len(given) > 2 else None
    stride = tuple(settings.get("strides", (1, 1)))
    dilation = tuple(settings.get("dilations", (1, 1)))
    return F.conv2d(padded, given[1], bias, stride, 0, dilation, settings.get("group", 1))


def _normalise(given: list[Tensor], settings: dict) -> Tensor:
    x, weight, bias, mean, variance = given
    return F.batch_norm(x, mean, variance, weight, bias, eps=settings.get("epsilon", 1e-5))


def _multiply(given: list[Tensor], settings: dict) -> Tensor:
    matrix = given[1].T if settings.get("transB", 0) else given[1]
    return given[0] @ matrix + given[2]


#: What a network may be made of: from the values that it is given, and its settings.
OPERATIONS: dict[str, Callable[[list[Tensor], dict], Tensor]] = {
    "Add": lambda given, _: given[0] + given[1],
    "BatchNormalization": _normalise,
    "Conv": _convolve,
    "Flatten": lambda given, _: given[0].flatten(1),
    "Gemm": _multiply,
    "PRelu": lambda given, _: F.prelu(given[0], given[1].flatten()),
}
