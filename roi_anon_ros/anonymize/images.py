"""Image files: read upright, written without metadata unless asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

#: Formats that are written, by suffix, and how.
FORMATS: dict[str, tuple[str, dict[str, int | bool]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".webp": ("WEBP", {"quality": 95}),
}
#: Kept never: the orientation, which is applied, and maker notes, which may hold a small original.
_ORIENTATION = 0x0112
_MAKER_NOTE = 0x927C


def read_image(path: Path) -> tuple[np.ndarray, dict[str, bytes]]:
    """Read an image file upright, and what it says besides.

    Transparency is laid on black: what was erased stays erased.

    Returns:
        uint8 ``[H, W, 3]`` RGB, and the metadata that may be kept: ``exif`` (without thumbnail,
        maker notes and orientation), and ``icc_profile``.

    Raises:
        ValueError: no image, a damaged one, one with several frames, or one of more than 8 bits.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            frames = getattr(opened, "n_frames", 1)
            if frames != 1:
                raise ValueError(
                    f"frames: got {frames}, must be 1: an animation cannot be treated as an image"
                )
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"depth: got pixels of mode {opened.mode}, must be 8 bits")
            exif = _kept_exif(opened.getexif())
            profile = opened.info.get("icc_profile")
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(
                    Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer
                )
            if upright.mode not in ("RGB", "RGBA") and profile:
                profile = None  # of another colour space
            image = np.array(upright.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError("not a readable image: damaged, or of another format") from error
    except (OSError, SyntaxError) as error:  # Pillow's decoders
        raise ValueError(f"not a readable image: {error}") from error
    metadata = {"exif": exif, "icc_profile": profile}
    return image, {name: value for name, value in metadata.items() if value}


def image_bytes(image: np.ndarray, suffix: str, metadata: dict[str, bytes]) -> bytes:
    """An image file.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        suffix: as in :data:`FORMATS`.
        metadata: what to put in, as from :func:`read_image`.
    """
    kind, options = FORMATS[suffix.lower()]
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options, **metadata)
    return stream.getvalue()


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
