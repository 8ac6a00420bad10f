"""What the codec raises when data from outside is wrong."""

from __future__ import annotations

from roi_anon_ros.errors import RoiAnonError


class CodecError(RoiAnonError, ValueError):
    """Base of the codec's errors about what comes from outside: packets, files, engines."""


class PacketError(CodecError):
    """A packet that is not decoded, and why.

    Attributes:
        reason: one of ``"magic"``, ``"version"``, ``"length"``, ``"crc"``, ``"size"``,
            ``"regions"``, ``"turns"``, ``"quality"``, ``"fingerprint"`` and ``"payload"``: what was
            wrong, for counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class ModelFileError(CodecError):
    """A model file that is not loaded; the message says why and names the file."""


class EngineError(CodecError):
    """An engine that is not used; the message says why and what helps."""
