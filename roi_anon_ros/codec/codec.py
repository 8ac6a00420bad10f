"""A model at work: pictures to packets and back. The nodes and the command line both go through
here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from roi_anon_ros.codec.engines import Half, make_engine
from roi_anon_ros.codec.errors import PacketError
from roi_anon_ros.codec.modelfile import Model, find_model, load_model
from roi_anon_ros.codec.packet import MAX_PIXELS, Header, pack, unpack
from roi_anon_ros.codec.picture import MAX_SIDE, check_picture, coded_size, resize


@dataclass(frozen=True)
class Encoded:
    """A packet and how it came about.

    Attributes:
        packet: bytes, see ``packet.py``.
        header: what the packet says of itself.
        seconds: time of each stage: fit, analysis, entropy, pack.
    """

    packet: bytes
    header: Header
    seconds: dict[str, float]

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole packet over the pixels of the source."""
        return self.header.bits_per_pixel(len(self.packet))


@dataclass(frozen=True)
class Decoded:
    """A decoded, anonymized picture.

    Attributes:
        image: uint8 ``[h, w, 3]`` RGB at the coded size.
        header: of its packet.
        seconds: time of each stage: unpack, entropy, synthesis.
    """

    image: np.ndarray
    header: Header
    seconds: dict[str, float]

    def at_source_size(self) -> np.ndarray:
        """The picture at the camera's size, uint8 ``[H, W, 3]`` RGB."""
        return resize(self.image, *self.header.source_size)


class Codec:
    """Encodes and decodes with one model; may be called from several threads.

    On one machine the bytes of a packet depend on the model, the picture, ``max_side`` and the
    engine alone (``auto`` is the one that it chose). On another device, with another engine or
    version of it, a latent on the edge between two symbols may round to the other one: the packet
    differs a little, and decodes just as well. Every decoder reads the same symbols from a packet;
    the pixels that it makes of them may differ by a rounding.

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
        self._net = model.codec

    @classmethod
    def load(cls, model: str, engine: str = "torch") -> Codec:
        """Load a model by its name or its file.

        Raises:
            ModelFileError: there is no such model, or its file is damaged, foreign or newer than
                this release.
            ValueError, EngineError: see :class:`Codec`.
        """
        return cls(load_model(find_model(model)), engine)

    def warm_up(self, half: Half, width: int = 640, height: int = 480) -> None:
        """Run one half of the engine on a picture of this size, so that the first one does not wait
        for it.

        Args:
            half: ``ANALYSIS`` or ``SYNTHESIS`` of ``codec.engines``.
            width: pixels.
            height: pixels.

        Raises:
            EngineError: the engine is not what the reference is.
        """
        half.run(self.engine)(half.example(self._net, width, height))

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.model.metadata["name"])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model, 16 hex digits."""
        return self.model.fingerprint.hex()

    def encode(self, image: np.ndarray, max_side: int = MAX_SIDE) -> Encoded:
        """Anonymize and compress one picture.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, 16 to 8192 pixels a side.
            max_side: a picture with a longer side is shrunk to it before the coding, pixels; 0:
                never.

        Raises:
            ValueError: names the field and the bound.
        """
        check_picture(image)
        height, width = image.shape[:2]
        clock = _Clock()
        fitted = resize(image, *coded_size(width, height, max_side))
        clock.lap("fit")
        symbols = self.engine.analyse(fitted)
        clock.lap("analysis")
        payload = self._net.tables.encode(symbols)
        clock.lap("entropy")
        factor = self._net.downsampling_factor
        size = fitted.shape[1], fitted.shape[0]
        header = Header(
            self.model.fingerprint, (width, height), size, (-size[0] % factor, -size[1] % factor)
        )
        packet = pack(header, payload)
        clock.lap("pack")
        return Encoded(packet, header, clock.seconds)

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
        clock = _Clock()
        header, payload = unpack(packet)
        self._check(header, max_pixels)
        clock.lap("unpack")
        symbols = self._symbols(header, payload)
        clock.lap("entropy")
        width, height = header.coded_size
        image = np.ascontiguousarray(self.engine.synthesise(symbols)[:height, :width])
        clock.lap("synthesis")
        return Decoded(image, header, clock.seconds)

    @torch.inference_mode()
    def latent(
        self, packet: bytes | bytearray | memoryview, max_pixels: int = MAX_PIXELS
    ) -> torch.Tensor:
        """The quantised latent in a packet, float32 ``[N, h, w]``: all that whoever holds the
        packet knows.

        Args:
            packet: as in :meth:`decode`.
            max_pixels: likewise.

        Raises:
            PacketError: as from :meth:`decode`.
        """
        header, payload = unpack(packet)
        self._check(header, max_pixels)
        return self._net.dequantise(torch.from_numpy(self._symbols(header, payload))[None])[0]

    def _symbols(self, header: Header, payload: bytes) -> np.ndarray:
        """The symbols of a packet that was checked, int32 ``[N, h, w]``."""
        factor = self._net.downsampling_factor
        width, height = header.padded_size
        return self._net.tables.decode(payload, height // factor, width // factor)

    def _check(self, header: Header, max_pixels: int) -> None:
        if header.fingerprint != self.model.fingerprint:
            raise PacketError(
                "fingerprint",
                f"of model {header.fingerprint.hex()}, this is {self.name} {self.fingerprint}",
            )
        width, height = header.coded_size
        if width * height > max_pixels:
            raise PacketError(
                "size", f"{width}x{height} coded pixels, must be at most {max_pixels}"
            )
        factor = self._net.downsampling_factor
        if header.padding != (-width % factor, -height % factor):
            raise PacketError(
                "size", f"padding {header.padding}, must reach the next multiple of {factor}"
            )


class _Clock:
    """Seconds of each stage since the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
