"""Keys as files: an officer's private key, and the folder of public keys that a camera seals for.

Both are small JSON files: a PEM has no place for a name and a date. ``NAME.key`` is private,
readable by its owner alone, and by default enciphered (AES-256-GCM) with a passphrase (scrypt).
``NAME.pub`` is public; the folder of those is all that a camera has. A revoked key stays in the
folder, with its date, and a copy of it under another name is revoked as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.format import MAX_OFFICERS
from roi_anon_ros.storage import draft_of

PRIVATE_FORMAT = "roi_anon_ros private key 1"
PUBLIC_FORMAT = "roi_anon_ros public key 1"
PRIVATE_SUFFIX = ".key"
PUBLIC_SUFFIX = ".pub"
MIN_PASSPHRASE = 12
MAX_KEY_FILE = 1 << 14
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
#: scrypt's cost and block size: 128 MB and some tenths of a second for each guess (RFC 7914).
SCRYPT_N = 1 << 17
SCRYPT_R = 8


@dataclass(frozen=True)
class PublicKey:
    """An officer whom a camera seals for.

    Attributes:
        name: of the officer, 1 to 64 of the characters ``A-Z a-z 0-9 . _ -``.
        raw: 32 bytes, X25519.
        created: date and time, ISO 8601.
        revoked: date and time, or None.
    """

    name: str
    raw: bytes
    created: str
    revoked: str | None = None

    @property
    def id(self) -> bytes:
        """First 16 bytes of SHA-256 of the key."""
        return key_id(self.raw)

    def to_json(self) -> bytes:
        """The content of its file."""
        content = {
            "format": PUBLIC_FORMAT,
            "name": self.name,
            "id": self.id.hex(),
            "public": self.raw.hex(),
            "created": self.created,
            "revoked": self.revoked,
        }
        return json.dumps(content, indent=2).encode() + b"\n"


@dataclass(frozen=True, repr=False)  # no private key in a traceback
class PrivateKey:
    """What an officer opens with.

    Attributes:
        name: of the officer.
        key: X25519.
    """

    name: str
    key: X25519PrivateKey

    @property
    def public_raw(self) -> bytes:
        """The public half, 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        """First 16 bytes of SHA-256 of the public half."""
        return key_id(self.public_raw)


def key_id(public_raw: bytes) -> bytes:
    """What a public key of 32 bytes is known by, 16 bytes."""
    return hashlib.sha256(public_raw).digest()[:16]


def new_key(folder: Path, name: str, passphrase: str | None, now: datetime) -> PublicKey:
    """Make a pair of keys and write ``NAME.key`` and ``NAME.pub``; neither may be there.

    Args:
        folder: is made where it is not there.
        name: of the officer.
        passphrase: at least 12 characters; None leaves the private key unprotected.
        now: its date.

    Raises:
        SealError: ``"key"``; the name or the passphrase is out of bounds.
        FileExistsError: a file of this name is there.
    """
    if not _NAME.fullmatch(name):
        raise SealError("key", f"name: got {name!r}, must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if passphrase is not None and len(passphrase) < MIN_PASSPHRASE:
        got = f"got {len(passphrase)} characters"
        raise SealError("key", f"passphrase: {got}, must be {MIN_PASSPHRASE} or more")
    private = PrivateKey(name, X25519PrivateKey.generate())
    public = PublicKey(name, private.public_raw, now.isoformat(timespec="seconds"))
    private_path = folder / (name + PRIVATE_SUFFIX)
    public_path = folder / (name + PUBLIC_SUFFIX)
    for path in (private_path, public_path):
        if path.exists():
            raise FileExistsError(f"{path}: is there, and keys are not written over")
    folder.mkdir(parents=True, exist_ok=True)
    _write_new(private_path, _private_json(private, passphrase), 0o600)
    _write_new(public_path, public.to_json(), 0o644)
    return public


def load_private_key(path: Path, passphrase: str | None) -> PrivateKey:
    """Read a private key.

    Args:
        path: of a file that only its owner may read.
        passphrase: None for a key without one.

    Raises:
        SealError: ``"key"``; no private key, readable by others, or a wrong passphrase.
        OSError: the file cannot be read.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SealError("key", f"{path}: others may read it, must be of mode 0600")
    content = _read_json(path, PRIVATE_FORMAT)
    name = content["name"]
    public_raw = _hex(path, content, "public", 32)
    if content["salt"] is None:
        raw = _hex(path, content, "private", 32)
    elif passphrase is None:
        raise SealError("key", f"{path}: its passphrase is missing")
    else:
        salt = _hex(path, content, "salt", 16)
        cipher = AESGCM(_passphrase_key(passphrase, salt))
        code = _hex(path, content, "private", 48)
        try:
            raw = cipher.decrypt(bytes(12), code, _private_associated_data(name, public_raw))
        except InvalidTag:
            raise SealError("key", f"{path}: wrong passphrase, or a changed file") from None
    key = PrivateKey(name, X25519PrivateKey.from_private_bytes(raw))
    if key.public_raw != public_raw:
        raise SealError("key", f"{path}: its two halves do not belong together")
    return key


def needs_passphrase(path: Path) -> bool:
    """Whether a private key is enciphered.

    Raises:
        SealError: ``"key"``; no private key.
        OSError: the file cannot be read.
    """
    return _read_json(path, PRIVATE_FORMAT)["salt"] is not None


def load_public_key(path: Path) -> PublicKey:
    """Read a public key, revoked or not.

    Raises:
        SealError: ``"key"``; no public key.
        OSError: the file cannot be read.
    """
    content = _read_json(path, PUBLIC_FORMAT)
    raw = _hex(path, content, "public", 32)
    for name in ("created", "revoked"):
        value = content[name]
        if not (isinstance(value, str) or (name == "revoked" and value is None)):
            raise SealError("key", f"{path}: {name}: got {value!r}, must be a date")
    key = PublicKey(content["name"], raw, content["created"], content["revoked"])
    if content["id"] != key.id.hex():
        raise SealError("key", f"{path}: id: got {content['id']}, must be {key.id.hex()}")
    return key


def list_keys(folder: Path) -> dict[Path, PublicKey]:
    """All public keys of a folder, the revoked ones too, by file.

    Raises:
        SealError: ``"key"``; one of the files is none.
    """
    return {path: load_public_key(path) for path in sorted(folder.glob("*" + PUBLIC_SUFFIX))}


def load_officers(folder: Path) -> list[PublicKey]:
    """The public keys that a camera seals for: all in the folder that are not revoked.

    Raises:
        SealError: ``"officers"``; there are none or more than 16. ``"key"``; a file is no public
        key.
    """
    keys = list_keys(folder).values()
    revoked = {key.raw for key in keys if key.revoked is not None}
    # By key: a copy under another name is one officer still.
    officers = {key.raw: key for key in keys if key.raw not in revoked}
    if not 1 <= len(officers) <= MAX_OFFICERS:
        bounds = f"must be from 1 to {MAX_OFFICERS}"
        raise SealError("officers", f"{folder}: got {len(officers)} public keys, {bounds}")
    return list(officers.values())


def revoke_key(folder: Path, name: str, now: datetime) -> PublicKey:
    """Mark a key as revoked: no segment that begins from now on is for it.

    Args:
        folder: of public keys.
        name: of the officer, or the key's id in hexadecimal digits.
        now: the date that is written into the file.

    Raises:
        SealError: ``"officers"``; none or several of that name. ``"key"``; a file is no public key.
    """
    keys = list_keys(folder)
    found = [path for path, key in keys.items() if name in (key.name, key.id.hex())]
    if len(found) != 1:
        raise SealError("officers", f"{folder}: got {len(found)} keys {name!r}, must be 1")
    path = found[0]
    key = keys[path]
    if key.revoked is not None:
        raise SealError("officers", f"{path}: was revoked on {key.revoked}")
    date = now.isoformat(timespec="seconds")
    revoked = PublicKey(key.name, key.raw, key.created, revoked=date)
    draft = draft_of(path)
    draft.write_bytes(revoked.to_json())
    os.replace(draft, path)
    return revoked


def _private_json(private: PrivateKey, passphrase: str | None) -> bytes:
    """The content of a private key's file."""
    raw = private.key.private_bytes_raw()
    salt = os.urandom(16)
    if passphrase is not None:
        cipher = AESGCM(_passphrase_key(passphrase, salt))
        # The salt is random, so each key of the cipher is used once: its nonce may be zero.
        associated = _private_associated_data(private.name, private.public_raw)
        raw = cipher.encrypt(bytes(12), raw, associated)
    content = {
        "format": PRIVATE_FORMAT,
        "name": private.name,
        "public": private.public_raw.hex(),
        "salt": None if passphrase is None else salt.hex(),
        "private": raw.hex(),
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def _private_associated_data(name: str, public_raw: bytes) -> bytes:
    return PRIVATE_FORMAT.encode() + public_raw + name.encode()


def _passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """32 bytes from a passphrase."""
    return Scrypt(salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=1).derive(passphrase.encode())


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there, with these permissions from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


_FIELDS = {
    PRIVATE_FORMAT: {"format", "name", "public", "salt", "private"},
    PUBLIC_FORMAT: {"format", "name", "id", "public", "created", "revoked"},
}


def _read_json(path: Path, kind: str) -> dict:
    """Read a key file and check that it has the fields of its kind and a good name."""
    with path.open("rb") as file:
        data = file.read(MAX_KEY_FILE)
    try:
        content = json.loads(data)
    except ValueError as error:
        raise SealError("key", f"{path}: not readable: {error}") from error
    if not isinstance(content, dict) or content.get("format") != kind:
        raise SealError("key", f"{path}: must be a {kind!r}")
    if content.keys() != _FIELDS[kind]:
        raise SealError("key", f"{path}: fields: must be {', '.join(sorted(_FIELDS[kind]))}")
    name = content["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SealError("key", f"{path}: name: got {name!r}, must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return content


def _hex(path: Path, content: dict, field: str, length: int) -> bytes:
    """A field of this number of bytes, in hexadecimal digits."""
    value = content[field]
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", value):
        raise SealError("key", f"{path}: {field}: must be {2 * length} hexadecimal digits")
    return bytes.fromhex(value)
