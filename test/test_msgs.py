from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
pytest.importorskip("roi_anon_msgs", reason="needs the message packages: make env, or colcon build")

pytestmark = pytest.mark.ros

ROI_ANON_MSGS = {
    "CompressedLatent": {
        "header": "std_msgs/Header",
        "model_name": "string",
        "fingerprint": "uint8[8]",
        "source_width": "uint32",
        "source_height": "uint32",
        "coded_width": "uint32",
        "coded_height": "uint32",
        "packet": "sequence<uint8>",
    },
    "SealedRegions": {
        "header": "std_msgs/Header",
        "sealed": "sequence<uint8>",
    },
}

# vision_msgs 4.1.1, from whatever place: fields, and the hashes of the interfaces that the upstream
# definitions give.
VISION_MSGS = {
    "Point2D": {"x": "double", "y": "double"},
    "Pose2D": {"position": "vision_msgs/Point2D", "theta": "double"},
    "BoundingBox2D": {"center": "vision_msgs/Pose2D", "size_x": "double", "size_y": "double"},
    "ObjectHypothesis": {"class_id": "string", "score": "double"},
    "ObjectHypothesisWithPose": {
        "hypothesis": "vision_msgs/ObjectHypothesis",
        "pose": "geometry_msgs/PoseWithCovariance",
    },
    "Detection2D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox2D",
        "id": "string",
    },
    "Detection2DArray": {
        "header": "std_msgs/Header",
        "detections": "sequence<vision_msgs/Detection2D>",
    },
    "BoundingBox3D": {"center": "geometry_msgs/Pose", "size": "geometry_msgs/Vector3"},
    "Detection3D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox3D",
        "id": "string",
    },
    "Detection3DArray": {
        "header": "std_msgs/Header",
        "detections": "sequence<vision_msgs/Detection3D>",
    },
    "VisionClass": {"class_id": "uint16", "class_name": "string"},
    "LabelInfo": {
        "header": "std_msgs/Header",
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    },
}
VISION_MSGS_HASHES = {
    "BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "BoundingBox3D": "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3D": "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": (
        "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc"
    ),
    "Point2D": "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
}


@pytest.mark.parametrize(
    ("package", "name", "fields"),
    [("roi_anon_msgs", name, fields) for name, fields in ROI_ANON_MSGS.items()]
    + [("vision_msgs", name, fields) for name, fields in VISION_MSGS.items()],
)
def test_fields_and_their_order(package: str, name: str, fields: dict[str, str]) -> None:
    message = getattr(importlib.import_module(f"{package}.msg"), name)
    assert list(message.get_fields_and_field_types().items()) == list(fields.items())


@pytest.mark.parametrize("name", VISION_MSGS_HASHES)
def test_type_hash_is_upstreams(name: str) -> None:
    ament_index = pytest.importorskip("ament_index_python")
    description = (
        Path(ament_index.get_package_share_directory("vision_msgs")) / "msg" / f"{name}.json"
    )
    if not description.exists():
        pytest.skip("this ROS distribution has no type hashes")
    hashes = {
        h["type_name"]: h["hash_string"] for h in json.loads(description.read_text())["type_hashes"]
    }
    assert hashes[f"vision_msgs/msg/{name}"] == VISION_MSGS_HASHES[name]
