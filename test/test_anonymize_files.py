"""``roi-anon anonymize``: images, folders and videos."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

av = pytest.importorskip("av")

from roi_anon_ros.anonymize import jobs  # noqa: E402
from roi_anon_ros.anonymize.regions import Region, polygon  # noqa: E402
from roi_anon_ros.cli import app  # noqa: E402
from roi_anon_ros.files.images import read_image  # noqa: E402
from roi_anon_ros.files.videos import Video  # noqa: E402

WIDTH = 96
HEIGHT = 64
#: Times of the frames of the test's video, in units of 1/600 s: 10 Hz, then 2 Hz.
TIMES = [0, 60, 120, 180, 480, 780]


@pytest.fixture
def zones(tmp_path: Path) -> Path:
    """The left half of an image."""
    path = tmp_path / "zones.json"
    path.write_text("[[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]")
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["anonymize", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def options(zones: Path) -> list[object]:
    return ["--region", f"polygon:{zones}", "--treatment", "mask:0", "--feather", 0]


def photo() -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    image[:, WIDTH // 2 :] = (40, 90, 160)
    return image


def write_video(path: Path, sound: bool = True, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    with av.open(str(path), "w", options={"video_track_timescale": "600"}) as out:
        out.metadata["title"] = "secret place"
        video = out.add_stream("libx264", rate=Fraction(30), options={"crf": "10"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 600)
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index, pts in enumerate(TIMES):
            image = np.full((size[1], size[0], 3), 30 + 30 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = pts
            frame.time_base = Fraction(1, 600)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            wave = (np.sin(np.arange(16000) / 10) * 0.3).astype(np.float32)[None]
            chunk = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            chunk.sample_rate = 16000
            chunk.pts = 0
            out.mux(audio.encode(chunk))
            out.mux(audio.encode())


def sounds(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [
            bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size
        ]


def test_an_image_is_treated_and_says_nothing_else(tmp_path: Path, zones: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"a small original"
    turned = np.rot90(photo())  # upright after a turn to the right, as the tag says
    Image.fromarray(turned).save(tmp_path / "in.jpg", exif=exif, quality=98, subsampling=0)
    code, output = run(tmp_path / "in.jpg", tmp_path / "out.jpg", *options(zones))
    assert code == 0 and "anonymized 1 images, 1 regions" in output
    with Image.open(tmp_path / "out.jpg") as opened:
        assert not opened.getexif() and opened.size == (WIDTH, HEIGHT)
        out = np.array(opened).astype(int)
    assert out[:, : WIDTH // 2 - 1].max() < 12
    assert np.abs(out[:, WIDTH // 2 + 1 :] - photo()[:, WIDTH // 2 + 1 :]).max() < 12
    report = json.loads((tmp_path / "out.jpg.json").read_text())
    assert report["files"][0]["regions"][0]["regions"][0]["label"] == "zone"
    assert (tmp_path / "out.jpg.sheet.jpg").is_file()
    assert not list(tmp_path.glob("*.part"))
    code, _ = run(tmp_path / "in.jpg", tmp_path / "kept.jpg", "--keep-metadata", *options(zones))
    with Image.open(tmp_path / "kept.jpg") as opened:
        kept = opened.getexif()
        assert kept[ExifTags.Base.Make] == "Camera" and ExifTags.Base.Orientation not in kept
        assert kept.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert b"a small original" not in (tmp_path / "kept.jpg").read_bytes()


def test_what_was_erased_stays_erased_and_odd_files_are_refused(
    tmp_path: Path, zones: Path
) -> None:
    rgba = np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, :20, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "erased.png")
    assert not read_image(tmp_path / "erased.png").image[:, :20].any()
    frames = [Image.fromarray(photo()), Image.fromarray(255 - photo())]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    code, output = run(tmp_path / "moving.webp", tmp_path / "out.webp", *options(zones))
    assert code == 1 and "frames: got 2" in output and not (tmp_path / "out.webp").exists()
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much")
    with pytest.raises(ValueError, match="readable"):
        read_image(tmp_path / "cut.jpg")


def test_a_folder_goes_on_where_it_was(tmp_path: Path, zones: Path) -> None:
    for name in ("a.png", "sub/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo()).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    arguments = [tmp_path / "in", tmp_path / "out", *options(zones)]
    code, output = run(*arguments)
    assert code == 1 and "bad.png" in output and "anonymized 2 images" in output
    assert not (tmp_path / "out" / "bad.png").exists()
    first = (tmp_path / "out" / "a.png").stat().st_ino
    (tmp_path / "out" / "sub" / "b.png").write_bytes(b"touched")
    code, output = run(*arguments)
    assert "1 of 3 files were already done" in output
    assert (tmp_path / "out" / "a.png").stat().st_ino == first
    assert np.array(Image.open(tmp_path / "out" / "sub" / "b.png")).shape == (HEIGHT, WIDTH, 3)
    code, output = run(*arguments[:-1], 0.1)  # another feather
    assert "already done" not in output


def test_a_video_keeps_its_times_and_its_sound(tmp_path: Path, zones: Path) -> None:
    write_video(tmp_path / "in.mp4")
    code, output = run(tmp_path / "in.mp4", tmp_path / "out.mp4", *options(zones))
    assert code == 0, output
    before = list(Video(tmp_path / "in.mp4").frames())
    video = Video(tmp_path / "out.mp4")
    after = list(video.frames())
    assert [float(f.time) for f in after] == pytest.approx(
        [float(f.time) for f in before], abs=1e-3
    )
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        assert new.image[:, : WIDTH // 2 - 8].max() < 20, index
        right = np.s_[:, WIDTH // 2 + 8 :]
        assert np.abs(new.image[right].astype(int) - old.image[right]).mean() < 5, index
    assert sounds(tmp_path / "out.mp4") == sounds(tmp_path / "in.mp4") != []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "title" not in container.metadata
    assert not list(tmp_path.glob("*.part"))
    code, _ = run(tmp_path / "in.mp4", tmp_path / "mute.mp4", "--no-sound", *options(zones))
    assert code == 0 and sounds(tmp_path / "mute.mp4") == []


def test_a_video_comes_out_upright(tmp_path: Path, zones: Path) -> None:
    write_video(tmp_path / "in.mp4", sound=False)
    data = bytearray((tmp_path / "in.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, HEIGHT * one, 0, 1 << 30)
    (tmp_path / "in.mp4").write_bytes(data)
    code, output = run(tmp_path / "in.mp4", tmp_path / "out.mp4", *options(zones))
    assert code == 0, output
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (HEIGHT, WIDTH, 0)
        image = frame.to_ndarray(format="rgb24")
    assert image[:, : HEIGHT // 2 - 8].max() < 20 < image[:, HEIGHT // 2 + 8 :].min()


def test_an_interrupted_video_uses_what_was_found(
    tmp_path: Path, zones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "in.mp4", sound=False)

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "write_video", stop)
        code, _ = run(tmp_path / "in.mp4", tmp_path / "out.mp4", *options(zones))
    assert code == 130 and not (tmp_path / "out.mp4").exists()
    journal = tmp_path / "out.mp4.regions.jsonl.part"
    assert len(journal.read_text().splitlines()) == 1 + len(TIMES)
    lines = journal.read_text().splitlines()
    entry = json.loads(lines[1])
    entry["regions"].append(jobs.to_json(Region((90.0, 60.0, 96.0, 64.0), label="from before")))
    journal.write_text("\n".join([lines[0], json.dumps(entry), *lines[2:4]]) + "\n")
    code, _ = run(tmp_path / "in.mp4", tmp_path / "out.mp4", *options(zones))
    assert code == 0
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    labels = {region["label"] for region in report["files"][0]["regions"][0]["regions"]}
    assert labels == {"zone", "from before"} and report["files"][0]["images"] == len(TIMES)
    assert not journal.exists()


def test_a_region_survives_its_json() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    mask = polygon([(2, 2), (30, 4), (12, 28)], WIDTH, HEIGHT, label="zone", track=2)
    for region in (Region((1.5, 2, 3, 4), "ellipse", "face", 0.5, landmarks=points), mask):
        again = jobs.from_json(json.loads(json.dumps(jobs.to_json(region))))
        assert np.array_equal(again.drawn(WIDTH, HEIGHT), region.drawn(WIDTH, HEIGHT))
        assert (again.label, again.score, again.track) == (region.label, region.score, region.track)
        if region.landmarks is not None:
            assert np.array_equal(again.landmarks, region.landmarks)


def test_a_wrong_video_leaves_nothing(tmp_path: Path, zones: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    code, output = run(tmp_path / "no.mp4", tmp_path / "out.mp4", *options(zones))
    assert code == 1 and "not a readable video" in output and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--region", "hat"], "region"),
        (["--treatment", "smudge"], "treatment"),
        (["--region", "polygon:nowhere.json"], "nowhere.json"),
        (["--feather", "2"], "feather"),
        (["--key", "short"], "key"),
    ],
)
def test_a_wrong_command_is_a_usage_error(
    tmp_path: Path, zones: Path, extra: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_bytes(b"123")
    Image.fromarray(photo()).save(tmp_path / "in.png")
    base = [] if extra[0] == "--region" else ["--region", f"polygon:{zones}"]
    code, output = run(tmp_path / "in.png", tmp_path / "out.png", *base, *extra)
    assert code == 2 and named in output and not (tmp_path / "out.png").exists()
    assert run(tmp_path / "in.png", tmp_path / "out.mp4", *options(zones))[0] == 2
    assert run(tmp_path / "in.png", tmp_path / "in.png", *options(zones))[0] == 2


@pytest.mark.parametrize(
    "name", ["resolution-change/reschange.mp4", "phone-video-sideways/portrait.mp4"]
)
def test_real_odd_videos(shared_dir: Path, tmp_path: Path, zones: Path, name: str) -> None:
    source = shared_dir / "cases" / name
    if not source.is_file():
        pytest.skip(f"no {name} in {shared_dir}")
    code, output = run(source, tmp_path / "out.mp4", *options(zones))
    if "change" in name:
        assert code == 1 and "must stay 320x240" in output and not (tmp_path / "out.mp4").exists()
    else:
        assert code == 0
        assert next(Video(tmp_path / "out.mp4").frames()).image.shape == (640, 360, 3)
