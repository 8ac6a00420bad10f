"""What the seal raises when something from outside is wrong."""

from __future__ import annotations

from roi_anon_ros.errors import RoiAnonError


class SealError(RoiAnonError, ValueError):
    """Something that is not sealed or not opened, and why.

    Attributes:
        reason: what was wrong, for counting and for people, one of
            ``"magic"``, ``"version"``, ``"length"``, ``"size"``, ``"cells"``: the bytes are no
            sealed part, or not a whole one; ``"order"``: frames stand in another order than they
            were sealed in; ``"officers"``: there are no, too few or too many public keys;
            ``"key"``: none of the private keys belongs to an officer of the segment, a key file is
            none, or its passphrase is wrong; ``"threshold"``: too few of the officers' keys;
            ``"erased"``: the segment's keys were destroyed; ``"packet"``: sealed for another
            packet; ``"stamp"``: sealed for another stamp; ``"tampered"``: the bytes are not those
            that were sealed; ``"image"``: the pixels do not fit; ``"log"``: the log of unsealings
            is broken.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
