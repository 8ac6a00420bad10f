"""The seal under attack: keys, sealing and opening, files."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography", reason="needs the extra seal")
pytest.importorskip("Cryptodome", reason="needs the extra seal")

from roi_anon_ros.seal import Opener, Sealer, SealError, send_both
from roi_anon_ros.seal import keys as keys_module
from roi_anon_ros.seal.file import (
    DAY_NS,
    SealedWriter,
    change_segments,
    expire_segments,
    read_frames,
    read_segments,
)
from roi_anon_ros.seal.format import pack_part, unpack_part
from roi_anon_ros.seal.grants import rewrap
from roi_anon_ros.seal.keys import (
    PrivateKey,
    list_keys,
    load_officers,
    load_private_key,
    load_public_key,
    new_key,
    revoke_key,
)
from roi_anon_ros.seal.opener import open_sequence

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=timezone.utc)
PACKET = b"a packet"
STAMP = 1_700_000_000_123_456_789
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
CELLS = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)


def officers(folder: Path, *names: str) -> list[PrivateKey]:
    """Make keys without passphrases, which take their time, and read the private ones."""
    for name in names:
        new_key(folder, name, None, NOW)
    return [load_private_key(folder / f"{name}.key", None) for name in names]


def refusal(call, *arguments: object) -> str:
    """The reason for which a call is refused."""
    with pytest.raises(SealError) as caught:
        call(*arguments)
    return caught.value.reason


def test_an_officer_opens_what_a_camera_sealed(tmp_path: Path) -> None:
    (key,) = officers(tmp_path, "a")
    part = Sealer(tmp_path).seal(PACKET, STAMP, IMAGE, CELLS)
    opened = Opener([key]).open_part(part, PACKET, STAMP)
    assert (opened.stamp_ns, opened.size) == (STAMP, (20, 24))
    back = opened.paste_into(np.zeros_like(IMAGE))
    painted = np.zeros((24, 20), bool)
    painted[:8, 8:16] = painted[16:, :8] = painted[16:, 16:] = True
    assert not back[~painted].any()
    assert np.abs(back[painted].astype(int) - IMAGE[painted]).mean() < 20  # noise, as a JPEG
    assert refusal(opened.paste_into, np.zeros((24, 24, 3), np.uint8)) == "image"


@pytest.mark.slow
def test_every_flipped_bit_is_refused_by_name(tmp_path: Path) -> None:
    key, _ = officers(tmp_path, "a", "b")
    part = Sealer(tmp_path, quality=1).seal(PACKET, STAMP, IMAGE[:16, :16], CELLS[:2, :2])
    opener = Opener([key])
    opener.open_part(part, PACKET, STAMP)
    reasons = set()
    for bit in range(8 * len(part)):
        damaged = bytearray(part)
        damaged[bit // 8] ^= 1 << bit % 8
        reasons.add(refusal(opener.open_part, damaged, PACKET, STAMP))
    expected = {"magic", "version", "size", "length", "cells", "order", "packet", "stamp"}
    assert reasons == expected | {"key", "tampered"}


def test_a_part_opens_under_its_packet_and_stamp_alone(tmp_path: Path) -> None:
    opener = Opener(officers(tmp_path, "a"))
    part = Sealer(tmp_path).seal(PACKET, STAMP, IMAGE, CELLS)
    assert refusal(opener.open_part, part, b"another packet", STAMP) == "packet"
    assert refusal(opener.open_part, part, b"", STAMP) == "packet"
    assert refusal(opener.open_part, part, PACKET, STAMP + 1) == "stamp"


def test_a_stranger_opens_nothing(tmp_path: Path) -> None:
    (own,) = officers(tmp_path / "own", "a")
    (stranger,) = officers(tmp_path / "strange", "a")
    part = Sealer(tmp_path / "own").seal(PACKET, STAMP, IMAGE, CELLS)
    assert refusal(Opener([stranger]).open_part, part, PACKET, STAMP) == "key"
    # He writes his own key's id into the grant: it is not for him still.
    segment, frame = unpack_part(part)
    forged = replace(segment.grants[0], key_id=stranger.id)
    forged_part = pack_part(replace(segment, grants=(forged,)), frame)
    assert refusal(Opener([stranger]).open_part, forged_part, PACKET, STAMP) == "tampered"
    assert refusal(Opener([own]).open_part, forged_part, PACKET, STAMP) == "key"


def test_swapped_segments_grants_and_ephemeral_keys_are_refused(tmp_path: Path) -> None:
    opener = Opener(officers(tmp_path, "a", "b"))
    first, frame = unpack_part(Sealer(tmp_path).seal(PACKET, STAMP, IMAGE, CELLS))
    second, other = unpack_part(Sealer(tmp_path).seal(PACKET, STAMP, IMAGE, CELLS))

    def open_(segment, frame) -> None:
        opener.open_part(pack_part(segment, frame), PACKET, STAMP)

    open_(first, frame)
    assert refusal(open_, second, frame) == "order"
    assert refusal(open_, second, replace(frame, segment_id=second.id)) == "tampered"
    assert refusal(open_, first, replace(frame, pixels=other.pixels)) == "tampered"
    assert refusal(open_, first, replace(frame, number=1)) == "tampered"
    assert refusal(open_, replace(first, grants=second.grants), frame) == "tampered"
    assert refusal(open_, replace(first, grants=first.grants[::-1]), frame) == "tampered"
    assert refusal(open_, replace(first, grants=first.grants[:1]), frame) == "tampered"
    assert refusal(open_, replace(first, created_ns=0), frame) == "tampered"
    low = replace(first.grants[0], ephemeral=bytes(32))  # a point of small order
    assert refusal(open_, replace(first, grants=(low, first.grants[1])), frame) == "tampered"


def test_two_of_three_officers_open_and_one_does_not(tmp_path: Path) -> None:
    a, b, c = officers(tmp_path, "a", "b", "c")
    part = Sealer(tmp_path, threshold=2).seal(PACKET, STAMP, IMAGE, CELLS)
    for pair in ([a, b], [b, c], [c, a], [a, b, c]):
        opener = Opener(pair)
        opener.open_part(part, PACKET, STAMP)
        assert len(opener.officers) == 2
    for few in ([a], [c], [b, b]):
        assert refusal(Opener(few).open_part, part, PACKET, STAMP) == "threshold"
    segment, frame = unpack_part(part)
    twice = replace(segment.grants[1], number=segment.grants[0].number)
    forged = replace(segment, grants=(segment.grants[0], twice, segment.grants[2]))
    assert refusal(Opener([a, b]).open_part, pack_part(forged, frame), PACKET, STAMP) == "tampered"


def test_no_nonce_comes_twice_from_many_threads(tmp_path: Path) -> None:
    officers(tmp_path, "a")
    sealer = Sealer(tmp_path)
    parts: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            parts.append(sealer.seal(PACKET, STAMP, IMAGE, CELLS))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frames = [unpack_part(part)[1] for part in parts]
    assert len({(frame.segment_id, frame.number) for frame in frames}) == 160
    assert len({frame.segment_id for frame in frames}) == 1


#: In a separate process: a fork of one that has run networks crashes in their libraries.
FORKING = """
import os, sys
from pathlib import Path
from test_seal import CELLS, IMAGE, PACKET, STAMP, Sealer

sealer = Sealer(Path(sys.argv[1]))
sealer.seal(PACKET, STAMP, IMAGE, CELLS)
child = os.fork()
name = "parent" if child else "child"
Path(sys.argv[1], name).write_bytes(sealer.seal(PACKET, STAMP, IMAGE, CELLS))
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_forked_process_begins_another_segment(tmp_path: Path) -> None:
    officers(tmp_path, "a")
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
    parts = [(tmp_path / name).read_bytes() for name in ("parent", "child")]
    assert unpack_part(parts[0])[0].id != unpack_part(parts[1])[0].id


def test_segments_follow_the_stamps_and_revoking_counts_from_the_next(tmp_path: Path) -> None:
    a, b = officers(tmp_path, "a", "b")
    sealer = Sealer(tmp_path, segment_s=2)

    def segment(stamp_ns: int):
        return unpack_part(sealer.seal(PACKET, stamp_ns, IMAGE, CELLS))[0]

    first = segment(STAMP)
    revoke_key(tmp_path, "b", NOW)
    assert segment(STAMP + 2 * 10**9 - 1) == first
    second = segment(STAMP + 2 * 10**9)
    assert [grant.key_id for grant in second.grants] == [a.id]
    assert len({first.id, second.id, segment(STAMP).id}) == 3  # a clock that was set back
    part = sealer.seal(PACKET, STAMP, IMAGE, CELLS)
    assert refusal(Opener([b]).open_part, part, PACKET, STAMP) == "key"
    revoke_key(tmp_path, a.id.hex(), NOW)
    assert refusal(segment, STAMP + 10 * 10**9) == "officers"


def test_arguments_out_of_bounds_are_named(tmp_path: Path) -> None:
    assert refusal(Sealer, tmp_path) == "officers"
    officers(tmp_path, "a")
    for options in ({"threshold": 2}, {"threshold": 0}):
        with pytest.raises(SealError, match="threshold: got"):
            Sealer(tmp_path, **options)
    with pytest.raises(SealError, match="segment_s: got 0"):
        Sealer(tmp_path, segment_s=0)
    with pytest.raises(SealError, match="quality: got 101"):
        Sealer(tmp_path, quality=101)
    sealer = Sealer(tmp_path)
    for image, cells in (
        (IMAGE.astype(float), CELLS),
        (IMAGE[..., 0], CELLS),
        (IMAGE[:8], CELLS[:1]),
        (IMAGE, CELLS[:2]),
        (IMAGE, CELLS.astype(int)),
    ):
        assert refusal(sealer.seal, PACKET, STAMP, image, cells) == "image"


def test_a_packet_goes_out_without_its_sealed_part_and_never_the_other_way_round() -> None:
    sent: list[bytes] = []

    def fail(*_: object) -> bytes:
        raise OSError("no")

    assert send_both(b"p", lambda: b"s", sent.append, sent.append) is None
    assert sent == [b"p", b"s"]
    sent.clear()
    assert isinstance(send_both(b"p", fail, sent.append, sent.append), OSError)
    assert sent == [b"p"]
    assert isinstance(send_both(b"p", lambda: b"s", sent.append, fail), OSError)
    sent.clear()
    with pytest.raises(OSError):
        send_both(b"p", lambda: b"s", fail, sent.append)
    assert sent == []


def test_a_private_key_is_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "SCRYPT_N", 1 << 8)
    public = new_key(tmp_path, "a", "twelve chars", NOW)
    path = tmp_path / "a.key"
    assert path.stat().st_mode & 0o777 == 0o600
    key = load_private_key(path, "twelve chars")
    assert (key.name, key.id) == ("a", public.id)
    secret = key.key.private_bytes_raw()
    assert secret.hex() not in path.read_text() and secret.hex() not in repr(key)
    assert refusal(load_private_key, path, "twelve charz") == "key"
    assert refusal(load_private_key, path, None) == "key"
    with pytest.raises(FileExistsError):
        new_key(tmp_path, "a", "twelve chars", NOW)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"name": "b"}))
    assert refusal(load_private_key, path, "twelve chars") == "key"
    path.chmod(0o640)
    with pytest.raises(SealError, match="must be of mode 0600"):
        load_private_key(path, "twelve chars")
    with pytest.raises(SealError, match="got 11 characters, must be 12 or more"):
        new_key(tmp_path, "c", "eleven char", NOW)
    for name in ("", "../c", ".c", "c d", "c" * 65):
        assert refusal(new_key, tmp_path, name, None, NOW) == "key"


def test_damaged_key_files_are_refused(tmp_path: Path) -> None:
    officers(tmp_path, "a")
    private = tmp_path / "a.key"
    public = tmp_path / "a.pub"
    good = json.loads(private.read_text())
    for change in ({"private": "00" * 32}, {"private": "x"}, {"public": "00"}, {"more": 1}):
        private.write_text(json.dumps(good | change))
        assert refusal(load_private_key, private, None) == "key"
    for text in ("", "[]", "{}", public.read_text()):
        private.write_text(text)
        assert refusal(load_private_key, private, None) == "key"
    good = json.loads(public.read_text())
    for change in ({"public": "11" * 32}, {"revoked": 1}, {"created": None}, {"name": "a/b"}):
        public.write_text(json.dumps(good | change))
        assert refusal(load_public_key, public) == "key"
        assert refusal(load_officers, tmp_path) == "key"  # one bad file is not skipped


def test_a_revoked_key_does_not_come_back_as_a_copy(tmp_path: Path) -> None:
    officers(tmp_path, "a", "b")
    (tmp_path / "copy.pub").write_bytes((tmp_path / "b.pub").read_bytes())
    assert [key.name for key in load_officers(tmp_path)] == ["a", "b"]
    assert refusal(revoke_key, tmp_path, "b", NOW) == "officers"  # two of that name: which one?
    (tmp_path / "b.pub").write_bytes(
        replace(list_keys(tmp_path)[tmp_path / "b.pub"], revoked="x").to_json()
    )
    assert [key.name for key in load_officers(tmp_path)] == ["a"]
    assert refusal(revoke_key, tmp_path, "nobody", NOW) == "officers"


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, list[bytes], list[PrivateKey]]:
    """A file of four frames in two segments, its packets, and the keys of a and b."""
    keys = officers(tmp_path / "officers", "a", "b")
    sealer = Sealer(tmp_path / "officers", segment_s=2)
    packets = [f"packet {number}".encode() for number in range(4)]
    with SealedWriter(tmp_path / "x.seal") as writer:
        for number, packet in enumerate(packets):
            writer.write(sealer.seal(packet, number * 10**9, IMAGE, CELLS))
        writer.finish()
    return tmp_path / "x.seal", packets, keys


def open_file(path: Path, packets: list[bytes], keys: list[PrivateKey]) -> list[bool]:
    """Which packets have a sealed part that opens."""
    pairs = open_sequence(packets, read_frames(path), Opener(keys))
    return [opened is not None for _, opened in pairs]


def test_a_file_opens_and_may_have_gaps(recording) -> None:
    path, packets, keys = recording
    assert open_file(path, packets, keys[:1]) == [True] * 4
    with_others = [b"x", packets[0], b"y", *packets[1:], b"z"]
    assert open_file(path, with_others, keys[1:]) == [0, 1, 0, 1, 1, 1, 0]
    same = [packets[0], packets[0], *packets[1:]]  # a still scene: the same packet twice
    assert open_file(path, same, keys) == [1, 0, 1, 1, 1]


def test_reordered_missing_and_other_packets_are_refused(recording) -> None:
    path, packets, keys = recording
    swapped = [packets[1], packets[0], *packets[2:]]
    for wrong in (swapped, packets[::-1], packets[1:], packets[:-1], [b"other"], []):
        assert refusal(open_file, path, wrong, keys) == "packet"


def test_truncations_of_a_file_are_refused(recording) -> None:
    path, packets, keys = recording
    data = path.read_bytes()
    for length in [*range(0, len(data), 11), *range(len(data) - 20, len(data))]:
        path.write_bytes(data[:length])
        with pytest.raises(SealError, match="length"):
            list(read_frames(path))
    path.write_bytes(data + b"\0")
    assert refusal(open_file, path, packets, keys) == "length"


def test_moved_frames_and_segments_are_refused(recording) -> None:
    path, packets, keys = recording
    data = path.read_bytes()
    items = list(read_frames(path))
    segments = [items[0][0].pack(), items[2][0].pack()]
    frames = [frame.pack() for _, frame in items]
    end = data[-8:]

    def write(*parts: bytes) -> Path:
        path.write_bytes(data[:8] + b"".join(parts) + end)
        return path

    assert write(segments[0], *frames[:2], segments[1], *frames[2:]).read_bytes() == data
    for parts in (
        (segments[0], frames[1], frames[0], segments[1], *frames[2:]),
        (segments[0], frames[0], frames[0], segments[1], *frames[2:]),
        (segments[1], *frames[:2], segments[0], *frames[2:]),
        (segments[0], frames[0], segments[0], *frames[1:]),
        (*frames, segments[0], segments[1]),
    ):
        assert refusal(open_file, write(*parts), packets, keys) == "order"
    assert refusal(open_file, write(segments[0], *frames[:2]), packets, keys) == "length"
    path.write_bytes(b"RANS" + data[4:])
    assert refusal(open_file, path, packets, keys) == "magic"
    path.write_bytes(data[:4] + b"\2" + data[5:])
    assert refusal(open_file, path, packets, keys) == "version"


def test_keys_are_wrapped_for_other_officers(recording, tmp_path: Path) -> None:
    path, packets, keys = recording
    new = officers(tmp_path / "new", "c", "d", "e")
    others = load_officers(tmp_path / "new")
    before = path.read_bytes()
    assert refusal(change_segments, path, lambda s: rewrap(s, new, others, 2)) == "key"
    assert path.read_bytes() == before and not list(tmp_path.glob("*.part"))
    assert change_segments(path, lambda s: rewrap(s, keys[:1], others, 2)) == 2
    assert open_file(path, packets, new[1:]) == [True] * 4
    assert refusal(open_file, path, packets, new[:1]) == "threshold"
    assert refusal(open_file, path, packets, keys) == "key"


def test_keys_are_destroyed_after_their_days(recording) -> None:
    path, packets, keys = recording
    created = [segment.created_ns for segment in read_segments(path)]
    before = path.read_bytes()
    assert expire_segments(path, 30, created[0] + 30 * DAY_NS - 1) == 0
    assert path.read_bytes() == before
    assert expire_segments(path, 30, created[0] + 30 * DAY_NS) == 1
    erased, kept = read_segments(path)
    assert erased.erased and not kept.erased
    assert refusal(open_file, path, packets, keys) == "erased"
    grants = [grant for segment, _ in read_frames(path) for grant in segment.grants]
    assert bytes(48) in [grant.wrapped for grant in grants[:4]]
    assert expire_segments(path, 30, created[1] + 30 * DAY_NS) == 1
    assert expire_segments(path, 0, created[1] + 99 * DAY_NS) == 0
    assert len(path.read_bytes()) == len(before)
    with pytest.raises(SealError, match="days: got -1"):
        expire_segments(path, -1, created[1])


def test_destroying_keys_finishes_what_was_interrupted(recording) -> None:
    path, packets, keys = recording
    created = [segment.created_ns for segment in read_segments(path)]
    data = bytearray(path.read_bytes())
    data[8 + 7] = 1  # its mark and some of its bytes were written, the rest was not
    data[8 + 32 : 8 + 90] = bytes(58)
    path.write_bytes(data)
    assert refusal(open_file, path, packets, keys) == "size"
    assert expire_segments(path, 1, created[1] + DAY_NS) == 2
    assert refusal(open_file, path, packets, keys) == "erased"


def test_a_segment_from_the_future_is_reported_and_the_rest_destroyed(recording) -> None:
    path, _, _ = recording
    first, second = read_segments(path)
    change_segments(path, lambda s: replace(s, created_ns=2**63) if s == first else s)
    with pytest.raises(SealError, match="got 1 segments from the future"):
        expire_segments(path, 1, second.created_ns + DAY_NS)
    assert [segment.erased for segment in read_segments(path)] == [False, True]


def test_seal_needs_neither_torch_nor_ros() -> None:
    modules = "sys, roi_anon_ros.seal, roi_anon_ros.seal.file, roi_anon_ros.seal.log"
    code = f"import {modules}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "rclpy", "cv2"} & set(run.stdout.split())
