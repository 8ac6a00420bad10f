"""``roi-anon bag``: real recordings of several topics, read back by another library."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

mcap_writer = pytest.importorskip("mcap.writer")
rosbag2 = pytest.importorskip("rosbags.rosbag2")

from mcap.reader import make_reader  # noqa: E402
from rosbags.interfaces import (  # noqa: E402
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys import Stores, get_typestore  # noqa: E402

from roi_anon_ros.anonymize.bags import recording  # noqa: E402
from roi_anon_ros.cli import app  # noqa: E402
from roi_anon_ros.files.bags import messages  # noqa: E402
from roi_anon_ros.files.bags.messages import LATENT_FIELDS, ImageMessage, shows_images  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STORE = get_typestore(Stores.ROS2_JAZZY)
RAW = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
WIDTH = 64
HEIGHT = 48
COUNT = 4
#: Topics and their types. The first two are anonymized.
TOPICS = {
    "/front/image_raw": RAW,
    "/rear/image/compressed": COMPRESSED,
    "/hidden/image_raw": RAW,
    "/depth/image_raw": RAW,
    "/front/camera_info": "sensor_msgs/msg/CameraInfo",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/log": "std_msgs/msg/String",
    "/never": "std_msgs/msg/String",
}
CHOSEN = ["--topic", "/front/image_raw", "--topic", "/rear/image/compressed"]
BEST_EFFORT = Qos(
    QosHistory.KEEP_LAST,
    5,
    QosReliability.BEST_EFFORT,
    QosDurability.VOLATILE,
    QosTime(2147483647, 4294967295),
    QosTime(2147483647, 4294967295),
    QosLiveliness.AUTOMATIC,
    QosTime(2147483647, 4294967295),
    False,
)

Messages = list[tuple[str, int, bytes]]


def made(kind: str) -> Any:
    return STORE.types[kind]


def header(index: int) -> Any:
    stamp = made("builtin_interfaces/msg/Time")(100 + index, 7)
    return made("std_msgs/msg/Header")(stamp, f"camera_{index}")


def raw(index: int, encoding: str, pixels: np.ndarray) -> bytes:
    data = pixels.view(np.uint8).reshape(-1)
    step = pixels.nbytes // HEIGHT
    message = made(RAW)(header(index), HEIGHT, WIDTH, encoding, 0, step, data)
    return bytes(STORE.serialize_cdr(message, RAW))


def photo(index: int) -> np.ndarray:
    draw = np.random.default_rng(index)
    return draw.integers(50, 250, (HEIGHT, WIDTH, 3), np.uint8)


def content() -> Messages:
    """Messages of all topics, mixed, with odd times."""
    listed: Messages = []
    for index in range(COUNT):
        time = 1_700_000_000_000_000_000 + index * 100_000_001
        stream = io.BytesIO()
        Image.fromarray(photo(index)).save(stream, "JPEG", quality=90)
        jpeg = np.frombuffer(stream.getvalue(), np.uint8)
        compressed = made(COMPRESSED)(header(index), "jpeg", jpeg)
        depth = np.full((HEIGHT, WIDTH), 1500 + index, np.uint16)
        text = made("std_msgs/msg/String")(f"Ünï {index}")
        transforms = made("tf2_msgs/msg/TFMessage")([])
        listed += [
            ("/front/image_raw", time, raw(index, "bgr8", photo(index))),
            (
                "/rear/image/compressed",
                time + 1,
                bytes(STORE.serialize_cdr(compressed, COMPRESSED)),
            ),
            ("/hidden/image_raw", time + 2, raw(index, "rgb8", photo(index))),
            ("/depth/image_raw", time + 3, raw(index, "16UC1", depth)),
            ("/tf", time + 4, bytes(STORE.serialize_cdr(transforms, "tf2_msgs/msg/TFMessage"))),
            (
                "/log",
                time + 5,
                bytes(STORE.serialize_cdr(text, "std_msgs/msg/String")) + b"\0" * index,
            ),
            ("/front/camera_info", time + 6, bytes([0, 1, 0, 0, index, 1, 2, 3, 4, 5, 6, 7])),
        ]
    return listed


def write_rosbag2(path: Path, plugin: Any, mode: Any = None) -> None:
    writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
    writer.set_custom_data("site", "hall 3")
    with writer:
        connections = {
            name: writer.add_connection(
                name, kind, typestore=STORE, offered_qos_profiles=[BEST_EFFORT]
            )
            for name, kind in TOPICS.items()
        }
        for name, time, data in content():
            writer.write(connections[name], time, data)


def write_mcap(path: Path) -> None:
    with path.open("wb") as stream:
        writer = mcap_writer.Writer(stream, chunk_size=8000)
        writer.start("ros2", "a test")
        channels = {}
        for name, kind in TOPICS.items():
            text = STORE.generate_msgdef(kind, ros_version=2)[0].encode()
            schema = writer.register_schema(kind, "ros2msg", text)
            qos = {"offered_qos_profiles": f"- depth: {len(name)}"}
            channels[name] = writer.register_channel(name, "cdr", schema, qos)
        for index, (name, time, data) in enumerate(content()):
            writer.add_message(channels[name], time, data, time - 12345, index)
        writer.add_attachment(3, 4, "map.yaml", "text/plain", b"resolution: 0.05")
        writer.add_attachment(3, 4, "view.jpg", "application/octet-stream", b"\xff\xd8")
        writer.add_metadata("site", {"hall": "3"})
        writer.finish()


WRITERS: dict[str, Callable[[Path], None]] = {
    "sqlite3": lambda path: write_rosbag2(path, rosbag2.StoragePlugin.SQLITE3),
    "rosbag2-mcap": lambda path: write_rosbag2(path, rosbag2.StoragePlugin.MCAP),
    "mcap": write_mcap,
}


def read(path: Path) -> Messages:
    """By another library than the one that wrote it."""
    if path.is_file():
        with path.open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True)
            return [
                (c.topic, m.log_time, m.data)
                for _, c, m in reader.iter_messages(log_time_order=False)
            ]
    with rosbag2.Reader(path) as reader:
        return [
            (connection.topic, time, bytes(data)) for connection, time, data in reader.messages()
        ]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bag", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def zones(tmp_path: Path) -> list[object]:
    """The left half is masked."""
    path = tmp_path / "zones.json"
    path.write_text("[[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]")
    return ["--region", f"polygon:{path}", "--treatment", "mask:0", "--feather", 0]


def paths(tmp_path: Path, kind: str) -> tuple[Path, Path]:
    suffix = ".mcap" if kind == "mcap" else ""
    return tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"


def check_images(before: Messages, after: Messages) -> None:
    for topic in ("/front/image_raw", "/rear/image/compressed"):
        kind = TOPICS[topic]
        old = [message for message in before if message[0] == topic]
        new = [message for message in after if message[0] == topic]
        assert [message[1] for message in old] == [message[1] for message in new]
        for was, now in zip(old, new, strict=True):
            message = STORE.deserialize_cdr(now[2], kind)
            assert message.header == STORE.deserialize_cdr(was[2], kind).header
            image = ImageMessage(kind, now[2]).image.astype(int)
            original = ImageMessage(kind, was[2]).image
            exact = kind == RAW
            assert image[:, : WIDTH // 2 - 8].max() <= (0 if exact else 40)
            right = np.s_[:, WIDTH // 2 + 8 :]
            assert np.abs(image[right] - original[right]).mean() <= (0 if exact else 6)
            if exact:
                assert message.encoding == "bgr8"


@pytest.mark.parametrize("kind", WRITERS)
def test_all_other_topics_are_copied_byte_for_byte(
    tmp_path: Path, zones: list[object], kind: str
) -> None:
    source, target = paths(tmp_path, kind)
    WRITERS[kind](source)
    code, output = run(source, target, *CHOSEN, *zones)
    assert code == 0, output
    before = read(source)
    after = read(target)
    changed = {"/front/image_raw", "/rear/image/compressed", "/hidden/image_raw"}
    assert [m for m in after if m[0] not in changed] == [m for m in before if m[0] not in changed]
    assert len([m for m in after if m[0] == "/depth/image_raw"]) == COUNT
    assert not [m for m in after if m[0] == "/hidden/image_raw"]
    check_images(before, after)
    report = json.loads((tmp_path / f"{target.name}.report.json").read_text())
    actions = {name: entry["action"] for name, entry in report["topics"].items()}
    assert actions["/front/image_raw"] == actions["/rear/image/compressed"] == "anonymized"
    assert actions["/hidden/image_raw"] == "dropped" and actions["/depth/image_raw"] == "depth only"
    assert actions["/log"] == actions["/tf"] == actions["/front/camera_info"] == "copied"
    assert report["topics"]["/front/image_raw"]["regions"] == COUNT
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("kind", ["sqlite3", "rosbag2-mcap"])
def test_rosbag2_keeps_qos_types_and_custom_data(
    tmp_path: Path, zones: list[object], kind: str
) -> None:
    source, target = paths(tmp_path, kind)
    WRITERS[kind](source)
    assert run(source, target, *CHOSEN, *zones)[0] == 0
    with rosbag2.Reader(source) as old, rosbag2.Reader(target) as new:
        was = {c.topic: (c.msgtype, c.msgdef, c.digest, c.ext) for c in old.connections}
        now = {c.topic: (c.msgtype, c.msgdef, c.digest, c.ext) for c in new.connections}
        del was["/hidden/image_raw"]
        assert now == was and "/never" in now
        assert new.message_count == old.message_count - COUNT == len(read(target))
        assert (new.start_time, new.end_time) == (old.start_time, old.end_time)
    info = yaml.safe_load((target / "metadata.yaml").read_text())[recording.INFORMATION]
    assert info["custom_data"] == {"site": "hall 3"}
    assert info["files"][0]["message_count"] == info["message_count"]


def test_sqlite_keeps_its_row_numbers(tmp_path: Path, zones: list[object]) -> None:
    source, target = paths(tmp_path, "sqlite3")
    WRITERS["sqlite3"](source)
    assert run(source, target, *CHOSEN, *zones)[0] == 0
    query = (
        "SELECT m.id, m.timestamp, t.name, t.offered_qos_profiles "
        "FROM messages m JOIN topics t ON t.id = topic_id"
    )
    rows = []
    for folder in (source, target):
        database = sqlite3.connect(next(folder.glob("*.db3")))
        rows.append([row for row in database.execute(query) if row[2] != "/hidden/image_raw"])
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
    assert rows[0] == rows[1]


def test_mcap_keeps_stamps_numbers_attachments_and_metadata(
    tmp_path: Path, zones: list[object]
) -> None:
    source, target = paths(tmp_path, "mcap")
    write_mcap(source)
    code, output = run(source, target, *CHOSEN, *zones)
    assert code == 0 and "attachment view.jpg" in output
    found = []
    for path in (source, target):
        with path.open("rb") as stream:
            reader = make_reader(stream)
            stamps = [
                (c.topic, s.name, s.data, c.metadata, m.log_time, m.publish_time, m.sequence)
                for s, c, m in reader.iter_messages(log_time_order=False)
                if c.topic != "/hidden/image_raw"
            ]
            attachments = [(a.name, a.create_time, a.data) for a in reader.iter_attachments()]
            metadata = [(m.name, m.metadata) for m in reader.iter_metadata()]
            names = {channel.topic for channel in reader.get_summary().channels.values()}
            found.append((stamps, attachments, metadata, names, reader.get_header()))
    assert found[0][0] == found[1][0]
    assert found[1][1] == [("map.yaml", 3, b"resolution: 0.05")]
    assert found[0][2] == found[1][2] == [("site", {"hall": "3"})]
    assert found[0][3] - found[1][3] == {"/hidden/image_raw"}
    assert found[0][4] == found[1][4]


def test_a_topic_can_be_kept(tmp_path: Path, zones: list[object]) -> None:
    source, target = paths(tmp_path, "sqlite3")
    WRITERS["sqlite3"](source)
    assert run(source, target, *CHOSEN, "--keep", "/hidden/image_raw", *zones)[0] == 0
    hidden = [[m for m in read(path) if m[0] == "/hidden/image_raw"] for path in (source, target)]
    assert hidden[0] == hidden[1] and len(hidden[0]) == COUNT


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
def test_compressed_recordings(tmp_path: Path, zones: list[object], mode: str) -> None:
    source, target = paths(tmp_path, "sqlite3")
    write_rosbag2(source, rosbag2.StoragePlugin.SQLITE3, getattr(rosbag2.CompressionMode, mode))
    code, output = run(source, target, *CHOSEN, *zones)
    assert code == 0, output
    before = read(source)
    after = read(target)
    assert [m for m in after if m[0] == "/log"] == [m for m in before if m[0] == "/log"]
    check_images(before, after)


def test_what_cannot_be_read_is_dropped_and_said(tmp_path: Path, zones: list[object]) -> None:
    source, target = paths(tmp_path, "mcap")
    write_mcap(source)
    code, output = run(source, target, "--topic", "/depth/image_raw", *zones)
    assert code == 1 and f"{COUNT} messages dropped" in output
    assert not [m for m in read(target) if m[0] in TOPICS and "image" in m[0]]


def test_an_interrupted_run_uses_what_was_found(
    tmp_path: Path, zones: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = paths(tmp_path, "sqlite3")
    WRITERS["sqlite3"](source)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recording, "_write", stop)
        assert run(source, target, *CHOSEN, *zones)[0] == 130
    assert not target.exists()
    journal = tmp_path / "out.regions.jsonl.part"
    assert len(journal.read_text().splitlines()) == 1 + 2 * COUNT
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_search", stop)  # nothing is searched again
        assert run(source, target, *CHOSEN, *zones)[0] == 0
    check_images(read(source), read(target))
    assert not journal.exists()


@pytest.mark.slow
def test_the_codec_makes_latents_and_decoded_images(tmp_path: Path) -> None:
    source, target = paths(tmp_path, "rosbag2-mcap")
    WRITERS["rosbag2-mcap"](source)
    code, output = run(source, target, *CHOSEN, "--model", "fast")
    assert code == 0, output
    with rosbag2.Reader(target) as reader:
        kinds = {c.topic: (c.msgtype, c.digest) for c in reader.connections}
    assert kinds["/front/image_raw/latent"] == (
        messages.LATENT,
        messages.type_hash(messages.LATENT),
    )
    assert "/rear/image/latent" in kinds and "/front/image_raw" not in kinds
    latents = [m for m in read(target) if m[0] == "/front/image_raw/latent"]
    latent = messages._store().deserialize_cdr(latents[1][2], messages.LATENT)
    assert (latent.source_width, latent.source_height, latent.model_name) == (WIDTH, HEIGHT, "fast")
    assert latent.header.frame_id == "camera_1"
    from roi_anon_ros.codec import Codec

    codec = Codec.load("fast")
    decoded = codec.decode(latent.packet.tobytes()).at_source_size()
    again = tmp_path / "decoded"
    assert run(source, again, *CHOSEN, "--model", "fast", "--to", "compressed")[0] == 0
    images = [m for m in read(again) if m[0] == "/front/image_raw/compressed"]
    image = ImageMessage(COMPRESSED, images[1][2]).image.astype(int)
    assert np.abs(image - decoded).mean() < 6


def test_the_latent_is_defined_as_its_message_is() -> None:
    text = (ROOT / "roi_anon_msgs" / "msg" / "CompressedLatent.msg").read_text()
    fields = re.findall(r"^[^#\s].*$", text, re.MULTILINE)
    assert LATENT_FIELDS.splitlines() == fields


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "8UC1", "8UC3", "rgba8", "bgra8"])
def test_pixels_come_back_in_their_encoding(encoding: str) -> None:
    channels = {"mono8": 1, "8UC1": 1, "rgba8": 4, "bgra8": 4}.get(encoding, 3)
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, channels), np.uint8)
    pixels[..., 3:] = 255
    data = raw(1, encoding, pixels)
    message = ImageMessage(RAW, data)
    assert message.replaced(message.image) == data


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "uyvy"])
def test_other_pixels_come_back_as_rgb8(encoding: str) -> None:
    pixels = np.full((HEIGHT, WIDTH, 2 if encoding == "uyvy" else 1), 120, np.uint8)
    message = ImageMessage(RAW, raw(1, encoding, pixels))
    again = STORE.deserialize_cdr(message.replaced(message.image), RAW)
    assert (again.encoding, again.step, again.height) == ("rgb8", 3 * WIDTH, HEIGHT)


@pytest.mark.parametrize("field", ["encoding", "width", "step", "data"])
def test_a_damaged_image_names_its_field(field: str) -> None:
    message = STORE.deserialize_cdr(raw(1, "rgb8", photo(1)), RAW)
    values = {"encoding": "rgb99", "width": 0, "step": 3, "data": message.data[:-1]}
    setattr(message, field, values[field])
    with pytest.raises(ValueError, match=f"^{field}: got"):
        ImageMessage(RAW, bytes(STORE.serialize_cdr(message, RAW)))
    with pytest.raises(ValueError, match="^data: got 3 bytes"):
        ImageMessage(RAW, b"abc")


def test_types_that_carry_images_are_known() -> None:
    for kind in (
        RAW,
        COMPRESSED,
        "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
        "foxglove.CompressedVideo",
    ):
        assert shows_images(kind)
    assert shows_images("vision_msgs/msg/Detection2D", "MSG: sensor_msgs/Image\nuint32 height")
    for kind in (
        "sensor_msgs/msg/CameraInfo",
        "visualization_msgs/msg/ImageMarker",
        "std_msgs/msg/String",
    ):
        assert not shows_images(kind)


def test_wrong_recordings_are_refused_and_leave_nothing(
    tmp_path: Path, zones: list[object]
) -> None:
    source, target = paths(tmp_path, "mcap")
    write_mcap(source)
    whole = source.read_bytes()
    arguments = [source, target, *CHOSEN, *zones]
    for damaged in (whole[: len(whole) // 2], b"", b"no mcap at all"):
        source.write_bytes(damaged)
        code, output = run(*arguments)
        assert code == 2 and "no whole MCAP file" in output
    source.write_bytes(whole)
    assert run(source, tmp_path / "out", *CHOSEN, *zones)[0] == 2
    for topic, named in (("/nowhere", "not in the recording"), ("/log", "must be sensor_msgs")):
        code, output = run(source, target, "--topic", topic, *zones)
        assert code == 2 and named in output
    code, output = run(source, target, *zones)
    assert code == 2 and "/front/image_raw" in output
    (tmp_path / "empty").mkdir()
    code, output = run(tmp_path / "empty", tmp_path / "out", *CHOSEN, *zones)
    assert code == 2 and "ros2 bag reindex" in output
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in.mcap", "zones.json", "empty"}
    target.write_bytes(b"")
    assert run(*arguments)[0] == 2 and target.read_bytes() == b""
