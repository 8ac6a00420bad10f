"""Files: what an image, a video and a sequence hold comes out whole, or what is lost is said."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from roi_anon_ros import files
from roi_anon_ros.cli import app
from roi_anon_ros.codec import Codec, PacketError
from roi_anon_ros.codec.headmap import CELL
from roi_anon_ros.codec.hiding import Hiding
from roi_anon_ros.codec.lookahead import encode_stream
from roi_anon_ros.codec.packet import MAX_PAYLOAD, OVERHEAD, unpack
from roi_anon_ros.codec.regions import Regions
from roi_anon_ros.datasets.reading import read_size

MODEL = Path(__file__).parent / "golden" / "tiny.safetensors"

#: How an upright image lies in a file with this EXIF orientation.
LAID = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def photo(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


# images


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_exif_orientation_is_applied_in_every_format(tmp_path: Path, suffix: str) -> None:
    for turn, lay in LAID.items():
        exif = Image.Exif()
        exif[0x0112] = turn
        path = tmp_path / f"{turn}{suffix}"
        laid = Image.fromarray(np.ascontiguousarray(lay(photo())))
        laid.save(path, exif=exif, quality=95)
        assert difference(files.read_pixels(path), photo()) < 4, turn
        assert read_size(path) == (64, 48), turn


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_erased_pixels_stay_erased(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :20] = 0
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(np.dstack([photo(), alpha])).save(path, **options)
    image = files.read_pixels(path)
    assert not image[:, :20].any()
    assert difference(image[:, 20:], photo()[:, 20:]) < 2


def test_erased_pixels_of_16_bits_and_of_palettes_stay_erased(tmp_path: Path) -> None:
    deep = np.dstack([photo().astype(np.uint16) * 257, np.full((48, 64), 65535, np.uint16)])
    deep[:, :20, 3] = 0
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    image = files.read_pixels(tmp_path / "deep.png")
    assert not image[:, :20].any()
    assert np.array_equal(image[:, 20:, ::-1], photo()[:, 20:])
    grey = Image.fromarray(photo()[..., 0]).convert("P")
    grey.save(tmp_path / "palette.png", transparency=int(np.array(grey)[0, 0]))
    assert not files.read_pixels(tmp_path / "palette.png")[0, 0].any()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("colour", [False, True])
def test_10_to_16_bits_are_as_bright_as_8(
    tmp_path: Path, suffix: str, bits: int, colour: bool
) -> None:
    image = np.arange(64 * 48, dtype=np.int64).reshape(48, 64) * 255 // (64 * 48 - 1)
    image = np.dstack([image, image[::-1], image[:, ::-1]]) if colour else image
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), (image * (2**bits - 1) // 255).astype(np.uint16))
    read = files.read_image(path)
    expected = image[..., ::-1] if colour else np.dstack([image] * 3)
    assert np.abs(read.image.astype(int) - expected).max() <= 1
    assert bool(read.notes) == (bits < 16)


def test_a_thermal_range_is_stretched_and_hot_pixels_do_not_count(tmp_path: Path) -> None:
    image = np.arange(64 * 48).reshape(48, 64) * 255 // (64 * 48 - 1)
    raw = (29000 + 4 * image).astype(np.uint16)
    raw[0, 0] = 0
    raw[20, 20] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), raw)
    read = files.read_image(tmp_path / "a.png")
    assert np.abs(read.image[..., 1].astype(int) - image)[1:19].max() <= 2
    assert read.notes == ["uint16: 29000 to 30016 are stretched to 0 to 255"]
    Image.fromarray((raw / 7).astype(np.float32)).save(tmp_path / "f.tif")
    assert difference(files.read_pixels(tmp_path / "f.tif"), read.image) < 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_of_an_animation_the_first_image_is_read_and_that_is_said(
    tmp_path: Path, suffix: str
) -> None:
    frames = [Image.fromarray(photo(seed)) for seed in range(3)]
    path = tmp_path / "in" / f"a{suffix}"
    path.parent.mkdir()
    frames[0].save(path, save_all=True, append_images=frames[1:], quality=95)
    assert difference(files.read_pixels(path), photo()) < 5
    (tmp_path / "in" / "b.heic").write_bytes(b"anything")
    (tmp_path / "in" / "c.jpg").symlink_to("nowhere")
    done = call("encode", tmp_path / "in", tmp_path / "out", "--model", MODEL)
    assert done.exit_code == 0, done.output
    assert "the first of 3 images in it is read" in done.stderr
    assert "files in .heic are not read: b.heic" in done.stderr
    assert "no such file is there: c.jpg" in done.stderr


# videos


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    times: Iterable[float] | None = None,
    streams: int = 1,
    codec: str = "libx264",
) -> Path:
    images = list(images)
    with av.open(str(path), "w") as out:
        made = []
        for _ in range(streams):
            stream = out.add_stream(codec, rate=10, options={"crf": "8", "g": "4"})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
            made.append(stream)
        for index, image in enumerate(images):
            for stream in made:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts = round(600 * (list(times)[index] if times else index / 10))
                frame.time_base = Fraction(1, 600)
                out.mux(stream.encode(frame))
        for stream in made:
            out.mux(stream.encode())
    return path


#: a, b, c, d of display matrices, and how the stored image lies: upright, it is a photo.
MATRICES = {
    "quarter": ((0, 1, -1, 0), lambda image: np.rot90(image, 1)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "three quarters": ((0, -1, 1, 0), lambda image: np.rot90(image, -1)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_video_is_read_upright(tmp_path: Path, name: str) -> None:
    (a, b, c, d), lay = MATRICES[name]
    write_video(tmp_path / "v.mp4", [lay(photo())] * 3)
    data = bytearray((tmp_path / "v.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    numbers = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = struct.pack(">9i", *numbers)
    (tmp_path / "v.mp4").write_bytes(data)
    frames = list(files.Video(tmp_path / "v.mp4").frames())
    assert len(frames) == 3
    assert all(difference(frame.image, photo()) < 6 for frame in frames)


def test_times_of_frames_are_kept(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.3, 1.3, 2.0, 2.1]
    write_video(tmp_path / "v.mp4", [photo(seed) for seed in range(7)], times)
    assert call("encode", tmp_path / "v.mp4", tmp_path, "--model", MODEL).exit_code == 0
    kept = [float(time) for _, time in files.Sequence(tmp_path / "v.ran").timed()]
    assert kept == pytest.approx(times, abs=1e-6)
    for suffix in files.VIDEO_CODECS:
        out = tmp_path / f"back{suffix}"
        assert call("decode", tmp_path / "v.ran", out, "--model", MODEL).exit_code == 0
        video = files.Video(out)
        found = [float(frame.time - video.begin) for frame in video.frames()]
        assert found == pytest.approx(times, abs=2e-3), suffix


def test_a_size_that_changes_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    for name, size in (("a", (64, 48)), ("b", (96, 64))):
        write_video(tmp_path / f"{name}.ts", [photo(0, *size)] * 4)
    joined = (tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes()
    (tmp_path / "v.ts").write_bytes(joined)
    done = call("encode", tmp_path / "v.ts", tmp_path / "v.ran", "--model", MODEL)
    assert done.exit_code == 1
    assert "v.ts: size: got 96x64" in done.stderr and "must stay 64x48" in done.stderr
    assert not list(tmp_path.glob("v.ran*"))


def test_a_pixel_format_that_changes_keeps_its_colours(tmp_path: Path) -> None:
    for name, pixels in (("a", "yuvj422p"), ("b", "yuvj420p")):
        with av.open(str(tmp_path / f"{name}.mjpeg"), "w", format="mjpeg") as out:
            stream = out.add_stream("mjpeg", rate=10, options={"qscale": "2"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(photo(), format="rgb24").reformat(format=pixels)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    joined = (tmp_path / "a.mjpeg").read_bytes() + (tmp_path / "b.mjpeg").read_bytes()
    (tmp_path / "v.avi").write_bytes(joined)
    frames = list(files.Video(tmp_path / "v.avi").frames())
    assert len(frames) == 6
    assert max(difference(frame.image, photo()) for frame in frames) < 12


def test_a_second_stream_and_damage_are_said(tmp_path: Path) -> None:
    images = [photo(seed) for seed in range(12)]
    write_video(tmp_path / "two.mp4", images, streams=2)
    done = call("encode", tmp_path / "two.mp4", tmp_path, "--model", MODEL)
    assert done.exit_code == 1
    assert "two.mp4: 1 further video streams are left out" in done.stderr
    assert len(list(files.Sequence(tmp_path / "two.ran"))) == 12
    whole = write_video(tmp_path / "one.mp4", images)
    assert call("encode", whole, tmp_path, "--model", MODEL).exit_code == 0
    with av.open(str(whole)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][5]
        begin, size = packet.pos, packet.size
    data = bytearray(whole.read_bytes())
    data[begin + 4 : begin + size] = b"\xff" * (size - 4)
    whole.write_bytes(data)
    done = call("encode", whole, tmp_path, "--model", MODEL)
    assert done.exit_code == 1
    assert "one.mp4: damaged: " in done.stderr
    assert 0 < len(list(files.Sequence(tmp_path / "one.ran"))) < 12


# sequences


def test_golden_sequences(tmp_path: Path) -> None:
    packet = bytes(range(OVERHEAD))
    size = struct.pack("<I", OVERHEAD)
    head = bytes.fromhex("52414e53 02 000000 1e000000 01000000")
    with files.SequenceWriter(tmp_path / "a.ran", Fraction(30)) as writer:
        writer.write(packet, Fraction(0))
        writer.write(packet, Fraction(1, 3))
        writer.finish()
    second = bytes.fromhex("5543de1300000000")  # 333,333,333 ns
    golden = head + size + bytes(8) + packet + size + second + packet + bytes(4)
    assert (tmp_path / "a.ran").read_bytes() == golden
    first = bytes.fromhex("52414e53 01 000000 1e000000 01000000")
    (tmp_path / "b.ran").write_bytes(first + (size + packet) * 2 + bytes(4))
    sequence = files.Sequence(tmp_path / "b.ran")
    assert list(sequence.timed()) == [(packet, Fraction(0)), (packet, Fraction(1, 30))]
    assert (sequence.version, sequence.rate) == (1, 30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.binary(min_size=OVERHEAD, max_size=60), st.integers(1, 10**12)), max_size=5
    ),
    st.integers(1, 60000),
    st.data(),
)
def test_a_sequence_comes_back_and_a_cut_one_as_far_as_it_goes(
    tmp_path: Path, frames: list[tuple[bytes, int]], rate: int, data: st.DataObject
) -> None:
    path = tmp_path / "a.ran"
    written = []
    with files.SequenceWriter(path, Fraction(rate, 1001)) as writer:
        clock = 0
        for index, (packet, step) in enumerate(frames):
            clock += step if index else 0
            written.append((packet, Fraction(clock, 10**9)))
            writer.write(*written[-1])
        writer.finish()
    sequence = files.Sequence(path)
    assert list(sequence.timed()) == written and sequence.rate == Fraction(rate, 1001)
    cut = data.draw(st.integers(0, path.stat().st_size - 1))
    path.write_bytes(path.read_bytes()[:cut])
    got = []
    with pytest.raises(PacketError) as error:
        for frame in files.Sequence(path).timed():
            got.append(frame)
    assert error.value.reason == "length"
    assert got == written[: len(got)]
    assert OVERHEAD < MAX_PAYLOAD


def test_times_must_rise_from_0(tmp_path: Path) -> None:
    packet = bytes(OVERHEAD)
    with files.SequenceWriter(tmp_path / "a.ran", Fraction(30)) as writer:
        with pytest.raises(ValueError, match="time: got 1 ns, must be 0"):
            writer.write(packet, Fraction(1, 10**9))
        writer.write(packet, Fraction(0))
        with pytest.raises(ValueError, match="time: got 0 ns, must be above 0"):
            writer.write(packet, Fraction(0))
    head = struct.pack("<4sB3sII", b"RANS", 2, bytes(3), 30, 1)
    frame = struct.pack("<IQ", OVERHEAD, 0) + packet
    wrong = struct.pack("<IQ", OVERHEAD, 5) + packet
    for body in (wrong, frame + frame, frame + wrong + frame):
        (tmp_path / "b.ran").write_bytes(head + body + bytes(4))
        with pytest.raises(PacketError, match="frame"):
            list(files.Sequence(tmp_path / "b.ran").timed())


# heads of the past and of the future

FRAMES = 12
SIDE = 24


def head_of(index: int) -> np.ndarray:
    """Where the head is in a frame: it walks to the right."""
    return np.array([[20.0 + 4 * index, 32.0, SIDE]])


def scene(index: int) -> np.ndarray:
    """A frame with its number in the corner, for the fake head map."""
    image = photo(0, 96, 64)
    image[:16, :16] = 16 * index
    return image


def find_every_third(_: object, image: np.ndarray) -> np.ndarray:
    """A head map that finds the head in frames 2, 5, 8, 11 alone."""
    height, width = image.shape[:2]
    answer = np.zeros((4, -(-height // CELL), -(-width // CELL)), np.float32)
    answer[0] = -20
    index = round(float(image[2:14, 2:14].mean()) / 16)
    if index % 3 == 2:
        ((x, y, side),) = head_of(index)
        column, row = int(x // CELL), int(y // CELL)
        right = (x - (column + 0.5) * CELL) / side
        down = (y - (row + 0.5) * CELL) / side
        answer[:, row, column] = 20, right, down, np.log2(side / CELL)
    return answer


@pytest.fixture
def painting_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from gained_model import make_gained_model

    from roi_anon_ros.codec.engines.torch_engine import TorchEngine

    path = make_gained_model(tmp_path / "tiny-gained.safetensors")
    monkeypatch.setattr(TorchEngine, "map_heads", find_every_third)
    return path


def unpainted_cells(packet: bytes, index: int) -> int:
    """Cells of a frame's head that are not painted."""
    header, _, cells = unpack(packet)
    painted = Regions.from_bytes(cells, *header.coded_size).cells
    head = Regions.of_heads(head_of(index), *header.coded_size).cells
    return int((head & ~painted).sum())


@pytest.mark.slow
def test_a_head_is_hidden_before_and_after_it_is_found(
    tmp_path: Path, painting_model: Path
) -> None:
    video = write_video(tmp_path / "v.mp4", [scene(index) for index in range(FRAMES)])
    out = tmp_path / "v.ran"
    assert call("encode", video, out, "--model", painting_model).exit_code == 0
    packets = list(files.Sequence(out))
    assert len(packets) == FRAMES
    assert [unpainted_cells(packet, index) for index, packet in enumerate(packets)] == [0] * FRAMES
    # Without a hold most frames show it.
    bare = tmp_path / "bare.ran"
    assert call("encode", video, bare, "--model", painting_model, "--hold", 0).exit_code == 0
    shown = [index for index, p in enumerate(files.Sequence(bare)) if unpainted_cells(p, index)]
    assert shown == [index for index in range(FRAMES) if index % 3 != 2]
    # An interrupted run goes on as if it had never been.
    whole = out.read_bytes()
    out.unlink()
    end = whole.index(packets[7]) + len(packets[7])
    (tmp_path / "v.ran.part").write_bytes(whole[: end + 5])
    done = call("encode", video, out, "--model", painting_model)
    assert "continued after 8 frames" in done.stderr
    assert out.read_bytes() == whole


def test_the_look_ahead_waits_for_its_hold_alone(painting_model: Path) -> None:
    codec = Codec.load(str(painting_model))
    taken = 0

    def images() -> Iterable[tuple[np.ndarray, Fraction]]:
        nonlocal taken
        for index in range(FRAMES):
            taken += 1
            yield scene(index), Fraction(index, 10)

    made = 0
    for frame in encode_stream(codec, images(), Hiding(hold=0.3), 640, 4.0, 0):
        assert frame.time == Fraction(made, 10) and unpainted_cells(frame.packet, made) == 0
        made += 1
        assert taken - made <= 4
    assert made == FRAMES


def test_videos_without_pyav_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "roi_anon_ros.files.videos", raising=False)
    with pytest.raises(ImportError, match=r"videos need PyAV: pip install 'roi_anon_ros\[video\]'"):
        files.Video(Path("walk.mp4"))
    with pytest.raises(AttributeError, match="no attribute 'Walk'"):
        files.Walk  # noqa: B018
