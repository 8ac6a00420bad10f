"""The detector node: images of any topic in, person detections out."""

from __future__ import annotations

import time

from sensor_msgs.msg import CompressedImage, Image

from roi_anon_ros.detect.choice import make_detector_or_ours
from roi_anon_ros.nodes.base.detections import DetectionOutput, declare_detector
from roi_anon_ros.nodes.base.image_inputs import declare_inputs, image_topic, levels, read_image
from roi_anon_ros.nodes.base.newest import NewestFramesNode
from roi_anon_ros.nodes.base.process import run


class DetectorNode(NewestFramesNode):
    """Finds persons in the newest image of ``image_raw``, which may be remapped to any topic: a
    decoder node's ``image_anonymized``, or a camera's own.
    """

    role = "detector"

    def __init__(self) -> None:
        super().__init__()
        declare_detector(self)
        self.setting(
            "engine",
            "auto",
            "What runs the detector: torch, openvino, openvino-int8, onnxruntime, auto",
        )
        declare_inputs(self)

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        topics = image_topic(self)
        self.say(f"loading detector {self.value('detector')}, fetched where it is not here yet")
        self._detect = make_detector_or_ours(
            self.value("detector"), self.value("confidence"), engine=self.value("engine")
        )
        self._output = DetectionOutput(self)
        return topics

    def describe(self) -> dict[str, str]:
        """The detector."""
        return {"detector": self.value("detector")}

    def process(
        self, topic: str, message: Image | CompressedImage
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Find the persons in one image, and publish them."""
        started = time.perf_counter()
        image = read_image(message)
        read = time.perf_counter()
        confidence = self.value("confidence")
        self._detect.confidence = confidence
        (found,) = self._detect([image])
        detected = time.perf_counter()
        self.check_age(message)
        self._output.publish(found, message.header, confidence)
        figures = {"persons": float(len(found.boxes))} | levels(message)
        return {"read": read - started, "detect": detected - read}, figures


def main(args: list[str] | None = None) -> None:
    """Run the detector node."""
    run(DetectorNode, args)


if __name__ == "__main__":
    main()
