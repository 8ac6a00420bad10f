"""``unseal`` and ``key``: what is refused leaves nothing; the log comes first."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("cryptography", reason="needs the extra seal")
pytest.importorskip("Cryptodome", reason="needs the extra seal")

from gained_model import make_gained_model

from roi_anon_ros import files, storage
from roi_anon_ros.cli import app
from roi_anon_ros.codec import Codec
from roi_anon_ros.seal import Opener, Sealer
from roi_anon_ros.seal import keys as keys_module
from roi_anon_ros.seal import log as log_module
from roi_anon_ros.seal.file import SealedWriter, read_frames
from roi_anon_ros.seal.keys import load_private_key
from roi_anon_ros.seal.log import verify_log

MODEL = Path(__file__).parent / "golden" / "tiny.safetensors"


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def image_of(number: int) -> np.ndarray:
    small = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


CELLS = np.zeros((6, 8), bool)
CELLS[1:4, 2:5] = True
PAINTED = CELLS.repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(str(MODEL))


@pytest.fixture
def site(tmp_path: Path, codec: Codec) -> Path:
    """A folder with keys of a, b and c, an image, a video, and what was sealed of them."""
    for name in "abc":
        assert (
            call("key", "new", name, "--out", tmp_path / "keys", "--no-passphrase").exit_code == 0
        )
    (tmp_path / "officers").mkdir()
    for name in "ab":
        (tmp_path / "keys" / f"{name}.pub").rename(tmp_path / "officers" / f"{name}.pub")
    sealer = Sealer(tmp_path / "officers")
    packets = []
    for number in range(3):
        painted = np.where(PAINTED[..., None], 128, image_of(number)).astype(np.uint8)
        packets.append(codec.encode(painted, 0).packet)
    storage.write_bytes(tmp_path / "x.ran", packets[0])
    with files.SequenceWriter(tmp_path / "v.ran", Fraction(10)) as sequence:
        for number, packet in enumerate(packets):
            sequence.write(packet, Fraction(number, 10))
        sequence.finish()
    for name, count in (("x.seal", 1), ("v.seal", 3)):
        with SealedWriter(tmp_path / name) as writer:
            for number in range(count):
                writer.write(sealer.seal(packets[number], number, image_of(number), CELLS))
            writer.finish()
    return tmp_path


def unseal(site: Path, name: str, out: str, *more: object, key: str = "a", log: str = "log"):
    options = ("--key", site / "keys" / f"{key}.key", "--model", MODEL, "--log", site / log)
    sealed = site / f"{name}.seal"
    packets = site / f"{name}.ran"
    return call("unseal", packets, sealed, site / out, "--reason", "theft", *options, *more)


def test_an_image_gets_its_hidden_pixels_back(site: Path, codec: Codec) -> None:
    result = unseal(site, "x", "x.png")
    assert result.exit_code == 0, result.output
    assert "unsealed 1 of 1 images by a" in result.output
    assert (site / "x.png").stat().st_mode & 0o777 == 0o600
    packet = (site / "x.ran").read_bytes()
    expected = codec.decode(packet).image
    ((segment, frame),) = read_frames(site / "x.seal")
    opened = Opener([load_private_key(site / "keys" / "a.key", None)]).open_frame(
        segment, frame, packet
    )
    got = cv2.imread(str(site / "x.png"))[..., ::-1]
    assert np.array_equal(got[~PAINTED], expected[~PAINTED])
    assert np.array_equal(got, opened.paste_into(expected))
    assert np.abs(got[PAINTED].astype(int) - image_of(0)[PAINTED]).mean() < 5
    (entry,) = verify_log(site / "log")
    assert (entry.action, entry.officers, entry.reason) == ("unseal", ["a"], "theft")
    assert list(entry.packets["files"]) == [str(site / "x.ran"), str(site / "x.seal")]
    assert call("key", "log", "verify", site / "log", "--last", entry.hash).exit_code == 0
    assert call("key", "log", "verify", site / "log", "--last", "0" * 64).exit_code == 1


def test_a_video_gets_its_hidden_pixels_back(site: Path) -> None:
    result = unseal(site, "v", "v.mp4", key="b")
    assert result.exit_code == 0, result.output
    frames = [frame.image for frame in files.Video(site / "v.mp4").frames()]
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        assert np.abs(frame[PAINTED].astype(int) - image_of(number)[PAINTED]).mean() < 12


def test_what_is_refused_leaves_nothing(site: Path) -> None:
    sealed = (site / "v.seal").read_bytes()
    packets = (site / "v.ran").read_bytes()
    (site / "w.ran").write_bytes(packets)
    (site / "y.ran").write_bytes((site / "x.ran").read_bytes())
    (site / "y.seal").write_bytes(sealed)  # the first packet's, and two of other packets
    cases = [("y", "a", "packet:"), ("v", "c", "key:")]
    last = bytearray(sealed)
    last[-9] ^= 1  # of the last frame's tag: the first two would open
    for content, named in ((bytes(last), "tampered:"), (sealed[:-1], "length:")):
        (site / f"{named[:-1]}.ran").write_bytes(packets)
        (site / f"{named[:-1]}.seal").write_bytes(content)
        cases.append((named[:-1], "a", named))
    for name, key, named in cases:
        result = unseal(site, name, "out.png" if name == "y" else "out.mkv", key=key)
        assert result.exit_code == 1 and named in result.output, result.output
        assert not list(site.glob("out*")) and not (site / "log").exists()


def test_the_log_is_on_the_disk_before_the_pixels(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_at_sync = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        there_at_sync.append(sorted(path.name for path in site.glob("x.png*")))
        sync(descriptor)

    monkeypatch.setattr(log_module.os, "fsync", watched)
    assert unseal(site, "x", "x.png").exit_code == 0
    assert there_at_sync and not any(there_at_sync)
    (site / "x.png").unlink()

    (site / "log").write_bytes((site / "log").read_bytes()[:-1])  # a broken log: nothing is opened
    result = unseal(site, "x", "x.png")
    assert result.exit_code == 1 and "log: line 1" in result.output
    assert not list(site.glob("x.png*"))

    (site / "x.png").mkdir()  # what cannot be written is in the log all the same
    assert unseal(site, "x", "x.png", log="other").exit_code == 1
    assert len(verify_log(site / "other")) == 1
    assert not (site / "x.png.part").exists()


@pytest.mark.slow
def test_keys_are_listed_revoked_wrapped_and_destroyed(site: Path) -> None:
    listed = call("key", "list", site / "officers").output.splitlines()
    assert [line.split()[1] for line in listed] == ["a", "b"]
    assert "revoked" in call("key", "revoke", site / "officers", "b").output
    assert call("key", "revoke", site / "officers", "b").exit_code == 1
    assert "  revoked 20" in call("key", "list", site / "officers").output

    def wrap(key: str):
        options = ("--key", site / "keys" / f"{key}.key", "--officers", site / "keys")
        return call("key", "wrap", site / "v.seal", *options, "--reason", "c takes over")

    assert wrap("c").exit_code == 1 and not (site / "unsealed.log").exists()
    result = wrap("a")
    assert "wrapped 1 segments for c, threshold 1" in result.output, result.output
    (entry,) = verify_log(site / "unsealed.log")
    assert (entry.action, entry.officers, entry.packets["for"]) == ("wrap", ["a"], ["c"])
    assert unseal(site, "v", "v.mkv", key="a").exit_code == 1
    assert unseal(site, "v", "v.mkv", key="c").exit_code == 0

    assert (
        "destroyed the keys of 0 segments in 2 files"
        in call("key", "expire", site, "--days", 1).output
    )
    assert "destroyed the keys of 2 segments" in call("key", "expire", site, "--days", 0).output
    result = unseal(site, "x", "x.png")
    assert result.exit_code == 1 and "erased:" in result.output
    (site / "x.seal").write_bytes(b"RSEA")
    assert call("key", "expire", site, "--days", 0).exit_code == 1


def test_passphrases_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "SCRYPT_N", 1 << 8)
    monkeypatch.delenv("ROI_ANON_PASSPHRASE", raising=False)
    typed = "a good passphrase\na good passphrase\n"
    result = CliRunner().invoke(app, ["key", "new", "a", "--out", str(tmp_path)], input=typed)
    assert result.exit_code == 0, result.output
    assert "good" not in result.output
    assert load_private_key(tmp_path / "a.key", "a good passphrase").name == "a"
    monkeypatch.setenv("ROI_ANON_PASSPHRASE", "short")
    assert call("key", "new", "b", "--out", tmp_path).exit_code == 1
    assert call("key", "new", "a", "--out", tmp_path, "--no-passphrase").exit_code == 1
    assert not (tmp_path / "b.key").exists()


def test_commands_that_make_no_sense(site: Path) -> None:
    assert unseal(site, "x", "x.avi").exit_code == 2
    assert unseal(site, "v", "v.png").exit_code == 2
    assert unseal(site, "nothing", "x.png").exit_code == 2
    assert call("key", "list", site / "nowhere").exit_code == 2


@pytest.fixture(scope="module")
def painting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gained_model(tmp_path_factory.mktemp("painting") / "tiny.safetensors")


def scene(number: int) -> np.ndarray:
    """Dark, with a white head that moves."""
    image = image_of(0) // 2
    left = 8 + 4 * number
    image[16:32, left : left + 16] = 255
    return image


@pytest.mark.slow
def test_encode_seals_for_officers(tmp_path: Path, painting_model: Path) -> None:
    """Images and a video: what is opened is what was there, and nobody else opens it."""
    for name in ("a", "stranger"):
        assert (
            call("key", "new", name, "--out", tmp_path / "keys", "--no-passphrase").exit_code == 0
        )
    officers = tmp_path / "officers"
    officers.mkdir()
    (tmp_path / "keys" / "a.pub").rename(officers / "a.pub")
    source = tmp_path / "in"
    source.mkdir()
    cv2.imwrite(str(source / "x.png"), scene(0)[..., ::-1])
    frames = (files.Frame(scene(number), Fraction(number, 10)) for number in range(4))
    files.write_video(source / "v.mkv", ".mkv", frames, Fraction(10))
    out = tmp_path / "out"
    encode = ["encode", source, out, "--model", painting_model, "--officers", officers]
    done = call(*encode)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["v.ran", "v.seal", "x.ran", "x.seal"]

    key = load_private_key(tmp_path / "keys" / "a.key", None)
    ((segment, frame),) = read_frames(out / "x.seal")
    packet = (out / "x.ran").read_bytes()
    opened = Opener([key]).open_frame(segment, frame, packet)
    decoded = Codec.load(str(painting_model)).decode(packet)
    assert opened.cells.any() and np.array_equal(opened.cells, decoded.regions.cells)
    mask = decoded.regions.mask(64, 48)
    error = np.abs(opened.paste_into(decoded.image)[mask].astype(int) - scene(0)[mask])
    assert error.mean() < 10

    assert len(list(read_frames(out / "v.seal"))) == 4
    unseal = ["unseal", out / "v.ran", out / "v.seal", tmp_path / "v.mkv", "--reason", "a test"]
    unseal += ["--model", painting_model]
    assert call(*unseal, "--key", tmp_path / "keys" / "stranger.key").exit_code != 0
    assert not (tmp_path / "v.mkv").exists()
    assert call(*unseal, "--key", tmp_path / "keys" / "a.key").exit_code == 0

    # What is whole stays; a packet without its sealed part is made anew.
    before = (out / "v.seal").read_bytes()
    (out / "x.seal").unlink()
    again = call(*encode)
    assert again.exit_code == 0, again.stderr
    assert (out / "x.seal").is_file() and (out / "v.seal").read_bytes() == before


def test_encode_refuses_officers_that_cannot_be(tmp_path: Path, painting_model: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), scene(0))
    encode = ["encode", tmp_path / "x.png", tmp_path / "x.ran", "--model"]
    (tmp_path / "none").mkdir()
    nobody = call(*encode, painting_model, "--officers", tmp_path / "none")
    assert nobody.exit_code == 2 and "officers" in nobody.stderr
    one_rate = call(*encode, MODEL, "--officers", tmp_path / "none")
    assert one_rate.exit_code == 2 and "does not paint" in one_rate.stderr
    assert not (tmp_path / "x.ran").exists()
