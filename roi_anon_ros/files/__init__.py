"""What lies on disk: images, videos, packets, and how outputs are written."""

from roi_anon_ros.files.images import png, read_picture
from roi_anon_ros.files.journals import JsonLines
from roi_anon_ros.files.outputs import part_of, put, write_bytes
from roi_anon_ros.files.packets import Sequence, SequenceWriter, is_sequence, read_packet
from roi_anon_ros.files.videos import VIDEO_CODECS, VideoReader, write_video

__all__ = [
    "VIDEO_CODECS",
    "JsonLines",
    "Sequence",
    "SequenceWriter",
    "VideoReader",
    "is_sequence",
    "part_of",
    "png",
    "put",
    "read_packet",
    "read_picture",
    "write_bytes",
    "write_video",
]
