"""The networks: golden structure and numbers, sizes, the paper's checkpoint layout, invariances."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from roi_anon_ros.codec.networks import (
    NETWORKS,
    AnonymizingCodec,
    FastCodec,
    GatedConv,
    PaperCodec,
    base,
    build,
)
from roi_anon_ros.codec.networks.quick_compressai import GDN1


def ramp(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.linspace(0, 1, batch * 3 * height * width).reshape(batch, 3, height, width)


def textured(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def small() -> PaperCodec:
    torch.manual_seed(3)
    net = PaperCodec(8, 2).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(40)  # latents of more than one symbol
    net.update()
    return net


def test_golden_layer_order() -> None:
    net = PaperCodec(8, 1)
    assert [type(m).__name__ for m in net.g_a] == ["Conv2d", "GDN1", "Conv2d", "GDN1", "Conv2d"]
    kinds = ["ConvTranspose2d", "GDN1", "ConvTranspose2d", "GDN1", "ConvTranspose2d", "Sigmoid"]
    assert [type(m).__name__ for m in net.g_s] == kinds
    assert all(
        m.kernel_size == (5, 5) and m.stride == (2, 2) for m in (*net.g_a[::2], *net.g_s[:-1:2])
    )
    assert [m.inverse for m in (net.g_a[1], net.g_s[1])] == [False, True]


def test_golden_state_dict_keys() -> None:
    gdn = ["beta", "gamma"] + [
        f"{p}_reparam.{b}" for p in ("beta", "gamma") for b in ("pedestal", "lower_bound.bound")
    ]
    conv = ["weight", "bias"]
    expected = {
        f"{room}.{i}.{key}"
        for room in ("g_a", "g_s")
        for i in range(5)
        for key in (gdn if i % 2 else conv)
    }
    prior = [
        "quantiles",
        "_offset",
        "_quantized_cdf",
        "_cdf_length",
        "target",
        "likelihood_lower_bound.bound",
    ]
    prior += [
        f"{kind}.{i}"
        for kind, n in (("matrices", 5), ("biases", 5), ("factors", 4))
        for i in range(n)
    ]
    expected |= {f"entropy_bottleneck.{key}" for key in prior}
    assert set(PaperCodec(8, 1).state_dict()) == expected


@pytest.mark.parametrize(
    ("net", "x_hat", "bits", "latent"),
    [
        (lambda: PaperCodec(8, 2), (0.494031, 0.016546, 0.511282), 519.399475, 4.607305),
        (lambda: FastCodec(8), (0.500696, 0.020907, 0.525311), 518.130615, 9.412863),
    ],
)
def test_golden_numbers(net, x_hat: tuple[float, ...], bits: float, latent: float) -> None:
    torch.manual_seed(0)
    model = net().eval()
    x = ramp(40, 56)
    with torch.no_grad():
        out = model(x)
        y = model.g_a(F.pad(x, (0, 8, 0, 8), mode="replicate"))
    got = (out["x_hat"].mean().item(), out["x_hat"].std().item(), out["x_hat"][0, 1, 20, 30].item())
    assert got == pytest.approx(x_hat, abs=2e-5)
    assert -out["likelihoods"]["y"].log2().sum().item() == pytest.approx(bits, abs=0.02)
    assert y.abs().sum().item() == pytest.approx(latent, rel=1e-4)


def test_named_configurations() -> None:
    shapes = {
        "roi-128-2": (128, 16),
        "roi-256-2": (256, 16),
        "roi-256-1": (256, 8),
        "fast": (128, 16),
        "gained": (40, 16),
    }
    assert set(NETWORKS) == set(shapes)
    for name, (channels, factor) in shapes.items():
        net = build(name)
        assert (net.N, net.downsampling_factor) == (channels, factor)
        assert net.g_a(torch.zeros(1, 3, 64, 32)).shape == (1, channels, 64 // factor, 32 // factor)
    with pytest.raises(ValueError, match="network"):
        build("slow")


def test_registered_with_compressai() -> None:
    from compressai.registry import MODELS

    assert MODELS["roi-anon-paper"] is PaperCodec
    assert MODELS["roi-anon-fast"] is FastCodec


@pytest.mark.parametrize(("arguments", "field"), [((0, 2), "N"), ((8, 5), "M"), ((8, -1), "M")])
def test_constructor_names_the_bound(arguments: tuple[int, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        PaperCodec(*arguments)


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (31, 48), (33, 65), (100, 16)])
@pytest.mark.parametrize(
    "net", [lambda: PaperCodec(4, 2), lambda: PaperCodec(4, 1), lambda: FastCodec(4)]
)
def test_any_size_comes_back_exactly(net, size: tuple[int, int]) -> None:
    model: AnonymizingCodec = net().eval()
    model.update()
    x = textured(*size)
    assert model(x)["x_hat"].shape == x.shape
    out = model.compress(x)
    assert out["shape"] == tuple(-(-side // model.downsampling_factor) for side in size)
    assert model.decompress(**out)["x_hat"].shape == x.shape
    padded = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert padded.shape[-2:] == tuple(side * model.downsampling_factor for side in out["shape"])


def test_decompress_equals_forward_in_evaluation(small: PaperCodec) -> None:
    x = textured(40, 56)
    with torch.no_grad():
        expected = small(x)["x_hat"]
    assert torch.allclose(small.decompress(**small.compress(x))["x_hat"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "field"), [((15, 16), "height"), ((16, 15), "width"), ((8193, 16), "height")]
)
def test_out_of_bounds_sizes_are_named(
    small: PaperCodec, shape: tuple[int, int], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}:.*from 16 to 8192"):
        small.compress(torch.zeros(1, 3, *shape))


def test_longest_side(small: PaperCodec) -> None:
    x = textured(16, 8192)
    assert small.decompress(**small.compress(x))["x_hat"].shape == x.shape


def test_not_finite_latent_is_refused(small: PaperCodec) -> None:
    x = textured(32, 32)
    x[0, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="latent: not finite"):
        small.compress(x)


def test_without_tables_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="call update"):
        PaperCodec(4, 0).eval().compress(textured(16, 16))


def test_bytes_do_not_depend_on_the_batch(small: PaperCodec) -> None:
    x = textured(48, 40, batch=3)
    together = small.compress(x)
    alone = [small.compress(x[i : i + 1])["strings"][0][0] for i in range(3)]
    assert together["strings"][0] == alone
    images = [small.decompress([[s]], together["shape"], together["size"])["x_hat"] for s in alone]
    assert torch.equal(small.decompress(**together)["x_hat"], torch.cat(images))


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_threads() -> None:
    """In a fresh process, so that what the import of the networks leaves out shows as well."""
    script = """
import hashlib, torch, sys
from roi_anon_ros.codec.networks import build
assert not {"torchvision", "torch_geometric"} & set(sys.modules)
x = torch.rand(1, 3, 240, 336, generator=torch.Generator().manual_seed(2))
for name in ("fast", "roi-128-2"):
    torch.manual_seed(5)
    net = build(name).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(40)
    net.update()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out = net.compress(x)
        assert torch.get_num_threads() == threads
        string = out["strings"][0][0]
        symbols = net.tables.decode(string, *out["shape"])
        marks = [hashlib.sha256(data).hexdigest() for data in (string, symbols.tobytes())]
        print(len(string), *marks)
import compressai
from compressai.registry import TRANSFORMS
assert {"RandomCrop", "ToDict"} <= set(TRANSFORMS)
assert compressai.datasets.ImageFolder and not hasattr(compressai, "nothing")
"""
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 4 and lines[::2] == lines[1::2]
    assert all(int(line.split()[0]) > 300 for line in lines)


@pytest.mark.parametrize(
    "net", [lambda: PaperCodec(4, 2), lambda: PaperCodec(4, 0), lambda: FastCodec(4)]
)
def test_strips_equal_the_whole(net, monkeypatch: pytest.MonkeyPatch) -> None:
    model: AnonymizingCodec = net().eval()
    with torch.no_grad():
        model.g_a[-1].weight.mul_(40)
    x = textured(1100, 32)
    whole = model.analyse(x)
    image = model.synthesise(whole)
    monkeypatch.setattr(base, "STRIP_PIXELS", 32 * 100)
    assert (model.analyse(x) != whole).float().mean() < 1e-4
    assert (model.synthesise(whole) - image).abs().max() < 1e-5
    assert whole.abs().sum() > 0


def half_open() -> FastCodec:
    """With a gate that nowhere is wide open or closed."""
    net = FastCodec(4)
    torch.nn.init.constant_(net.g_a[-1].heads[-1].weight, 1e-4)
    torch.nn.init.constant_(net.g_a[-1].heads[-1].bias, -1.5)
    return net


@pytest.mark.parametrize(("net", "pixels"), [(lambda: PaperCodec(4, 2), 61), (half_open, 588)])
def test_receptive_field_is_as_documented(net, pixels: int) -> None:
    x = torch.rand(1, 3, 1024, 1024, requires_grad=True)
    y = net().g_a(x)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    touched = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert (touched.max() - touched.min() + 1).item() == pixels


def original_forward(
    weights: dict[str, torch.Tensor], x: torch.Tensor, prefix: str, M: int
) -> torch.Tensor:
    """The published network's pass from image to image, written with functions only."""

    def gdn(x: torch.Tensor, name: str, inverse: bool) -> torch.Tensor:
        pedestal = 2.0**-36
        beta = weights[f"{name}.beta"].clamp(min=(1e-6 + pedestal) ** 0.5) ** 2 - pedestal
        gamma = weights[f"{name}.gamma"].clamp(min=pedestal**0.5) ** 2 - pedestal
        norm = F.conv2d(x.abs(), gamma[:, :, None, None], beta)
        return x * norm if inverse else x / norm

    y = x
    for i in range(M + 2):
        name = f"{prefix}_encoder.encoder.{2 * i}"
        y = F.conv2d(y, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=2)
        if i < M + 1:
            y = gdn(y, f"{prefix}_encoder.encoder.{2 * i + 1}", inverse=False)
    medians = weights[f"{prefix}_bottleneck.quantiles"][:, 0, 1].reshape(1, -1, 1, 1)
    y = torch.round(y - medians) + medians
    for i in range(M + 2):
        name = f"{prefix}_decoder.decoder.{2 * i}"
        y = F.conv_transpose2d(
            y,
            weights[f"{name}.weight"],
            weights[f"{name}.bias"],
            stride=2,
            padding=2,
            output_padding=1,
        )
        if i < M + 1:
            y = gdn(y, f"{prefix}_decoder.decoder.{2 * i + 1}", inverse=True)
    return torch.sigmoid(y)


@pytest.mark.parametrize("prefix", ["", "autoencoder.", "a.b._encoder_of."])
@pytest.mark.parametrize("updated", [False, True])
def test_checkpoint_in_the_papers_layout(prefix: str, updated: bool) -> None:
    torch.manual_seed(11)
    source = PaperCodec(6, 1)
    with torch.no_grad():
        source.g_a[-1].weight.mul_(60)
        source.entropy_bottleneck.quantiles[:, 0, 1].uniform_(-0.4, 0.4)
        for index in (1, 3):
            source.g_a[index].gamma.add_(torch.rand(6, 6) * 0.1)
            source.g_s[index].gamma.add_(torch.rand(6, 6) * 0.1)
    if updated:
        source.update()
    rooms = {
        "g_a": "_encoder.encoder",
        "g_s": "_decoder.decoder",
        "entropy_bottleneck": "_bottleneck",
    }
    state_dict = {}
    for key, value in source.state_dict().items():
        room, rest = key.split(".", 1)
        state_dict[f"{prefix}{rooms[room]}.{rest}"] = value
    net = PaperCodec.from_paper_checkpoint({"state_dict": state_dict, "N": 6, "M": 1}).eval()
    x = textured(48, 64)
    decoded = net.decompress(**net.compress(x))["x_hat"]
    assert torch.allclose(decoded, original_forward(state_dict, x, prefix, 1), atol=1e-5)


def test_checkpoint_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no field N, M"):
        PaperCodec.from_paper_checkpoint({"state_dict": {}})
    with pytest.raises(ValueError, match="does not fit N=8, M=1"):
        PaperCodec.from_paper_checkpoint({"state_dict": {}, "N": 8, "M": 1})


@pytest.mark.parametrize("source", [PaperCodec(6, 1), FastCodec(5)])
def test_from_state_dict(source: AnonymizingCodec) -> None:
    source.update()
    net = type(source).from_state_dict(source.state_dict()).eval()
    assert net.hyperparameters == source.hyperparameters
    x = textured(32, 32)
    assert torch.equal(net.analyse(x), source.eval().analyse(x))


def test_the_gate_lets_through_what_its_equation_says() -> None:
    torch.manual_seed(0)
    gated = GatedConv(6, 3)
    with torch.no_grad():
        gated.heads[-1].bias.fill_(-1.4)
        gated.heads[-1].weight.mul_(8)
    x = torch.randn(2, 6, 9, 11)
    y, p = gated(x), torch.sigmoid(gated.heads(x))
    assert (p >= 0.25).any() and ((p > 0.125) & (p < 0.25)).any() and (p <= 0.125).any()
    for b, row, column in itertools.product(range(2), range(9), range(11)):
        share = min(max(2 - 8 * p[b, 0, row, column].item(), 0), 1)
        expected = gated.bias + share * (gated.weight[:, :, 0, 0] @ x[b, :, row, column])
        assert torch.allclose(y[b, :, row, column], expected, atol=1e-6)


def test_nothing_passes_where_the_analysis_sees_a_head() -> None:
    """Two images that differ everywhere, both all head to the map: one latent."""
    torch.manual_seed(0)
    net = FastCodec(4).eval()
    first, second = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    assert not torch.equal(net.g_a(first), net.g_a(second))
    with torch.no_grad():
        net.g_a[-1].heads[-1].bias.fill_(20)
    assert torch.equal(net.g_a(first), net.g_a(second))


@pytest.mark.parametrize(
    ("net", "documented"), [(lambda: PaperCodec(128, 2), 41376), (lambda: FastCodec(128), 3362.25)]
)
def test_operations_of_the_analysis_are_as_documented(net, documented: float) -> None:
    counted = []

    def count(module: torch.nn.Module, _: object, y: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            counted.append(module.weight[0].numel() * y.numel())
        elif isinstance(module, GDN1):
            counted.append(y.shape[1] * y.numel())

    analysis = net().g_a
    for module in analysis.modules():
        module.register_forward_hook(count)
    analysis(torch.zeros(1, 3, 64, 64))
    assert sum(counted) / 64**2 == documented
