"""The watchdog node: looks whether faces show in what cameras send, and raises the alarm."""

from __future__ import annotations

import time
from typing import Any

from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec.engines import SYNTHESIS
from roi_anon_ros.detect import MtcnnFaces, YunetFaces
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.evaluate.watchdog import DEFAULT_MOST, DEFAULT_WINDOW, Watchdog
from roi_anon_ros.nodes.base.codec_node import CodecNode
from roi_anon_ros.nodes.base.images import to_rgb
from roi_anon_ros.nodes.base.latents import PIXELS, SOURCE_PIXELS, decode
from roi_anon_ros.nodes.base.parameters import read_list
from roi_anon_ros.nodes.base.process import run

MTCNN = "mtcnn"
#: Seconds between two images of a camera that are looked at: least and most.
PERIODS = (0.0, 3600.0)
#: Images that may be looked back on.
WINDOWS = (1, 100_000)


class FaceAlarm(RoiAnonError):
    """More images show a face than should."""

    reason = "faces show"


class WatchdogNode(CodecNode):
    """Looks at a sample of each camera's images, decoded from its latents or of any image topic,
    for faces that are not painted ones.

    While more of them show a face than ``most`` allows, the camera's status is ERROR; with ``mute``
    its edge node is told to let nothing leave. No image, and no face, goes out or is kept.
    """

    role = "watchdog"
    stage = SYNTHESIS

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "latent_topics",
            ["latent"],
            "Topics of latents to look at; one may be given without brackets",
            dynamic_typing=True,
        )
        self.setting(
            "image_topics",
            [""],
            "Topics of images to look at; nothing is known of their paint, every face counts",
            dynamic_typing=True,
        )
        self.setting("detector", MTCNN, f"What finds faces: {MTCNN}, or a YuNet .onnx file")
        self.setting(
            "period",
            10.0,
            "Seconds between two images of a camera that are looked at",
            PERIODS,
            float,
        )
        self.setting("most", DEFAULT_MOST, "Share of the images that may show a face", (0.0, 0.99))
        self.setting("window", DEFAULT_WINDOW, "Images that are looked back on", WINDOWS)
        self.setting(
            "mute",
            False,
            "Tell the edge node in the camera's namespace to let nothing leave, on an alarm",
            check=bool,
        )
        self._watchdogs: dict[str, Watchdog] = {}

    def load(self) -> None:
        """Load the model, where there are latents to decode."""
        if self._topics_of("latent_topics"):
            super().load()

    def setup(self) -> dict[str, type]:
        """See :class:`NewestFramesNode`."""
        latents = self._topics_of("latent_topics")
        images = self._topics_of("image_topics")
        if not latents and not images:
            raise ValueError("latent_topics, image_topics: got none, must be one or more topics")
        self.say(f"loading detector {self.value('detector')}")
        name = self.value("detector")
        find_faces = MtcnnFaces() if name == MTCNN else YunetFaces(name)
        most = self.value("most")
        window = self.value("window")
        topics = dict.fromkeys(latents, CompressedLatent) | dict.fromkeys(images, Image)
        self._watchdogs = {topic: Watchdog(find_faces, most, window) for topic in topics}
        self._due = dict.fromkeys(topics, 0.0)
        self._told: set[str] = set()
        self._edges = {topic: self.create_client(SetBool, mute_service(topic)) for topic in topics}
        return topics

    def warm_up(self) -> None:
        """Run the synthesis once."""
        if self._codec is not None:
            super().warm_up()

    def unload(self) -> None:
        """Let model and clients go."""
        for client in getattr(self, "_edges", {}).values():
            self.destroy_client(client)
        self._edges = {}
        super().unload()

    def describe(self) -> dict[str, str]:
        """What was seen, of all cameras together where there are several."""
        said = super().describe()
        for topic, watchdog in self._watchdogs.items():
            mark = f"{topic}: " if len(self._watchdogs) > 1 else ""
            said |= {mark + name: value for name, value in watchdog.describe().items()}
        return said

    def process_batch(self, frames: list[tuple[str, Any]]) -> None:
        """Look at each frame that is due."""
        for topic, message in frames:
            with self.worker.at_the_cost_of([topic]):
                now = time.monotonic()
                watchdog = self._watchdogs[topic]
                if now < self._due[topic]:
                    if not watchdog.alarm:  # an alarm stays until a look ends it
                        self.worker.sent(topic, {}, {"share looked at": 0.0})
                    continue
                self._due[topic] = now + self.value("period")
                seconds = self._look(watchdog, message)
                if watchdog.alarm:
                    self._tell(topic)
                    raise FaceAlarm(watchdog.alarm)
                self._told.discard(topic)
                self.worker.sent(topic, seconds, {"share looked at": 1.0}, self.age_of(message))

    def _look(self, watchdog: Watchdog, message: CompressedLatent | Image) -> dict[str, float]:
        """Look at one frame; returns the seconds of each stage."""
        started = time.perf_counter()
        painted = None
        if isinstance(message, CompressedLatent):
            decoded = decode(self.codec, message, PIXELS[1], SOURCE_PIXELS)
            image = decoded.at_source_size()
            painted = decoded.painted_at_source_size()
        else:
            image = to_rgb(message)
        read = time.perf_counter()
        watchdog.look(image, painted)
        return {"read": read - started, "look": time.perf_counter() - read}

    def _tell(self, topic: str) -> None:
        """Mute the camera's edge once, where that is wanted."""
        if not self.value("mute") or topic in self._told:
            return
        client = self._edges[topic]
        if not client.service_is_ready():
            self.get_logger().error(f"{client.srv_name}: no such service, nothing is muted")
            return
        self._told.add(topic)
        client.call_async(SetBool.Request(data=True))
        self.get_logger().error(f"{client.srv_name}: told to let nothing leave")

    def _topics_of(self, parameter: str) -> list[str]:
        return read_list(parameter, self.value(parameter), "topics", least=0)


def mute_service(topic: str) -> str:
    """The service that mutes the edge node in a topic's namespace."""
    return topic[: topic.rfind("/") + 1] + "edge/mute"


def main(args: list[str] | None = None) -> None:
    """Run the watchdog node."""
    run(WatchdogNode, args)


if __name__ == "__main__":
    main()
