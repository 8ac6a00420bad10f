"""The log of unsealings: what was changed is found, and nothing is added to a broken one."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the extra seal")
pytest.importorskip("Cryptodome", reason="needs the extra seal")

from roi_anon_ros.seal import SealError
from roi_anon_ros.seal.log import append_entry, verify_log

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=timezone.utc)


def refusal(call, *arguments: object) -> str:
    """The reason for which a call is refused."""
    with pytest.raises(SealError) as caught:
        call(*arguments)
    return caught.value.reason


def log_lines(path: Path, count: int) -> list[bytes]:
    for number in range(count):
        packets = {"files": {f"{number}.ran": "00"}, "opened": number}
        append_entry(path, "unseal", "root", ["a"], f"reason {number}, ünïcode\n", packets, NOW)
    return path.read_bytes().splitlines(keepends=True)


def test_the_log_is_a_chain(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "unsealed.log"
    lines = log_lines(path, 4)
    assert path.stat().st_mode & 0o777 == 0o600
    entries = verify_log(path)
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert entries[2].reason == "reason 2, ünïcode\n"
    for wrong in (
        [lines[1], *lines[2:]],
        [lines[0], *lines[2:]],
        [lines[0], lines[2], lines[1], lines[3]],
        [lines[0], *lines],
        [*lines, lines[3]],
        [*lines[:3], lines[3][:-1]],
        [lines[0].replace(b"reason 0", b"reason 7"), *lines[1:]],
        [lines[0].replace(b'":', b'": '), *lines[1:]],
        [*lines, b"\n"],
        [*lines, b"[]\n"],
    ):
        path.write_bytes(b"".join(wrong))
        assert refusal(verify_log, path) == "log"
        assert refusal(append_entry, path, "unseal", "u", ["a"], "r", {}, NOW) == "log"
        assert path.read_bytes() == b"".join(wrong)
    path.write_bytes(
        b"".join(lines[:3])
    )  # cut at its end it is a chain still: hence the noted hash
    assert verify_log(path)[-1].hash != entries[-1].hash


def test_every_changed_byte_of_the_log_is_found(tmp_path: Path) -> None:
    path = tmp_path / "unsealed.log"
    data = b"".join(log_lines(path, 2))
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert refusal(verify_log, path) == "log"


def test_the_log_wants_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "unsealed.log"
    for reason in ("", " \n", "x" * 1001):
        assert refusal(append_entry, path, "unseal", "u", ["a"], reason, {}, NOW) == "log"
    assert not path.exists()
