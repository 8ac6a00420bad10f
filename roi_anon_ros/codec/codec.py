"""A model at work: images to packets and back. The nodes and the command line both go through
here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from roi_anon_ros.codec.engines import Stage, make_engine
from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.headmap import THRESHOLD, find_heads
from roi_anon_ros.codec.hiding import Hidden, Hiding, turn_zones
from roi_anon_ros.codec.image import DEFAULT_MAX_SIDE, check_image, coded_size, resize
from roi_anon_ros.codec.latents import AUTO_QUALITY, choose_quality
from roi_anon_ros.codec.modelfile import Model, find_model, load_model
from roi_anon_ros.codec.packet import (
    MAX_PIXELS,
    VERSION,
    VERSION_QUALITY,
    Header,
    pack,
    unpack,
)
from roi_anon_ros.codec.regions import Regions, paint


@dataclass(frozen=True)
class Found:
    """An image that is ready for the coding, and what is to be painted in it.

    Attributes:
        image: uint8 ``[h, w, 3]`` RGB, upright, at the coded size.
        source_size: width and height of the image, pixels.
        turns: quarter turns clockwise that set it upright.
        hidden: what is painted before the coding; None for models that hide in another way.
        seconds: time of each stage so far.
    """

    image: np.ndarray
    source_size: tuple[int, int]
    turns: int
    hidden: Hidden | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Encoded:
    """A packet and how it came about.

    Attributes:
        packet: bytes, see ``packet.py``.
        header: what the packet says of itself.
        seconds: time of each stage: fit, heads and paint where the model paints, analysis,
            entropy, pack.
        hidden: what was painted before the coding; None for models that hide in another way.
    """

    packet: bytes
    header: Header
    seconds: dict[str, float]
    hidden: Hidden | None = None

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole packet over the pixels of the source."""
        return self.header.bits_per_pixel(len(self.packet))


@dataclass(frozen=True)
class Opened:
    """What a packet holds, before an image is made of it.

    Attributes:
        latent: what the synthesis takes, ``[N, h, w]``.
        header: of the packet.
        seconds: time of each stage: unpack, entropy.
        regions: what was painted before the coding; empty for models that hide in another way.
    """

    latent: np.ndarray
    header: Header
    seconds: dict[str, float]
    regions: Regions


@dataclass(frozen=True)
class Decoded:
    """A decoded, anonymized image.

    Attributes:
        image: uint8 ``[h, w, 3]`` RGB at the coded size.
        header: of its packet.
        seconds: time of each stage: unpack, entropy, synthesis.
        regions: what was painted before the coding; empty for models that hide in another way.
    """

    image: np.ndarray
    header: Header
    seconds: dict[str, float]
    regions: Regions

    def at_source_size(self) -> np.ndarray:
        """The image at the camera's size and as it was mounted, uint8 ``[H, W, 3]`` RGB."""
        turned_back = np.rot90(self.image, self.header.turns)
        return resize(np.ascontiguousarray(turned_back), *self.header.source_size)

    def painted_at_source_size(self) -> np.ndarray:
        """Where the image at the camera's size shows paint, and nobody: bool ``[H, W]``."""
        return _mask_at_source_size(self.regions, self.header)


class Codec:
    """Encodes and decodes with one model; may be called from several threads.

    On one machine the bytes of a packet depend on the model, the image, the arguments of
    :meth:`encode` and the engine alone (``auto`` is the one that it chose). On another device, with
    another engine or version of it, a latent on the edge between two symbols may round to the other
    one: the packet differs a little, and decodes just as well. Every decoder reads the same symbols
    from a packet; the pixels that it makes of them may differ by a rounding.

    Args:
        model: at work.
        engine: what runs its networks, see :func:`~roi_anon_ros.codec.engines.make_engine`.

    Raises:
        ValueError: no such engine.
        EngineError: what the engine needs is not here.
    """

    def __init__(self, model: Model, engine: str = "torch") -> None:
        self.model = model
        self.engine = make_engine(engine, model)
        self._latents = model.latents

    @classmethod
    def load(cls, model: str, engine: str = "torch") -> Codec:
        """Load a model by its name or its file.

        Raises:
            ModelFileError: there is no such model, or its file is damaged, foreign or newer than
                this release.
            ValueError, EngineError: see :class:`Codec`.
        """
        return cls(load_model(find_model(model)), engine)

    def warm_up(self, stage: Stage, width: int = 640, height: int = 480) -> None:
        """Run one stage of the engine on an image of this size: the first one need not wait for it.

        Args:
            stage: one that the model has, see :func:`~roi_anon_ros.codec.engines.stages_of`.
            width: pixels.
            height: pixels.

        Raises:
            EngineError: the engine is not what the reference is.
        """
        stage.run(self.engine)(stage.example(self.model, width, height))

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.model.metadata["name"])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model, 16 hex digits."""
        return self.model.fingerprint.hex()

    def encode(
        self,
        image: np.ndarray,
        max_side: int = DEFAULT_MAX_SIDE,
        quality: float = AUTO_QUALITY,
        hiding: Hiding | None = None,
        stamp: float | None = None,
        turns: int = 0,
    ) -> Encoded:
        """Anonymize and compress one image.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, 16 to 8192 pixels a side.
            max_side: an image with a longer side is shrunk to it before the coding, pixels; 0:
                never.
            quality: 1 (fewest bits) to 8, of models that have every rate; 0: what fits the size.
            hiding: what is hidden besides the heads in this image, and for how long; one for each
                camera. None: the heads alone.
            stamp: of the image, seconds; None: it stands alone.
            turns: quarter turns clockwise that set the image upright, 0 to 3.

        Raises:
            ValueError: names the field and the bound.
        """
        return self.encode_found(self.find(image, max_side, hiding, stamp, turns), quality)

    def find(
        self,
        image: np.ndarray,
        max_side: int = DEFAULT_MAX_SIDE,
        hiding: Hiding | None = None,
        stamp: float | None = None,
        turns: int = 0,
    ) -> Found:
        """The first half of :meth:`encode`: fit an image, and find what is to be painted in it.

        Args, Raises: as :meth:`encode`.
        """
        check_image(image)
        if turns not in (0, 1, 2, 3):
            raise ValueError(f"turns: got {turns}, must be from 0 to 3")
        latents = self._latents
        if not latents.has_quality and (turns or (hiding is not None and hiding.zones)):
            raise ValueError(f"model {self.name}: does not paint; got zones or turns, must be none")
        height, width = image.shape[:2]
        clock = _Clock()
        upright = np.rot90(image, -turns) if turns else image
        coded = coded_size(upright.shape[1], upright.shape[0], max_side)
        fitted = resize(np.ascontiguousarray(upright), *coded)
        clock.lap("fit")
        hidden = None
        if latents.has_quality:
            scale = coded[0] / upright.shape[1], coded[1] / upright.shape[0]
            hiding = hiding or Hiding()
            zones = turn_zones(hiding.zones, (width, height), turns)
            find_heads = partial(self.find_heads, helmets=hiding.helmets)
            fitted, hidden = hiding.find(find_heads, fitted, zones, scale, stamp)
            clock.lap("heads")
        return Found(fitted, (width, height), turns, hidden, clock.seconds)

    def find_heads(
        self, image: np.ndarray, threshold: float = THRESHOLD, helmets: bool = False
    ) -> tuple[Regions, float]:
        """Find the heads in an image, see :func:`~roi_anon_ros.codec.headmap.find_heads`.

        Args:
            image: uint8 ``[H, W, 3]`` RGB at the coded size.
            threshold: on the probability of a head, 0 to 1.
            helmets: whether the regions say which heads wear one.
        """
        look = self.model.second_look
        return find_heads(self.engine.map_heads, image, threshold, look, helmets)

    def encode_found(self, found: Found, quality: float = AUTO_QUALITY) -> Encoded:
        """The second half of :meth:`encode`: paint, and compress.

        Args:
            found: from :meth:`find`.
            quality: as in :meth:`encode`.

        Raises:
            ValueError: the quality is out of bounds.
        """
        clock = _Clock(dict(found.seconds))
        latents = self._latents
        image = found.image
        regions = b""
        version = VERSION
        rate = 0.0
        if found.hidden is not None:
            version = VERSION_QUALITY
            rate = choose_quality(quality, image.shape[1], image.shape[0])
            image = paint(image, found.hidden.regions)
            regions = found.hidden.regions.to_bytes()
            clock.lap("paint")
        coded = (image.shape[1], image.shape[0])
        latent = self.engine.analyse(image)
        clock.lap("analysis")
        payload = latents.encode(latents.quantise(latent, rate), rate)
        clock.lap("entropy")
        factor = self.model.downsampling_factor
        padding = -coded[0] % factor, -coded[1] % factor
        mark = self.model.fingerprint
        header = Header(mark, found.source_size, coded, padding, version, rate, found.turns)
        packet = pack(header, payload, regions)
        clock.lap("pack")
        return Encoded(packet, header, clock.seconds, found.hidden)

    def decode(
        self, packet: bytes | bytearray | memoryview, max_pixels: int = MAX_PIXELS
    ) -> Decoded:
        """Decode one packet.

        Args:
            packet: bytes from anywhere; nothing is allocated or decoded before they are checked.
            max_pixels: a packet with more coded pixels is refused, which bounds memory and time.

        Raises:
            PacketError: damaged, of another model, too large, or not decodable; see its ``reason``.
        """
        return self.synthesise(self.open(packet, max_pixels))

    def open(self, packet: bytes | bytearray | memoryview, max_pixels: int = MAX_PIXELS) -> Opened:
        """The first half of :meth:`decode`: all but the image.

        Args, Raises: as :meth:`decode`.
        """
        clock = _Clock()
        header, payload, cells = unpack(packet)
        self._check(header, max_pixels)
        regions = Regions.from_bytes(cells, *header.coded_size)
        clock.lap("unpack")
        factor = self.model.downsampling_factor
        width, height = header.padded_size
        symbols = self._latents.decode(payload, header.quality, height // factor, width // factor)
        latent = self._latents.dequantise(symbols, header.quality)
        clock.lap("entropy")
        return Opened(latent, header, clock.seconds, regions)

    def synthesise(self, opened: Opened) -> Decoded:
        """The second half of :meth:`decode`: make the image.

        Args:
            opened: from :meth:`open`.

        Raises:
            EngineError: the engine is not what the reference is.
        """
        clock = _Clock(dict(opened.seconds))
        width, height = opened.header.coded_size
        image = np.ascontiguousarray(self.engine.synthesise(opened.latent)[:height, :width])
        clock.lap("synthesis")
        return Decoded(image, opened.header, clock.seconds, opened.regions)

    def latent(
        self, packet: bytes | bytearray | memoryview, max_pixels: int = MAX_PIXELS
    ) -> np.ndarray:
        """The quantised latent in a packet, float32 ``[N, h, w]``: all that a holder of the
        packet knows.

        Args:
            packet: as in :meth:`decode`.
            max_pixels: likewise.

        Raises:
            PacketError: as from :meth:`decode`.
        """
        return self.open(packet, max_pixels).latent.astype(np.float32)

    def _check(self, header: Header, max_pixels: int) -> None:
        if header.fingerprint != self.model.fingerprint:
            raise PacketError(
                "fingerprint",
                f"of model {header.fingerprint.hex()}, this is {self.name} {self.fingerprint}",
            )
        version = VERSION_QUALITY if self._latents.has_quality else VERSION
        if header.version != version:
            raise PacketError(
                "version", f"{header.version}, must be {version} for model {self.name}"
            )
        width, height = header.coded_size
        if width * height > max_pixels:
            raise PacketError(
                "size", f"{width}x{height} coded pixels, must be at most {max_pixels}"
            )
        factor = self.model.downsampling_factor
        if header.padding != (-width % factor, -height % factor):
            raise PacketError(
                "size", f"padding {header.padding}, must reach the next multiple of {factor}"
            )


def find_painted(packet: bytes | bytearray | memoryview) -> np.ndarray:
    """Where a packet shows paint, and nobody: bool ``[H, W]`` at the size of the source.

    Args:
        packet: of any model; one that does not paint has no such place.

    Raises:
        PacketError: it is damaged.
    """
    header, _, cells = unpack(packet)
    return _mask_at_source_size(Regions.from_bytes(cells, *header.coded_size), header)


def _mask_at_source_size(regions: Regions, header: Header) -> np.ndarray:
    """What is painted of a coded image, as the camera was mounted: bool ``[H, W]``."""
    mask = regions.mask(*header.coded_size)
    turned_back = np.ascontiguousarray(np.rot90(mask, header.turns)).astype(np.uint8)
    source = cv2.resize(turned_back, header.source_size, interpolation=cv2.INTER_NEAREST)
    return source.astype(bool)


class _Clock:
    """Seconds of each stage since the one before."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = {} if seconds is None else seconds
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
