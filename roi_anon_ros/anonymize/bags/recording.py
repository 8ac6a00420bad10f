"""A whole recording: which topics are anonymized, which are copied, which are dropped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
import zstandard

from roi_anon_ros import storage
from roi_anon_ros.anonymize.bags.ways import CodecWay, TreatmentWay
from roi_anon_ros.anonymize.jobs import from_json, to_json
from roi_anon_ros.anonymize.regions import Region, Regions
from roi_anon_ros.files.bags.description import (
    INFORMATION,
    Becomes,
    Counts,
    changed_description,
)
from roi_anon_ros.files.bags.messages import (
    COMPRESSED,
    RAW,
    ImageMessage,
    is_depth,
    shows_images,
)
from roi_anon_ros.files.bags.storage import McapFile, SqliteFile, Topic
from roi_anon_ros.files.journals import JsonLines
from roi_anon_ros.files.progress import Track

SUFFIXES: dict[str, tuple[str, type[SqliteFile] | type[McapFile]]] = {
    "sqlite3": (".db3", SqliteFile),
    "mcap": (".mcap", McapFile),
}


class Recording:
    """A rosbag2 folder, or an MCAP file.

    Attributes:
        path: of it.
        files: of its messages, in order.
        topics: by name, with their messages in all files.
        description: rosbag2's, YAML; None of an MCAP file alone.

    Raises:
        ValueError: it is no such recording, or a damaged one.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description: str | None = None
        self._unpacked: tempfile.TemporaryDirectory | None = None
        self.packed_messages = False
        if path.is_dir():
            self.files = self._open_folder()
        elif path.suffix.lower() == ".mcap":
            self.files = [McapFile(path)]
        else:
            raise ValueError(
                f"{path}: must be a folder of rosbag2 (with metadata.yaml) or an .mcap file"
            )
        self.topics: dict[str, Topic] = {}
        for file in self.files:
            for topic in file.topics:
                if topic.name not in self.topics:
                    self.topics[topic.name] = Topic(
                        topic.name, topic.kind, topic.encoding, topic.definition
                    )
                known = self.topics[topic.name]
                if known.kind != topic.kind:
                    raise ValueError(
                        f"{topic.name}: got types {known.kind} and {topic.kind}, must be one"
                    )
                known.count += topic.count

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        if self._unpacked is not None:
            self._unpacked.cleanup()

    def _open_folder(self) -> list[SqliteFile | McapFile]:
        described = self.path / "metadata.yaml"
        if not described.is_file():
            raise ValueError(
                f"{self.path}: has no metadata.yaml; it is made by: ros2 bag reindex {self.path}"
            )
        self.description = described.read_text()
        try:
            info = yaml.safe_load(self.description)[INFORMATION]
            storage = info["storage_identifier"]
            names = [Path(name).name for name in info["relative_file_paths"]]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise ValueError(f"{described}: no description of a rosbag2: {error}") from error
        if storage not in SUFFIXES:
            raise ValueError(f"storage: got {storage!r}, must be one of {', '.join(SUFFIXES)}")
        if not names:
            raise ValueError(f"{described}: names no file")
        mode = str(info.get("compression_mode") or "").lower()
        if mode not in ("", "none", "file", "message"):
            raise ValueError(f"compression_mode: got {mode!r}, must be none, file or message")
        self.packed_messages = mode == "message"
        kind = SUFFIXES[storage][1]
        paths = [self.path / name for name in names]
        if mode == "file":
            paths = [self._unpack(path) for path in paths]
            info["compression_mode"] = ""
            info["compression_format"] = ""
            self.description = yaml.safe_dump(
                {INFORMATION: info}, sort_keys=False, allow_unicode=True
            )
        for path in paths:
            if not path.is_file():
                raise ValueError(f"{path}: is not there, and metadata.yaml names it")
        return [kind(path) for path in paths]

    def _unpack(self, path: Path) -> Path:
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryDirectory()
        target = Path(self._unpacked.name) / path.with_suffix("").name
        try:
            with path.open("rb") as packed, target.open("wb") as plain:
                zstandard.ZstdDecompressor().copy_stream(packed, plain)
        except zstandard.ZstdError as error:
            raise ValueError(f"{path}: no whole zstd file: {error}") from error
        return target

    def image_topics(self) -> list[str]:
        """Names of the topics whose messages may carry images."""
        return [
            topic.name
            for topic in self.topics.values()
            if shows_images(topic.kind, topic.definition)
        ]


@dataclass
class Report:
    """What was done.

    Attributes:
        topics: by name, what happened: ``action`` (``copied``, ``anonymized``, ``dropped``, ``depth
            only``), ``type``, ``messages``, ``written``, ``regions``, ``output`` and ``reasons`` of
            messages that were dropped.
        attachments: names of those that were dropped.
    """

    topics: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: list[str] = field(default_factory=list)


def anonymize_recording(
    recording: Recording,
    target: Path,
    chosen: Collection[str],
    keep: Collection[str],
    way: TreatmentWay | CodecWay,
    settings: dict[str, Any],
    track: Track,
) -> Report:
    """Write a recording anew, with the images of some topics anonymized.

    All other topics are copied byte for byte, except those whose messages may carry images: they
    are dropped, but for distances and for those that are to be kept. A message that cannot be read
    is dropped, and said in the report.

    Args:
        recording: that is read.
        target: folder of a rosbag2 or ``.mcap`` file, as the recording is; it stands there when it
            is complete.
        chosen: topics of raw or compressed images.
        keep: topics with images that are copied as they are.
        way: what images become.
        settings: all that regions depend on: what an interrupted run found under the same ones is
            used again.
        track: shows how far it is.

    Raises:
        ValueError: a topic is not there or holds no images, two would have one name, or the
            recording is damaged.
        OSError: it cannot be read or written.
    """
    _check(recording, chosen, keep)
    becomes = _becomes(recording, chosen, keep, way)
    journal = target.with_name(target.name + ".regions.jsonl.part")
    regions: dict[str, list[Regions | None]] = {}
    if isinstance(way, TreatmentWay):
        regions = _find(recording, chosen, way, journal, settings, track)
    worker = _Worker(recording, chosen, way, regions)
    total = sum(topic.count for name, topic in recording.topics.items() if name in becomes)
    worker.steps = iter(track(range(total), total, "write"))
    draft = storage.draft_of(target)
    _remove(draft)
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        counts = _write(recording, draft, becomes, worker)
        next(worker.steps, None)
        os.replace(draft, target)
    finally:
        _remove(draft)
    journal.unlink(missing_ok=True)
    return _report(recording, chosen, becomes, worker, counts)


class _Worker:
    """Converts messages, and counts what it drops and why."""

    def __init__(
        self,
        recording: Recording,
        chosen: Collection[str],
        way: TreatmentWay | CodecWay,
        regions: dict[str, list[Regions | None]],
    ) -> None:
        self._topics = recording.topics
        self._packed = recording.packed_messages
        self._chosen = chosen
        self._way = way
        self.regions = regions
        self.reasons: dict[str, Counter[str]] = {}
        self.offsets: Counter[str] = Counter()
        self.steps: Any = iter(())

    def __call__(self, topic: str, index: int, time: int, data: bytes) -> bytes | None:
        next(self.steps, None)
        kind = self._topics[topic].kind
        plain = unpack_message(data) if self._packed else data
        if topic not in self._chosen:
            if is_depth(kind, plain):
                return data
            self._drop(topic, "an image of a topic that was not named")
            return None
        found: tuple[Region, ...] = ()
        if topic in self.regions:
            regions = self.regions[topic][self.offsets[topic]]
            self.offsets[topic] += 1
            if regions is None:
                self._drop(topic, "cannot be read")
                return None
            found = regions.items
        try:
            made = self._way.message(topic, ImageMessage(kind, plain), found)
        except ValueError as error:
            self._drop(topic, str(error))
            return None
        return zstandard.ZstdCompressor().compress(made) if self._packed else made

    def _drop(self, topic: str, reason: str) -> None:
        self.reasons.setdefault(topic, Counter())[reason] += 1


def unpack_message(data: bytes) -> bytes:
    """One message of a rosbag2 that compresses each.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"data: got {len(data)} bytes that are no zstd: {error}") from error


def _check(recording: Recording, chosen: Collection[str], keep: Collection[str]) -> None:
    there = ", ".join(recording.image_topics()) or "none"
    if not chosen and not keep:
        raise ValueError(f"topic: got none, must be among those with images: {there}")
    for name in [*chosen, *keep]:
        if name not in recording.topics:
            raise ValueError(
                f"topic: got {name}, which is not in the recording; topics with images: {there}"
            )
    for name in chosen:
        topic = recording.topics[name]
        if name in keep:
            raise ValueError(f"keep: got {name}, which is to be anonymized")
        if topic.kind not in (RAW, COMPRESSED) or topic.encoding != "cdr":
            got = f"{topic.kind} as {topic.encoding}"
            raise ValueError(f"topic: got {name} of {got}, must be {RAW} or {COMPRESSED} as cdr")


def _becomes(
    recording: Recording,
    chosen: Collection[str],
    keep: Collection[str],
    way: TreatmentWay | CodecWay,
) -> dict[str, Becomes | None]:
    """What changes: the chosen topics, and those with images that are not kept."""
    becomes: dict[str, Becomes | None] = {}
    for name in recording.image_topics():
        kind = recording.topics[name].kind
        if name in chosen:
            becomes[name] = way.becomes(name, kind)
        elif name not in keep:
            # Whether a topic holds distances is known from its messages only.
            becomes[name] = Becomes(name) if _holds_depth(recording, name) else None
    stay = [name for name in recording.topics if name not in becomes]
    names = Counter(stay + [new.name for new in becomes.values() if new is not None])
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(
            f"topic: {', '.join(twice)} would be there twice; leave one of its sources out"
        )
    return becomes


def _holds_depth(recording: Recording, name: str) -> bool:
    kind = recording.topics[name].kind
    if kind not in (RAW, COMPRESSED):
        return False
    for file in recording.files:
        for topic, _, data in file.messages():
            if topic == name:
                return is_depth(kind, unpack_message(data) if recording.packed_messages else data)
    return False


def _find(
    recording: Recording,
    chosen: Collection[str],
    way: TreatmentWay,
    journal: Path,
    settings: dict[str, Any],
    track: Track,
) -> dict[str, list[Regions | None]]:
    """Regions of each message of the chosen topics; None of one that cannot be read."""
    state = [
        [file.path.name, file.path.stat().st_size, file.path.stat().st_mtime_ns]
        for file in recording.files
    ]
    total = sum(recording.topics[name].count for name in chosen)
    found: dict[str, list[Regions | None]] = {name: [] for name in chosen}
    times: dict[str, list[float]] = {name: [] for name in chosen}
    wanted = (item for file in recording.files for item in file.messages() if item[0] in found)
    with JsonLines(journal, {"settings": settings, "source": state}) as lines:
        known = lines.entries
        for index, (topic, time, data) in enumerate(track(wanted, total, "find")):
            if index < len(known):
                entry = known[index]
            else:
                entry = _search(way, recording, topic, data)
                lines.write(entry)
            size = entry["size"]
            regions = None
            if size is not None:
                regions = Regions(tuple(size), tuple(from_json(item) for item in entry["regions"]))
            found[topic].append(regions)
            times[topic].append(time / 1e9)
    for topic, listed in found.items():
        there = [index for index, regions in enumerate(listed) if regions is not None]
        read = [regions for regions in listed if regions is not None]
        filled = way.follow(read, [times[topic][i] for i in there])
        for index, regions in zip(there, filled, strict=True):
            listed[index] = regions
    return found


def _search(way: TreatmentWay, recording: Recording, topic: str, data: bytes) -> dict[str, Any]:
    try:
        plain = unpack_message(data) if recording.packed_messages else data
        image = ImageMessage(recording.topics[topic].kind, plain).image
    except ValueError as error:
        return {"size": None, "reason": str(error)}
    regions = way.find(image)
    return {"size": list(regions.size), "regions": [to_json(region) for region in regions.items]}


def _write(
    recording: Recording, draft: Path, becomes: dict[str, Becomes | None], worker: _Worker
) -> dict[str, Counts]:
    def describe(text: str) -> str:
        return changed_description(text, becomes, None)

    if recording.description is None:
        return {draft.name: recording.files[0].copy(draft, becomes, worker, describe)}
    draft.mkdir()
    counts = {}
    for file in recording.files:
        name = file.path.name
        counts[name] = file.copy(draft / name, becomes, worker, describe)
    (draft / "metadata.yaml").write_text(
        changed_description(recording.description, becomes, counts)
    )
    return counts


def _report(
    recording: Recording,
    chosen: Collection[str],
    becomes: dict[str, Becomes | None],
    worker: _Worker,
    counts: dict[str, Counts],
) -> Report:
    report = Report()
    for name, topic in recording.topics.items():
        new = becomes.get(name, Becomes(name))
        written = (
            0 if new is None else sum(file.topics.get(new.name, 0) for file in counts.values())
        )
        action = "copied"
        if name in chosen:
            action = "anonymized"
        elif name in becomes:
            action = "dropped" if new is None else "depth only"
        entry = {"action": action, "type": topic.kind, "messages": topic.count, "written": written}
        if new is not None and name in chosen:
            entry["output"] = new.name
            if name in worker.regions:
                entry["regions"] = sum(
                    len(regions) for regions in worker.regions[name] if regions is not None
                )
        if worker.reasons.get(name):
            entry["reasons"] = dict(worker.reasons[name])
        report.topics[name] = entry
    for file in counts.values():
        report.attachments += file.attachments
    return report


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
