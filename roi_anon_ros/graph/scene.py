"""The demo's second scene: two people cross a yard, and a map shows where they are found.

The images are made: a part of ultralytics' photo that shows two people moves over a floor of tiles,
as large as the camera would show it. So it is known where they are. The stamps are a simulated
clock's, so that they walk as fast on a slow machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Pillow
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from roi_anon_ros.detect.quiet_ultralytics import example_photo
from roi_anon_ros.files import read_pixels
from roi_anon_ros.graph.processes import START_LIMIT, GraphError
from roi_anon_ros.ground.cameras import Camera
from roi_anon_ros.ground.map import draw_map
from roi_anon_ros.ground.site import make_site
from roi_anon_ros.ground.twin import utc

if TYPE_CHECKING:
    from roi_anon_ros.graph.demo import Delivery, Demo

#: Images, and seconds between two of them.
FRAMES = 15
PERIOD = 0.2
#: Nanoseconds after an image at which the twin is asked for; it writes milliseconds.
AFTER = 2_000_000
PHOTO = "bus.jpg"
#: The part of the photo that moves: x0, y0, x1, y1 in pixels.
PART = (20, 330, 420, 1050)
#: Where it shows the feet of two people, pixels of the photo, and how tall the first one is there.
FEET = ((148, 903), (283, 860))
SHOWN_TALL = 508
#: Where the first begins and ends, metres, and that one's height.
WAY = ((2.9, 1.3), (3.3, -0.8))
TALL = 1.72
#: Side of a tile, metres.
TILE = 1.0
#: Colours of the tiles.
LIGHT = (172, 168, 160)
DARK = (150, 147, 141)
#: Colour of what lies beyond the floor.
SKY = (196, 206, 214)
#: The floor ends so far away, metres.
FLOOR_END = 25.0
#: A camera 1.6 m over the floor that looks along x, 8 degrees down.
SITE = {
    "site": "demo_yard",
    "frame": "site",
    "area": [[0.0, -4.0], [8.0, -4.0], [8.0, 4.0], [0.0, 4.0]],
    "cameras": {
        "camera": {
            "width": 1280,
            "height": 720,
            "distortion_model": "plumb_bob",
            "d": [],
            "k": [900.0, 0.0, 640.0, 0.0, 900.0, 360.0, 0.0, 0.0, 1.0],
            "position": [0.0, 0.0, 1.6],
            "orientation": [0.533660, -0.533660, 0.463904, -0.463904],
        }
    },
    "zones": {
        "crossing": {
            "kind": "watched",
            "polygon": [[3.0, -2.0], [5.0, -2.0], [5.0, 0.0], [3.0, 0.0]],
        }
    },
}


def site_camera() -> Camera:
    """The camera of the scene."""
    camera = make_site(SITE).cameras["camera"]
    assert camera.lens is not None and camera.pose is not None  # SITE has both
    return Camera(camera.name, camera.lens, camera.pose)


class Yard:
    """Makes the images of the scene, and knows where the people are.

    Args:
        photo: uint8 `[H, W, 3]`, RGB, that shows two people at FEET.
    """

    def __init__(self, photo: np.ndarray) -> None:
        self._camera = site_camera()
        self._floor = _draw_floor(self._camera)
        x0, y0, x1, y1 = PART
        self._part = Pillow.fromarray(photo[y0:y1, x0:x1])

    def image(self, seconds: float) -> np.ndarray:
        """The image at a time from the beginning, uint8 `[720, 1280, 3]`, RGB."""
        corner, scale = self._lay(seconds)
        width = round(scale * self._part.width)
        height = round(scale * self._part.height)
        part = self._part.resize((width, height), Pillow.Resampling.LANCZOS)
        image = Pillow.fromarray(self._floor)
        image.paste(part, tuple(np.round(corner).astype(int).tolist()))
        return np.asarray(image)

    def places(self, seconds: float) -> np.ndarray:
        """Where the people are at a time from the beginning, (2, 2), metres."""
        corner, scale = self._lay(seconds)
        pixels = corner + scale * (np.array(FEET) - PART[:2])
        places, _ = _cast(self._camera, pixels)
        return places

    def _lay(self, seconds: float) -> tuple[np.ndarray, float]:
        """Upper left corner of the part in the image, pixels, and its scale."""
        share = min(seconds / (PERIOD * (FRAMES - 1)), 1.0)
        begin, end = np.array(WAY)
        x, y = begin + share * (end - begin)
        feet, head = self._camera.project(np.array([[x, y, 0.0], [x, y, TALL]]))
        scale = (feet[1] - head[1]) / SHOWN_TALL
        return feet - scale * (np.array(FEET[0]) - PART[:2]), float(scale)


def _cast(camera: Camera, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places on the floor (N, 2), metres, of pixels (N, 2), and which of them are on it, (N,)."""
    rays = camera.rays(pixels)
    with np.errstate(divide="ignore"):
        reach = -camera.pose.position[2] / rays[:, 2]
    places = camera.pose.position[:2] + reach[:, None] * rays[:, :2]
    return places, (reach > 0) & (places[:, 0] < FLOOR_END)


def _draw_floor(camera: Camera) -> np.ndarray:
    """Tiles as the camera sees them, uint8 `[H, W, 3]`."""
    width = camera.lens.width
    height = camera.lens.height
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    places, on_floor = _cast(camera, np.column_stack([columns.ravel(), rows.ravel()]))
    tiles = np.floor(np.where(on_floor[:, None], places, 0.0) / TILE).astype(int)
    light = tiles.sum(1) % 2 == 0
    colours = np.where(light[:, None], LIGHT, DARK)
    colours = np.where(on_floor[:, None], colours, SKY)
    return colours.reshape(height, width, 3).astype(np.uint8)


@dataclass(frozen=True)
class Found:
    """What came of the scene.

    Attributes:
        cycles: of the twin, one after each image.
        image: the last, as the camera gave it.
        delivery: of the last.
        errors: metres from where each of the people was at the end to where somebody was found.
    """

    cycles: list[dict[str, Any]]
    image: np.ndarray
    delivery: Delivery
    errors: list[float]


def start_people(graph: Demo, out: Path) -> None:
    """Start a people node that knows the scene's camera, and whose time is told on ``/clock``.

    Args:
        graph: that it belongs to.
        out: folder for the site file.
    """
    site = out / "site.yaml"
    site.write_text(json.dumps(SITE, indent=1) + "\n")
    graph.start_module(
        "people",
        "roi_anon_ros.nodes.people",
        {"camera/detections": "detections"},
        site=site,
        use_sim_time="true",
        twin_period=0.05,
        autostart="true",
    )


def play_scene(graph: Demo, out: Path) -> Found:
    """Play the scene to nodes that are up, and to a people node.

    Args:
        graph: with an edge and a server node.
        out: folder for the site file, the twin's cycles and the comparison.

    Returns:
        What came of it.

    Raises:
        GraphError: something did not come in time, or the photo is not there.
    """
    photo = example_photo(PHOTO)
    if photo is None:
        raise GraphError(f"{PHOTO}: the installed ultralytics does not have it")
    yard = Yard(read_pixels(photo))
    start_people(graph, out)
    clock = graph.node.create_publisher(Clock, "/clock", 10)
    twins: list[String] = []
    graph.node.create_subscription(String, "twin", twins.append, 10)

    def cycle_at(now: Time) -> dict[str, Any]:
        """Set the clock, and wait until the twin speaks of that time."""
        twins.clear()
        wanted = utc(now.nanoseconds * 1e-9)

        def arrived() -> dict[str, Any] | None:
            clock.publish(Clock(clock=now.to_msg()))
            cycles = [json.loads(message.data) for message in twins]
            return next((cycle for cycle in cycles if cycle["time"] == wanted), None)

        return graph.wait_for(arrived, "twin", START_LIMIT)

    def is_whole(delivery: Delivery) -> bool:
        """Whether all came back, and the twin knows the image that is of now."""
        if not delivery.arrived() or not twins:
            return False
        (camera,) = json.loads(twins[-1].data)["cameras"]
        return camera["age"] is not None and camera["age"] < PERIOD / 2

    begin = graph.now()
    cycle_at(Time(nanoseconds=begin))
    cycles = []
    for number in range(FRAMES):
        image = yard.image(PERIOD * number)
        now = begin + round(1e9 * PERIOD * (number + 1))
        cycle_at(Time(nanoseconds=now))
        stamp = Time(nanoseconds=now).to_msg()
        delivery = graph.play(image, stamp, is_whole)
        cycles.append(cycle_at(Time(nanoseconds=now + AFTER)))
    lines = [json.dumps(cycle) + "\n" for cycle in cycles]
    recording = out / "scene.jsonl"
    recording.write_text("".join(lines))
    errors = _errors(cycles[-1], yard.places(PERIOD * (FRAMES - 1)))
    found = Found(cycles, image, delivery, errors)
    draw(found, photograph_page(recording, out / "page.png"), out / "scene.png")
    return found


def _errors(cycle: dict[str, Any], places: np.ndarray) -> list[float]:
    """Metres from each place to the nearest person of a cycle; infinite where there is none."""
    seen = np.array([person["position"][:2] for person in cycle["people"]]).reshape(-1, 2)
    if not len(seen):
        return [float("inf")] * len(places)
    away = np.linalg.norm(places[:, None] - seen[None], axis=2)
    return away.min(1).tolist()


def describe(found: Found, out: Path) -> str:
    """What a person wants to know of the scene.

    Args:
        found: what came of it.
        out: folder with its files.
    """
    people = len(found.cycles[-1]["people"])
    errors = " and ".join(f"{100 * error:.0f} cm" for error in found.errors)
    return (
        f"two people cross a yard: {people} on the map of {out / 'scene.png'}, {errors} from where "
        f"they are; to replay it: roi-anon twin {out / 'scene.jsonl'}"
    )


def photograph_page(recording: Path, path: Path) -> np.ndarray | None:
    """What the twin's page shows at the end of a recording, uint8 `[H, W, 3]`, RGB.

    Returns:
        None without a Chromium or the extra `twin`.
    """
    try:
        from roi_anon_ros.ground.page.photograph import photograph
    except ImportError:
        return None
    return read_pixels(path) if photograph(recording, path) else None


def draw(found: Found, page: np.ndarray | None, path: Path) -> None:
    """Write the last image, what the server decoded, what it found there, and the twin.

    Args:
        found: what came of the scene.
        page: the twin's page, uint8 `[H, W, 3]`, RGB; None: a map of the same is drawn.
        path: of the PNG.
    """
    figure = Figure(figsize=(15, 9.4), dpi=100, layout="constrained")
    people = len(found.cycles[-1]["people"])
    latent = found.delivery.latent
    detections = found.delivery.detections
    decoded = found.delivery.decoded
    annotated = found.delivery.annotated
    assert latent is not None and detections is not None  # all four have arrived
    assert decoded is not None and annotated is not None
    panels = {
        "camera": found.image,
        f"decoded from {len(latent.packet):,} bytes": decoded,
        f"{len(detections.detections)} detections": annotated,
    }
    if page is not None:
        panels["the twin's page"] = page
    axes: Sequence[Axes] = figure.subplots(2, 2).ravel()
    for one, (title, panel) in zip(axes, panels.items(), strict=False):
        one.imshow(panel)
        one.set_title(title)
        one.set_axis_off()
    if page is None:
        draw_map(axes[-1], found.cycles)
        axes[-1].set_title(f"from above: {people} people, metres")
    figure.savefig(path)
