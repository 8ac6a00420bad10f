"""Who may open a segment: its content key, wrapped for each officer.

A fresh key pair for each grant and the officer's public key make a secret (X25519), HKDF-SHA256
makes a key of it, and AES-256-GCM wraps the content key. A threshold above 1 wraps a share of the
content key (Shamir) in place of the key: no officer alone, and no place where a common private key
would lie. A code of authentication under the content key covers the whole segment, as in the file
format age: no grant can be taken out, put in or changed by one who has not opened the segment, and
one segment has one content key for all its officers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import replace

from Cryptodome.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import MAX_OFFICERS, Grant, Segment
from roi_anon_ros.seal.keys import PrivateKey, PublicKey

KEY_BYTES = 32
#: Shamir's scheme of the library shares 16 bytes at a time.
HALF = 16


def new_segment(
    officers: Sequence[PublicKey], threshold: int, created_ns: int
) -> tuple[Segment, bytes]:
    """Begin a segment: a random id and a random content key, wrapped for each officer.

    Args:
        officers: 1 to 16.
        threshold: officers that it takes to open, 1 to their number.
        created_ns: nanoseconds since 1970.

    Returns:
        The segment, and its content key, 32 bytes.

    Raises:
        SealError: ``"officers"``; their number or the threshold is out of bounds.
    """
    content_key = os.urandom(KEY_BYTES)
    segment_id = os.urandom(16)
    return wrap_key(content_key, segment_id, officers, threshold, created_ns), content_key


def wrap_key(
    content_key: bytes,
    segment_id: bytes,
    officers: Sequence[PublicKey],
    threshold: int,
    created_ns: int,
) -> Segment:
    """Wrap a content key for officers; arguments and errors as of :func:`new_segment`."""
    if not 1 <= len(officers) <= MAX_OFFICERS:
        bounds = f"must be from 1 to {MAX_OFFICERS}"
        raise SealError("officers", f"got {len(officers)} public keys, {bounds}")
    if not 1 <= threshold <= len(officers):
        raise SealError(
            "officers", f"threshold: got {threshold}, must be from 1 to {len(officers)}"
        )
    bare = Segment(segment_id, created_ns, threshold, ())
    grants = []
    shares = _split(content_key, threshold, len(officers))
    for officer, (number, share) in zip(officers, shares, strict=True):
        single_use = X25519PrivateKey.generate()
        ephemeral = single_use.public_key().public_bytes_raw()
        wrapping_key = _wrapping_key(_exchange(single_use, officer.raw), ephemeral, officer.raw)
        associated = _associated_data(bare, officer.id, number)
        # The wrapping key is used for this alone: its nonce may be zero.
        wrapped = AESGCM(wrapping_key).encrypt(bytes(12), share, associated)
        grants.append(Grant(officer.id, number, ephemeral, wrapped))
    segment = replace(bare, grants=tuple(grants))
    return replace(segment, mac=_mac(segment, content_key))


def unwrap_key(segment: Segment, keys: Sequence[PrivateKey]) -> tuple[bytes, list[PrivateKey]]:
    """Get a segment's content key.

    Args:
        segment: from anywhere.
        keys: of officers, at least as many as the threshold.

    Returns:
        The content key, 32 bytes, and those of the private keys that opened it.

    Raises:
        SealError: ``"erased"``, ``"key"``, ``"threshold"`` or ``"tampered"``.
    """
    if segment.erased:
        raise SealError("erased", f"the keys of segment {segment.id.hex()} were destroyed")
    grants = {grant.key_id: grant for grant in segment.grants}
    own = {key.id: key for key in keys if key.id in grants}
    if not own:
        names = ", ".join(key.name for key in keys)
        officers = ", ".join(grant.key_id.hex() for grant in segment.grants)
        raise SealError("key", f"got {names}, the segment is for {officers}")
    if len(own) < segment.threshold:
        got = f"got the keys of {len(own)} officers"
        raise SealError("threshold", f"{got}, it takes {segment.threshold}")
    used = list(own.values())[: segment.threshold]
    shares = [(grants[key.id].number, _unwrap(segment, grants[key.id], key)) for key in used]
    content_key = _combine(shares)
    if not hmac.compare_digest(_mac(segment, content_key), segment.mac):
        raise SealError("tampered", f"segment {segment.id.hex()} was changed")
    return content_key, used


def rewrap(
    segment: Segment, keys: Sequence[PrivateKey], officers: Sequence[PublicKey], threshold: int
) -> Segment:
    """Wrap a segment's content key anew, for these officers and no others.

    Raises:
        SealError: as from :func:`unwrap_key` and :func:`wrap_key`.
    """
    content_key, _ = unwrap_key(segment, keys)
    return wrap_key(content_key, segment.id, officers, threshold, segment.created_ns)


def frame_key(content_key: bytes) -> bytes:
    """The key of the frames' cipher, 32 bytes, from a segment's content key."""
    return _derive(content_key, b"", b"roi_anon_ros seal 1 frames")


def _unwrap(segment: Segment, grant: Grant, key: PrivateKey) -> bytes:
    """An officer's share."""
    secret = _exchange(key.key, grant.ephemeral)
    wrapping_key = _wrapping_key(secret, grant.ephemeral, key.public_raw)
    associated = _associated_data(segment, grant.key_id, grant.number)
    try:
        return AESGCM(wrapping_key).decrypt(bytes(12), grant.wrapped, associated)
    except InvalidTag:
        raise SealError("tampered", f"the grant of {key.name} was changed") from None


def _associated_data(segment: Segment, officer_id: bytes, number: int) -> bytes:
    """What a grant is bound to: its segment, threshold, officer and number."""
    fields = (segment.created_ns.to_bytes(8, "little"), bytes((segment.threshold, number)))
    return segment.id + b"".join(fields) + officer_id


def _wrapping_key(secret: bytes, ephemeral: bytes, officer: bytes) -> bytes:
    return _derive(secret, ephemeral + officer, b"roi_anon_ros seal 1 grant")


def _mac(segment: Segment, content_key: bytes) -> bytes:
    """HMAC-SHA256 over a segment."""
    key = _derive(content_key, b"", b"roi_anon_ros seal 1 segment")
    return hmac.digest(key, segment.pack_without_mac(), hashlib.sha256)


def _derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(SHA256(), KEY_BYTES, salt, purpose).derive(secret)


def _split(secret: bytes, threshold: int, count: int) -> list[tuple[int, bytes]]:
    """Numbers and shares of a secret of 32 bytes: 16 bytes of each half."""
    if threshold == 1:
        return [(0, secret)] * count
    first = Shamir.split(threshold, count, secret[:HALF], ssss=False)
    second = Shamir.split(threshold, count, secret[HALF:], ssss=False)
    halves = zip(first, second, strict=True)
    return [(number, share + other) for (number, share), (_, other) in halves]


def _combine(shares: list[tuple[int, bytes]]) -> bytes:
    """The secret of these shares; another one where they do not belong together."""
    if shares[0][0] == 0:
        return shares[0][1]
    try:
        first = Shamir.combine([(number, share[:HALF]) for number, share in shares], ssss=False)
        second = Shamir.combine([(number, share[HALF:]) for number, share in shares], ssss=False)
    except ValueError as error:
        raise SealError("tampered", f"shares: {error}") from error
    return first + second


def _exchange(private: X25519PrivateKey, public_raw: bytes) -> bytes:
    """The secret of two key pairs, 32 bytes (RFC 7748).

    Raises:
        SealError: ``"tampered"``; the public key is one of the few that make no secret.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public_raw))
    except ValueError as error:
        raise SealError("tampered", f"ephemeral key: {error}") from error
