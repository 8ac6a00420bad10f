"""Images in files: read upright and as 8-bit RGB, written without metadata unless asked for.

What a file holds besides is never dropped in silence: see :attr:`ImageFile.notes`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile as OpenedFile

from roi_anon_ros.transparency import composite, lay_on_black

#: Formats that are written, by suffix, and how.
FORMATS: dict[str, tuple[str, dict[str, int | bool]]] = {
    ".avif": ("AVIF", {"quality": 90}),
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".webp": ("WEBP", {"quality": 95}),
}
#: Values that span less than this share of their type's range are stretched to it.
FULL_SPAN = 0.5
#: Per cent of the values at either end that do not count for the span: dead and hot pixels.
OUTLIERS = 0.1
#: Kept never: the orientation, which is applied, and maker notes, which may hold a small original.
_ORIENTATION = 0x0112
_MAKER_NOTE = 0x927C


@dataclass
class ImageFile:
    """What an image file holds.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        metadata: what may be kept: ``exif`` (without thumbnail, maker notes and orientation), and
            ``icc_profile``.
        frames: images in the file that are shown one after the other; the first one was read.
        notes: what is lost, for people.
    """

    image: np.ndarray
    metadata: dict[str, bytes]
    frames: int
    notes: list[str]


def read_image(path: Path) -> ImageFile:
    """Read an image file.

    EXIF orientation is applied, grey becomes RGB, transparent pixels are laid on black, and more
    than 8 bits become 8, see :func:`scale_to_8_bits`.

    Raises:
        ValueError: no image, or a damaged or truncated one.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    notes: list[str] = []
    try:
        with Image.open(io.BytesIO(data)) as opened:
            frames = getattr(opened, "n_frames", 1)
            if frames > 1:
                notes.append(f"the first of {frames} images in it is read")
            if opened.format == "MPO":  # a photo with a smaller copy or a depth map
                frames = 1
            deep = _is_deep_colour(opened)
            exif = opened.getexif()
            turn = exif.get(_ORIENTATION, 1)
            profile = opened.info.get("icc_profile")
            upright = ImageOps.exif_transpose(opened)
            if deep:
                image = _read_deep_colour(data, turn, notes)
            elif upright.mode.startswith(("I", "F")):
                image = np.dstack([scale_to_8_bits(np.array(upright), notes)] * 3)
            else:
                image = np.array(composite(upright).convert("RGB"))
            if upright.mode not in ("RGB", "RGBA"):
                profile = None  # of another colour space
            metadata = {"exif": _kept_exif(exif), "icc_profile": profile}
    except UnidentifiedImageError as error:
        raise ValueError("not a readable image: damaged, or of another format") from error
    # Pillow's decoders. ImportError: ultralytics makes Pillow look for a plugin.
    except (ImportError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image: damaged or truncated: {error}") from error
    kept = {name: value for name, value in metadata.items() if value}
    return ImageFile(image, kept, frames, notes)


def read_pixels(path: Path) -> np.ndarray:
    """The pixels of an image file, uint8 ``[H, W, 3]`` RGB, where nobody reads its notes.

    Raises:
        ValueError, OSError: as :func:`read_image`.
    """
    return read_image(path).image


def scale_to_8_bits(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Bring pixels of any depth to 8 bits.

    Values of 16 bits that span at least half of their range are divided by 257. All others are
    stretched: 10 and 12 bits in 16 would be black, and a thermal image flat grey. With the least
    and the greatest value ``a`` and ``b``, without outliers, ``v`` becomes
    ``255 (v - a) / (b - a)``.

    Args:
        values: of any number type and shape; not finite ones count as the least.
        notes: gets a line where values were stretched.

    Returns:
        uint8, of the same shape.
    """
    if values.dtype == np.uint8:
        return values
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("not a readable image: no value in it is finite")
    least, greatest = np.percentile(values[finite], [OUTLIERS, 100 - OUTLIERS])
    if least == greatest:
        least = values[finite].min()
        greatest = values[finite].max()
    if values.dtype == np.uint16 and greatest - least >= FULL_SPAN * 65535:
        least = 0
        greatest = 65535
    else:
        notes.append(f"{values.dtype}: {least:g} to {greatest:g} are stretched to 0 to 255")
    span = max(float(greatest) - float(least), 1e-9)
    known = np.where(finite, values, least).astype(np.float64)
    return np.rint(np.clip((known - least) * (255 / span), 0, 255)).astype(np.uint8)


def image_bytes(image: np.ndarray, suffix: str, metadata: dict[str, bytes]) -> bytes:
    """An image file.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        suffix: as in :data:`FORMATS`.
        metadata: what to put in, as from :func:`read_image`.
    """
    kind, options = FORMATS[suffix.lower()]
    return encode_image(image, kind, **options, **metadata)


def png(image: np.ndarray) -> bytes:
    """PNG of a uint8 ``[H, W, 3]`` RGB image."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_image(image: np.ndarray, kind: str, **options: Any) -> bytes:
    """An image, uint8 ``[H, W, 3]`` RGB, in one of Pillow's formats, such as ``"JPEG"`` or
    ``"AVIF"``.
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """The image, uint8 ``[H, W, 3]`` RGB, in bytes of one of Pillow's formats."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def _is_deep_colour(opened: OpenedFile) -> bool:
    """Whether an image has colours of 16 bits, of which Pillow keeps the upper 8."""
    modes = [str(tile.args) for tile in opened.tile]
    return not opened.mode.startswith("I") and any("16" in mode for mode in modes)


def _read_deep_colour(data: bytes, turn: int, notes: list[str]) -> np.ndarray:
    """Colours of 16 bits by OpenCV, upright, uint8 ``[H, W, 3]`` RGB."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"not a readable image: {error.err}") from error
    if values is None:
        raise ValueError("not a readable image: damaged, truncated or of another depth")
    if values.ndim == 3 and values.shape[2] == 4:
        values = lay_on_black(values)
    image = scale_to_8_bits(values, notes)
    image = np.dstack([image] * 3) if image.ndim == 2 else image[..., 2::-1]
    return turn_upright(image, turn)


def turn_upright(image: np.ndarray, turn: int) -> np.ndarray:
    """An image ``[H, W, ...]`` set upright as EXIF's orientation, 1 to 8, says."""
    if turn in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _kept_exif(exif: Image.Exif) -> bytes | None:
    """EXIF by its tags one by one: the thumbnail, which is a small original, stays behind."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in (_ORIENTATION, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            kept[tag] = value
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        values = {tag: value for tag, value in exif.get_ifd(part).items() if tag != _MAKER_NOTE}
        values.pop(ExifTags.IFD.Interop, None)
        if values:
            kept.get_ifd(part).update(values)
    return kept.tobytes() if len(kept) or kept.get_ifd(ExifTags.IFD.GPSInfo) else None
