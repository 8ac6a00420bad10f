"""The anonymizing codec: networks, entropy coding, packets, model files. No ROS, no detector."""

from .codec import Codec, Decoded, Encoded
from .errors import CodecError, EngineError, ModelFileError, PacketError
from .modelfile import find_model, list_models, load_model, save_model
from .packet import MAX_PIXELS, Header
from .picture import MAX_SIDE, MAX_SIZE, MIN_SIZE

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_SIZE",
    "MIN_SIZE",
    "Codec",
    "CodecError",
    "Decoded",
    "Encoded",
    "EngineError",
    "Header",
    "ModelFileError",
    "PacketError",
    "find_model",
    "list_models",
    "load_model",
    "save_model",
]
