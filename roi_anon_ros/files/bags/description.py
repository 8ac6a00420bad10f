"""rosbag2's description of a recording, and what of it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from roi_anon_ros.files.bags.messages import type_hash

INFORMATION = "rosbag2_bagfile_information"


@dataclass(frozen=True)
class Becomes:
    """What a topic is called in the output, and of which type; None keeps it."""

    name: str
    kind: str | None = None


@dataclass
class Counts:
    """What was written to one file.

    Attributes:
        topics: messages of each topic, by its name in the output.
        first: time of the first message, nanoseconds; None without any.
        last: likewise.
        attachments: names of attachments that were dropped.
    """

    topics: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    attachments: list[str] = field(default_factory=list)

    def add(self, topic: str, time: int) -> None:
        """Count a message."""
        self.topics[topic] = self.topics.get(topic, 0) + 1
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)


def changed_description(
    text: str, becomes: dict[str, Becomes | None], counts: dict[str, Counts] | None
) -> str:
    """rosbag2's description of a recording with changed topics.

    Args:
        text: YAML, with or without its outer key.
        becomes: as in :meth:`~roi_anon_ros.files.bags.storage.SqliteFile.copy`.
        counts: of each file, by its name in the output; None where they are not known yet, and
            numbers stay.
    """
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        return text
    info = content.get(INFORMATION, content)
    topics = []
    for entry in info.get("topics_with_message_count") or []:
        topic = entry["topic_metadata"]
        if topic["name"] in becomes:
            new = becomes[topic["name"]]
            if new is None:
                continue
            topic["name"] = new.name
            if new.kind is not None and new.kind != topic["type"]:
                topic["type"] = new.kind
                if topic.get("type_description_hash"):
                    topic["type_description_hash"] = type_hash(new.kind)
        if counts is not None:
            entry["message_count"] = sum(
                file.topics.get(topic["name"], 0) for file in counts.values()
            )
        topics.append(entry)
    info["topics_with_message_count"] = topics
    if counts is not None:
        _count_files(info, counts)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _count_files(info: dict[str, Any], counts: dict[str, Counts]) -> None:
    info["relative_file_paths"] = list(counts)
    info["message_count"] = sum(
        entry["message_count"] for entry in info["topics_with_message_count"]
    )
    _set_times(info, list(counts.values()))
    files = info.get("files") or []
    for entry, (name, file) in zip(files, counts.items(), strict=False):
        entry["path"] = name
        entry["message_count"] = sum(file.topics.values())
        _set_times(entry, [file])


def _set_times(entry: dict[str, Any], counts: list[Counts]) -> None:
    starts = [file.first for file in counts if file.first is not None]
    ends = [file.last for file in counts if file.last is not None]
    if starts:
        entry["starting_time"] = {"nanoseconds_since_epoch": min(starts)}
        entry["duration"] = {"nanoseconds": max(ends) - min(starts)}
    else:
        entry["duration"] = {"nanoseconds": 0}
