"""What lies on disk: images, videos, packets, journals; bags/ has recordings."""

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
from roi_anon_ros.files.videos import CODECS as VIDEO_CODECS
from roi_anon_ros.files.videos import Frame, Video, write_video

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
