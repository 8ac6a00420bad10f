"""The log of what was unsealed: append-only JSON lines, each bound to the one before by its hash.

A line is a JSON object with the fields of :class:`Entry`; ``previous`` is the ``hash`` of the line
before (64 zeros in the first), and ``hash`` the SHA-256 of the object without it, in canonical
form: sorted keys, no spaces, ASCII. A line that was changed, taken out, put in or moved breaks the
chain. Lines cut off at the end do not: compare the last hash with one that was noted elsewhere. Who
can write the file can write the whole chain anew; again the noted hash tells.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from roi_anon_ros.seal.errors import SealError

NO_HASH = "0" * 64
MAX_REASON = 1000


@dataclass(frozen=True)
class Entry:
    """One opening.

    Attributes:
        number: of the line, from 1.
        time: date and time, ISO 8601.
        action: ``"unseal"``, or ``"wrap"``: keys were wrapped for other officers.
        user: who was logged in.
        officers: whose keys were used.
        reason: why, in the user's words.
        packets: what was opened: names of files, their SHA-256, segments.
        previous: hash of the line before.
        hash: of this line.
    """

    number: int
    time: str
    action: str
    user: str
    officers: list[str]
    reason: str
    packets: dict[str, object]
    previous: str
    hash: str


def append_entry(
    path: Path,
    action: str,
    user: str,
    officers: list[str],
    reason: str,
    packets: dict[str, object],
    now: datetime,
) -> Entry:
    """Check the log and add a line; it is on the disk when this returns.

    Args:
        path: of the log; is made, readable by its owner alone, where it is not there.
        action: as in :class:`Entry`, and so are the other arguments.
        user: likewise.
        officers: likewise.
        reason: 1 to 1000 characters.
        packets: likewise.
        now: likewise.

    Raises:
        SealError: ``"log"``; the log is broken, or there is no reason. Nothing was added.
        OSError: it cannot be written.
    """
    if not reason.strip() or len(reason) > MAX_REASON:
        got = f"got {len(reason)} characters"
        raise SealError("log", f"reason: {got}, must be 1 to {MAX_REASON}, not all blank")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        entries = _read_entries(file)
        content: dict[str, Any] = {
            "number": len(entries) + 1,
            "time": now.isoformat(timespec="seconds"),
            "action": action,
            "user": user,
            "officers": officers,
            "reason": reason,
            "packets": packets,
            "previous": entries[-1].hash if entries else NO_HASH,
        }
        entry = Entry(**content, hash=_hash(content))
        file.write(_canonical(asdict(entry)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync_folder(path.parent)
    return entry


def verify_log(path: Path) -> list[Entry]:
    """Check a log from its first line to its last.

    Returns:
        Its entries.

    Raises:
        SealError: ``"log"``; names the first line that is wrong.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return _read_entries(file)


def _read_entries(file: BinaryIO) -> list[Entry]:
    """Read and check all lines."""
    entries: list[Entry] = []
    previous = NO_HASH
    for number, line in enumerate(file.read().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            raise SealError("log", f"line {number}: was cut off; keep the file, begin another log")
        try:
            content = json.loads(line)
            entry = Entry(**content)
        except (ValueError, TypeError) as error:
            raise SealError("log", f"line {number}: not readable: {error}") from error
        if line != _canonical(content) + b"\n":
            raise SealError("log", f"line {number}: not as it was written")
        del content["hash"]
        if entry.hash != _hash(content):
            raise SealError("log", f"line {number}: was changed")
        if entry.number != number or entry.previous != previous:
            raise SealError("log", f"line {number}: does not follow the line before")
        previous = entry.hash
        entries.append(entry)
    return entries


def _canonical(content: dict[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _hash(content: dict[str, object]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Bring a new file's name onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
