"""One file anonymized. An interrupted video goes on with what was found so far."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roi_anon_ros import storage
from roi_anon_ros.anonymize.anonymizer import Anonymizer
from roi_anon_ros.anonymize.regions import Region, Regions
from roi_anon_ros.anonymize.tracks import fill_gaps
from roi_anon_ros.files.images import FORMATS, image_bytes, read_image
from roi_anon_ros.files.journals import JsonLines
from roi_anon_ros.files.progress import Track
from roi_anon_ros.files.videos import READABLE, Frame, Video, write_video

#: Frames of a video that a report's sheet shows.
SHOWN = 4
#: Longer side of an image on a sheet, pixels.
THUMB = 240


@dataclass
class Treated:
    """What was done with one file.

    Attributes:
        images: treated: 1, or the frames of a video.
        regions: for each image that has any, its number from 0, its time in seconds (0 for an
            image) and its regions.
        notes: for people.
        losses: what of the images is missing, for people.
        damaged: places that could not be decoded, and are left out.
        thumbs: some of the results, small, uint8 RGB.
    """

    images: int = 0
    regions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    damaged: int = 0
    thumbs: list[np.ndarray] = field(default_factory=list)


def anonymize_image(
    anonymizer: Anonymizer, source: Path, target: Path, keep_metadata: bool
) -> Treated:
    """Anonymize an image file.

    Raises:
        ValueError, OSError: it cannot be read or written, or is an animation; nothing was written
            then.
    """
    file = read_image(source)
    if file.frames != 1:
        raise ValueError(
            f"frames: got {file.frames}, must be 1: an animation cannot be treated as an image"
        )
    regions = anonymizer.find(file.image)
    out = anonymizer.treat(file.image, regions, str(source))
    kept = dict(file.metadata)
    if not keep_metadata:
        kept.pop("exif", None)
    storage.write_bytes(target, image_bytes(out, target.suffix, kept), source.stat().st_mtime_ns)
    return Treated(1, _listed([regions], [0.0]), file.notes, thumbs=[thumb(out)])


def anonymize_video(
    anonymizer: Anonymizer,
    source: Path,
    target: Path,
    sound: bool,
    hold: float,
    settings: dict[str, Any],
    track: Track,
) -> Treated:
    """Anonymize a video: find all regions, follow each object to and fro, then treat.

    Args:
        anonymizer: at work.
        source: file.
        target: file, with a suffix of :data:`~roi_anon_ros.files.videos.CODECS`.
        sound: whether it is kept.
        hold: seconds that a region stays before and after its object was found, 0 or more.
        settings: all that the regions depend on: what was found under others is not used again.
        track: shows how far it is.

    Raises:
        ValueError, OSError: it cannot be read or written. No video was written then; what was found
            stays for the next time in a file next to the target.
    """
    video = Video(source)
    state = source.stat()
    head = {"settings": settings, "source": [state.st_size, state.st_mtime_ns]}
    journal = target.with_name(target.name + ".regions.jsonl.part")
    found, times = find_all(anonymizer, video, journal, head, track)
    filled = fill_gaps(found, times, hold)
    listed = _listed(filled, times)
    done = Treated(len(filled), listed, list(video.notes), video.losses, video.damaged)
    shown = {len(filled) * i // SHOWN for i in range(SHOWN)}

    def treated() -> Iterator[Frame]:
        frames = track(video.frames(), len(filled), f"{source.name}: treat")
        for index, frame in enumerate(frames):
            if index >= len(filled):
                raise ValueError(f"frames: got more than {index}, the file changes")
            out = anonymizer.treat(frame.image, filled[index], str(source))
            if index in shown:
                done.thumbs.append(thumb(out))
            yield Frame(out, frame.time)

    draft = storage.draft_of(target)
    sound_of = source if sound else None
    written = write_video(draft, target.suffix, treated(), video.rate, video.time_base, sound_of)
    if written != len(filled):
        draft.unlink()
        raise ValueError(
            f"frames: got {written} of {len(filled)} at the second reading, the file changes"
        )
    storage.move_into_place(draft, target, state.st_mtime_ns)
    journal.unlink()
    return done


def find_all(
    anonymizer: Anonymizer, video: Video, journal: Path, head: dict[str, Any], track: Track
) -> tuple[list[Regions], list[float]]:
    """The regions of each frame and its time, those of an interrupted run out of its journal."""
    found: list[Regions] = []
    times: list[float] = []
    with JsonLines(journal, head) as lines:
        known = lines.entries
        frames = track(video.frames(), video.announced or None, "find")
        for index, frame in enumerate(frames):
            size = (frame.image.shape[1], frame.image.shape[0])
            if index < len(known):
                regions = Regions(size, tuple(from_json(item) for item in known[index]["regions"]))
            else:
                regions = anonymizer.find(frame.image)
                lines.write({"regions": [to_json(region) for region in regions.items]})
            found.append(regions)
            times.append(float(frame.time))
    return found, times


def to_json(region: Region) -> dict[str, Any]:
    """A region as JSON holds it, whole."""
    content: dict[str, Any] = {
        "box": list(region.box),
        "shape": region.shape,
        "label": region.label,
        "score": region.score,
        "track": region.track,
    }
    if region.landmarks is not None:
        content["landmarks"] = region.landmarks.tolist()
    if region.mask is not None:
        png = cv2.imencode(".png", region.mask.astype(np.uint8))[1]
        content["mask"] = base64.b64encode(png.tobytes()).decode()
    return content


def from_json(content: dict[str, Any]) -> Region:
    """A region out of what :func:`to_json` made."""
    fields = dict(content)
    fields["box"] = tuple(content["box"])
    if "landmarks" in content:
        fields["landmarks"] = np.array(content["landmarks"], np.float32)
    if "mask" in content:
        png = np.frombuffer(base64.b64decode(content["mask"]), np.uint8)
        mask = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError("mask: no PNG")
        fields["mask"] = mask > 0
    return Region(**fields)


def thumb(image: np.ndarray) -> np.ndarray:
    """A small copy for a sheet."""
    scale = min(THUMB / max(image.shape[:2]), 1)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def sheet(thumbs: Sequence[np.ndarray], across: int = 6) -> np.ndarray:
    """A contact sheet: small images, uint8 ``[h, w, 3]``, side by side on white."""
    down = -(-len(thumbs) // across)
    cell = THUMB + 8
    page = np.full((down * cell, min(across, len(thumbs)) * cell, 3), 255, np.uint8)
    for index, image in enumerate(thumbs):
        top = index // across * cell + (cell - image.shape[0]) // 2
        left = index % across * cell + (cell - image.shape[1]) // 2
        page[top : top + image.shape[0], left : left + image.shape[1]] = image
    return page


def taken(source: Path) -> str | None:
    """What is done with a file of this name: ``"image"``, ``"video"``, or None."""
    suffix = source.suffix.lower()
    if suffix in FORMATS:
        return "image"
    return "video" if suffix in READABLE else None


def _listed(regions: Sequence[Regions], times: Sequence[float]) -> list[dict[str, Any]]:
    """What a report says of regions: where and what, and nothing that describes a face."""
    listed = []
    for index, (frame, seconds) in enumerate(zip(regions, times, strict=True)):
        if not len(frame):
            continue
        items = []
        for region in frame.items:
            box = [round(side, 1) for side in region.box]
            item = {
                "box": box,
                "shape": region.shape,
                "label": region.label,
                "score": round(region.score, 3),
            }
            if region.track >= 0:
                item["track"] = region.track
            items.append(item)
        listed.append({"image": index, "seconds": round(seconds, 3), "regions": items})
    return listed
