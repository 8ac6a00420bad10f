"""The command line: as a process where exit codes and interruptions count, called directly
otherwise.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from roi_anon_ros import files, storage
from roi_anon_ros.cli import app
from roi_anon_ros.codec import DEFAULT_MAX_SIDE, Codec, PacketError, modelfile, save_model
from roi_anon_ros.codec.networks import PaperCodec
from roi_anon_ros.codec.packet import pack, unpack
from roi_anon_ros.files.encoding import Encoder, encode_image_file


def write_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    net = PaperCodec(N=8, M=2)
    with torch.no_grad():  # untrained, it would code every image as zeros
        net.g_a[-1].weight.mul_(60)
        net.g_s[0].weight.mul_(5)
    net.update()
    save_model(net, path, name=path.stem)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", 0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("other") / "other.safetensors", 1)


@pytest.fixture(scope="module")
def codec(model: Path) -> Codec:
    return Codec.load(str(model))


@pytest.fixture
def installed(model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model stands where models are looked for."""
    monkeypatch.setattr(modelfile, "model_folders", lambda: [model.parent])
    return model


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "roi_anon_ros.cli", *map(str, arguments)]


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=900)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command with the usual Ctrl-C, even where the tests run in the background."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until(condition, running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 900
    while not condition():
        assert running.poll() is None, f"ended before it was interrupted: {running.communicate()}"
        assert time.monotonic() < until
        time.sleep(0.002)


def make_image(seed: int, width: int = 56, height: int = 40) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def write_image(path: Path, seed: int, width: int = 56, height: int = 40) -> np.ndarray:
    """Write an image and return it, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = make_image(seed, width, height)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def write_video(
    path: Path, frames: int, width: int = 64, height: int = 48, rate: float = 12.5
) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (width, height))
    for number in range(frames):
        writer.write(make_image(number, width, height))
    writer.release()
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, even with the same content and time."""
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_ctime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


# one image


@pytest.mark.slow
def test_round_trip_of_an_image(tmp_path: Path, model: Path, codec: Codec) -> None:
    image = write_image(tmp_path / "a.png", 1, 57, 41)
    done = process("encode", tmp_path / "a.png", tmp_path / "a.ran", "--model", model)
    assert done.returncode == 0, done.stderr
    expected = codec.encode(image)
    assert (tmp_path / "a.ran").read_bytes() == expected.packet
    assert done.stdout == (
        f"encoded 1 images, {len(expected.packet)} bytes, "
        f"{expected.bits_per_pixel:.4f} bits per pixel\n"
    )
    assert done.stderr == ""
    done = call("decode", tmp_path / "a.ran", tmp_path / "new" / "b.png", "--model", model)
    assert done.exit_code == 0, done.stderr
    decoded = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "b.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decoded, codec.decode(expected.packet).at_source_size())
    assert decoded.shape == image.shape
    assert decoded.std() > 3
    assert sorted(p.name for p in tmp_path.rglob("*.part*")) == []


@pytest.mark.parametrize("max_side", [0, 32, DEFAULT_MAX_SIDE])
def test_max_side(tmp_path: Path, model: Path, codec: Codec, max_side: int) -> None:
    image = write_image(tmp_path / "a.png", 1, 700, 20)
    assert (
        call(
            "encode", tmp_path / "a.png", tmp_path, "--model", model, "--max-side", max_side
        ).exit_code
        == 0
    )
    packet = (tmp_path / "a.ran").read_bytes()
    assert packet == codec.encode(image, max_side).packet
    assert unpack(packet)[0].coded_size[0] == (max_side or 700)
    assert call("decode", tmp_path / "a.ran", f"{tmp_path}/out/", "--model", model).exit_code == 0
    assert cv2.imread(str(tmp_path / "out" / "a.png")).shape == (20, 700, 3)


def test_default_max_side_is_the_nodes(tmp_path: Path, model: Path, codec: Codec) -> None:
    image = write_image(tmp_path / "a.png", 1, DEFAULT_MAX_SIDE + 60, 20)
    assert call("encode", tmp_path / "a.png", tmp_path, "--model", model).exit_code == 0
    assert (tmp_path / "a.ran").read_bytes() == codec.encode(image).packet
    assert str(DEFAULT_MAX_SIDE) in call("encode", "--help").output


def test_images_are_read_as_rgb_of_8_bits_and_upright(tmp_path: Path) -> None:
    grey = make_image(3)[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(files.read_pixels(tmp_path / "grey.png"), np.dstack([grey] * 3))
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(files.read_pixels(tmp_path / "deep.png"), np.dstack([grey] * 3))
    rgba = np.dstack([make_image(4), grey])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    laid = rgba[..., :3] * (grey[..., None] / 255)
    assert np.abs(files.read_pixels(tmp_path / "alpha.png") - laid).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(make_image(5)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = files.read_pixels(tmp_path / "turned.jpg")
    assert turned.shape == (56, 40, 3)
    assert np.abs(turned.astype(int) - np.rot90(make_image(5), -1)).mean() < 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_a_truncated_image_is_no_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, 1, 200, 150)
    files.read_pixels(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with pytest.raises(ValueError, match="not a readable image"):
        files.read_pixels(path)


# usage


@pytest.mark.slow
def test_help_and_a_wrong_path_are_quick() -> None:
    slow = (
        "import sys, roi_anon_ros.cli; "
        "print([m for m in ('torch', 'cv2', 'numpy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", slow], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
    done = process("encode", "/does/not/exist.png", "a.ran")
    assert done.returncode == 2
    assert "/does/not/exist.png: no such file" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{t}/a.png"], "OUT"),
        (["encode", "{t}/note.txt", "{t}/a.ran"], "neither a folder nor one of"),
        (["encode", "{t}/a.png", "{t}/b.png", "--model", "{m}"], "end in .ran"),
        (["encode", "{t}/empty", "{t}/out", "--model", "{m}"], "nothing in it ends in"),
        (["encode", "{t}", "{t}/a.png", "--model", "{m}"], "must be a folder"),
        (["encode", "{t}/a.png", "{t}/a.ran", "--model", "nobody"], "nobody"),
        (["encode", "{t}/a.png", "{t}/a.ran", "--model", "{t}/note.txt"], "note.txt: damaged"),
        (
            ["encode", "{t}/a.png", "{t}/a.ran", "--model", "{m}", "--max-side", "15"],
            "max_side: 15",
        ),
        (
            ["encode", "{t}/a.png", "{t}/a.ran", "--model", "{m}", "--max-side", "-1"],
            "max_side: -1",
        ),
        (["decode", "{t}/a.png", "{t}/a.png"], "over its own source"),
        (["decode", "{t}/a.png", "{t}/a.jpg"], "end in .png"),
        (["info", "{t}/nothing.ran"], "no such file"),
        (["info", "{t}"], "must be a file"),
        (["train", "{t}/nothing.yaml", "--out", "{t}/run"], "no such file"),
    ],
)
def test_usage_errors(tmp_path: Path, model: Path, arguments: list[str], message: str) -> None:
    write_image(tmp_path / "a.png", 1)
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    before = state(tmp_path)
    done = call(*(a.format(t=tmp_path, m=model) for a in arguments))
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert state(tmp_path) == before


def test_train_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    (tmp_path / "wrong.yaml").write_text("network: fast\ntrain: {}\nvalidation: {}\nepochs: 3\n")
    done = call("train", tmp_path / "wrong.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "epochs" in done.output


def test_train_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "roi_anon_ros.train.trainer", raising=False)
    monkeypatch.delattr("roi_anon_ros.train.trainer", raising=False)
    (tmp_path / "a.yaml").write_text("")
    done = call("train", tmp_path / "a.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "roi_anon_ros[train]" in done.output


# folders


def test_folder_with_a_broken_image(tmp_path: Path, model: Path, codec: Codec) -> None:
    source, out, back = tmp_path / "in", tmp_path / "out", tmp_path / "back"
    images = {
        n: write_image(source / f"{n}.png", i) for i, n in enumerate(["a", "sub/deep/b", "sub/c.d"])
    }
    (source / "sub" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (source / "empty.png").write_bytes(b"")
    write_image(source / "small.png", 9, 15, 40)
    (source / "notes.txt").write_text("ignored")
    done = call("encode", source, out, "--model", model)
    assert done.exit_code == 1
    assert f"{source / 'sub' / 'broken.jpg'}: not a readable image" in done.stderr
    assert f"{source / 'empty.png'}: not a readable image" in done.stderr
    assert f"{source / 'small.png'}: width: 15" in done.stderr
    assert "left out, files in .txt are not read: notes.txt" in done.stderr
    assert len(done.stderr.splitlines()) == 4
    assert done.stdout.startswith("encoded 3 images, ")
    assert done.stdout.endswith("; 3 files with errors\n")
    assert set(state(out)) == {f"{name}.ran" for name in images}
    for name, image in images.items():
        assert (out / f"{name}.ran").read_bytes() == codec.encode(image).packet

    packet = (out / "a.ran").read_bytes()
    (out / "a.ran").write_bytes(packet[:-1])
    (out / "foreign.ran").write_bytes(b"hello, I am no packet, but long enough for one")
    done = call("decode", out, back, "--model", model)
    assert done.exit_code == 1
    assert f"{out / 'a.ran'}: length: " in done.stderr
    assert f"{out / 'foreign.ran'}: magic: " in done.stderr
    assert set(state(back)) == {"sub/deep/b.png", "sub/c.d.png"}
    assert done.stdout.startswith("decoded 2 images, ")


def test_two_sources_of_one_output_are_both_refused(tmp_path: Path, model: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.jpg", "a.png", "b.png"):
        write_image(source / name, 1)
    done = call("encode", source, out, "--model", model)
    assert done.exit_code == 1
    assert f"{source / 'a.jpg'}: skipped: {source / 'a.png'} would be" in done.stderr
    assert f"{source / 'a.png'}: skipped: {source / 'a.jpg'} would be" in done.stderr
    assert set(state(out)) == {"b.ran"}


def test_a_second_run_does_what_is_missing_or_out_of_date(
    tmp_path: Path, model: Path, other_model: Path, codec: Codec
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(5):
        write_image(source / f"{number}.png", number)
    first = call("encode", source, out, "--model", model)
    before = state(out)
    again = call("encode", source, out, "--model", model)
    assert again.exit_code == 0
    assert again.stdout == first.stdout.rstrip("\n") + "; 5 of 5 files were already done\n"
    assert state(out) == before

    (out / "0.ran").unlink()
    (out / "1.ran").write_bytes((out / "1.ran").read_bytes()[:-3])
    os.utime(
        out / "1.ran", ns=(0, (source / "1.png").stat().st_mtime_ns)
    )  # not to be told by its time
    image = write_image(source / "2.png", 77)
    os.utime(source / "2.png", (1e9, 1e9))  # another image, and an older one
    third = call("encode", source, out, "--model", model)
    assert "2 of 5 files were already done" in third.stdout
    after = state(out)
    assert {name for name in after if after[name] != before.get(name)} == {
        "0.ran",
        "1.ran",
        "2.ran",
    }
    assert (out / "2.ran").read_bytes() == codec.encode(image).packet

    assert (
        "already done" not in call("encode", source, out, "--model", model, "--max-side", 32).stdout
    )
    assert unpack((out / "3.ran").read_bytes())[0].coded_size == (32, 23)
    # The same coded size, but by another bound: the same packets.
    assert "5 of 5" in call("encode", source, out, "--model", model, "--max-side", 32).stdout
    assert (
        "already done"
        not in call("encode", source, out, "--model", other_model, "--max-side", 32).stdout
    )
    assert unpack((out / "3.ran").read_bytes())[0].fingerprint != codec.model.fingerprint


def test_a_single_output_is_always_written(tmp_path: Path, model: Path, codec: Codec) -> None:
    one, two = write_image(tmp_path / "1.png", 1), write_image(tmp_path / "2.png", 2)
    for name in ("1.png", "2.png"):
        os.utime(tmp_path / name, (1e9, 1e9))
    for name, image in (("1.png", one), ("2.png", two)):
        assert call("encode", tmp_path / name, tmp_path / "a.ran", "--model", model).exit_code == 0
        assert (tmp_path / "a.ran").read_bytes() == codec.encode(image).packet


def test_decoding_a_folder_again(tmp_path: Path, installed: Path, other_model: Path) -> None:
    source, packets, out = tmp_path / "in", tmp_path / "packets", tmp_path / "out"
    for number in range(3):
        write_image(source / f"{number}.png", number)
    assert call("encode", source, packets, "--model", "tiny").exit_code == 0
    assert call("decode", packets, out).exit_code == 0
    before = state(out)
    (out / "1.png").unlink()
    again = call("decode", packets, out)
    assert "2 of 3 files were already done" in again.stdout
    after = state(out)
    assert {name for name in after if after[name] != before[name]} == {"1.png"}
    # What another model cannot decode does not pass for done.
    refused = call("decode", packets, out, "--model", other_model)
    assert refused.exit_code == 1
    assert refused.stderr.count("fingerprint: of model") == 3


@pytest.mark.slow
def test_a_run_goes_on_after_ctrl_c(tmp_path: Path, model: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_image(source / "0.png", 0, 320, 240)
    for number in range(1, 150):
        os.link(source / "0.png", source / f"{number}.png")
    running = start("encode", source, out, "--model", model)
    wait_until(lambda: len(list(out.glob("*.ran"))) >= 3, running)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=900)
    assert running.returncode == 130
    assert stderr.strip() == "interrupted"
    done = len(list(out.glob("*.ran")))
    assert 3 <= done < 150
    again = call("encode", source, out, "--model", model)
    assert again.exit_code == 0
    assert f"{done} of 150 files were already done" in again.stdout
    assert len({p.read_bytes() for p in out.glob("*.ran")}) == 1
    assert len(list(out.iterdir())) == 150


# models


def test_the_model_is_found_by_the_packet(
    tmp_path: Path, installed: Path, other_model: Path
) -> None:
    write_image(tmp_path / "a.png", 1)
    assert call("encode", tmp_path / "a.png", tmp_path / "a.ran", "--model", "tiny").exit_code == 0
    assert call("decode", tmp_path / "a.ran", tmp_path / "tiny.png").exit_code == 0
    assert (
        call("encode", tmp_path / "a.png", tmp_path / "a.ran", "--model", other_model).exit_code
        == 0
    )
    done = call("decode", tmp_path / "a.ran", tmp_path / "other.png")
    assert done.exit_code == 1
    fingerprint = Codec.load(str(other_model)).fingerprint
    assert f"a.ran: model {fingerprint} is not installed" in done.stderr
    done = call("decode", tmp_path / "a.ran", tmp_path / "other.png", "--model", "tiny")
    assert done.exit_code == 1
    assert f"fingerprint: of model {fingerprint}" in done.stderr
    assert not (tmp_path / "other.png").exists()
    assert (
        call("decode", tmp_path / "a.ran", tmp_path / "other.png", "--model", other_model).exit_code
        == 0
    )


# videos


def test_round_trip_of_a_video(tmp_path: Path, installed: Path, codec: Codec) -> None:
    write_video(tmp_path / "v.avi", 7)
    originals, rate = read_video(tmp_path / "v.avi")
    assert rate == 12.5
    done = call("encode", tmp_path / "v.avi", tmp_path / "v.ran", "--model", installed)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("encoded 7 images, ")
    assert done.stderr == ""
    sequence = files.Sequence(tmp_path / "v.ran")
    assert sequence.rate == rate
    packets = list(sequence)
    assert packets == [codec.encode(cv2.cvtColor(f, cv2.COLOR_BGR2RGB)).packet for f in originals]
    for name in ("back.mp4", "back.mkv"):
        assert call("decode", tmp_path / "v.ran", tmp_path / name).exit_code == 0
        frames, rate = read_video(tmp_path / name)
        assert (len(frames), rate) == (7, 12.5)
        for frame, packet in zip(frames, packets, strict=True):
            expected = cv2.cvtColor(codec.decode(packet).at_source_size(), cv2.COLOR_RGB2BGR)
            assert np.abs(frame.astype(int) - expected).mean() < 12
    assert not list(tmp_path.glob("*.part*"))
    assert call("decode", tmp_path / "v.ran", tmp_path / "v.png").exit_code == 2


def test_a_folder_of_images_and_videos(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", 1)
    write_video(tmp_path / "in" / "v.avi", 3)
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no video")
    done = call("encode", tmp_path / "in", tmp_path / "packets", "--model", installed)
    assert done.exit_code == 1
    assert f"{tmp_path / 'in' / 'broken.mp4'}: not a readable video" in done.stderr
    assert done.stdout.startswith("encoded 4 images, ")
    assert (
        "2 of 3 files were already done"
        in call("encode", tmp_path / "in", tmp_path / "packets", "--model", installed).stdout
    )
    assert call("decode", tmp_path / "packets", tmp_path / "out").exit_code == 0
    before = state(tmp_path / "out")
    assert set(before) == {"a.png", "v.mp4"}
    assert (
        "2 of 2 files were already done"
        in call("decode", tmp_path / "packets", tmp_path / "out").stdout
    )
    assert state(tmp_path / "out") == before


def test_files_are_encoded_from_python(tmp_path: Path, codec: Codec) -> None:
    image = make_image(1, 64, 48)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    encoder = Encoder(codec, max_side=32)
    done = encode_image_file(encoder, tmp_path / "a.png", tmp_path / "a.ran")
    packet = (tmp_path / "a.ran").read_bytes()
    assert packet == codec.encode(image, 32).packet and not done.notes and not done.losses
    header = unpack(packet)[0]
    assert encoder.is_own(header) and not Encoder(codec).is_own(header)
    for settings, message in (
        ({"max_side": 15}, "max_side: 15"),
        ({"quality": 9.0}, "quality: got 9.0"),
        ({"rotation": 45}, "rotation: got 45, must be 0, 90, 180 or 270"),
        ({"rotation": 90}, "has one rate and does not paint"),
        ({"hold": -1.0}, "hold"),
    ):
        with pytest.raises(ValueError, match=message):
            Encoder(codec, **settings)


#: The command, but killed at its 40th packet, when the hold of the first ones is over.
KILLED = """
import os, signal
from roi_anon_ros.cli import app
from roi_anon_ros.codec import Codec

encode = Codec.encode_found
calls = []

def killed(*arguments):
    calls.append(1)
    if len(calls) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*arguments)

Codec.encode_found = killed
app()
"""


@pytest.mark.slow
def test_a_killed_video_goes_on(tmp_path: Path, model: Path) -> None:
    video, out = write_video(tmp_path / "v.avi", 60), tmp_path / "v.ran"
    words = ["encode", str(video), str(out), "--model", str(model)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    draft = storage.draft_of(out)
    assert draft.exists() and not out.exists()
    done = call("encode", video, out, "--model", model)
    assert done.exit_code == 0
    assert "continued after 39 frames" in done.stderr
    assert not draft.exists()
    assert call("encode", video, tmp_path / "whole.ran", "--model", model).exit_code == 0
    assert out.read_bytes() == (tmp_path / "whole.ran").read_bytes()
    assert len(list(files.Sequence(out))) == 60


@pytest.mark.parametrize(
    "case", ["frame cut", "end cut", "other video", "other model", "other size", "older", "garbage"]
)
def test_what_an_interrupted_video_left(
    tmp_path: Path, model: Path, other_model: Path, case: str
) -> None:
    video, out = write_video(tmp_path / "v.avi", 6), tmp_path / "v.ran"
    options = ["--model", model]
    assert call("encode", video, out, *options).exit_code == 0
    whole = out.read_bytes()
    draft = storage.draft_of(out)
    if case == "frame cut":
        left = whole[:-20]
    elif case == "end cut":
        left = whole[:-4]
    elif case == "garbage":
        left = b"RANS" + bytes(20)
    else:
        if case == "other video":
            other = tmp_path / "w.avi"
            writer = cv2.VideoWriter(str(other), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (64, 48))
            for number in range(6):
                writer.write(make_image(100 + number, 64, 48))
            writer.release()
            assert call("encode", other, out, *options).exit_code == 0
        elif case == "other model":
            assert call("encode", video, out, "--model", other_model).exit_code == 0
        elif case == "other size":
            assert call("encode", video, out, *options, "--max-side", 32).exit_code == 0
        left = out.read_bytes()[:-20]
    out.unlink()
    draft.write_bytes(left)
    if case == "older":  # than the video, which has changed since
        os.utime(draft, (1e9, 1e9))
    done = call("encode", video, out, *options)
    assert done.exit_code == 0
    assert out.read_bytes() == whole
    kept = {"frame cut": "continued after 5 frames", "end cut": "continued after 6 frames"}.get(
        case
    )
    assert done.stderr.endswith(f"{kept}\n") if kept else done.stderr == ""


@pytest.mark.slow
def test_a_sequence_that_was_cut_off(tmp_path: Path, installed: Path) -> None:
    video, packets = write_video(tmp_path / "v.avi", 5), tmp_path / "packets"
    packets.mkdir()
    out = packets / "v.ran"
    assert call("encode", video, out, "--model", installed).exit_code == 0
    whole = out.read_bytes()
    for left, frames in ((whole[:-30], 4), (whole[:-1], 5), (whole + b"x", 5)):
        out.write_bytes(left)
        for _ in range(2):  # what lacks something does not pass for done
            done = call("decode", packets, tmp_path / "out")
            assert done.exit_code == 1
            assert f"after {frames} frames" in done.stderr
            assert f"{out}: length: " in done.stderr
            assert done.stdout.startswith(f"decoded {frames} images, ")
            assert len(read_video(tmp_path / "out" / "v.mp4")[0]) == frames
        told = call("info", out, "--json")
        assert told.exit_code == 1
        assert json.loads(told.stdout)["frames"] == frames
        assert json.loads(told.stdout)["complete"] is False


def test_a_damaged_frame_is_left_out(tmp_path: Path, installed: Path, codec: Codec) -> None:
    video, out = write_video(tmp_path / "v.avi", 5), tmp_path / "v.ran"
    assert call("encode", video, out, "--model", installed).exit_code == 0
    data = bytearray(out.read_bytes())
    third = list(files.Sequence(out))[2]
    data[data.index(third) + 40] ^= 1
    out.write_bytes(data)
    done = call("decode", out, tmp_path / "v.mp4")
    assert done.exit_code == 1
    assert f"{out}: frame 3: crc: " in done.stderr
    assert len(read_video(tmp_path / "v.mp4")[0]) == 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"RANS", "length"),
        (struct.pack("<4sB3sII", b"RANX", 1, bytes(3), 25, 1), "magic"),
        (struct.pack("<4sB3sII", b"RANS", 0, bytes(3), 25, 1), "version"),
        (struct.pack("<4sB3sII", b"RANS", 3, bytes(3), 25, 1), "version"),
        (struct.pack("<4sB3sII", b"RANS", 1, b"\1\0\0", 25, 1), "version"),
        (struct.pack("<4sB3sII", b"RANS", 1, bytes(3), 0, 1), "size"),
        (struct.pack("<4sB3sII", b"RANS", 1, bytes(3), 25, 0), "size"),
        (struct.pack("<4sB3sII", b"RANS", 1, bytes(3), 1001, 1), "size"),
        (struct.pack("<4sB3sIII", b"RANS", 1, bytes(3), 25, 1, 31), "length"),
        (struct.pack("<4sB3sIII", b"RANS", 1, bytes(3), 25, 1, 2**32 - 1), "length"),
        (struct.pack("<4sB3sII", b"RANS", 1, bytes(3), 25, 1), "length"),
        (struct.pack("<4sB3sII", b"RANS", 2, bytes(3), 25, 1), "length"),
    ],
)
def test_bounds_of_a_sequence(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.ran").write_bytes(data)
    with pytest.raises(PacketError) as error:
        list(files.Sequence(tmp_path / "a.ran"))
    assert error.value.reason == reason


def test_frames_of_several_sizes_make_no_video(tmp_path: Path, model: Path, codec: Codec) -> None:
    with files.SequenceWriter(tmp_path / "a.ran", Fraction(5)) as writer:
        writer.write(codec.encode(make_image(1, 64, 48)).packet, Fraction(0))
        writer.write(codec.encode(make_image(1, 64, 50)).packet, Fraction(1, 5))
        writer.finish()
    done = call("decode", tmp_path / "a.ran", tmp_path / "a.mp4", "--model", model)
    assert done.exit_code == 1
    assert "frame 2: 64x50 pixels, the first has 64x48" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.ran"]


# info


def test_info_of_an_image(tmp_path: Path, installed: Path, codec: Codec) -> None:
    write_image(tmp_path / "a.png", 1, 100, 70)
    assert (
        call(
            "encode", tmp_path / "a.png", tmp_path, "--model", installed, "--max-side", 50
        ).exit_code
        == 0
    )
    packet = (tmp_path / "a.ran").read_bytes()
    (tmp_path / "any name").write_bytes(packet)
    done = call("info", tmp_path / "any name", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "file": str(tmp_path / "any name"),
        "bytes": len(packet),
        "kind": "image",
        "version": 1,
        "fingerprint": codec.fingerprint,
        "model": "tiny",
        "source_size": [100, 70],
        "coded_size": [50, 35],
        "padding": [14, 13],
        "quality": 0.0,
        "rotation": 0,
        "share_painted": 0.0,
        "payload_bytes": len(packet) - 32,
        "bits_per_pixel": 8 * len(packet) / 7000,
    }
    text = call("info", tmp_path / "a.ran").stdout
    assert "100 x 70" in text
    assert codec.fingerprint in text


@pytest.mark.slow
def test_export_writes_networks_that_find_what_torch_finds(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    done = call("export", model, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert re.search(
        r"tiny-analysis.onnx: 0\.0\d\d% of the symbols differ from torch's", done.stdout
    )
    assert "tiny-synthesis.onnx: bytes differ from torch's by 0.00" in done.stdout
    files = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert files == ["tiny-analysis.onnx", "tiny-synthesis.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "new" / files[0])
    (symbols,) = session.run(["symbols"], {"picture": make_image(1, 96, 64)[None]})
    assert symbols.shape == (1, 8, 4, 6) and symbols.dtype == np.int32
    refused = call("export", tmp_path / "none.safetensors")
    assert refused.exit_code == 2 and "none.safetensors" in refused.output


@pytest.mark.slow
def test_export_in_int8_takes_its_ranges_from_images(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("nncf", reason="nncf is not installed")
    seen = tmp_path / "seen"
    seen.mkdir()
    refused = call("export", model, "--out", tmp_path / "new", "--int8", seen)
    assert refused.exit_code == 2 and "images: none" in refused.output
    for number in range(3):
        (seen / f"{number}.png").write_bytes(files.png(make_image(number, 96, 64)))
    done = call("export", model, "--out", tmp_path / "new", "--int8", seen)
    assert done.exit_code == 0, done.output
    assert re.search(
        r"tiny-analysis-int8.xml: \d\.\d\d\d% of the symbols differ from torch's", done.stdout
    )
    assert re.search(
        r"tiny-synthesis-int8.xml: bytes differ from torch's by [01]\.\d{4} on average", done.stdout
    )
    written = sorted(file.name for file in (tmp_path / "new").iterdir())
    files_of = itertools.product(("analysis", "synthesis"), ("bin", "sha256", "xml"))
    assert written == [f"tiny-{stage}-int8.{suffix}" for stage, suffix in files_of]


@pytest.mark.slow
def test_info_of_a_damaged_file_as_a_process(tmp_path: Path, codec: Codec) -> None:
    (tmp_path / "a.ran").write_bytes(codec.encode(make_image(1)).packet[:-1])
    done = process("info", tmp_path / "a.ran", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{tmp_path / 'a.ran'}: length: ")


def test_info_of_a_packet_of_a_model_that_is_not_installed(
    tmp_path: Path, installed: Path, other_model: Path
) -> None:
    (tmp_path / "a.ran").write_bytes(Codec.load(str(other_model)).encode(make_image(1)).packet)
    assert json.loads(call("info", tmp_path / "a.ran", "--json").stdout)["model"] is None
    assert "not installed" in call("info", tmp_path / "a.ran").stdout


def test_info_of_a_sequence(tmp_path: Path, installed: Path) -> None:
    write_video(tmp_path / "v.avi", 4)
    assert call("encode", tmp_path / "v.avi", tmp_path, "--model", installed).exit_code == 0
    packets = list(files.Sequence(tmp_path / "v.ran"))
    told = json.loads(call("info", tmp_path / "v.ran", "--json").stdout)
    assert told["kind"] == "sequence"
    assert (told["frames"], told["rate"], told["seconds"], told["complete"]) == (
        4,
        "25/2",
        0.32,
        True,
    )
    assert told["model"] == "tiny"
    assert told["bits_per_pixel"] == pytest.approx(sum(map(len, packets)) * 8 / (4 * 64 * 48))
    assert "25/2" in call("info", tmp_path / "v.ran").stdout


def test_info_of_a_model(tmp_path: Path, model: Path, codec: Codec) -> None:
    told = json.loads(call("info", model, "--json").stdout)
    assert (told["kind"], told["name"], told["architecture"]) == ("model", "tiny", "paper")
    assert told["fingerprint"] == codec.fingerprint
    assert told["licence"] == "Apache-2.0"
    assert told["training"] == told["figures"] == {}
    assert codec.fingerprint in call("info", model).stdout
    (tmp_path / "damaged.safetensors").write_bytes(model.read_bytes()[:-1])
    done = call("info", tmp_path / "damaged.safetensors")
    assert done.exit_code == 1
    assert "damaged" in done.stderr


def test_a_packet_with_a_hostile_payload_is_skipped(
    tmp_path: Path, model: Path, codec: Codec
) -> None:
    header = codec.encode(make_image(1)).header
    (tmp_path / "a.ran").write_bytes(pack(header, b"\x01" + b"\xff" * 400))
    done = call("decode", tmp_path / "a.ran", tmp_path / "a.png", "--model", model)
    assert done.exit_code == 1
    assert f"{tmp_path / 'a.ran'}: payload: " in done.stderr
    assert not (tmp_path / "a.png").exists()
