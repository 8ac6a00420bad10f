"""Recordings as they lie on disk: files of SQLite or MCAP, and rosbag2's description of them.

MCAP by ``mcap``, the implementation of those who keep the format; SQLite by Python's own
``sqlite3``. Both copy records as they are. Writers of whole recordings, such as that of
``rosbags``, write records anew and lose sequence numbers, publish times, attachments and metadata.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from mcap.exceptions import McapError
from mcap.records import Attachment, Channel, Chunk, DataEnd, Header, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

from roi_anon_ros.files.bags.description import Becomes, Counts
from roi_anon_ros.files.bags.messages import definition, type_hash

#: How chunks of MCAP are compressed, by the name that stands in them.
COMPRESSIONS = {"": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
#: What the readers of damaged chunks raise besides.
_BROKEN = (ValueError, EOFError, KeyError, RuntimeError, struct.error, zstandard.ZstdError)


@dataclass
class Topic:
    """A topic of a recording.

    Attributes:
        name: of the topic.
        kind: message type, such as ``sensor_msgs/msg/Image``.
        encoding: of its messages, such as ``cdr``.
        definition: text that defines the type, where the recording has it.
        count: messages.
    """

    name: str
    kind: str
    encoding: str
    definition: str = ""
    count: int = 0


#: Topic, number of the message in it from 0, time in nanoseconds, and data, to the data in the
#: output, None to drop it.
Convert = Callable[[str, int, int, bytes], bytes | None]


class SqliteFile:
    """A ``.db3`` file of a rosbag2.

    Raises:
        ValueError: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with closing(self._open()) as database:
                names = {
                    row[0]
                    for row in database.execute(
                        "SELECT name FROM sqlite_master WHERE type = 'table'"
                    )
                }
                if not {"topics", "messages"} <= names:
                    raise ValueError(f"{path}: no rosbag2: has no tables of topics and messages")
                texts = {}
                if "message_definitions" in names:
                    query = "SELECT topic_type, encoded_message_definition FROM message_definitions"
                    texts = dict(database.execute(query))
                counts = dict(
                    database.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id")
                )
                query = "SELECT id, name, type, serialization_format FROM topics"
                self.topics = [
                    Topic(name, kind, encoding, texts.get(kind, ""), counts.get(number, 0))
                    for number, name, kind, encoding in database.execute(query)
                ]
        except sqlite3.Error as error:
            raise ValueError(f"{path}: no readable rosbag2: {error}") from error

    def messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, time in nanoseconds and data of each message, in the order of the file."""
        with closing(self._open()) as database:
            names = dict(database.execute("SELECT id, name FROM topics"))
            for number, time, data in database.execute(
                "SELECT topic_id, timestamp, data FROM messages ORDER BY id"
            ):
                yield names[number], time, data

    def copy(
        self, target: Path, becomes: dict[str, Becomes | None], convert: Convert, describe: Any
    ) -> Counts:
        """Write the file anew.

        Args:
            target: file that is not there yet.
            becomes: topics that change, by their name; None: the topic is left out.
            convert: of the messages of topics in ``becomes``.
            describe: changes rosbag2's description (YAML) where the file holds one.
        """
        counts = Counts()
        with closing(self._open()) as source, closing(sqlite3.connect(target)) as out:
            out.execute("PRAGMA journal_mode = OFF")
            query = (
                "SELECT type, name, sql FROM sqlite_master "
                "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            )
            made = sorted(source.execute(query), key=lambda row: row[0] != "table")
            for kind, _, sql in made:
                if kind == "table":
                    out.execute(sql)
            for kind, name, _ in made:
                if kind == "table" and name != "messages":
                    _copy_table(source, out, name, becomes, describe)
            self._copy_messages(source, out, becomes, convert, counts)
            for kind, _, sql in made:
                if kind != "table":
                    out.execute(sql)
            out.commit()
        return counts

    def _copy_messages(
        self,
        source: sqlite3.Connection,
        out: sqlite3.Connection,
        becomes: dict[str, Becomes | None],
        convert: Convert,
        counts: Counts,
    ) -> None:
        names = dict(source.execute("SELECT id, name FROM topics"))
        numbers: dict[str, int] = {}
        for row in source.execute("SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"):
            number, topic_id, time, data = row
            name = names[topic_id]
            written = name
            if name in becomes:
                index = numbers.get(name, 0)
                numbers[name] = index + 1
                new = becomes[name]
                data = convert(name, index, time, data)
                if new is None or data is None:
                    continue
                written = new.name
            out.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", (number, topic_id, time, data))
            counts.add(written, time)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)


class McapFile:
    """An ``.mcap`` file, of a rosbag2 or alone.

    Raises:
        ValueError: it is no such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        topics: dict[str, Topic] = {}
        schemas: dict[int, Schema] = {}
        channels: dict[int, str] = {}
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                schema = schemas.get(record.schema_id)
                text = schema.data.decode(errors="replace") if schema else ""
                kind = schema.name if schema else ""
                topics.setdefault(
                    record.topic, Topic(record.topic, kind, record.message_encoding, text)
                )
                channels[record.id] = record.topic
            elif isinstance(record, Message):
                topics[channels[record.channel_id]].count += 1
        self.topics = list(topics.values())

    def messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, time in nanoseconds and data of each message, in the order of the file."""
        channels: dict[int, str] = {}
        for record in self._records():
            if isinstance(record, Channel):
                channels[record.id] = record.topic
            elif isinstance(record, Message):
                yield channels[record.channel_id], record.log_time, record.data

    def copy(
        self, target: Path, becomes: dict[str, Becomes | None], convert: Convert, describe: Any
    ) -> Counts:
        """Write the file anew, see :meth:`SqliteFile.copy`, without attachments of images."""
        copier = _McapCopier(becomes, convert, describe)
        with target.open("wb") as stream:
            copier.writer = Writer(stream, compression=self._compression())
            for record in self._records():
                copier.take(record)
            copier.writer.finish()
        return copier.counts

    def _records(self) -> Iterator[Any]:
        """All records up to the end of the data."""
        try:
            with self.path.open("rb") as stream:
                for record in StreamReader(stream, validate_crcs=True).records:
                    if isinstance(record, DataEnd):
                        return
                    yield record
        except (McapError, *_BROKEN) as error:
            hint = "; a recording that was cut off is mended by: mcap recover"
            raise ValueError(
                f"{self.path}: no whole MCAP file: {error or type(error).__name__}{hint}"
            ) from error

    def _compression(self) -> CompressionType:
        """How the source's chunks are compressed."""
        with self.path.open("rb") as stream:
            for record in StreamReader(stream, emit_chunks=True).records:
                if isinstance(record, Chunk):
                    return COMPRESSIONS[record.compression]
                if isinstance(record, (Message, DataEnd)):
                    break
        return CompressionType.NONE


class _McapCopier:
    """Writes the records of one file to another one."""

    writer: Writer

    def __init__(self, becomes: dict[str, Becomes | None], convert: Convert, describe: Any) -> None:
        self._becomes = becomes
        self._convert = convert
        self._describe = describe
        self._schemas: dict[int, Schema] = {}
        self._new_schemas: dict[tuple[str, bytes], int] = {}
        self._channels: dict[int, tuple[str, str, int]] = {}
        self._seen: set[int] = set()
        self._numbers: dict[str, int] = {}
        self.counts = Counts()

    def take(self, record: Any) -> None:
        """Write a record, or not."""
        if isinstance(record, Header):
            self.writer.start(record.profile, record.library)
        elif isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel):
            self._add_channel(record)
        elif isinstance(record, Message):
            self._add_message(record)
        elif isinstance(record, Attachment):
            name = record.name.lower()
            if record.media_type.startswith(("image/", "video/")) or name.endswith(
                IMAGE_ATTACHMENTS
            ):
                self.counts.attachments.append(record.name)
            else:
                self.writer.add_attachment(
                    record.create_time, record.log_time, record.name, record.media_type, record.data
                )
        elif isinstance(record, Metadata):
            content = dict(record.metadata)
            if "serialized_metadata" in content:
                content["serialized_metadata"] = self._describe(content["serialized_metadata"])
            self.writer.add_metadata(record.name, content)

    def _add_channel(self, channel: Channel) -> None:
        if channel.id in self._seen:
            return
        self._seen.add(channel.id)
        name = channel.topic
        metadata = channel.metadata
        schema = self._schemas.get(channel.schema_id)
        described = (schema.name, schema.encoding, schema.data) if schema else None
        if name in self._becomes:
            new = self._becomes[name]
            if new is None:
                return
            name = new.name
            if new.kind is not None and schema is not None and new.kind != schema.name:
                described = (new.kind, "ros2msg", definition(new.kind).encode())
                metadata = dict(metadata)
                if "topic_type_hash" in metadata:
                    metadata["topic_type_hash"] = type_hash(new.kind)
        number = self._add_schema(*described) if described else 0
        made = self.writer.register_channel(name, channel.message_encoding, number, metadata)
        self._channels[channel.id] = (channel.topic, name, made)

    def _add_schema(self, name: str, encoding: str, data: bytes) -> int:
        if (name, data) not in self._new_schemas:
            self._new_schemas[name, data] = self.writer.register_schema(name, encoding, data)
        return self._new_schemas[name, data]

    def _add_message(self, message: Message) -> None:
        if message.channel_id not in self._channels:
            return
        source, name, channel = self._channels[message.channel_id]
        data = message.data
        if source in self._becomes:
            index = self._numbers.get(source, 0)
            self._numbers[source] = index + 1
            converted = self._convert(source, index, message.log_time, data)
            if converted is None:
                return
            data = converted
        self.writer.add_message(
            channel, message.log_time, data, message.publish_time, message.sequence
        )
        self.counts.add(name, message.log_time)


#: Attachments with such names are images, whatever their media type says.
IMAGE_ATTACHMENTS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".mp4",
    ".mkv",
    ".avi",
    ".mov",
    ".gif",
)


def _copy_table(
    source: sqlite3.Connection,
    out: sqlite3.Connection,
    name: str,
    becomes: dict[str, Becomes | None],
    describe: Any,
) -> None:
    cursor = source.execute(f'SELECT * FROM "{name}"')
    columns = [column[0] for column in cursor.description]
    marks = ", ".join("?" * len(columns))
    used = _used_types(source, becomes)
    for values in cursor:
        row = dict(zip(columns, values, strict=True))
        if name == "topics" and row["name"] in becomes:
            new = becomes[row["name"]]
            if new is None:
                continue
            row["name"] = new.name
            if new.kind is not None and new.kind != row["type"]:
                row["type"] = new.kind
                if row.get("type_description_hash"):
                    row["type_description_hash"] = type_hash(new.kind)
        elif name == "message_definitions":
            if row["topic_type"] not in used:
                continue
            used.discard(row["topic_type"])
        elif name == "metadata":
            row["metadata"] = describe(row["metadata"])
        out.execute(f'INSERT INTO "{name}" VALUES ({marks})', list(row.values()))
    if name == "message_definitions":
        made = {new.kind for new in becomes.values() if new is not None and new.kind is not None}
        fields = "topic_type, encoding, encoded_message_definition, type_description_hash"
        for kind in sorted(used & made):
            values = (kind, "ros2msg", definition(kind), type_hash(kind))
            out.execute(f"INSERT INTO message_definitions ({fields}) VALUES (?, ?, ?, ?)", values)


def _used_types(source: sqlite3.Connection, becomes: dict[str, Becomes | None]) -> set[str]:
    """Types of the topics of the output."""
    used = set()
    for name, kind in source.execute("SELECT name, type FROM topics"):
        new = becomes.get(name, Becomes(name))
        if new is not None:
            used.add(new.kind or kind)
    return used
