"""Image messages as bytes: CDR to pixels and back, without ROS.

``rosbags`` reads and writes the bytes and knows the definitions of all standard messages and their
hashes.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from roi_anon_ros.transparency import composite, lay_on_black

RAW = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
LATENT = "roi_anon_msgs/msg/CompressedLatent"
#: The fields of ``roi_anon_msgs/msg/CompressedLatent.msg``.
LATENT_FIELDS = """\
std_msgs/Header header
string model_name
uint8[8] fingerprint
uint32 source_width
uint32 source_height
uint32 coded_width
uint32 coded_height
uint8[] packet
"""
#: Bytes of a pixel, OpenCV's way to RGB, and back; where there is none, ``rgb8`` is written.
ENCODINGS: dict[str, tuple[int, int | None, int | None]] = {
    "rgb8": (3, None, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB, cv2.COLOR_RGB2BGR),
    "8UC3": (3, cv2.COLOR_BGR2RGB, cv2.COLOR_RGB2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2RGB, cv2.COLOR_RGB2RGBA),
    "bgra8": (4, cv2.COLOR_BGRA2RGB, cv2.COLOR_RGB2BGRA),
    "mono8": (1, cv2.COLOR_GRAY2RGB, cv2.COLOR_RGB2GRAY),
    "8UC1": (1, cv2.COLOR_GRAY2RGB, cv2.COLOR_RGB2GRAY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY, None),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY, None),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2, None),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2, None),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB, None),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB, None),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB, None),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB, None),
}
#: Encodings of distances (REP 118).
DEPTH = ("16UC1", "32FC1")
MAX_SIDE = 8192
JPEG = 95
_IMAGES = re.compile(r"image|video|picture|jpeg|ffmpeg|theora|rgbd", re.IGNORECASE)
_INSIDE = re.compile(r"\bsensor_msgs/(msg/)?(Compressed)?Image\b")
#: Packages whose types have such names but carry drawings.
_DRAWINGS = ("visualization_msgs/",)


@cache
def _store() -> Any:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(LATENT_FIELDS, LATENT))
    return store


def definition(kind: str) -> str:
    """The text that defines a message type and all types in it, as recordings hold it."""
    return _store().generate_msgdef(kind, ros_version=2)[0]


def type_hash(kind: str) -> str:
    """The hash of a message type (REP 2011)."""
    return _store().hash_rihs01(kind)


def shows_images(kind: str, text: str = "") -> bool:
    """Whether messages of this type may carry images: by its name, or types inside it."""
    if kind.startswith(_DRAWINGS):
        return False
    return bool(_IMAGES.search(kind) or _INSIDE.search(text))


def is_depth(kind: str, data: bytes) -> bool:
    """Whether a message of a raw or compressed image holds distances."""
    if kind not in (RAW, COMPRESSED):
        return False
    try:
        message = _store().deserialize_cdr(data, kind)
    except Exception:  # whatever the reader raises, it is not known to be depth
        return False
    if kind == RAW:
        return message.encoding in DEPTH
    return "compressedDepth" in message.format


class ImageMessage:
    """One message of a raw or compressed image.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB.
        seconds: its stamp.
    """

    def __init__(self, kind: str, data: bytes) -> None:
        """Read it.

        Raises:
            ValueError: names the field and the bound.
        """
        try:
            self._message = _store().deserialize_cdr(data, kind)
        except Exception as error:  # rosbags raises what its reader of the bytes stumbles over
            raise ValueError(
                f"data: got {len(data)} bytes that are no {kind}: {error!r}"
            ) from error
        self._kind = kind
        stamp = self._message.header.stamp
        self.seconds = stamp.sec + stamp.nanosec / 1e9
        self.image = (
            _raw_pixels(self._message) if kind == RAW else _compressed_pixels(self._message)
        )

    def replaced(self, image: np.ndarray) -> bytes:
        """The message with other pixels of the same size, all else as it was."""
        message = self._message
        if self._kind == COMPRESSED:
            return self._compressed(
                image, "PNG" if message.data[:4].tobytes() == b"\x89PNG" else "JPEG", message.format
            )
        channels, _, back = ENCODINGS[message.encoding]
        encoding = message.encoding
        if back is not None:
            image = cv2.cvtColor(image, back)
        elif encoding != "rgb8":
            encoding = "rgb8"
            channels = 3
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image).reshape(-1)
        kind = _store().types[RAW]
        made = kind(
            message.header, height, width, encoding, message.is_bigendian, channels * width, pixels
        )
        return bytes(_store().serialize_cdr(made, RAW))

    def compressed(self, image: np.ndarray) -> bytes:
        """A compressed image message, JPEG, of an image with this message's header."""
        return self._compressed(image, "JPEG", "jpeg")

    def _compressed(self, image: np.ndarray, kind: str, name: str) -> bytes:
        stream = io.BytesIO()
        options = {"quality": JPEG, "subsampling": 0} if kind == "JPEG" else {}
        Image.fromarray(image).save(stream, kind, **options)
        data = np.frombuffer(stream.getvalue(), np.uint8)
        message = _store().types[COMPRESSED](self._message.header, name, data)
        return bytes(_store().serialize_cdr(message, COMPRESSED))

    def latent(self, model: str, encoded: Any) -> bytes:
        """A latent message with this message's header.

        Args:
            model: name of the model.
            encoded: :class:`~roi_anon_ros.codec.Encoded`, of the image.
        """
        header = encoded.header
        fingerprint = np.frombuffer(header.fingerprint, np.uint8)
        packet = np.frombuffer(encoded.packet, np.uint8)
        sizes = (*header.source_size, *header.coded_size)
        message = _store().types[LATENT](self._message.header, model, fingerprint, *sizes, packet)
        return bytes(_store().serialize_cdr(message, LATENT))


def _raw_pixels(message: Any) -> np.ndarray:
    if message.encoding not in ENCODINGS:
        raise ValueError(
            f"encoding: got {message.encoding!r}, must be one of {', '.join(ENCODINGS)}"
        )
    pixel, conversion, _ = ENCODINGS[message.encoding]
    width = message.width
    height = message.height
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE:
            raise ValueError(f"{name}: got {side}, must be from 1 to {MAX_SIDE}")
    if (pixel == 2 and width % 2) or (
        message.encoding.startswith("bayer") and (width < 2 or height < 2)
    ):
        raise ValueError(f"width: got {width}, must be even for {message.encoding}")
    if message.step < width * pixel:
        raise ValueError(f"step: got {message.step}, must be at least {width * pixel}")
    if len(message.data) != message.step * height:
        raise ValueError(f"data: got {len(message.data)} bytes, must be {message.step * height}")
    rows = np.ascontiguousarray(message.data).reshape(height, message.step)[:, : width * pixel]
    image = np.ascontiguousarray(rows).reshape(height, width, pixel)
    if pixel == 4:  # what was erased stays erased; the conversion drops the last channel
        image = np.dstack([lay_on_black(image), image[..., 3]])
    return image if conversion is None else cv2.cvtColor(image, conversion)


def _compressed_pixels(message: Any) -> np.ndarray:
    data = message.data.tobytes()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if max(opened.size) > MAX_SIDE:
                raise ValueError(f"size: got {opened.size}, must be at most {MAX_SIDE} a side")
            if opened.mode not in ("L", "RGB", "RGBA"):
                raise ValueError(
                    f"format: got pixels of mode {opened.mode}, must be L, RGB or RGBA"
                )
            return np.array(composite(opened).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"data: got {len(data)} bytes of format {message.format!r}, must be JPEG or PNG"
        ) from error
