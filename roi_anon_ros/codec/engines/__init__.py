"""Engines: what runs the two networks, and the little around them, between an image's bytes and
its symbols.

``torch`` is the reference and always there. ``openvino`` runs the same networks on x86 processors
in bfloat16 where the processor multiplies in it, ``openvino-int8`` analysis and synthesis in
integers of 8 bits, as :func:`calibrate` found them. ``onnxruntime`` runs the files that
:func:`export` wrote with the fastest provider that it was built with (TensorRT, CUDA, CPU).
``auto`` measures those that are installed, once for each model and size, and remembers the fastest.

An engine need not find every symbol as the reference does, for it may sum in another order and at
another precision:
:data:`TOLERANCE` says how far it may be off, and one that is further off is refused when it is
loaded. What it encodes
every other engine decodes: symbols are integers, and no engine computes a probability.
"""

from roi_anon_ros.codec.engines.base import Engine
from roi_anon_ros.codec.engines.calibration import calibrate
from roi_anon_ros.codec.engines.choice import ENGINES, AutoEngine, make_engine
from roi_anon_ros.codec.engines.export import export
from roi_anon_ros.codec.engines.machine import processor, version_of
from roi_anon_ros.codec.engines.onnxruntime_engine import OnnxRuntimeEngine, onnx_file
from roi_anon_ros.codec.engines.openvino_engine import OpenVinoEngine, OpenVinoInt8Engine, int8_file
from roi_anon_ros.codec.engines.stages import ANALYSIS, HEADS, STAGES, SYNTHESIS, Stage, stages_of
from roi_anon_ros.codec.engines.torch_engine import TorchEngine
from roi_anon_ros.codec.engines.trial import TOLERANCE, differences, trial_image

__all__ = [
    "ENGINES",
    "ANALYSIS",
    "HEADS",
    "STAGES",
    "SYNTHESIS",
    "Stage",
    "TOLERANCE",
    "AutoEngine",
    "Engine",
    "OnnxRuntimeEngine",
    "OpenVinoEngine",
    "OpenVinoInt8Engine",
    "TorchEngine",
    "calibrate",
    "differences",
    "export",
    "int8_file",
    "make_engine",
    "onnx_file",
    "processor",
    "stages_of",
    "trial_image",
    "version_of",
]
