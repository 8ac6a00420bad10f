"""Engines: that each finds what the reference finds, and that nothing else is used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roi_anon_ros.codec import Codec, EngineError, PacketError, find_model, load_model, save_model
from roi_anon_ros.codec.engines import (
    ANALYSIS,
    ENGINES,
    SYNTHESIS,
    TOLERANCE,
    Stage,
    TorchEngine,
    calibrate,
    choice,
    differences,
    export,
    graph_engine,
    int8_file,
    machine,
    make_engine,
    onnx_file,
    stages_of,
    trial_image,
)
from roi_anon_ros.codec.engines.graph_engine import GraphEngine
from roi_anon_ros.codec.modelfile import Model
from roi_anon_ros.codec.networks import FastCodec, PaperCodec

pytestmark = pytest.mark.slow

OTHERS = [name for name in ENGINES if name != "torch"]
#: What int8 is calibrated with.
SEEN = [trial_image(*size) for size in ((192, 128), (320, 240), (100, 75), (240, 320))]


def need(engine: str) -> None:
    package = ENGINES[engine].package
    pytest.importorskip(package, reason=f"{package} is not installed")
    if engine == "openvino-int8":
        pytest.importorskip(
            "nncf", reason="nncf, which writes what openvino-int8 runs, is not installed"
        )
    if engine == "onnxruntime":
        pytest.importorskip(
            "onnxscript", reason="onnxscript, which writes what onnxruntime runs, is not installed"
        )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "roi_anon_ros" / "engines.json"


def scaled(net: PaperCodec | FastCodec) -> PaperCodec | FastCodec:
    """A network whose latent has symbols other than 0 and medians other than 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        y = net.g_a(torch.from_numpy(trial_image(192, 128)).permute(2, 0, 1)[None] / 255)
        net.g_a[-1].weight.mul_(4 / y.std())
        net.g_a[-1].bias.mul_(4 / y.std())
        net.entropy_bottleneck.quantiles.add_(torch.linspace(-2, 2, y.shape[1])[:, None, None])
    net.update()
    return net.eval()


@pytest.fixture
def kept_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests that ask for it: a graph takes longer to make than to try."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "kept"))


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """To trace a network takes seconds: once for all engines and files."""
    program = Stage.program
    traced: dict[tuple[str, bytes], Any] = {}

    def find_program(stage: Stage, model: Model) -> Any:
        key = stage.name, model.fingerprint
        if key not in traced:
            traced[key] = program(stage, model)
        return traced[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "program", find_program)
        yield


#: For what does not depend on the network.
one_network = pytest.mark.parametrize("model", ["paper"], indirect=True)


@pytest.fixture(scope="module", params=["paper", "fast"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    network = PaperCodec(8, 2) if request.param == "paper" else FastCodec(8)
    save_model(scaled(network), path, "small")
    made = load_model(path)
    if find_spec("onnxscript"):
        export(made)
    if find_spec("nncf"):
        calibrate(made, SEEN)
    return made


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.usefixtures("kept_cache")
def test_an_engine_finds_the_symbols_and_images_of_the_reference(model: Model, name: str) -> None:
    need(name)
    engine, reference = make_engine(name, model), TorchEngine(model)
    tolerance = TOLERANCE[name]
    for size in ((16, 16), (100, 75), (320, 240)):
        source = trial_image(*size)
        symbols, expected = engine.analyse(source), reference.analyse(source)
        assert symbols.dtype == np.int32 and symbols.shape == expected.shape
        assert np.unique(expected).size > 5, "symbols that are all alike prove nothing"
        share, far = differences(symbols, expected, tolerance.max_step)
        assert share <= max(tolerance.changed_share, 1.5 / expected.size) and not far, size
        shown, wanted = engine.synthesise(expected), reference.synthesise(expected)
        assert shown.dtype == np.uint8 and shown.shape == wanted.shape
        assert np.abs(shown.astype(int) - wanted).mean() <= tolerance.mean_byte_error, size


@pytest.mark.parametrize("height", [16, 80, 256])
def test_a_narrow_image_is_analysed_as_by_the_reference(height: int) -> None:
    need("openvino")
    codec = Codec.load("roi", "openvino")
    reference = Codec.load("roi", "torch")
    image = np.random.default_rng(0).integers(0, 256, (height, 16, 3), np.uint8)
    expected = reference.engine.analyse(image)
    found = codec.engine.analyse(image)
    assert np.abs(found - expected).max() < 0.1 * expected.std()


@pytest.mark.parametrize("name", OTHERS)
def test_the_shipped_model_loses_nothing_by_an_engine(name: str, tmp_path: Path) -> None:
    """How far off an engine is on the default model, in the figures of its users."""
    need(name)
    shipped = load_model(find_model("fast"))
    if name == "onnxruntime":
        shipped = replace(shipped, path=tmp_path / "fast.safetensors")
        export(shipped)
    symbols_off, bytes_off = (0.015, 0.05) if name == "openvino-int8" else (0.004, 0.005)
    source = trial_image(320, 240)
    there, here = Codec(shipped), Codec(shipped, name)
    symbols = there.engine.analyse(source)
    assert differences(here.engine.analyse(source), symbols)[0] < symbols_off
    closed = np.unique(symbols.reshape(len(symbols), -1).T, axis=0, return_counts=True)[1].max()
    assert closed >= 6, (
        "the drawn head must close the gate, or an engine that leaves it open would pass"
    )
    assert (symbols != 0).mean() > 0.02, "symbols that are all alike prove nothing"
    sent, ours = there.encode(source), here.encode(source)
    assert abs(len(ours.packet) - len(sent.packet)) <= max(bytes_off * len(sent.packet), 8)

    def psnr(image: np.ndarray) -> float:
        return -10 * np.log10(np.mean((image / 255.0 - source / 255.0) ** 2))

    lost = psnr(there.decode(sent.packet).image) - psnr(here.decode(ours.packet).image)
    assert abs(lost) < 0.1


def test_the_default_model_decodes_in_int8() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    shipped = load_model(find_model("roi"))
    there, here = TorchEngine(shipped), make_engine("openvino-int8", shipped)
    symbols = shipped.latents.quantise(there.analyse(trial_image(320, 240)), 4.75)
    latent = shipped.latents.dequantise(symbols, 4.75)
    shown = here.synthesise(latent)
    assert here.runs(SYNTHESIS).startswith("openvino-int8 (int8 ")
    error = np.square(shown.astype(float) - there.synthesise(latent)).mean()
    assert 10 * np.log10(255**2 / error) > 35


@pytest.mark.usefixtures("kept_cache")
def test_every_engine_decodes_what_any_other_encoded(model: Model) -> None:
    for name in OTHERS:
        need(name)
    source = trial_image(100, 75)
    codecs = {name: Codec(model, name) for name in ENGINES}
    for encoder in codecs.values():
        packet = encoder.encode(source).packet
        images = {name: decoder.decode(packet).image for name, decoder in codecs.items()}
        assert all(image.shape == (75, 100, 3) for image in images.values())
        for name, image in images.items():
            assert (
                np.abs(image.astype(int) - images["torch"]).mean()
                <= TOLERANCE[name].mean_byte_error
            )


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.usefixtures("kept_cache")
def test_the_same_image_makes_the_same_bytes(model: Model, name: str) -> None:
    need(name)
    source = trial_image(320, 240)
    first = Codec(model, name).encode(source).packet
    again = Codec(model, name)
    assert [again.encode(source).packet for _ in range(3)] == [first] * 3


@one_network
@pytest.mark.usefixtures("kept_cache")
def test_a_damaged_packet_stays_an_error_of_the_packet(model: Model) -> None:
    need("openvino")
    codec = Codec(model, "openvino")
    packet = bytearray(codec.encode(trial_image(64, 64)).packet)
    packet[-1] ^= 1
    with pytest.raises(PacketError, match="crc"):
        codec.decode(packet)


def test_large_images_go_in_the_strips_of_the_reference(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    engine = make_engine("openvino", model)
    source = trial_image(320, 240)
    monkeypatch.setattr(graph_engine, "STRIP_PIXELS", 320 * 240 - 1)
    monkeypatch.setattr(
        engine, "_build", lambda part: pytest.fail("built for an image that is too large")
    )
    symbols = engine.analyse(source)
    assert np.array_equal(symbols, TorchEngine(model).analyse(source))
    assert np.array_equal(engine.synthesise(symbols), TorchEngine(model).synthesise(symbols))


def one_more(symbols: np.ndarray, amount: int) -> np.ndarray:
    """A copy, one of whose symbols that are 0 is another one."""
    spoilt = symbols.copy()
    spoilt[tuple(np.argwhere(symbols == 0)[0])] = amount
    return spoilt


class Broken(GraphEngine):
    """Runs the reference, and spoils what it found."""

    name = package = "openvino"
    analysis: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda symbols: symbols)
    synthesis: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda image: image)

    def _build(self, stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
        if stage is ANALYSIS:
            return lambda batch: self.analysis(self._reference.analyse(batch[0]))[None]
        return lambda batch: self.synthesis(self._reference.synthesise(batch[0]))[None]


@one_network
@pytest.mark.parametrize(
    ("stage", "spoil", "message"),
    [
        (ANALYSIS, lambda symbols: np.roll(symbols, 1, axis=2), "of the symbols differ"),
        (ANALYSIS, lambda symbols: one_more(symbols, 2), "1 of them by more than 1; must"),
        (SYNTHESIS, lambda image: image[::-1], "decoded bytes differ"),
    ],
)
def test_an_engine_that_is_not_the_reference_is_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch, stage: Stage, spoil: Callable, message: str
) -> None:
    engine = Broken(model)
    source = trial_image(64, 64)
    symbols = engine.analyse(source)  # as long as it is as good as the reference
    assert engine.synthesise(symbols).shape == (64, 64, 3)
    monkeypatch.setattr(Broken, stage.name, staticmethod(spoil))
    spoilt = Broken(model)
    with pytest.raises(EngineError, match=message):
        spoilt.analyse(source) if stage is ANALYSIS else spoilt.synthesise(symbols)
    with pytest.raises(EngineError, match=message):  # not only the first time
        spoilt.analyse(source) if stage is ANALYSIS else spoilt.synthesise(symbols)


def not_finite(model: Model) -> Model:
    """A copy whose latents are not finite, and of which no file was exported."""
    bias = [name for name in model.tensors if re.fullmatch(r"g_a\.\d+\.bias", name)]
    last = max(bias, key=lambda name: int(name.split(".")[1]))
    nothing = np.full_like(model.tensors[last], np.nan)
    return replace(
        model,
        tensors={**model.tensors, last: nothing},
        fingerprint=bytes(8),
        path=Path("never_exported.safetensors"),
    )


@one_network
def test_auto_says_why_the_reference_itself_fails(model: Model) -> None:
    with pytest.raises(ValueError, match="latent: not finite"):
        make_engine("auto", not_finite(model)).analyse(trial_image(64, 64))


@one_network
def test_a_latent_that_is_not_finite_is_no_packet(model: Model) -> None:
    need("openvino")
    broken = not_finite(model)
    engine = make_engine("openvino", broken)
    symbols = engine._build(ANALYSIS)(trial_image(64, 64)[None])[
        0
    ]  # as it would run, had nobody compared it
    with pytest.raises(ValueError, match="symbols: out of bounds"):
        broken.latents.encode(symbols, 0)


@one_network
def test_what_a_foreign_library_raises_is_an_error_of_the_engine(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    engine = make_engine("openvino", model)
    monkeypatch.setattr(engine, "_build", lambda part: {}["missing"])
    with pytest.raises(EngineError, match="engine openvino: analysis: 'missing'"):
        engine.analyse(trial_image(64, 64))


@one_network
def test_an_unknown_engine_is_refused(model: Model) -> None:
    with pytest.raises(
        ValueError,
        match="engine: 'abacus', must be one of torch, openvino, openvino-int8, onnxruntime, auto",
    ):
        Codec(model, "abacus")


@one_network
@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("onnxruntime", "else-analysis.onnx: no such file; roi-anon export"),
        ("openvino-int8", "else-synthesis-int8.xml: no such file; roi-anon export --int8"),
    ],
)
def test_an_exported_network_is_of_one_model(
    name: str, lacking: str, model: Model, tmp_path: Path
) -> None:
    need(name)
    with pytest.raises(EngineError, match=lacking):
        make_engine(name, replace(model, path=tmp_path / "else.safetensors"))
    foreign = replace(model, fingerprint=bytes(8))
    with pytest.raises(
        EngineError, match=f"of model {model.fingerprint.hex()}, must be of {bytes(8).hex()}"
    ):
        make_engine(name, foreign).analyse(trial_image(32, 32))


@one_network
def test_what_an_engine_lacks_is_named(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("onnxruntime")
    broken = replace(model, path=tmp_path / "broken.safetensors")
    for stage in stages_of(model):
        onnx_file(broken, stage).write_bytes(b"not a network")
    with pytest.raises(EngineError, match="broken-analysis.onnx"):
        make_engine("onnxruntime", broken).analyse(trial_image(32, 32))
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    for name in OTHERS:
        with pytest.raises(
            EngineError, match=f"{ENGINES[name].package} is not installed: pip install"
        ):
            make_engine(name, model)
    with pytest.raises(
        EngineError, match=r"onnxscript is not installed: pip install 'roi_anon_ros\[export\]'"
    ):
        export(model)


@one_network
def test_a_calibration_is_of_images_and_intact(model: Model, tmp_path: Path) -> None:
    need("openvino-int8")
    with pytest.raises(ValueError, match="images: none"):
        calibrate(model, [])
    broken = replace(model, path=tmp_path / "broken.safetensors")
    for suffix in (".xml", ".bin", ".sha256"):
        int8_file(broken, ANALYSIS).with_suffix(suffix).write_bytes(
            int8_file(model, ANALYSIS).with_suffix(suffix).read_bytes()
        )
    engine = make_engine("openvino-int8", broken)
    assert engine.stages == (ANALYSIS,), "what has no file is not in int8"
    engine.analyse(trial_image(32, 32))
    assert re.fullmatch(r"openvino-int8 \(int8 [0-9a-f]{8}\)", engine.runs(ANALYSIS))
    weights = int8_file(broken, ANALYSIS).with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(EngineError, match="broken-analysis-int8.xml: damaged"):
        make_engine("openvino-int8", broken).analyse(trial_image(32, 32))


@one_network
def test_auto_goes_on_without_an_engine_that_fails(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "ENGINES", {"torch": TorchEngine, "openvino": Broken})
    monkeypatch.setattr(Broken, "analysis", staticmethod(lambda symbols: symbols[:, ::-1]))
    monkeypatch.setattr(Broken, "synthesis", staticmethod(lambda image: 1 // 0))
    engine = make_engine("auto", model)
    source = trial_image(100, 75)
    symbols = engine.analyse(source)
    assert np.array_equal(symbols, TorchEngine(model).analyse(source))
    assert np.array_equal(engine.synthesise(symbols), TorchEngine(model).synthesise(symbols))
    assert all(engine.runs(stage).startswith("torch, for no other") for stage in stages_of(model))


@one_network
def test_auto_says_so_where_no_engine_works(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ENGINES", {"openvino": Broken})
    monkeypatch.setattr(Broken, "analysis", staticmethod(lambda symbols: 1 // 0))
    with pytest.raises(EngineError, match="engine auto: none does the analysis: openvino: .*zero"):
        make_engine("auto", model).analyse(trial_image(64, 64))


@one_network
def test_auto_works_where_nothing_can_be_written(model: Model, own_cache: Path) -> None:
    own_cache.parent.parent.mkdir(parents=True)
    own_cache.parent.write_text("a file in the folder's place")
    assert make_engine("auto", model).analyse(trial_image(32, 32)).shape[1:] == (2, 2)


@one_network
def test_openvino_keeps_what_takes_seconds_and_survives_its_loss(
    model: Model, own_cache: Path
) -> None:
    need("openvino")
    model = replace(model, path=own_cache.with_name("never_exported.safetensors"))
    source = trial_image(100, 75)
    expected = make_engine("openvino", model).analyse(source)
    (kept,) = own_cache.parent.glob("*.xml")
    assert kept.name.startswith(f"{model.fingerprint.hex()}-analysis")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "program", lambda *_: pytest.fail("made again"))
        assert np.array_equal(make_engine("openvino", model).analyse(source), expected)
    kept.write_text("no graph")
    assert np.array_equal(make_engine("openvino", model).analyse(source), expected)


@one_network
def test_openvino_reports_to_nobody(model: Model, tmp_path: Path) -> None:
    need("openvino")
    code = (
        "import sys; from roi_anon_ros.codec import Codec\n"
        "from roi_anon_ros.codec.engines import trial_image\n"
        f"Codec.load({str(model.path)!r}, 'openvino').encode(trial_image(32, 32))\n"
        "assert sys.modules['openvino_telemetry'] is None and 'openvino' in sys.modules"
    )
    # CI switches it off by itself, which would hide that nobody else did.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
        timeout=600,
    )
    assert not (tmp_path / "intel").exists()


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"}, "Some CPU @ 2 GHz"),
        (
            {"cpuinfo": "CPU part\t: 0xd42\n", "device-tree/model": "A Board Rev 1\0"},
            "A Board Rev 1",
        ),
        ({"cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n" * 4}, "0x41 0xd0b"),
    ],
)
def test_processors_have_names_of_their_own(
    files: dict[str, str], name: str, tmp_path: Path
) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert machine.processor(tmp_path) == name


@one_network
def test_an_exported_file_names_no_place_of_the_machine(model: Model) -> None:
    need("onnxruntime")
    for stage in stages_of(model):
        assert b".py" not in onnx_file(model, stage).read_bytes()
