"""The server node: latents of one or many cameras in, person detections out."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import Codec, Decoded, Opened
from roi_anon_ros.codec.engines import SYNTHESIS
from roi_anon_ros.detect import Detections
from roi_anon_ros.detect.boxes import AdjustableDetector
from roi_anon_ros.detect.choice import (
    make_detector_or_ours,
    make_latent_detector,
    reads_latents,
)
from roi_anon_ros.detect.latent_persons import LatentPersons
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.detections import DetectionOutput, declare_detector
from roi_anon_ros.nodes.base.images import draw_boxes, from_rgb
from roi_anon_ros.nodes.base.latents import (
    EDGE_PIXELS,
    PIXELS,
    SOURCE_PIXELS,
    coded_pixels,
    open_message,
)
from roi_anon_ros.nodes.base.parameters import read_list
from roi_anon_ros.nodes.base.process import run
from roi_anon_ros.processors import use_threads

#: The images that may be published, by their parameter.
IMAGES = {"publish_anonymized": "image_anonymized", "publish_annotated": "image_annotated"}


@dataclass
class Outputs:
    """The publishers of one camera; of images those that are wanted, by their parameter."""

    namespace: str
    detections: DetectionOutput
    images: dict[str, Any] = field(default_factory=dict)


@dataclass
class Frame:
    """One camera's frame, opened; decoded only where somebody looks at the image."""

    topic: str
    message: CompressedLatent
    opened: Opened
    decoded: Decoded | None = None

    def decode(self, codec: Codec) -> Decoded:
        """Return the image, made once."""
        if self.decoded is None:
            self.decoded = codec.synthesise(self.opened)
        return self.decoded

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each stage so far."""
        return self.opened.seconds if self.decoded is None else self.decoded.seconds


class ServerNode(CodecNode):
    """Opens the newest latents of its cameras, which take turns, and publishes the images and who
    is in them.
    """

    role = "server"
    stage = SYNTHESIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "latent_topics",
            ["latent"],
            "Topics to listen to, each in its own namespace, where that camera's results are "
            "published; one may be given without brackets",
            dynamic_typing=True,
        )
        declare_detector(self)
        self.setting(
            "max_pixels",
            EDGE_PIXELS,
            "Packets with more coded pixels are refused; the square of the edges' max_side",
            PIXELS,
        )
        self.setting(
            "max_source_pixels",
            SOURCE_PIXELS,
            "Packets of larger sources are refused while images are published at their size",
            PIXELS,
        )
        self.setting(
            "max_batch",
            1,
            "Cameras whose images the detector gets in one call, if they wait",
            (1, 64),
        )
        self.setting(
            "threads", 0, "CPU threads of the networks; 0: one for each processor", (0, 256)
        )
        self.setting(
            "publish_anonymized",
            False,
            "Publish the decoded images on image_anonymized",
            check=bool,
        )
        self.setting(
            "publish_annotated",
            False,
            "Publish the decoded images with boxes on image_annotated",
            check=bool,
        )

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        topics = read_list("latent_topics", self.value("latent_topics"), "topics")
        namespaces = {topic: topic[: topic.rfind("/") + 1] for topic in topics}
        if len(set(namespaces.values())) < len(topics):
            raise ValueError(
                f"latent_topics: {topics}, must be one or more, each in its own namespace"
            )
        if self.value("threads"):
            use_threads(self.value("threads"))
        self.max_batch = self.value("max_batch")
        self._max_pixels: int = self.value("max_pixels")
        self._max_source_pixels: int = self.value("max_source_pixels")
        self.say(f"loading detector {self.value('detector')}, fetched where it is not here yet")
        chosen = self.value("detector"), self.value("confidence"), self.value("engine")
        self._detect = self._make_detector(*chosen)
        self._outputs_of = {
            topic: Outputs(namespace, DetectionOutput(self, namespace))
            for topic, namespace in namespaces.items()
        }
        self._follow_parameters()
        return {topic: CompressedLatent for topic in topics}

    def _make_detector(
        self, name: str, confidence: float, engine: str
    ) -> AdjustableDetector | LatentPersons:
        if reads_latents(name):
            return make_latent_detector(name, self.codec.model, confidence, engine)
        return make_detector_or_ours(name, confidence, engine=engine)

    def _find_in(self, frames: list[Frame]) -> list[Detections]:
        """Find the persons in frames of one size, in coded pixels."""
        if isinstance(self._detect, LatentPersons):
            return self._detect([frame.opened for frame in frames])
        return self._detect([frame.decode(self.codec).image for frame in frames])

    def _follow_parameters(self) -> None:
        """Take what may be set while the node runs."""
        self._detect.confidence = self.value("confidence")
        for outputs in self._outputs_of.values():
            for parameter, name in IMAGES.items():
                wanted = self.value(parameter)
                if wanted and parameter not in outputs.images:
                    # Reliable, for viewers ask for it; depth 1, for the newest is what they want.
                    outputs.images[parameter] = self.output(
                        Image, outputs.namespace + name, QoSProfile(depth=1)
                    )
                elif not wanted and parameter in outputs.images:
                    self.close_output(outputs.images.pop(parameter))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and work, and say what the detections' labels are."""
        result = super().on_activate(state)
        if result == TransitionCallbackReturn.SUCCESS:
            for outputs in self._outputs_of.values():
                outputs.detections.explain("", self.value("confidence"))
        return result

    def process_batch(self, frames: list[tuple[str, CompressedLatent]]) -> None:
        """Open each packet, find the persons in all images of a size at once, publish those of
        each camera.

        A detector of latents needs no image: then one is made only for who wants to see it. The
        seconds of ``detect`` are each frame's equal share of its call; the other stages are each
        frame's own.
        """
        # Images of one size go together: a detector may see one differently that is padded to
        # another's size.
        self._follow_parameters()
        looks = not isinstance(self._detect, LatentPersons)
        groups: dict[tuple[int, int], list[Frame]] = defaultdict(list)
        for topic, message in sorted(frames, key=lambda frame: coded_pixels(frame[1])):
            with self.worker.at_the_cost_of([topic]):
                self.check_age(message)  # what is too old by now costs no other camera its time
                shown = self._outputs_of[topic].images
                most = self._max_source_pixels if shown else PIXELS[1]
                opened = open_message(self.codec, message, self._max_pixels, most)
                frame = Frame(topic, message, opened)
                if looks:
                    frame.decode(self.codec)  # here, where what it takes is this camera's
                groups[opened.header.coded_size].append(frame)
        for group in groups.values():
            with self.worker.at_the_cost_of([frame.topic for frame in group]):
                started = time.perf_counter()
                found_in = self._find_in(group)
                share = (time.perf_counter() - started) / len(group)
                pairs = list(zip(group, found_in, strict=True))  # raises before anything goes out
                for frame, found in pairs:
                    with self.worker.at_the_cost_of([frame.topic]):
                        self._publish(frame, found)
                        bits_per_pixel = frame.opened.header.bits_per_pixel(
                            len(frame.message.packet)
                        )
                        seconds = frame.seconds | {"detect": share}
                        figures = {"bits per pixel": bits_per_pixel}
                        age = self.age_of(frame.message)
                        self.worker.sent(frame.topic, seconds, figures, age)

    def _publish(self, frame: Frame, found: Detections) -> None:
        """Publish who was found, in the pixels of the source, and the images that are asked for."""
        self.check_age(frame.message)
        found.boxes = frame.opened.header.to_source(found.boxes)
        header = frame.message.header
        outputs = self._outputs_of[frame.topic]
        outputs.detections.publish(found, header, self._detect.confidence)
        watched = {
            parameter: publisher
            for parameter, publisher in outputs.images.items()
            if publisher.get_subscription_count()
        }
        if not watched:
            return
        image = frame.decode(self.codec).at_source_size()
        for parameter, publisher in watched.items():
            annotated = parameter == "publish_annotated"
            shown = draw_boxes(image, found.boxes, found.scores) if annotated else image
            publisher.publish(from_rgb(shown, header))


def main(args: list[str] | None = None) -> None:
    """Run the server node."""
    run(ServerNode, args)


if __name__ == "__main__":
    main()
