"""A YOLO network that was exported for images of one size, made to take images of any sides.

Such a file differs from one of any size in constants alone: the centres of all cells, their
strides, and the number of cells in the shapes of the last layers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from roi_anon_ros.detect.yolox_cells import STRIDES, place_cells


@lru_cache(maxsize=8)
def place_all(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the cells of an image are, as the freed network takes it; kept for the next image.

    Args:
        height: pixels, a multiple of 32.
        width: the same.

    Returns:
        Centres in cells of their scale, column and line, float32 ``[1, 2, n]``, and strides in
        pixels, float32 ``[1, 1, n]``; the fine cells first, each scale row by row.
    """
    cells = sum((height // stride) * (width // stride) for stride in STRIDES)
    columns, lines, strides = place_cells(np.arange(cells), height, width)
    return np.stack([columns, lines])[None] + 0.5, strides[None, None]


def free_sides(graph: Any) -> bool:
    """Have a network of one fixed size take one image of any sides that are multiples of 32.

    What it finds at its own size stays the same to the bit. It gets two more inputs, see
    `place_all`. Nothing is changed where the network is built in another way.

    Args:
        graph: an ``openvino.Model`` that takes ``[1, 3, H, W]``.

    Returns:
        Whether it does so now.
    """
    from openvino import opset8

    height, width = graph.input(0).shape[2:]
    centres, strides = place_all(height, width)
    constants = [op for op in graph.get_ops() if op.get_type_name() == "Constant"]
    for_centres = [op for op in constants if _is(op, centres)]
    for_strides = [op for op in constants if _is(op, strides)]
    if not for_centres or not for_strides:
        return False
    counts = {(height // stride) * (width // stride) for stride in STRIDES}
    counts.add(strides.size)
    for op in constants:
        if _is_shape(op, counts):
            shape = op.get_data().copy()
            shape[-1] = -1
            _replace(op, opset8.constant(shape))
    new = [opset8.parameter([1, 2, -1], np.float32), opset8.parameter([1, 1, -1], np.float32)]
    for parameter, replaced in zip(new, (for_centres, for_strides), strict=True):
        for op in replaced:
            _replace(op, parameter)
    graph.add_parameters(new)
    graph.reshape({graph.input(0): [1, 3, -1, -1]})
    return True


def _is(op: Any, values: np.ndarray) -> bool:
    """Whether a constant holds these values in this order, in whatever shape."""
    if op.get_output_size() != 1 or np.prod(op.get_output_shape(0)) != values.size:
        return False
    return np.array_equal(op.get_data().reshape(-1), values.reshape(-1))


def _is_shape(op: Any, counts: set[int]) -> bool:
    """Whether a constant is a shape for a ``Reshape`` that ends with one of these numbers."""
    readers = [one.get_node().get_type_name() for one in op.output(0).get_target_inputs()]
    if set(readers) != {"Reshape"}:
        return False
    shape = op.get_data()
    return int(shape[-1]) in counts and -1 not in shape


def _replace(op: Any, by: Any) -> None:
    for one in op.output(0).get_target_inputs():
        one.replace_source_output(by.output(0))
