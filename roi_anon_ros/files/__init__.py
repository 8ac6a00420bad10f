"""What lies on disk: images, videos, packets, journals."""

from roi_anon_ros.files.images import decode_image, encode_image, png, read_picture
from roi_anon_ros.files.journals import JsonLines
from roi_anon_ros.files.packets import (
    SEQUENCE_MAGIC,
    Sequence,
    SequenceWriter,
    is_sequence,
    read_packet,
)
from roi_anon_ros.files.videos import VIDEO_CODECS, VideoReader, write_video

__all__ = [
    "SEQUENCE_MAGIC",
    "VIDEO_CODECS",
    "decode_image",
    "encode_image",
    "JsonLines",
    "Sequence",
    "SequenceWriter",
    "VideoReader",
    "is_sequence",
    "png",
    "read_packet",
    "read_picture",
    "write_video",
]
