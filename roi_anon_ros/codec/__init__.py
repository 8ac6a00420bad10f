"""The anonymizing codec: networks, entropy coding, packets, model files. No ROS, no detector."""

from roi_anon_ros.codec.codec import Codec, Decoded, Encoded, Opened, find_painted
from roi_anon_ros.codec.errors import CodecError, EngineError, ModelFileError, PacketError
from roi_anon_ros.codec.image import DEFAULT_MAX_SIDE, MAX_SIDE, MIN_SIDE
from roi_anon_ros.codec.modelfile import (
    DEFAULT_MODEL,
    find_model,
    list_models,
    load_model,
    save_model,
)
from roi_anon_ros.codec.packet import MAX_PIXELS, Header

__all__ = [
    "DEFAULT_MAX_SIDE",
    "DEFAULT_MODEL",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_SIDE",
    "Codec",
    "CodecError",
    "Decoded",
    "Encoded",
    "EngineError",
    "Header",
    "ModelFileError",
    "Opened",
    "PacketError",
    "find_model",
    "find_painted",
    "list_models",
    "load_model",
    "save_model",
]
