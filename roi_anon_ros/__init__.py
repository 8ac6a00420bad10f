"""Images of people as anonymized latents: a learned codec, and ROS 2 nodes at both ends of it."""

import os
import sys
import warnings

__version__ = "0.1.0"

# Threads of a network that wait for each other sleep instead of spinning: a robot's cores are
# shared, and with spinning one busy neighbour makes every layer wait for a time slice.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# ONNX Runtime reports usage to its maker by default; a camera does not call home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # too late once onnxruntime is imported
# OpenVINO reports every import to its makers unless this package is missing.
if "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # "no such module"
# CompressAI's, at each import; nobody who runs a node can do anything about it.
warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
