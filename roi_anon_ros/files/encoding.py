"""Image and video files to files of packets. An interrupted video goes on after its last complete
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import numpy as np

from roi_anon_ros import files, storage
from roi_anon_ros.codec import DEFAULT_MAX_SIDE, Codec, Header, PacketError
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.image import coded_size
from roi_anon_ros.codec.latents import AUTO_QUALITY, check_quality, choose_quality
from roi_anon_ros.codec.lookahead import StreamFrame, encode_stream
from roi_anon_ros.codec.packet import unpack
from roi_anon_ros.files.packets import SEQUENCE_VERSION
from roi_anon_ros.files.progress import Track

if TYPE_CHECKING:  # what seals needs the extra
    from roi_anon_ros.seal import Sealer


@dataclass(frozen=True)
class Encoder:
    """A codec and how it is used on files.

    Attributes:
        codec: at work.
        max_side: as in :meth:`~roi_anon_ros.codec.codec.Codec.encode`; so is ``quality``.
        quality: 1 to 8, or 0 for what fits the size.
        zones: polygons ``[[x, y], ...]`` in pixels of the source that are always hidden.
        hold: seconds before and after a head is found for which its place is hidden in videos.
        rotation: degrees clockwise to stand upright: 0, 90, 180 or 270.
        helmets: whether heads with a helmet are painted with one.
        sealer: seals what is hidden; None: nothing is sealed.

    Raises:
        ValueError: names the field and the bound, or what this codec's model cannot do.
    """

    codec: Codec
    max_side: int = DEFAULT_MAX_SIDE
    quality: float = AUTO_QUALITY
    zones: list[list[list[float]]] = field(default_factory=list)
    hold: float = 0.5
    rotation: int = 0
    helmets: bool = False
    sealer: Sealer | None = None

    def __post_init__(self) -> None:
        coded_size(1, 1, self.max_side)
        object.__setattr__(self, "quality", check_quality(self.quality))
        self._make_hiding()
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation: got {self.rotation}, must be 0, 90, 180 or 270")
        asked = self.quality != AUTO_QUALITY or self.zones or self.rotation or self.helmets
        if not self.paints and asked:
            raise ValueError(f"model {self.codec.name}: has one rate and does not paint")
        if not self.paints and self.sealer is not None:
            raise ValueError(f"model {self.codec.name}: does not paint, nothing to seal")

    @property
    def paints(self) -> bool:
        """Whether the model paints, and has every rate."""
        return self.codec.model.latents.has_quality

    @property
    def turns(self) -> int:
        """The rotation in quarters."""
        return self.rotation // 90

    def is_own(self, header: Header) -> bool:
        """Whether a packet with this header is of this model, and of these settings."""
        size = header.source_size if self.turns % 2 == 0 else header.source_size[::-1]
        quality = choose_quality(self.quality, *header.coded_size) if self.paints else 0.0
        return (
            header.fingerprint.hex() == self.codec.fingerprint
            and coded_size(*size, self.max_side) == header.coded_size
            and header.turns == self.turns
            and header.quality == quality
        )

    def encode_image(self, image: np.ndarray) -> StreamFrame:
        """Encode an image that stands alone, uint8 ``[H, W, 3]`` RGB."""
        found = self.codec.find(image, self.max_side, self._make_hiding(), turns=self.turns)
        packet = self.codec.encode_found(found, self.quality).packet
        return StreamFrame(packet, Fraction(0), found)

    def encode_images(
        self, images: Iterable[tuple[np.ndarray, Fraction]], skip: int = 0
    ) -> Iterator[StreamFrame]:
        """Encode a video's images; see :func:`~roi_anon_ros.codec.lookahead.encode_stream`."""
        hiding = self._make_hiding()
        settings = (self.max_side, self.quality, self.turns)
        return encode_stream(self.codec, images, hiding, *settings, skip)

    def _make_hiding(self) -> Hiding:
        return Hiding(self.zones, self.hold, helmets=self.helmets)


@dataclass
class EncodedFile:
    """What is to be said of a file that was encoded.

    Attributes:
        notes: for people.
        losses: what of the images is missing, for people.
    """

    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


def encode_image_file(encoder: Encoder, source: Path, target: Path) -> EncodedFile:
    """Encode an image file; of an animation the first image.

    Args:
        encoder: at work.
        source: the image.
        target: for the packet; it gets the source's time. What is sealed goes next to it.

    Raises:
        ValueError, OSError: it cannot be read, encoded or written; nothing was written then.
    """
    modified = source.stat().st_mtime_ns
    file = files.read_image(source)
    frame = encoder.encode_image(file.image)
    storage.write_bytes(target, frame.packet, modified)
    if encoder.sealer is not None:
        with _SealFile(target, modified, encoder.sealer) as seals:
            seals.write(frame)
    return EncodedFile(list(file.notes))


def encode_video_file(
    encoder: Encoder, source: Path, target: Path, track: Track = lambda items, *_: items
) -> EncodedFile:
    """Encode a video file, after the frames that an interrupted run left.

    Args:
        encoder: at work.
        source: the video.
        target: for the packets, with their times; it gets the source's time, unless something of
            the video was lost. What is sealed goes next to it.
        track: shows how far it is.

    Raises:
        ValueError, OSError: it cannot be read, encoded or written. What is complete of an
            interrupted run stays for the next one, but not where the video is at fault.
    """
    modified = source.stat().st_mtime_ns
    video = files.Video(source)
    draft = storage.draft_of(target)
    done = EncodedFile()
    # What was sealed cannot be continued: its key was in memory only.
    fresh = encoder.sealer is not None
    left = _Left() if fresh else _read_left(draft, video.rate, modified, encoder.is_own)

    def images(start: int) -> Iterator[tuple[np.ndarray, Fraction]]:
        total = max(video.announced - start, 0) or None
        for frame in track(video.frames(start), total, source.name):
            yield frame.image, frame.time - video.begin

    if left.times:
        # The last frame once more, with what was found in its hold: only if it comes out the same
        # is this the same video, coded the same way.
        start = left.index_before(encoder.hold)
        packets = encoder.encode_images(images(start), len(left.times) - 1 - start)
        again = next(packets, None)
        if again is not None and again.packet == left.last:
            done.notes.append(f"continued after {len(left.times)} frames")
        else:
            left = _Left()
    if not left.times:
        packets = encoder.encode_images(images(0))
    try:
        count = _write_packets(encoder, packets, draft, video.rate, left, target, modified)
    except ValueError:  # not to be mended by going on
        draft.unlink(missing_ok=True)
        raise
    done.losses += video.losses
    done.notes += video.notes
    # One with losses does not count as done.
    storage.move_into_place(draft, target, time_ns() if done.losses else modified)
    if count < video.announced and not video.losses:  # no error: some containers only estimate it
        done.notes.append(f"{count} frames could be read, it announces {video.announced}")
    return done


def seal_of(target: Path) -> Path:
    """The file of what was sealed of the packets in a file."""
    return target.with_suffix(".seal")


def _write_packets(
    encoder: Encoder,
    packets: Iterable[StreamFrame],
    draft: Path,
    rate: Fraction,
    left: _Left,
    target: Path,
    modified_ns: int,
) -> int:
    """Write the packets of a video after what is left; return how many there are now."""
    count = len(left.times)
    last = left.times[-1] if left.times else None
    sealing = (
        _SealFile(target, modified_ns, encoder.sealer)
        if encoder.sealer is not None
        else nullcontext()
    )
    with files.SequenceWriter(draft, rate, left.end, last) as writer, sealing as seals:
        for frame in packets:
            writer.write(frame.packet, frame.time)
            if seals is not None:
                seals.write(frame)
            count += 1
        if count:
            writer.finish()
    if not count:
        raise ValueError("not a readable video: no frame in it")
    return count


class _SealFile:
    """Writes what is sealed of the packets in a file, next to it; a context that moves it into
    place where all went well.

    Args:
        target: the file of the packets.
        modified_ns: its time.
        sealer: at work.
    """

    def __init__(self, target: Path, modified_ns: int, sealer: Sealer) -> None:
        from roi_anon_ros.seal.file import SealedWriter

        self._path = seal_of(target)
        self._modified_ns = modified_ns
        self._sealer = sealer
        self._draft = storage.draft_of(self._path)
        self._writer = SealedWriter(self._draft)

    def __enter__(self) -> _SealFile:
        return self

    def write(self, frame: StreamFrame) -> None:
        """Append what is hidden of the next packet, sealed."""
        hidden = frame.found.hidden
        assert hidden is not None  # an encoder that seals has a model that paints
        time_ns = round(frame.time * 10**9)
        image = frame.found.image
        self._writer.write(self._sealer.seal(frame.packet, time_ns, image, hidden.regions.cells))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None:
                self._writer.finish()
        if kind is None:
            storage.move_into_place(self._draft, self._path, self._modified_ns)
        else:
            self._draft.unlink(missing_ok=True)


@dataclass
class _Left:
    """What an interrupted run left that is of use.

    Attributes:
        times: of the complete frames, seconds.
        end: the byte after them.
        last: the last packet.
    """

    times: list[Fraction] = field(default_factory=list)
    end: int = 0
    last: bytes = b""

    def index_before(self, hold: float) -> int:
        """The frame from which on all must be searched to know what is hidden in the last one."""
        first = float(self.times[-1]) - hold - 0.001  # times in files are rounded
        return next(index for index, time in enumerate(self.times) if time >= first)


def _read_left(
    draft: Path, rate: Fraction, modified_ns: int, is_own: Callable[[Header], bool]
) -> _Left:
    """The complete frames of an interrupted run; none where they are of another one."""
    left = _Left()
    if not draft.is_file() or draft.stat().st_mtime_ns < modified_ns:
        return left
    try:
        sequence = files.Sequence(draft)
        if sequence.rate != rate or sequence.version != SEQUENCE_VERSION:
            return left
        for packet, time in sequence.timed():
            if not is_own(unpack(packet)[0]):
                return _Left()
            left.times.append(time)
            left.end = sequence.end
            left.last = packet
    except PacketError:
        pass  # the frame at which it was interrupted: written again
    return left
