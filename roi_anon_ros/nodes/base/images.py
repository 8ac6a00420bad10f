"""Image messages to RGB arrays and back.

Every field of a message is checked before a pixel is read, and rows may be padded. OpenCV converts
directly: the Python wheel of ``cv_bridge`` ignores the length of rows and knows no yuv422, and the
one of a ROS distribution is bound to that distribution's numpy.
"""

from __future__ import annotations

import io
from array import array

import cv2
import numpy as np
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from roi_anon_ros.codec.picture import check_sides
from roi_anon_ros.errors import RoiAnonError

#: Bytes of a pixel, and OpenCV's conversion to RGB, of each encoding that is understood.
ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
COMPRESSED_FORMATS = ("JPEG", "PNG")
COMPRESSED_MODES = ("L", "RGB", "RGBA")


class ImageError(RoiAnonError, ValueError):
    """A message that is no picture, and why.

    Attributes:
        reason: the field that was wrong, for counting: ``"encoding"``, ``"size"``, ``"step"``,
            ``"data"`` or ``"format"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def to_rgb(message: Image) -> np.ndarray:
    """The picture of a raw image message.

    Returns:
        uint8 ``[H, W, 3]`` RGB; may be a view of the message's data.

    Raises:
        ImageError: names the field and the bound.
    """
    if message.encoding not in ENCODINGS:
        raise ImageError(
            "encoding", f"encoding {message.encoding!r}, must be one of {', '.join(ENCODINGS)}"
        )
    pixel, conversion = ENCODINGS[message.encoding]
    width, height, step = message.width, message.height, message.step
    _check_size(width, height)
    if pixel == 2 and width % 2:
        raise ImageError("size", f"width {width}, must be even for {message.encoding}")
    if step < width * pixel:
        raise ImageError("step", f"step {step}, must be at least width * {pixel} = {width * pixel}")
    if len(message.data) != step * height:
        raise ImageError(
            "data", f"{len(message.data)} bytes, must be step * height = {step * height}"
        )
    image = np.ndarray((height, width, pixel), np.uint8, message.data, strides=(step, pixel, 1))
    return image if conversion is None else cv2.cvtColor(image, conversion)


def decompress(message: CompressedImage) -> np.ndarray:
    """The picture of a compressed image message, JPEG or PNG.

    Its size is read and checked before its pixels are decoded. Orientation tags are ignored:
    detections are reported in the pixels that the camera stored.

    Returns:
        uint8 ``[H, W, 3]`` RGB.

    Raises:
        ImageError: names the field and the bound.
    """
    if not message.data:
        raise ImageError("data", "0 bytes, must be a JPEG or PNG")
    try:
        with PilImage.open(io.BytesIO(message.data), formats=COMPRESSED_FORMATS) as picture:
            _check_size(*picture.size)
            if picture.mode not in COMPRESSED_MODES:
                modes = ", ".join(COMPRESSED_MODES)
                raise ImageError("format", f"pixels of mode {picture.mode}, must be one of {modes}")
            return np.array(picture.convert("RGB"))
    except ImageError:
        raise
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(
            "data", f"no whole JPEG or PNG in {len(message.data)} bytes: {error}"
        ) from error


def from_rgb(image: np.ndarray, header: Header) -> Image:
    """An ``rgb8`` message of a picture, uint8 ``[H, W, 3]`` RGB."""
    height, width = image.shape[:2]
    data = array("B", image.tobytes())  # other types would be checked byte by byte
    return Image(
        header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data
    )


def draw_boxes(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """A copy of a picture with boxes and their scores on it.

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
