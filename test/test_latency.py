"""Benchmark: its statistics on a clock that stands still, turns of the methods, and the paper's own
way.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import AvifImagePlugin
from typer.testing import CliRunner

from roi_anon_ros.cli import app
from roi_anon_ros.codec.image import resize
from roi_anon_ros.codec.networks import NETWORKS, build
from roi_anon_ros.evaluate.latency import images, machine, memory, ways
from roi_anon_ros.evaluate.latency import run as run_module
from roi_anon_ros.evaluate.latency.images import parse_sizes
from roi_anon_ros.evaluate.latency.memory import peak_memory
from roi_anon_ros.evaluate.latency.run import run
from roi_anon_ros.evaluate.latency.tables import STAGES, notes, stage_tables, tables
from roi_anon_ros.evaluate.latency.ways import Timed, make_timed, paper_network


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ways, "perf_counter", clock)
    monkeypatch.setattr(
        run_module, "time_product", lambda dtype: {torch.float32: 0.5, torch.bfloat16: 0.25}[dtype]
    )
    return clock


def timed(
    name: str, clock: Clock, encode: Callable[[int], float], decode: Callable[[int], float], **more
) -> Timed:
    """A method that takes encode(i) and decode(i) seconds in round i, warm-up included."""
    rounds = {"encode": 0, "decode": 0}

    def wait(what: str, seconds: Callable[[int], float]) -> dict[str, float]:
        taken = seconds(rounds[what])
        rounds[what] += 1
        clock.now += taken
        return {"analysis" if what == "encode" else "synthesis": taken / 2}

    return Timed(
        name,
        lambda image: (image.tobytes()[:100], wait("encode", encode)),
        lambda data: (np.zeros((32, 64, 3), np.uint8), wait("decode", decode)),
        **more,
    )


def make_image(width: int = 64, height: int = 32) -> np.ndarray:
    return resize(images.synthetic_image(), width, height)


def test_figures_are_what_a_clock_says(clock: Clock) -> None:
    slow, quick = (
        [5.0, 1.0, 4.0, 2.0, 8.0, 6.0],
        [9.0, 0.5, 1.0, 0.75, 1.25, 3.0],
    )  # the first round does not count
    methods = [
        timed("slow", clock, slow.__getitem__, lambda i: 2.0),
        timed(
            "quick",
            clock,
            quick.__getitem__,
            lambda i: 0.5 + i,
            multiply_adds=1000.0,
            note="quick indeed",
        ),
    ]
    results = run(methods, make_image(), [(64, 32)], rounds=5, warmup=1)
    figures = results["sizes"]["64x32"]
    for name, seconds in (("slow", slow[1:]), ("quick", quick[1:])):
        encode = figures[name]["encode"]
        assert encode["seconds"] == pytest.approx(seconds)
        assert encode["min"] == pytest.approx(min(seconds)) and encode["mean"] == pytest.approx(
            sum(seconds) / 5
        )
        assert encode["median"] == pytest.approx(statistics.median(seconds))
        assert encode["sd"] == pytest.approx(statistics.stdev(seconds))
        assert encode["stages"]["analysis"]["median"] == pytest.approx(
            statistics.median(seconds) / 2
        )
        assert figures[name]["bits_per_pixel"] == pytest.approx(8 * 100 / (64 * 32))
    assert figures["quick"]["encode"]["ratio"] == pytest.approx(1.0 / 4.0)
    low, high = figures["quick"]["encode"]["ratio_interval"]
    assert 0.75 / 8 <= low < 1 / 4 < high <= 1.25 / 1.0  # no draw is out of these
    assert figures["quick"]["decode"]["ratio"] == pytest.approx(3.5 / 2)
    # 1000 multiply-adds are 2000 operations; 0.25 s is the shortest analysis.
    gflops = 2000 * 64 * 32 / 1e9 / 0.25
    assert figures["quick"]["analysis"]["gflops"] == pytest.approx(gflops)
    peak = 2 * machine.PRODUCT_SIDE**3 / 1e9 / np.array([0.5, 0.25])
    assert list(results["peak"].values()) == pytest.approx(peak)
    assert list(figures["quick"]["analysis"]["share"].values()) == pytest.approx(gflops / peak)
    assert "analysis" not in figures["slow"]
    assert json.loads(json.dumps(results)) == results


def test_rounds_are_drawn_in_pairs(clock: Clock) -> None:
    """A machine that is slow for a while is slow for both: a method that always takes twice as long
    leaves no doubt.
    """
    busy = lambda i: 1.0 + i % 7  # noqa: E731
    methods = [timed("one", clock, busy, busy), timed("two", clock, lambda i: 2 * busy(i), busy)]
    figures = run(methods, make_image(), [(64, 32)], rounds=20)["sizes"]["64x32"]
    assert figures["two"]["encode"]["ratio_interval"] == pytest.approx([2, 2])
    figures = run(methods, make_image(), [(64, 32)], rounds=20, reference="two")["sizes"]["64x32"]
    assert (
        figures["one"]["encode"]["ratio"] == pytest.approx(0.5)
        and figures["two"]["encode"]["ratio"] == 1
    )


@pytest.mark.slow
def test_methods_take_turns(clock: Clock) -> None:
    """In each round every method encodes and then decodes what it made; the order is another one,
    and the seed's.
    """
    calls: list[tuple[str, str, bytes]] = []

    def method(name: str) -> Timed:
        def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
            clock.now += 1
            data = f"{name} {len(calls)} {image.shape}".encode()
            calls.append(("encode", name, data))
            return data, {}

        def decode(data: bytes) -> tuple[np.ndarray, dict[str, float]]:
            clock.now += 1
            calls.append(("decode", name, data))
            return np.zeros((int(data.split(b"(")[1].split(b",")[0]), 64, 3), np.uint8), {}

        return Timed(name, encode, decode)

    methods = [method(name) for name in "abcd"]
    orders = []
    for seed in (0, 0, 1):
        calls.clear()
        steps = []
        track = lambda items: (steps.append(item) or item for item in items)  # noqa: E731, B023
        run(methods, make_image(), [(64, 32), (64, 48)], rounds=5, warmup=2, seed=seed, track=track)
        assert len(steps) == 2 * 7 and len(calls) == 2 * 7 * 4 * 2
        encoded, decoded = calls[::2], calls[1::2]
        assert [call[1:] for call in encoded] == [call[1:] for call in decoded]
        assert {call[0] for call in encoded} == {"encode"} and {call[0] for call in decoded} == {
            "decode"
        }
        order = [name for _, name, _ in encoded]
        turns = [tuple(order[i : i + 4]) for i in range(0, len(order), 4)]
        assert all(set(turn) == set("abcd") for turn in turns) and len(set(turns)) > 5
        orders.append(turns)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.slow
def test_what_makes_no_sense_is_refused(clock: Clock) -> None:
    one, two = (timed(name, clock, lambda i: 1.0, lambda i: 1.0) for name in ("one", "two"))
    for arguments, message in (
        ({"rounds": 1}, "rounds: 1, must be at least 2"),
        ({"warmup": 0}, "warmup: 0, must be at least 1"),
        ({"threads": 0}, "threads: 0, must be at least 1"),
        ({"reference": "none"}, "reference: 'none', must be one of one, two"),
        ({"sizes": []}, "sizes: none"),
        ({"sizes": [(64, 8)]}, "height: 8 pixels, must be from 16 to 8192"),
    ):
        with pytest.raises(ValueError, match=message):
            run([one, two], make_image(), **arguments)
    for methods in ([], [one, one]):
        with pytest.raises(ValueError, match="methods: "):
            run(methods, make_image())
    with pytest.raises(ValueError, match=r"one: decoded to \(32, 64, 3\), must be \(48, 64, 3\)"):
        run([one], make_image(), [(64, 48)])


def test_sizes_are_read() -> None:
    assert parse_sizes("640x480, 1280x720,640x480") == [(640, 480), (1280, 720)]
    for text, message in (
        ("640", "size: '640', must be WIDTHxHEIGHT"),
        ("640x-480", "size: '640x-480'"),
        ("", "size: ''"),
        ("8x480", "width: 8 pixels, must be from 16 to 8192"),
        ("640x480,640x9000", "height: 9000 pixels, must be from 16 to 8192"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_sizes(text)


def test_tables_have_ratios_first(clock: Clock) -> None:
    methods = [
        timed("paper", clock, lambda i: 0.2, lambda i: 0.1, multiply_adds=1e6),
        timed("twice", clock, lambda i: 0.1, lambda i: 0.2, note="a note"),
        Timed("still", encode_ticking(clock), lambda data: (np.zeros((32, 64, 3), np.uint8), {})),
    ]
    results = run(methods, make_image(), [(64, 32)], rounds=3, threads=1, source="discs")
    ((head, *lines),) = tables(results)
    assert head[:3] == ["64x32", "encode, of paper's (95 %)", "decode, of paper's (95 %)"]
    assert lines[0][:3] == ["paper", "1.00 (1.00 to 1.00)", "1.00 (1.00 to 1.00)"]
    assert lines[1][:3] == ["twice", "0.500 (0.500 to 0.500)", "2.00 (2.00 to 2.00)"]
    assert lines[1][4:] == ["100.00 (100.00, 100.00 ± 0.00)", "200.00 (200.00, 200.00 ± 0.00)"]
    note, machine = notes(results)
    assert note == "twice: a note" and machine.startswith(
        "discs, 3 rounds after 3 to warm up, on cpu "
    )
    assert ", threads 1," in machine and results["image"] == "discs"
    (staged,) = stage_tables(results)
    assert [line[0] for line in staged] == [
        "64x32, ms",
        "paper",
        "twice",
    ]  # a still codec has no stages
    paper = dict(zip(*staged[:2], strict=True))
    assert paper["encode: analysis"] == "100.00" and paper["decode: synthesis"] == "50.00"
    assert paper["encode: entropy"] == "–" and paper["analysis, GFLOP/s"] == "41.0"


def encode_ticking(clock: Clock) -> Callable[[np.ndarray], tuple[bytes, dict[str, float]]]:
    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        clock.now += 0.01
        return b"still", {}

    return encode


def test_threads_are_set_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PRODUCT_SIDE", 32)
    monkeypatch.setattr(run_module, "PRODUCT_SIDE", 32)
    seen = []

    def threads() -> tuple[int, int, int]:
        return torch.get_num_threads(), cv2.getNumThreads(), AvifImagePlugin.DEFAULT_MAX_THREADS

    def encode(image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        seen.append(threads())
        return b"", {}

    def fail(data: bytes) -> tuple[np.ndarray, dict[str, float]]:
        raise RuntimeError("as if")

    before = threads()
    with pytest.raises(RuntimeError, match="as if"):
        run([Timed("method", encode, fail)], make_image(), threads=1)
    assert seen == [(1, 1, 1)] and threads() == before


@pytest.mark.parametrize("size", [(128, 96), (131, 70)])
def test_the_papers_own_way_is_its_network(size: tuple[int, int]) -> None:
    """What is decoded is the network's output in evaluation mode, padded or not."""
    image = make_image(*size)
    net = paper_network(image)
    method = ways.paper_way(net)
    data, encode = method.encode(image)
    decoded, decode = method.decode(data)
    assert tuple(encode) == STAGES["encode"] and tuple(decode) == STAGES["decode"]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        out = net(x)
        latent = net.entropy_bottleneck.decompress([data[4:]], out["y_hat"].shape[-2:])
    # Sums in another order may round a value on an edge to the next integer.
    assert ((latent - out["y_hat"]).abs() > 0.5).float().mean() < 1e-3
    theirs = out["x_hat"][0].permute(1, 2, 0).mul(255).numpy()
    assert decoded.shape == image.shape and np.abs(decoded - theirs).max() <= 2
    assert 8 * len(data) == pytest.approx(
        -out["likelihoods"]["y"].log2().sum().item() + 32, rel=0.05
    )


@pytest.mark.slow
def test_a_network_that_nobody_trained_has_a_realistic_rate() -> None:
    image = make_image(192, 192)
    for target in (0.1, 0.25, 0.6):
        data, _ = ways.paper_way(paper_network(image, target)).encode(image)
        assert 8 * len(data) / 192**2 == pytest.approx(target, rel=0.06)
    other = np.ascontiguousarray(images.synthetic_image()[300:620, 200:680])
    data, _ = ways.paper_way(paper_network(image)).encode(other)
    assert 0.15 < 8 * len(data) * 3 / other.size < 0.4
    for wrong in (0.01, 2.0):
        with pytest.raises(ValueError, match="bits_per_pixel: .* must be from 0.05 to 0.6"):
            paper_network(image, wrong)
    one, again = paper_network(image).state_dict(), paper_network(image).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)


@pytest.mark.slow
def test_both_entropy_coders_code_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run of real methods: the same bits but for the packet's head, and images but for
    roundings.
    """
    monkeypatch.setattr(machine, "PRODUCT_SIDE", 32)
    monkeypatch.setattr(run_module, "PRODUCT_SIDE", 32)
    image = make_image(192, 128)
    methods = [
        make_timed(name, image) for name in ("paper", "paper-here", "jpeg:10", "avif:10", "webp:10")
    ]
    results = run(methods, image, [(192, 128)], rounds=2, warmup=1)
    figures = results["sizes"]["192x128"]
    assert results["reference"] == "paper" and figures["paper"]["encode"]["ratio"] == 1
    bits = [figures[name]["bits_per_pixel"] * 192 * 128 for name in ("paper", "paper-here")]
    assert bits[1] == pytest.approx(bits[0] + 8 * 60, rel=0.05)
    decoded = [method.decode(method.encode(image)[0])[0].astype(int) for method in methods[:2]]
    assert np.abs(decoded[0] - decoded[1]).max() <= 2
    for name in ("paper", "paper-here"):
        for what, names in STAGES.items():
            assert tuple(figures[name][what]["stages"]) == names
        assert figures[name]["analysis"]["share"].keys() == results["peak"].keys()
    assert not figures["jpeg:10"]["encode"]["stages"]
    assert (
        "24 of 128" in results["notes"]["paper"] and "24 of 128" in results["notes"]["paper-here"]
    )
    assert json.loads(json.dumps(results)) == results


@pytest.mark.slow
def test_memory_is_of_the_method_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = peak_memory("jpeg:50", make_image(4096, 4096))
    decoded = 3 * 4096**2 / 2**20
    assert decoded < taken < 6 * decoded, (
        "without Python and its libraries, which are several times as large"
    )
    monkeypatch.setattr(memory, "_grow", print)  # a process that ends and has not answered
    with pytest.raises(RuntimeError, match="jpeg:50: the process"):
        peak_memory("jpeg:50", make_image())


def test_unknown_methods_are_refused() -> None:
    for name, message in (
        ("jpeg:101", "jpeg:101: quality '101'"),
        ("nothing-of-this-name", "model 'nothing-of-this-name'"),
        ("paper:nothing", "model 'nothing'"),
        ("hope+jpeg:5", "hope"),
    ):
        with pytest.raises(ValueError, match=message):
            make_timed(name, make_image())


def test_a_models_network_goes_the_papers_way() -> None:
    image = make_image(128, 128)
    here, plain = make_timed("fast", image), make_timed("paper:fast", image)
    shown = [method.decode(method.encode(image)[0])[0].astype(int) for method in (here, plain)]
    assert np.abs(shown[0] - shown[1]).max() <= 2
    assert here.multiply_adds == plain.multiply_adds == 3362.25


def test_multiply_adds_are_counted() -> None:
    """The paper's network by hand: convolutions of 5x5 at stride 2, and a GDN's matrix after all
    but the last.
    """
    layers = [
        3 * 128 * 25 / 4,
        *(128 * 128 * 25 / 4**i for i in (2, 3, 4)),
        *(128 * 128 / 4**i for i in (1, 2, 3)),
    ]
    assert ways._multiply_adds(build("roi-128-2")) == sum(layers) == 41376
    assert NETWORKS["roi-128-2"] == ("paper", {"N": 128, "M": 2})


def test_the_synthetic_image_has_a_photos_spectrum() -> None:
    """Power falls with the square of the frequency or a little more; noise does not fall."""
    image = images.synthetic_image()
    assert image.dtype == np.uint8 and np.array_equal(image, images.synthetic_image())
    grey = image.mean(2) - image.mean()
    window = np.hanning(1024)
    power = np.abs(np.fft.fft2(grey * np.outer(window, window))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024)))
    edges = np.geomspace(4 / 1024, 0.25, 12)
    rings = [
        power[(radius >= a) & (radius < b)].mean() for a, b in zip(edges, edges[1:], strict=False)
    ]
    slope = np.polyfit(np.log(edges[1:]), np.log(rings), 1)[0]
    assert -2.8 < slope < -1.8


def test_the_default_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image, name = images.default_image()
    assert (
        image.dtype == np.uint8
        and image.shape[2] == 3
        and name in ("bus.jpg of ultralytics", "synthetic")
    )
    monkeypatch.setattr(images, "example_photo", lambda name: None)
    image, name = images.default_image()
    assert name == "synthetic" and image.shape == (1024, 1024, 3)


@pytest.mark.slow
def test_the_command_says_ratios_and_leaves_them_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PRODUCT_SIDE", 32)
    monkeypatch.setattr(run_module, "PRODUCT_SIDE", 32)
    cv2.imwrite(str(tmp_path / "discs.png"), make_image())
    command = [
        "bench",
        "--image",
        str(tmp_path / "discs.png"),
        "--methods",
        "webp:50,jpeg:10",
        "--rounds",
        "2",
    ]
    done = CliRunner().invoke(app, [*command, "--sizes", "64x48", "--out", str(tmp_path / "out")])
    assert (
        done.exit_code == 0
        and "encode, of webp:50's" in done.stdout
        and "discs.png, 2 rounds" in done.stdout
    )
    report = CliRunner().invoke(app, ["report", str(tmp_path / "out")])
    assert report.exit_code == 0, report.output
    assert "| webp:50 | 1.00 (1.00 to 1.00)" in (tmp_path / "out" / "report.md").read_text()
    refused = CliRunner().invoke(app, ["bench", "--sizes", "8x8", "--methods", "jpeg:10"])
    assert refused.exit_code == 2 and "from 16 to 8192" in refused.output


def test_a_model_that_paints_is_measured_and_has_no_papers_way() -> None:
    image = make_image()
    timed = make_timed("roi", image)
    packet, seconds = timed.encode(image)
    assert seconds.keys() >= {"heads", "paint", "analysis", "entropy"}
    decoded, _ = timed.decode(packet)
    assert decoded.shape == image.shape and 5_000 < timed.multiply_adds < 12_000
    with pytest.raises(ValueError, match="paper:roi: has no factorized prior"):
        make_timed("paper:roi", image)
