"""Detection messages, and what their labels mean."""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
)

from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.choice import DEFAULT
from roi_anon_ros.nodes.base.newest import NewestFramesNode
from roi_anon_ros.nodes.base.settings import SettingsNode


def declare_detector(node: SettingsNode) -> None:
    """Declare what a node that finds persons is told of its detector."""
    node.setting(
        "detector",
        DEFAULT,
        "The person detector: persons, the package's own; latent, which needs no image, of a "
        "server; yolov8n; or a file of weights",
    )
    node.setting("confidence", 0.25, "Least score of a detection", (0.0, 1.0), float)


class DetectionOutput:
    """The topics of one camera's detections, ``detections`` and ``label_info``.

    Args:
        node: that publishes.
        namespace: of the topics; empty, or with a slash at its end.
    """

    def __init__(self, node: NewestFramesNode, namespace: str = "") -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node = node
        self._said: tuple[str, float] | None = None
        self._detections: Any = node.output(
            Detection2DArray, f"{namespace}detections", QoSProfile(depth=10)
        )
        self._labels: Any = node.output(LabelInfo, f"{namespace}label_info", latched)

    def explain(self, frame_id: str, threshold: float) -> None:
        """Say what the labels are, where that was not said of this frame and threshold.

        Args:
            frame_id: of the camera; empty where no image tells it.
            threshold: least score of a detection.
        """
        if not frame_id and self._said is not None:
            frame_id = self._said[0]
        if self._said == (frame_id, threshold):
            return
        self._said = (frame_id, threshold)
        info = LabelInfo(
            class_map=[VisionClass(class_id=0, class_name="person")], threshold=threshold
        )
        info.header.stamp = self._node.get_clock().now().to_msg()
        info.header.frame_id = frame_id
        self._labels.publish(info)

    def publish(self, found: Detections, header: Header, threshold: float) -> None:
        """Publish what was found in an image.

        Args:
            found: boxes x1 y1 x2 y2 in source pixels.
            header: of the source image.
            threshold: least score of a detection.
        """
        self.explain(header.frame_id, threshold)
        self._detections.publish(to_message(found, header))


def to_message(found: Detections, header: Header) -> Detection2DArray:
    """The message of what was found, with boxes in source pixels.

    A detection's id stays empty: it is for objects that are followed from image to image, and
    nobody is followed here.

    Args:
        found: boxes x1 y1 x2 y2 in source pixels.
        header: of the source image; the array and each detection carry it.
    """
    array = Detection2DArray(header=header)
    for (x1, y1, x2, y2), score, label in zip(
        found.boxes.tolist(), found.scores, found.labels, strict=True
    ):
        detection = Detection2D(header=header)
        detection.bbox.center.position.x = (x1 + x2) / 2
        detection.bbox.center.position.y = (y1 + y2) / 2
        detection.bbox.size_x = x2 - x1
        detection.bbox.size_y = y2 - y1
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = label
        hypothesis.hypothesis.score = float(score)
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array
