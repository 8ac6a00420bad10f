"""The anonymizer node: images in, the same images with regions treated out, without a codec."""

from __future__ import annotations

import time
from pathlib import Path

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from roi_anon_ros.anonymize import make_anonymizer
from roi_anon_ros.anonymize.anonymizer import FEATHER
from roi_anon_ros.anonymize.tracks import Tracker
from roi_anon_ros.nodes.base.image_inputs import declare_inputs, image_topic, levels, read_image
from roi_anon_ros.nodes.base.images import from_rgb
from roi_anon_ros.nodes.base.newest import NewestFramesNode
from roi_anon_ros.nodes.base.parameters import read_list
from roi_anon_ros.nodes.base.process import run

#: Seconds for which a region stays where its object is missed.
HOLD = 0.5
#: Longest hold, seconds.
LONGEST_HOLD = 60.0
#: What found boxes may grow by at most.
MOST_GROWTH = 4.0


class AnonymizerNode(NewestFramesNode):
    """Treats regions of the newest image of ``image_raw`` and publishes it as
    ``image_anonymized``, with the header, the size and so the ``camera_info`` of its source.

    It fails closed: an image whose regions cannot be found or treated, for whatever reason, is
    dropped.
    """

    role = "anonymizer"
    loss = True

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "region",
            ["face"],
            "What is hidden, as `roi-anon anonymize --region` names it; one may be given without "
            "brackets",
            dynamic_typing=True,
        )
        self.setting("treatment", "blur", "What it becomes, as --treatment names it")
        self.setting(
            "grow",
            0.0,
            "What found boxes are grown by, at least 1; 0: what fits the region",
            (0.0, MOST_GROWTH),
        )
        self.setting(
            "feather", FEATHER, "Width of the soft edge, over a region's longer side", (0.0, 1.0)
        )
        self.setting(
            "hold",
            HOLD,
            "Seconds for which a region stays where its object is missed",
            (0.0, LONGEST_HOLD),
        )
        self.setting(
            "pose", "", "MediaPipe's pose_landmark_*.tflite: persons become masks; empty: boxes"
        )
        self.setting(
            "match", "mean", "Light and colour of realistic faces: mean, histogram, latent, none"
        )
        self.setting(
            "key", "", "File of secret bytes that decide who becomes which face; empty: drawn anew"
        )
        declare_inputs(self)

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        topics = image_topic(self)
        regions = read_list("region", self.value("region"), "regions")
        self.say(f"loading what finds {' '.join(regions)}, fetched where it is not here yet")
        pose = self.value("pose")
        key = self.value("key")
        self._anonymizer = make_anonymizer(
            regions,
            self.value("treatment"),
            self.value("grow") or None,
            self.value("feather"),
            Path(pose) if pose else None,
            self.value("match"),
            Path(key) if key else None,
        )
        self._tracker = Tracker(self.value("hold"))
        self._images = self.output(Image, "image_anonymized", QoSProfile(depth=1))
        return topics

    def describe(self) -> dict[str, str]:
        """What is hidden, and what it becomes."""
        return {"region": str(self.value("region")), "treatment": self.value("treatment")}

    def process(
        self, topic: str, message: Image | CompressedImage
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Treat one image, and publish it."""
        started = time.perf_counter()
        image = read_image(message)
        read = time.perf_counter()
        found = self._anonymizer.find(image)
        hidden = self._tracker(found, seconds_of(message))
        searched = time.perf_counter()
        # The topic's whole name: with one key, track 3 of another camera is somebody else.
        treated = self._anonymizer.treat(image, hidden, self.resolve_topic_name(topic))
        finished = time.perf_counter()
        self.check_age(message)
        self._images.publish(from_rgb(treated, message.header))
        seconds = {
            "read": read - started,
            "find": searched - read,
            "treat": finished - searched,
        }
        figures = {"regions": float(len(found)), "regions held": float(len(hidden) - len(found))}
        return seconds, figures | levels(message)


def seconds_of(message: Image | CompressedImage) -> float:
    """The time of an image: its stamp, or this machine's clock where it was never stamped."""
    stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
    return stamp if stamp > 0 else time.monotonic()


def main(args: list[str] | None = None) -> None:
    """Run the anonymizer node."""
    run(AnonymizerNode, args)


if __name__ == "__main__":
    main()
