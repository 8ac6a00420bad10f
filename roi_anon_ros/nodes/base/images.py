"""Image messages to RGB arrays and back.

Every field of a message is checked before a pixel is read, and rows may be padded. OpenCV converts
directly: the Python wheel of ``cv_bridge`` ignores the length of rows and knows no yuv422, and the
one of a ROS distribution is bound to that distribution's numpy.
"""

from __future__ import annotations

import io
from array import array
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from roi_anon_ros.codec.image import check_sides
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.transparency import composite, lay_on_black


@dataclass(frozen=True)
class Encoding:
    """How the pixels of an encoding lie in a message.

    Attributes:
        channels: values of a pixel in the first plane; the fourth of four says how opaque it is.
        conversion: OpenCV's to RGB, of three channels where there are four; None: they are RGB.
        depth: bytes of a value; values of two bytes are scaled, see :func:`levels_of`.
        planes: bytes of all planes in parts of those of the first.
        even: whether width and height must be even.
    """

    channels: int
    conversion: int | None = None
    depth: int = 1
    planes: Fraction = Fraction(1)
    even: tuple[bool, bool] = (False, False)


_PAIRS = (True, False)
_QUADS = (True, True)
_BAYER = {
    "bayer_rggb8": cv2.COLOR_BayerRGGB2RGB,
    "bayer_bggr8": cv2.COLOR_BayerBGGR2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGBRG2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGRBG2RGB,
}
#: The encodings that are understood. Those without a meaning of their own, 8UC3 and 8UC4, are what
#: OpenCV takes them for: blue first.
ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4),
    "bgra8": Encoding(4, cv2.COLOR_BGR2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC4": Encoding(4, cv2.COLOR_BGR2RGB),
    "mono16": Encoding(1, cv2.COLOR_GRAY2RGB, depth=2),
    "16UC1": Encoding(1, cv2.COLOR_GRAY2RGB, depth=2),
    "rgb16": Encoding(3, depth=2),
    "yuv422": Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=_PAIRS),
    "uyvy": Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=_PAIRS),
    "yuv422_yuy2": Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=_PAIRS),
    "yuyv": Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=_PAIRS),
    "nv12": Encoding(1, cv2.COLOR_YUV2RGB_NV12, planes=Fraction(3, 2), even=_QUADS),
    "nv21": Encoding(1, cv2.COLOR_YUV2RGB_NV21, planes=Fraction(3, 2), even=_QUADS),
    "nv24": Encoding(1, planes=Fraction(3)),
    **{name: Encoding(1, conversion, even=_QUADS) for name, conversion in _BAYER.items()},
}
#: From Y, U, V of 8 bits and 1 to red, green, blue: ITU-R BT.601, Y from 16 to 235, as OpenCV has
#: it for NV12.
_FROM_YUV = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)
#: Values of 16 bits are scaled from the range that all but this share of an image's values lie in,
#: at either end: one hot pixel does not darken the people.
OUTSIDE = 0.005
#: Characters of an encoding from outside that an error quotes.
QUOTED = 40
COMPRESSED_FORMATS = ("JPEG", "PNG")
COMPRESSED_MODES = ("L", "RGB", "RGBA")


class ImageError(RoiAnonError, ValueError):
    """A message that is no image, and why.

    Attributes:
        reason: the field that was wrong, for counting: ``"encoding"``, ``"size"``, ``"step"``,
            ``"data"`` or ``"format"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def to_rgb(message: Image) -> np.ndarray:
    """The image of a raw image message. Transparent pixels are laid on black, as in files.

    Returns:
        uint8 ``[H, W, 3]`` RGB; may be a view of the message's data.

    Raises:
        ImageError: names the field and the bound.
    """
    values = _values_of(message)
    encoding = ENCODINGS[message.encoding]
    if encoding.depth == 2:
        values = _scale(values, *_range_of(values))
    if message.encoding == "nv24":
        return cv2.transform(values, _FROM_YUV)
    if encoding.channels == 4:  # what was erased may still stand in the colours
        values = lay_on_black(values)
    return values if encoding.conversion is None else cv2.cvtColor(values, encoding.conversion)


def levels_of(message: Image) -> dict[str, float]:
    """The range that the values of a raw image message are scaled from, where they have 16 bits.

    Args:
        message: that :func:`to_rgb` reads.

    Returns:
        Least and greatest level, 0 to 65535, which become 0 and 255; empty for 8 bits.
    """
    if ENCODINGS[message.encoding].depth == 1:
        return {}
    lowest, highest = _range_of(_values_of(message))
    return {"lowest level": float(lowest), "highest level": float(highest)}


def _values_of(message: Image) -> np.ndarray:
    """The values of a message, whose fields are checked first.

    Returns:
        ``[rows, W, channels]``: of all planes one below the other, but of nv24 side by side as
        three channels.
    """
    if message.encoding not in ENCODINGS:
        raise ImageError(
            "encoding",
            f"encoding {message.encoding[:QUOTED]!r}, must be one of {', '.join(ENCODINGS)}",
        )
    encoding = ENCODINGS[message.encoding]
    width = message.width
    height = message.height
    step = message.step
    _check_size(width, height)
    for name, side, even in zip(("width", "height"), (width, height), encoding.even, strict=True):
        if even and side % 2:
            raise ImageError("size", f"{name} {side}, must be even for {message.encoding}")
    pixel = encoding.channels * encoding.depth
    if step < width * pixel:
        raise ImageError("step", f"step {step}, must be at least width * {pixel} = {width * pixel}")
    rows = int(height * encoding.planes)
    if len(message.data) != step * rows:
        raise ImageError(
            "data", f"{len(message.data)} bytes, must be step * {rows} rows = {step * rows}"
        )
    order = ">" if message.is_bigendian else "<"
    if message.encoding == "nv24":  # a row of colours is as long as two of brightness
        bright: np.ndarray = np.ndarray((height, width), np.uint8, message.data, strides=(step, 1))
        colours: np.ndarray = np.ndarray(
            (height, width, 2), np.uint8, message.data, step * height, strides=(2 * step, 2, 1)
        )
        return np.dstack((bright, colours))
    return np.ndarray(
        (rows, width, encoding.channels),
        np.dtype(f"{order}u{encoding.depth}"),
        message.data,
        strides=(step, pixel, encoding.depth),
    )


def _range_of(values: np.ndarray) -> tuple[int, int]:
    """Levels that all but :data:`OUTSIDE` of the values lie between, at either end."""
    counts = np.bincount(values.astype(np.uint16).ravel(), minlength=65536)
    below = np.cumsum(counts)
    lowest = np.searchsorted(below, OUTSIDE * below[-1], side="right")
    highest = np.searchsorted(below, (1 - OUTSIDE) * below[-1], side="left")
    return int(lowest), int(highest)


def _scale(values: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Values from lowest to highest as 0 to 255, and those outside clipped to them."""
    span = max(highest - lowest, 1)
    shares = (values.astype(np.float32) - lowest) / span
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def decompress(message: CompressedImage) -> np.ndarray:
    """The image of a compressed image message, JPEG or PNG.

    Its size is read and checked before its pixels are decoded. Orientation tags are ignored:
    detections are reported in the pixels that the camera stored. Where ``format`` names a Bayer
    encoding, as image_transport writes it, grey pixels are a mosaic of colours. Transparent pixels
    are laid on black.

    Returns:
        uint8 ``[H, W, 3]`` RGB.

    Raises:
        ImageError: names the field and the bound.
    """
    if not message.data:
        raise ImageError("data", "0 bytes, must be a JPEG or PNG")
    try:
        with PilImage.open(io.BytesIO(message.data), formats=COMPRESSED_FORMATS) as image:
            _check_size(*image.size)
            if image.mode not in COMPRESSED_MODES:
                modes = ", ".join(COMPRESSED_MODES)
                raise ImageError("format", f"pixels of mode {image.mode}, must be one of {modes}")
            mosaic = message.format.partition(";")[0].strip()
            if mosaic in _BAYER and image.mode == "L":
                return _from_mosaic(np.array(image), mosaic)
            return np.array(composite(image).convert("RGB"))
    except ImageError:
        raise
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(
            "data", f"no whole JPEG or PNG in {len(message.data)} bytes: {error}"
        ) from error


def _from_mosaic(values: np.ndarray, encoding: str) -> np.ndarray:
    height, width = values.shape
    if height % 2 or width % 2:
        raise ImageError("size", f"{width}x{height} pixels, must be even for {encoding}")
    return cv2.cvtColor(values, _BAYER[encoding])


def from_rgb(image: np.ndarray, header: Header) -> Image:
    """An ``rgb8`` message of an image, uint8 ``[H, W, 3]`` RGB."""
    height, width = image.shape[:2]
    data = array("B", image.tobytes())  # other types would be checked byte by byte
    return Image(
        header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data
    )


def draw_boxes(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """A copy of an image with boxes and their scores on it.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        boxes: ``[n, 4]``, x1 y1 x2 y2 in pixels.
        scores: ``[n]``, 0 to 1.
    """
    image = image.copy()
    thickness = max(round(max(image.shape) / 400), 1)
    colour = (255, 160, 0)
    for (x1, y1, x2, y2), score in zip(boxes.round().astype(int).tolist(), scores, strict=True):
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, thickness)
        place = (x1 + 2 * thickness, y1 + 14 * thickness)
        cv2.putText(
            image, f"{score:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, thickness / 2, colour, thickness
        )
    return image


def _check_size(width: int, height: int) -> None:
    try:
        check_sides(width, height)
    except ValueError as error:
        raise ImageError("size", str(error)) from None
