"""The server node: latents of one or many cameras in, person detections out."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header as HeaderMessage
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
)

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import MAX_PIXELS, MAX_SIZE, MIN_SIZE, Decoded, Header
from roi_anon_ros.codec.engines import SYNTHESIS
from roi_anon_ros.detect import Detections, YoloPersons
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.images import draw_boxes, from_rgb
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.nodes.base.process import run


@dataclass
class Outputs:
    """The publishers of one camera; images are None where they are not wanted."""

    detections: Any
    labels: Any
    anonymized: Any = None
    annotated: Any = None


@dataclass(frozen=True)
class Frame:
    """One camera's frame, decoded."""

    topic: str
    message: CompressedLatent
    decoded: Decoded


class ContradictionError(RoiAnonError, ValueError):
    """A message whose fields say something else than its packet."""

    reason = "contradiction"


class ServerNode(CodecNode):
    """Decodes the newest latents of its cameras, which take turns, and publishes beside them who is
    in the pictures.
    """

    role = "server"
    stage = SYNTHESIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "latent_topics",
            ["latent"],
            "Topics to listen to, each in a namespace of its own, where that camera's results are "
            "published",
        )
        self.setting(
            "weights", "yolov8n", "The detector's YOLO weights: a name, or a .pt or .onnx file"
        )
        self.setting("confidence", 0.25, "Least score of a detection", (0.0, 1.0))
        self.setting(
            "max_pixels",
            MAX_PIXELS,
            "Packets with more coded pixels are refused",
            (MIN_SIZE**2, MAX_SIZE**2),
        )
        self.setting(
            "max_batch",
            1,
            "Cameras whose pictures the detector gets in one call, if they wait",
            (1, 64),
        )
        self.setting("threads", 0, "CPU threads of the networks; 0: torch's own choice", (0, 256))
        self.setting(
            "publish_anonymized", False, "Publish the decoded pictures on image_anonymized"
        )
        self.setting(
            "publish_annotated", False, "Publish the decoded pictures with boxes on image_annotated"
        )

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        topics = self.value("latent_topics")
        namespaces = {topic: topic[: topic.rfind("/") + 1] for topic in topics}
        if not topics or len(set(namespaces.values())) < len(topics):
            raise ValueError(
                f"latent_topics: {topics}, must be one or more, each in a namespace of its own"
            )
        if self.value("threads"):
            torch.set_num_threads(self.value("threads"))
        self.max_batch = self.value("max_batch")
        self._max_pixels: int = self.value("max_pixels")
        # onnxruntime runs .onnx weights, whatever the engine.
        engine = "torch" if self.value("engine") == "onnxruntime" else self.value("engine")
        self._detect = YoloPersons(self.value("weights"), self.value("confidence"), engine=engine)
        self._outputs_of = {topic: self._open(namespace) for topic, namespace in namespaces.items()}
        return {topic: CompressedLatent for topic in topics}

    def _open(self, namespace: str) -> Outputs:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        outputs = Outputs(
            detections=self.output(
                Detection2DArray, f"{namespace}detections", QoSProfile(depth=10)
            ),
            labels=self.output(LabelInfo, f"{namespace}label_info", latched),
        )
        if self.value("publish_anonymized"):
            outputs.anonymized = self.output(Image, f"{namespace}image_anonymized", newest_only())
        if self.value("publish_annotated"):
            outputs.annotated = self.output(Image, f"{namespace}image_annotated", newest_only())
        return outputs

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and work, and say what the detections' labels are."""
        result = super().on_activate(state)
        info = LabelInfo(
            class_map=[VisionClass(class_id=0, class_name="person")],
            threshold=self.value("confidence"),
        )
        info.header.stamp = self.get_clock().now().to_msg()
        for outputs in self._outputs_of.values():
            outputs.labels.publish(info)
        return result

    def process_batch(self, frames: list[tuple[str, CompressedLatent]]) -> None:
        """Decode each latent, find the persons in all pictures of a size at once, publish those of
        each camera.

        The seconds of ``detect`` are each picture's equal share of its call; the other stages are
        each frame's own.
        """
        # Pictures of one size go together: a detector may see one differently that is padded to
        # another's size.
        groups: dict[tuple[int, ...], list[Frame]] = defaultdict(list)
        for topic, message in frames:
            with self.worker.at_the_cost_of([topic]):
                decoded = self.codec.decode(message.packet, self._max_pixels)
                _check_fields(message, decoded.header)
                groups[decoded.image.shape].append(Frame(topic, message, decoded))
        for group in groups.values():
            with self.worker.at_the_cost_of([frame.topic for frame in group]):
                started = time.perf_counter()
                found_in = self._detect([frame.decoded.image for frame in group])
                share = (time.perf_counter() - started) / len(group)
                pairs = list(zip(group, found_in, strict=True))  # raises before anything goes out
                for frame, found in pairs:
                    with self.worker.at_the_cost_of([frame.topic]):
                        self._publish(frame, found)
                        bits_per_pixel = frame.decoded.header.bits_per_pixel(
                            len(frame.message.packet)
                        )
                        seconds = frame.decoded.seconds | {"detect": share}
                        self.worker.sent(frame.topic, seconds, {"bits per pixel": bits_per_pixel})

    def _publish(self, frame: Frame, found: Detections) -> None:
        """Publish who was found, in the pixels of the source, and the images that are asked for."""
        found.boxes = frame.decoded.header.to_source(found.boxes)
        outputs = self._outputs_of[frame.topic]
        outputs.detections.publish(to_message(found, frame.message.header))
        images = [
            p for p in (outputs.anonymized, outputs.annotated) if p and p.get_subscription_count()
        ]
        if images:
            image = frame.decoded.at_source_size()
            for publisher in images:
                annotated = publisher is outputs.annotated
                shown = draw_boxes(image, found.boxes, found.scores) if annotated else image
                publisher.publish(from_rgb(shown, frame.message.header))


def to_message(found: Detections, header: HeaderMessage) -> Detection2DArray:
    """The message of what was found, with boxes in source pixels.

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


def _check_fields(message: CompressedLatent, header: Header) -> None:
    fields = {
        "fingerprint": (bytes(message.fingerprint), header.fingerprint),
        "source size": ((message.source_width, message.source_height), header.source_size),
        "coded size": ((message.coded_width, message.coded_height), header.coded_size),
    }
    for name, (said, packed) in fields.items():
        if said != packed:
            raise ContradictionError(f"{name} {said!r} in the message, {packed!r} in its packet")


def main(args: list[str] | None = None) -> None:
    """Run the server node."""
    run(ServerNode, args)


if __name__ == "__main__":
    main()
