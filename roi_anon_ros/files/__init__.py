"""What lies on disk: images, videos, packets, journals; bags/ has recordings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roi_anon_ros.files.images import (
    decode_image,
    encode_image,
    image_bytes,
    png,
    read_image,
    read_pixels,
)
from roi_anon_ros.files.journals import JsonLines
from roi_anon_ros.files.packets import (
    SEQUENCE_MAGIC,
    Sequence,
    SequenceWriter,
    is_sequence,
    read_packet,
)

if TYPE_CHECKING:
    from roi_anon_ros.files.videos import CODECS as VIDEO_CODECS
    from roi_anon_ros.files.videos import Frame, Video, write_video

#: What PyAV is imported for, where it is first asked for: that costs 17 MB.
_OF_VIDEOS = {
    "VIDEO_CODECS": "CODECS",
    "Frame": "Frame",
    "Video": "Video",
    "write_video": "write_video",
}

__all__ = [
    "SEQUENCE_MAGIC",
    "VIDEO_CODECS",
    "Frame",
    "JsonLines",
    "Sequence",
    "SequenceWriter",
    "Video",
    "decode_image",
    "encode_image",
    "image_bytes",
    "is_sequence",
    "png",
    "read_image",
    "read_packet",
    "read_pixels",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_VIDEOS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        videos = import_module("roi_anon_ros.files.videos")
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise ImportError("videos need PyAV: pip install 'roi_anon_ros[video]'") from error
    return getattr(videos, _OF_VIDEOS[name])
