"""Treatments: what they change, what they leave, and what they let through."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_anon_ros.anonymize.regions import Region, Regions, polygon
from roi_anon_ros.anonymize.treatments import TREATMENTS, make_treatment, treat
from roi_anon_ros.anonymize.treatments.base import Scene, seed
from roi_anon_ros.anonymize.treatments.dcgan import Dcgan
from roi_anon_ros.anonymize.treatments.deepprivacy import DeepPrivacy2
from roi_anon_ros.anonymize.treatments.faces import RealisticFaces
from roi_anon_ros.anonymize.treatments.histograms import match_colours, match_histogram

DRAW = np.random.default_rng(0)
IMAGE = DRAW.integers(0, 255, (120, 160, 3), np.uint8)
NAMES = [name for name in TREATMENTS if name != "deepprivacy"]
#: What only a count of the region's pixels or their mean goes into.
OPAQUE = ["mask", "silhouette", "inpaint", "face", "body"]
FACE = Region((40, 30, 80, 84), "ellipse", "face", track=3)
SIDE = st.floats(-40, 180)


def regions(*items: Region) -> Regions:
    return Regions((160, 120), items)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(
    left=SIDE,
    top=SIDE,
    width=st.floats(1, 120),
    height=st.floats(1, 120),
    shape=st.sampled_from(["box", "ellipse"]),
    feather=st.sampled_from([0.0, 0.2]),
)
def test_nothing_far_from_a_region_changes(
    name: str, left: float, top: float, width: float, height: float, shape: str, feather: float
) -> None:
    region = Region((left, top, left + width, top + height), shape)
    before = IMAGE.copy()
    out = treat(IMAGE, regions(region), make_treatment(name), feather)
    assert out.dtype == np.uint8 and out.shape == IMAGE.shape and np.array_equal(IMAGE, before)
    margin = int(np.ceil(feather * region.side)) + 1
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    near = cv2.dilate(region.drawn(160, 120).astype(np.uint8), kernel) > 0
    assert np.array_equal(out[~near], IMAGE[~near])


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_hidden_does_not_come_through(name: str) -> None:
    """Two images that differ in the order of the hidden pixels only come out the same."""
    masked = polygon([(10, 60), (60, 60), (40, 110)], 160, 120, track=4)
    hidden = regions(FACE.grown(1.1), masked, Region((100, 20, 150, 115), label="person", track=5))
    image = IMAGE.copy()
    if name in ("face", "body"):  # let mean colours through: those stay the same
        image[hidden.drawn()] = (90, 120, 150)
        image[40:50, 110:120] = (250, 250, 250)
    other = image.copy()
    if name in ("face", "body"):
        other[40:50, 110:120] = (90, 120, 150)
        other[40:50, 130:140] = (250, 250, 250)
    else:
        other[hidden.drawn()] = 255 - other[hidden.drawn()]
    treatment = make_treatment(name)
    one = treat(image, hidden, treatment, 0.0, b"key")
    two = treat(other, hidden, treatment, 0.0, b"key")
    assert np.array_equal(one, two)


def test_a_face_lets_its_mean_colour_through_and_nothing_else() -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    inside = FACE.drawn(160, 120)
    image[inside] = DRAW.integers(0, 255, (inside.sum(), 3))
    other = image.copy()
    other[inside] = DRAW.permutation(image[inside])
    treatment = make_treatment("face")
    out = treat(image, regions(FACE), treatment, 0.0, b"key")
    assert np.array_equal(out, treat(other, regions(FACE), treatment, 0.0, b"key"))
    middle = out[45:70, 52:68].astype(float)
    assert middle.mean((0, 1)) == pytest.approx(image[inside].mean(0), abs=15)


def test_blur_has_its_sigma() -> None:
    image = np.zeros((121, 161, 3), np.uint8)
    image[60, 80] = 255
    region = Regions((161, 121), (Region((20, 10, 140, 110)),))
    fixed = treat(image, region, make_treatment("blur:7")).astype(float)[..., 0]
    assert fixed[60, 80 - 11] == 0  # kernel of 21
    growing = treat(np.roll(IMAGE, 3), regions(Region((0, 0, 160, 120))), make_treatment("blur"))
    line = np.zeros((400, 400, 3), np.uint8)
    line[:, 200:] = 255
    whole = Regions((400, 400), (Region((0, 0, 400, 400)),))
    edge = treat(line, whole, make_treatment("blur"))[200, :, 0]
    shares = [0.5 * (1 + math.erf(x / 50 / 2**0.5)) for x in range(-150, 151, 10)]  # sigma 400 / 8
    assert edge[50:351:10] == pytest.approx(np.array(shares) * 255, abs=4)
    middle = growing[40:-40, 60:-60].astype(float)
    assert middle.std((0, 1)).max() < IMAGE.std() / 15


def test_pixelation_has_its_cells() -> None:
    out = treat(IMAGE, regions(Region((20, 10, 80, 100))), make_treatment("pixelate:9"))
    part = out[10:100, 20:80]
    cells = part.reshape(9, 10, 6, 10, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    mean = IMAGE[10:100, 20:80].reshape(9, 10, 6, 10, 3).mean((1, 3))
    assert np.abs(cells[:, 0, :, 0] - mean).max() <= 1


def test_where_regions_overlap_the_larger_one_stays() -> None:
    """A small fine treatment must not show what a large coarse one hides."""
    small = Region((60, 50, 66, 56))
    large = Region((10, 10, 110, 110))
    treatment = make_treatment("pixelate")
    alone = treat(IMAGE, regions(large), treatment).astype(int)
    for order in (regions(small, large), regions(large, small)):
        assert np.abs(treat(IMAGE, order, treatment) - alone).max() <= 2


def test_substitutes_follow_the_track_and_the_key() -> None:
    scene = Scene(IMAGE, np.zeros((120, 160), bool), b"one")
    other = Scene(IMAGE, np.zeros((120, 160), bool), b"two")
    moved = Region((0, 0, 9, 9), track=3)
    assert seed(scene, FACE, "a").random() == seed(scene, moved, "a").random()
    assert seed(scene, FACE, "a").random() != seed(other, FACE, "a").random()
    assert (
        seed(scene, FACE, "a").random() != seed(scene, Region((0, 0, 9, 9), track=4), "a").random()
    )


def test_a_face_lies_on_its_landmarks() -> None:
    """The eyes of the means are darker than the skin between them, at any turn."""
    image = np.full((200, 200, 3), 140, np.uint8)
    for degrees in (0, 35, 180):
        turn = cv2.getRotationMatrix2D((100, 100), degrees, 1)
        points = np.array([[75, 88], [125, 88], [100, 115], [80, 138], [120, 138]], float)
        turned = (np.hstack([points, np.ones((5, 1))]) @ turn.T).astype(np.float32)
        region = Region((40, 30, 160, 170), "ellipse", "face", landmarks=turned, track=1)
        out = treat(image, Regions((200, 200), (region,)), RealisticFaces(), 0.0, b"key")
        grey = cv2.GaussianBlur(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), (0, 0), 3).astype(float)
        x, y = turned.round().astype(int).T
        between = turned[:2].mean(0).round().astype(int)
        assert max(grey[y[0], x[0]], grey[y[1], x[1]]) < grey[between[1], between[0]] - 5


def test_a_mannequin_wears_the_clothes() -> None:
    image = np.full((240, 160, 3), 60, np.uint8)
    image[40:130, 50:110] = (200, 30, 30)
    image[130:230, 50:110] = (20, 40, 160)
    region = Region((50, 20, 110, 230), label="person")
    out = treat(image, Regions((160, 240), (region,)), make_treatment("body"))
    assert out[100, 80, 0] > 140 and out[100, 80, 2] < 60
    assert out[190, 68, 2] > 100 and out[190, 68, 0] < 60
    assert np.abs(out[60, 53].astype(int) - 60).max() < 12
    small = treat(image, Regions((160, 240), (Region((50, 20, 70, 45)),)), make_treatment("body"))
    assert (small[22:44, 52:68] == 127).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_histogram_matching_gives_the_distribution_of_the_reference(number: int) -> None:
    draw = np.random.default_rng(number)
    values = draw.normal(100, 30, 4000).clip(0, 255).astype(np.uint8)
    reference = draw.normal(170, 12, 3000).clip(0, 255).astype(np.uint8)
    matched = match_histogram(values, reference)
    shares = np.linspace(0.05, 0.95, 19)
    assert np.quantile(matched, shares) == pytest.approx(np.quantile(reference, shares), abs=3)
    order = np.argsort(values, kind="stable")
    assert (np.diff(matched[order].astype(int)) >= 0).all()


def test_colour_matching_keeps_the_hue() -> None:
    patch = np.full((20, 20, 3), (200, 100, 100), np.uint8)
    reference = np.full((50, 3), (20, 60, 60), np.uint8)
    matched = match_colours(patch, reference)
    hsv = cv2.cvtColor(matched, cv2.COLOR_RGB2HSV)[0, 0]
    assert hsv[0] in (0, 179, 1) and hsv[2] == pytest.approx(60, abs=1)
    assert np.array_equal(match_colours(patch, reference[:0]), patch)


def test_the_distance_that_a_latent_is_optimised_for_is_that_of_wasserstein() -> None:
    torch = pytest.importorskip("torch")
    scipy_stats = pytest.importorskip("scipy.stats")
    from roi_anon_ros.anonymize.treatments.histograms import colour_distance

    draw = np.random.default_rng(3)
    pixels = draw.random((3, 900)).astype(np.float32)
    reference = (draw.random((3, 900)) ** 2).astype(np.float32)
    expected = 0.0
    for measure in (lambda p: 1 - p.min(0) / p.max(0), lambda p: p.max(0)):
        expected += scipy_stats.wasserstein_distance(measure(pixels), measure(reference))
    found = colour_distance(torch.from_numpy(pixels), torch.from_numpy(reference))
    assert float(found) == pytest.approx(expected, abs=0.003)


@pytest.mark.slow
def test_a_generator_is_read_and_its_latent_is_optimised(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn

    from roi_anon_ros.anonymize.treatments.histograms import colour_distance

    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ConvTranspose2d(100, 512, 4, 1, 0, bias=False)]
    for before, after in ((512, 256), (256, 128), (128, 64)):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(64), nn.ReLU(), nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False)]
    network = nn.Sequential(*layers, nn.Tanh()).eval()
    weights = {f"main.{name}": value * 3 for name, value in network.state_dict().items()}
    network.load_state_dict({name.removeprefix("main."): v for name, v in weights.items()})
    path = tmp_path / "weights.tar"
    torch.save({"netG_state_dict": weights}, path)
    generator = Dcgan(path)
    latent = DRAW.standard_normal(100).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(latent)[None, :, None, None])[0]
    image = generator(latent)
    assert image.shape == (64, 64, 3)
    assert image.transpose(2, 0, 1) == pytest.approx((expected.numpy() + 1) * 127.5, abs=0.51)
    reference = np.full((50, 3), (30, 20, 20), np.uint8)

    def distance(face: np.ndarray) -> float:
        pixels = torch.from_numpy(face.reshape(-1, 3).T / np.float32(255))
        return float(colour_distance(pixels, torch.from_numpy(reference.T / np.float32(255))))

    assert distance(generator.matched(latent, reference)) < distance(image)
    (tmp_path / "other.tar").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="no checkpoint of this DCGAN"):
        Dcgan(tmp_path / "other.tar")


def test_what_deepprivacy_did_not_find_is_masked() -> None:
    def half(image: np.ndarray) -> np.ndarray:
        out = image.copy()
        out[:, : image.shape[1] // 2] = (1, 2, 3)
        return out

    image = np.full((120, 160, 3), 50, np.uint8)
    out = treat(image, regions(Region((60, 40, 100, 80))), DeepPrivacy2(half))
    part = out[40:80, 60:100]
    assert (part[:, 0] == (1, 2, 3)).all() and (part[:, -1] == 127).all()
    with pytest.raises(ValueError, match="deepprivacy"):
        treat(image, regions(FACE), DeepPrivacy2(lambda part: part[:1]))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("smudge", "treatment"),
        ("blur:x", "number"),
        ("blur:0", "blur"),
        ("pixelate:99", "pixelate"),
        ("mask:256", "mask"),
        ("inpaint:3", "treatment"),
    ],
)
def test_a_wrong_treatment_is_refused(name: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_treatment(name)


def test_a_treatment_without_its_file_is_refused(tmp_path: Path) -> None:
    for name in ("face", "deepprivacy"):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            make_treatment(f"{name}:{tmp_path / 'weights'}")
    with pytest.raises(ValueError, match="latent needs a generator"):
        make_treatment("face", "latent")
    with pytest.raises(ValueError, match="match"):
        make_treatment("face", "colour")
    with pytest.raises(ValueError, match="regions"):
        treat(IMAGE, Regions((10, 10)), make_treatment("mask"))
