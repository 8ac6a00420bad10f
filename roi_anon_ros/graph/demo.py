"""The demo: the camera's place taken by files, real edge and server nodes, and what came out next
to the original.

It starts both nodes as separate processes, plays images to them over DDS, and writes for each
image a comparison as PNG and the detections as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from matplotlib.figure import Figure
from rclpy.qos import QoSProfile
from rich.console import Console
from rich.progress import Progress
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from roi_anon_msgs.msg import CompressedLatent
from roi_anon_ros.codec import DEFAULT_MODEL, find_painted
from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.regions import are_painted
from roi_anon_ros.detect import Detector, MtcnnFaces
from roi_anon_ros.detect.choice import DEFAULT, make_detector_or_ours
from roi_anon_ros.detect.quiet_ultralytics import EXAMPLE_PHOTOS, example_photo
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.files import Video, encode_image, read_pixels
from roi_anon_ros.graph.demo_results import QUALITY, summary, table
from roi_anon_ros.graph.processes import START_LIMIT, Graph, GraphError
from roi_anon_ros.graph.scene import describe, play_scene
from roi_anon_ros.nodes.base.images import draw_boxes, from_rgb, to_rgb
from roi_anon_ros.nodes.base.newest import newest_only
from roi_anon_ros.storage import IMAGE_SUFFIXES

#: Seconds that an image may take to come back.
IMAGE_LIMIT = 20.0
#: An image is played again where best effort lost it on the way.
TRIES = 3
#: Messages that may wait before an image is played.
WAITING = 50
#: Which of the nodes' stages count as encoding, decoding and detecting.
STAGES = {
    "encode": ("/edge", ("read", "fit", "analysis", "entropy", "pack")),
    "decode": ("/server", ("unpack", "entropy", "synthesis")),
    "detect": ("/server", ("detect",)),
}


@dataclass
class Delivery:
    """What came back for one image.

    Attributes:
        latent: the message that the edge node sent.
        detections: of the server node, in source pixels.
        decoded: uint8 ``[H, W, 3]`` RGB, the server's image at the source's size.
        annotated: the same with boxes.
        round_trip: seconds from the image's publication to the detections' arrival.
        milliseconds: of each node's stages for this frame, by (node, stage).
    """

    latent: CompressedLatent | None = None
    detections: Detection2DArray | None = None
    decoded: np.ndarray | None = None
    annotated: np.ndarray | None = None
    round_trip: float = 0.0
    milliseconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def arrived(self) -> bool:
        """Whether all messages have come back."""
        parts = (self.latent, self.detections, self.decoded, self.annotated)
        return all(part is not None for part in parts)

    def complete(self) -> bool:
        """Whether everything has come back, the times of the stages as well."""
        stages = {(node, stage) for node, names in STAGES.values() for stage in names}
        return self.arrived() and stages <= self.milliseconds.keys()

    def missing(self) -> str:
        """What has not come back, for an error."""
        for part, name in ((self.latent, "latent"), (self.detections, "detections")):
            if part is None:
                return name
        return "image_anonymized" if self.decoded is None else "image_annotated or diagnostics"


class Demo(Graph):
    """An edge and a server node, to which it plays images, collecting what comes back for them.

    Args:
        out: folder for the logs.
    """

    def __init__(self, out: Path) -> None:
        # To look at the topics, name the domain.
        domain = os.environ.get("ROS_DOMAIN_ID")
        self._header: Header | None = None
        self._delivery = Delivery()
        self._published = 0.0
        super().__init__(out, int(domain) if domain else None, name="demo")
        reliable = QoSProfile(depth=1)
        self._publisher = self.node.create_publisher(Image, "image_raw", reliable)
        listen = self.node.create_subscription
        listen(CompressedLatent, "latent", self._take("latent"), newest_only())
        listen(Detection2DArray, "detections", self._take("detections"), reliable)
        listen(Image, "image_anonymized", self._take("decoded", to_rgb), reliable)
        listen(Image, "image_annotated", self._take("annotated", to_rgb), reliable)

    def start_nodes(self, model: str, detector: str) -> None:
        """Start an edge and a server node."""
        # Uncompressed images are too large for best effort where shared memory is not to be had.
        edge: dict[str, Any] = {"qos_overrides./image_raw.subscription.reliability": "reliable"}
        server = {
            "detector": detector,
            "publish_anonymized": "true",
            "publish_annotated": "true",
            "qos_overrides./image_anonymized.publisher.reliability": "reliable",
            "qos_overrides./image_annotated.publisher.reliability": "reliable",
        }
        for name, parameters in (("edge", edge), ("server", server)):
            self.start_module(
                name, f"roi_anon_ros.nodes.{name}", model=model, autostart="true", **parameters
            )

    def connect(self) -> None:
        """Wait until both nodes are active and everybody has found everybody.

        Raises:
            GraphError: a node ended or reported an error, or takes too long.
        """
        self.wait_for(self._connected, "connection to both nodes", START_LIMIT, healthy=True)

    def _connected(self) -> bool:
        topics = ("latent", "detections", "image_anonymized", "image_annotated")
        return (
            self._publisher.get_subscription_count() > 0
            and all(self.node.count_publishers(topic) for topic in topics)
            and self.node.count_subscribers("latent") > 1
        )

    def play(
        self,
        image: np.ndarray,
        stamp: Time | None = None,
        whole: Callable[[Delivery], bool] = Delivery.complete,
    ) -> Delivery:
        """Publish one image and wait for everything that comes back.

        Args:
            image: uint8 ``[H, W, 3]``, RGB.
            stamp: of the image; None: now.
            whole: whether everything has come back.

        Raises:
            GraphError: it does not come back in time.
        """
        for _ in range(WAITING):
            self.spin(0.0)  # reports that came meanwhile are about the image before
        for attempt in range(1, TRIES + 1):
            self._delivery = Delivery()
            now = self.node.get_clock().now().to_msg()
            self._header = Header(stamp=stamp or now, frame_id="demo_camera")
            message = from_rgb(image, self._header)
            self._published = time.perf_counter()
            self._publisher.publish(message)
            try:
                self.wait_for(lambda: whole(self._delivery), "delivery", IMAGE_LIMIT)
                break
            except GraphError as error:
                if attempt == TRIES:
                    raise GraphError(
                        f"no {self._delivery.missing()} in {TRIES} tries: {error}"
                    ) from error
        return self._delivery

    def _take(
        self, name: str, read: Callable[[Any], Any] = lambda message: message
    ) -> Callable[[Any], None]:
        def callback(message: Any) -> None:
            arrived = time.perf_counter()
            if self._header is None or message.header != self._header:
                return
            setattr(self._delivery, name, read(message))
            if name == "detections":
                self._delivery.round_trip = arrived - self._published

        return callback

    def on_diagnostics(self, array: DiagnosticArray) -> None:
        """Note what nodes say of themselves, and how long they took for the image that is under
        way.
        """
        super().on_diagnostics(array)
        if self._delivery.detections is None:
            return
        # A report after the detections' arrival is about this frame: no other is under way.
        for status in array.status:
            node = status.name.partition(":")[0]
            for pair in status.values:
                if match := re.fullmatch(r"(\w+) last \(ms\)", pair.key):
                    self._delivery.milliseconds[node, match[1]] = float(pair.value)


def read_images(source: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and RGB images to play: a file, a folder, each second of a video, or ultralytics'
    two.
    """
    if source is None:
        files = [photo for name in EXAMPLE_PHOTOS if (photo := example_photo(name))]
    elif source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    else:
        files = [source]
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.stem, read_pixels(file)
        else:
            video = Video(file)
            step = max(round(float(video.rate)), 1)
            for index, frame in enumerate(video.frames()):
                if index % step == 0:
                    yield f"{file.stem}_{index:06d}", frame.image


def report(
    name: str,
    image: np.ndarray,
    delivery: Delivery,
    find_persons: Detector,
    find_faces: Detector,
) -> dict:
    """Everything measured for one image, as it is printed and written."""
    latent = delivery.latent
    found = delivery.detections
    decoded = delivery.decoded
    assert latent is not None and found is not None and decoded is not None  # it is complete
    fitted = resize(image, latent.coded_width, latent.coded_height)
    milliseconds: dict[str, float] = {}
    for stage, (node, names) in STAGES.items():
        milliseconds[stage] = sum(delivery.milliseconds[node, part] for part in names)
    total = 1000 * delivery.round_trip
    milliseconds["transport"] = max(total - sum(milliseconds.values()), 0.0)
    original = find_persons([image])[0]
    faces = find_faces([decoded])[0]
    painted = find_painted(bytes(latent.packet))
    stamps = int(are_painted(faces.boxes, painted).sum())
    return {
        "image": name,
        "model": latent.model_name,
        "fingerprint": bytes(latent.fingerprint).hex(),
        "source_size": [latent.source_width, latent.source_height],
        "coded_size": [latent.coded_width, latent.coded_height],
        "bytes": {
            "sent": len(latent.packet),
            "raw": image.nbytes,
            f"jpeg_q{QUALITY}": len(encode_image(fitted, "JPEG", quality=QUALITY)),
            f"avif_q{QUALITY}": len(encode_image(fitted, "AVIF", quality=QUALITY)),
        },
        "bits_per_pixel": 8 * len(latent.packet) / (latent.source_width * latent.source_height),
        "milliseconds": milliseconds | {"total": total},
        "persons": {"original": len(original.boxes), "decoded": len(found.detections)},
        "faces": {
            "original": len(find_faces([image])[0].boxes),
            "decoded": len(faces.boxes) - stamps,
            "stamps": stamps,
        },
        "detections": [
            {
                "class_id": detection.results[0].hypothesis.class_id,
                "score": round(detection.results[0].hypothesis.score, 4),
                "center": [detection.bbox.center.position.x, detection.bbox.center.position.y],
                "size": [detection.bbox.size_x, detection.bbox.size_y],
            }
            for detection in found.detections
        ],
        "original_boxes": original.boxes.round(1).tolist(),
        "original_scores": original.scores.round(4).tolist(),
    }


def draw(image: np.ndarray, delivery: Delivery, result: dict, path: Path) -> None:
    """Write original, decoded and annotated image side by side."""
    sent = result["bytes"]["sent"]
    persons = result["persons"]
    faces = result["faces"]
    boxes = np.array(result["original_boxes"], np.float32).reshape(-1, 4)
    before = f"original with {persons['original']} persons, {faces['original']} faces"
    after = f"decoded, {faces['decoded']} faces besides stamps"
    marked = draw_boxes(image, boxes, np.array(result["original_scores"]))
    panels = {
        f"{before}\n{image.nbytes:,} bytes": marked,
        f"{after}\n{sent:,} bytes, {result['bits_per_pixel']:.3f} bit/px": delivery.decoded,
        f"decoded with {persons['decoded']} persons\nmodel {result['model']}": delivery.annotated,
    }
    height, width = image.shape[:2]
    figure = Figure(figsize=(15, 5 * height / width + 0.8), dpi=100, layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(panel)
        axes.set_title(title)
        axes.set_axis_off()
    figure.savefig(path)


def demo(source: Path | None, out: Path, model: str, detector: str, console: Console) -> dict:
    """Run the demo.

    Returns:
        The summary.

    Raises:
        GraphError: the pipeline did not deliver.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    with Demo(out) as graph:
        graph.start_nodes(model, detector)
        with console.status("edge and server node: loading their networks"):
            find_persons = make_detector_or_ours(detector)
            find_faces = MtcnnFaces()
            graph.connect()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("playing", total=None)
            for name, image in read_images(source):
                progress.update(task, description=name)
                if not results:
                    graph.play(image)  # the first image pays for what a network sets up once
                delivery = graph.play(image)
                result = report(name, image, delivery, find_persons, find_faces)
                (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
                draw(image, delivery, result, out / f"{name}.png")
                progress.console.print(table(result))
                results.append(result)
                progress.update(task, completed=len(results))
        if source is None:
            with console.status("second scene: two people cross a yard"):
                found = play_scene(graph, out)
            console.print(describe(found, out), markup=False, highlight=False)
    if not results:
        raise GraphError(f"{source}: no images in it")
    total = summary(results)
    (out / "summary.json").write_text(json.dumps(total, indent=2) + "\n")
    return total


def main() -> None:
    """Run ``demo_node``; the exit code is 1 where the pipeline did not deliver."""
    parser = argparse.ArgumentParser(
        description="Images through a real edge and server node, compared."
    )
    parser.add_argument(
        "--input", type=Path, help="image, folder or video; default: ultralytics' two images"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="name or file of the codec's model (default: %(default)s)",
    )
    parser.add_argument(
        "--detector",
        default=DEFAULT,
        help="persons, the package's own; yolov8n; or a file (default: %(default)s)",
    )
    arguments = parser.parse_args()
    console = Console()
    try:
        total = demo(arguments.input, arguments.out, arguments.model, arguments.detector, console)
    except (RoiAnonError, ValueError, OSError) as error:
        console.print(
            f"demo failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(1)
    persons = total["persons"]
    faces = total["faces"]
    console.print(
        f"{total['images']} images at {total['bits_per_pixel']:.3f} bits per pixel: "
        f"persons {persons['original']} → {persons['decoded']}, faces {faces['original']} → "
        f"{faces['decoded']} besides {faces['stamps']} stamps, nobody's; "
        f"see {arguments.out}/*.png and *.json",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
