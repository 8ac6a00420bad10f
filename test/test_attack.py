"""The attacker: what it is shown, its loss against a literal form, and attacks that succeed, go on
and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from roi_anon_ros.datasets import Boxes, Record
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.attack import network, pairs, training
from roi_anon_ros.evaluate.attack.network import CROP
from roi_anon_ros.evaluate.attack.pairs import Pair, Windows, choose, gather
from roi_anon_ros.evaluate.attack.storage import read_attack
from roi_anon_ros.evaluate.attack.training import attack_loss, build, identity_loss, train
from roi_anon_ros.evaluate.measure import look
from roi_anon_ros.evaluate.methods import Method, make_method, making
from roi_anon_ros.evaluate.methods.making import load_attack
from roi_anon_ros.train.losses import Regions

pytestmark = pytest.mark.usefixtures("one_thread")
NOBODY = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, bool))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Nets as small as these are slower with several, much slower where others want the processors
    too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_people(rng: np.random.Generator, width: int, height: int, heads: np.ndarray) -> np.ndarray:
    """A smooth background, with a face of any colour with dark eyes and mouth in each box."""
    image = cv2.resize(
        rng.integers(0, 255, (5, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for x1, y1, x2, y2 in heads.astype(int).tolist():
        centre, axes = ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) // 2, (y2 - y1) // 2)
        cv2.ellipse(image, centre, axes, 0, 0, 360, rng.integers(60, 255, 3).tolist(), -1)
        for side in (-1, 1):
            eye = centre[0] + side * axes[0] // 3, centre[1] - axes[1] // 4
            cv2.circle(image, eye, max(axes[0] // 6, 1), (30, 20, 20), -1)
        mouth = centre[1] + axes[1] // 2
        cv2.line(image, (x1 + axes[0] // 2, mouth), (x2 - axes[0] // 2, mouth), (120, 30, 40), 3)
    return image


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Six images of odd sizes with two heads each."""
    rng, found = np.random.default_rng(0), []
    for number in range(6):
        width, height = int(rng.integers(150, 230)), int(rng.integers(131, 190))
        corners = np.stack([rng.uniform(0, width - 60, 2), rng.uniform(0, height - 70, 2)], 1)
        heads = np.concatenate([corners, corners + [(40, 50), (56, 68)]], axis=1).astype(np.float32)
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), draw_people(rng, width, height, heads)[..., ::-1])
        boxes = Boxes(heads, np.zeros(2, bool))
        found.append(
            Record(path, width, height, NOBODY, boxes, NOBODY, frozenset(("person", "head")))
        )
    return found


def latent_method(to_latent: Callable[[torch.Tensor], torch.Tensor]) -> Method:
    """A method that shows grey, and whose latent is a function of the padded ``[3, H, W]``."""
    original = make_method("original")

    def latent(data: bytes) -> np.ndarray:
        x = torch.from_numpy(original.decode(data)).permute(2, 0, 1)[None].float() / 255
        padded = F.pad(x, (0, -x.shape[3] % 16, 0, -x.shape[2] % 16), mode="replicate")
        return to_latent(padded)[0].numpy()

    return Method(
        "fake",
        "fake key",
        original.encode,
        lambda data: np.full_like(original.decode(data), 128),
        latent,
    )


def image_method(received: Callable[[np.ndarray], np.ndarray]) -> Method:
    original = make_method("original")
    return Method("fake", "fake key", original.encode, lambda data: received(original.decode(data)))


POOLED = latent_method(lambda x: F.avg_pool2d(x, 16))
SHUFFLED = latent_method(lambda x: 4 * F.pixel_unshuffle(x, 16))


def literal(recovered: np.ndarray, image: np.ndarray, boxes: list[list[list[int]]]) -> float:
    """Pixel by pixel."""
    total, rest = 0.0, []
    for i, of_crop in enumerate(boxes):
        error = (recovered[i] - image[i]).astype(float)
        size = lambda v: float(np.abs(v).mean())  # noqa: E731  over the channels
        heads = 0.0
        for x1, y1, x2, y2 in of_crop:
            head = 0.0
            for y in range(y1, y2):
                for x in range(x1, x2):
                    head += size(error[:, y, x])
                    head += size(error[:, y, x] - error[:, y, x - 1]) if x else 0
                    head += size(error[:, y, x] - error[:, y - 1, x]) if y else 0
            heads += head / ((x2 - x1) * (y2 - y1)) / len(of_crop)
        total += heads / len(boxes)
        for y in range(error.shape[1]):
            for x in range(error.shape[2]):
                if not any(x1 <= x < x2 and y1 <= y < y2 for x1, y1, x2, y2 in of_crop):
                    rest.append(size(error[:, y, x]))
    return total + 0.1 * float(np.mean(rest))


def test_the_loss_equals_its_literal_form() -> None:
    torch.manual_seed(0)
    recovered, wanted = torch.rand(3, 3, 12, 15), torch.rand(3, 3, 12, 15)
    boxes = [[[0, 0, 5, 7], [3, 2, 15, 12]], [], [[4, 4, 6, 5]]]
    heads = Regions.stack([torch.tensor(b).reshape(-1, 4) for b in boxes])
    terms = attack_loss(recovered, wanted, heads)
    assert terms["loss"].item() == pytest.approx(
        literal(recovered.numpy(), wanted.numpy(), boxes), rel=1e-5
    )
    assert attack_loss(wanted, wanted, heads)["loss"] == 0


def test_crops_match_what_was_sent_of_them(records: list[Record]) -> None:
    """The latent is the mean of each cell: with it, every value says where it is from."""
    pairs = list(gather(records, POOLED))
    windows = Windows(pairs, build(pairs), seed=3)
    heads = 0
    for number in range(40):
        _, sent, crop, boxes = windows[number]
        assert sent.shape == (3, 16, 16) and crop.shape == (3, CROP, CROP)
        cells = crop.reshape(3, 8, 16, 8, 16).mean((2, 4)) / 255
        assert np.allclose(sent[:, 4:-4, 4:-4], cells, atol=1e-3)
        for x1, y1, x2, y2 in boxes.tolist():
            assert 0 <= x1 and x1 + 8 <= x2 <= CROP and 0 <= y1 and y1 + 8 <= y2 <= CROP
        heads += len(boxes)
        again = windows[number]
        assert np.array_equal(again[1], sent) and np.array_equal(again[2], crop)
    assert heads > 30


def test_received_images_come_with_their_surroundings(records: list[Record]) -> None:
    pairs = list(gather(records, make_method("original")))
    windows = Windows(pairs, build(pairs), seed=3)
    for number in range(10):
        received, latent, crop, _ = windows[number]
        assert np.array_equal(received[:, 64:-64, 64:-64], crop) and latent is None
    whole, _ = windows.net.windows(pairs[0].received, None, (0, 0), (2, 3))
    assert whole.shape == (3, 32 + 128, 48 + 128)
    assert (whole[:, :64, 64] == whole[:, 64:65, 64]).all()  # beyond the edge, the edge
    assert np.array_equal(whole[:, 64:, 64:], pairs[0].received[:, : 32 + 64, : 48 + 64])


def test_an_untrained_attacker_returns_the_image_that_it_got(records: list[Record]) -> None:
    for method in (make_method("original"), make_method("fast")):
        (pair,) = gather(records[:1], method)
        shown = build([pair]).recover(pair.received, pair.latent)
        assert np.array_equal(shown, method.decode(method.encode(pair.image)))


def test_the_network_follows_the_latents_grid() -> None:
    """8 pixels a value, as of one of the paper's networks, and 32; half a value is refused."""
    blank, head = np.zeros((150, 200, 3), np.uint8), np.array([[0, 0, 40, 40]], np.float32)
    for factor in (8, 32):
        latent = np.ones((5, -(-150 // factor), -(-200 // factor)), np.float16)
        pair = Pair(blank, blank.transpose(2, 0, 1), latent, head)
        net = build([pair])
        assert (net.channels, net.factor) == (5, factor)
        received, window, crop, _ = Windows([pair], net, 0)[0]
        assert (
            net(*(torch.from_numpy(w).float()[None] for w in (received, window))).shape[1:]
            == crop.shape
        )
        assert net.recover(pair.received, latent).shape == blank.shape
    with pytest.raises(ValueError, match="power of two"):
        build([Pair(blank, blank.transpose(2, 0, 1), np.ones((5, 15, 20), np.float16), head)])


def test_large_heads_are_drawn_as_often_as_small_ones() -> None:
    """800 small heads as often as 100 large ones; but a single one is not learned by heart."""
    blank = np.zeros((400, 400, 3), np.uint8)
    sides = [20] * 800 + [70] * 100 + [200] + [5] * 100
    heads = np.array([(0, 0, side, side) for side in sides], np.float32)
    pairs = [Pair(blank, blank.transpose(2, 0, 1), None, heads)]
    chances = Windows(pairs, build(pairs), 0).chances
    assert len(chances) == 901
    assert chances[:800].sum() == pytest.approx(chances[800:900].sum())
    assert chances[900] == pytest.approx(chances[800:900].sum() * 20 / 901)


def test_images_are_chosen_and_broken_ones_left_out(
    records: list[Record], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Record(
        records[0].path, 127, 500, NOBODY, records[0].heads, NOBODY, frozenset(("head",))
    )
    empty = Record(records[0].path, 200, 200, NOBODY, NOBODY, NOBODY, frozenset(("head",)))
    assert choose([small, *records, empty]) == records
    assert choose(records, 3) == records[::2]
    monkeypatch.setattr(pairs, "MEMORY", sum(3 * r.width * r.height for r in records) // 2)
    assert choose(records) == records[::2]
    with pytest.raises(ValueError, match="none of 2 has a head"):
        choose([small, empty])
    records[1].path.write_bytes(b"no image")
    assert len(list(gather(records[:3], POOLED))) == 2
    assert f"{records[1].path}: left out" in caplog.text


def head_error(method: Method, records: list[Record]) -> float:
    """Mean absolute error of what the method shows, inside the heads."""
    errors = []
    for record in records:
        image = cv2.imread(str(record.path))[..., ::-1]
        shown = method.decode(method.encode(image))
        assert shown.shape == image.shape and shown.dtype == np.uint8
        for x1, y1, x2, y2 in record.heads.xyxy.astype(int):
            errors.append(np.abs(shown[y1:y2, x1:x2].astype(float) - image[y1:y2, x1:x2]).mean())
    return float(np.mean(errors))


def attacked(
    method: Method, records: list[Record], out: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> Method:
    losses = list(train(list(gather(records, method)), method, out, steps, batch=2))
    assert len(losses) == steps and all(map(math.isfinite, losses))
    monkeypatch.setattr(making, "make_method", lambda name: {method.name: method}[name])
    return load_attack(out)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller crops and a narrower network, learned faster: an attack of seconds."""
    monkeypatch.setattr(network, "WIDTH", 64)
    monkeypatch.setattr(network, "CONTEXT", 32)
    monkeypatch.setattr(pairs, "CROP", 64)
    monkeypatch.setattr(training, "LEARNING_RATE", 4e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_what_a_latent_carries_is_recovered(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the shuffled pixels much, from an empty latent no more than a face's mean."""
    empty = latent_method(lambda x: 0 * F.avg_pool2d(x, 16))
    errors = []
    for method in (SHUFFLED, empty):
        out = tmp_path / f"{len(errors)}.safetensors"
        errors.append(head_error(attacked(method, records, out, monkeypatch, 40), records))
    grey = head_error(image_method(lambda image: np.full_like(image, 128)), records)
    assert errors[0] < 0.6 * grey and errors[0] < 0.7 * errors[1]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_blur_is_undone_in_part(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blurred = image_method(lambda image: cv2.GaussianBlur(image, (0, 0), 4))
    method = attacked(blurred, records, tmp_path / "a.safetensors", monkeypatch, 40)
    assert head_error(method, records) < 0.96 * head_error(blurred, records)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_killed_training_ends_in_the_same_weights(records: list[Record], tmp_path: Path) -> None:
    pairs = list(gather(records[:3], SHUFFLED))
    straight, halted = tmp_path / "straight.safetensors", tmp_path / "halted.safetensors"
    losses = list(train(pairs, SHUFFLED, straight, steps=6, batch=2, keep_at=[2]))
    first = train(pairs, SHUFFLED, halted, steps=6, batch=2, save_every=0)
    begun = [next(first) for _ in range(3)]
    first.close()
    checkpoint = tmp_path / "halted.safetensors.ckpt"
    assert checkpoint.is_file() and not halted.exists()
    saved = checkpoint.read_bytes()
    for others in ({"steps": 7}, {"steps": 6, "seed": 1}):
        with pytest.raises(
            ValueError, match=f"halted.safetensors.ckpt: of another training: {list(others)[-1]}"
        ):
            next(train(pairs, SHUFFLED, halted, batch=2, **others))
    with pytest.raises(ValueError, match="of another training: pictures 3, now 2"):
        next(train(pairs[:2], SHUFFLED, halted, steps=6, batch=2))
    checkpoint.write_bytes(saved[: len(saved) // 2])
    with pytest.raises(ValueError, match="halted.safetensors.ckpt: damaged"):
        next(train(pairs, SHUFFLED, halted, steps=6, batch=2))
    checkpoint.write_bytes(saved)
    assert list(train(pairs, SHUFFLED, halted, steps=6, batch=2)) == losses and losses[:3] == begun
    assert not checkpoint.exists()
    ours, theirs = load_file(straight), load_file(halted)
    assert ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )
    about = read_attack(halted)[1]
    assert about == read_attack(straight)[1]
    assert about["losses"]["loss"] == pytest.approx(np.mean(losses))
    assert (about["pictures"], about["heads"], about["steps"], about["channels"]) == (3, 6, 6, 768)
    early = read_attack(tmp_path / "straight-2.safetensors")[1]
    assert (early["steps"], early["planned"], about["planned"]) == (2, 6, 6)
    assert early["losses"]["loss"] == pytest.approx(np.mean(losses[:2]))


def test_identity_is_of_the_large_heads_alone() -> None:
    """A recogniser that sees a face's mean colour; of two heads one is too small for it."""

    def recogniser(faces: torch.Tensor) -> torch.Tensor:
        return F.normalize(faces.mean((2, 3)), dim=1)

    image = torch.zeros(2, 3, CROP, CROP)
    image[0, 0] = 1  # red
    image[1, 1] = 1
    recovered = image.clone()
    large, small = torch.tensor([[20, 10, 70, 74]]), torch.tensor([[20, 10, 40, 41]])
    nobody = torch.zeros(0, 4, dtype=torch.long)
    heads = Regions.stack([large, small])
    assert float(identity_loss(recovered, image, heads, recogniser)) == pytest.approx(0, abs=1e-6)
    other = image.flip(1).requires_grad_()  # the first one is blue
    loss = identity_loss(other, image, heads, recogniser)
    assert float(loss.detach()) == pytest.approx(1)
    loss.backward()
    # The face: the lower 0.85 of 64 lines, as wide as it is high around column 45.
    rows, columns = torch.nonzero(other.grad[0].abs().sum(0), as_tuple=True)
    assert abs(int(rows.min()) - 19) <= 1 and abs(int(rows.max()) - 73) <= 1
    assert abs(int(columns.min()) - 17) <= 1 and abs(int(columns.max()) - 72) <= 1
    assert other.grad[1].abs().max() == 0
    few = Regions.stack([nobody, small])
    assert float(identity_loss(recovered, image, few, recogniser)) == 0


@pytest.fixture
def attack_file(records: list[Record], tmp_path: Path) -> Path:
    """An attack of one step on the method avif:10."""
    method = make_method("avif:10")
    path = tmp_path / "avif.safetensors"
    list(train(list(gather(records[:2], method)), method, path, steps=1, batch=1))
    return path


def test_an_attacked_method_is_measured_as_any_other(
    attack_file: Path, records: list[Record]
) -> None:
    method, plain = load_attack(attack_file), make_method("avif:10")
    assert (
        method.name == "avif:10, attacked"
        and method.key.startswith(plain.key)
        and method.key != plain.key
    )
    assert method.latent is None and method.attack == {
        "steps": 1,
        "batch": 1,
        "seed": 0,
        "pictures": 2,
    }

    def nobody(images: list[np.ndarray]) -> list[Detections]:
        assert all(image.dtype == np.uint8 for image in images)
        return [
            Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), []) for _ in images
        ]

    odd = next(
        record
        for record in records
        if record.width % 16 and record.height % 16 and record.height < 160
    )
    seen, without = (
        look(odd, one, {"persons": nobody, "mtcnn": nobody}) for one in (method, plain)
    )
    assert seen.bytes == without.bytes and seen.pixels == odd.width * odd.height
    assert seen.error != without.error and seen.error["heads"][1] == without.error["heads"][1]


def test_changed_methods_and_bad_files_are_refused(
    attack_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, changed = attack_file.read_bytes(), make_method("avif:11")
    key = load_attack(attack_file).key
    with monkeypatch.context() as patch:
        patch.setattr(making, "make_method", lambda _: changed)
        with pytest.raises(ValueError, match="avif.safetensors: row_key 'avif:10.*'avif:11"):
            load_attack(attack_file)
        patch.undo()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for bad in (whole[:-100], whole[:7], b"", bytes(flipped)):
        attack_file.write_bytes(bad)
        with pytest.raises(ValueError, match="avif.safetensors: damaged"):
            load_attack(attack_file)
    save_file({"weight": torch.ones(3)}, attack_file)
    with pytest.raises(ValueError, match="avif.safetensors: a safetensors file of something else"):
        load_attack(attack_file)
    attack_file.unlink()
    with pytest.raises(ValueError, match="avif.safetensors: no such file"):
        load_attack(attack_file)
    attack_file.write_bytes(whole)
    assert load_attack(attack_file).key == key


def test_a_model_is_attacked_by_its_latent(records: list[Record], tmp_path: Path) -> None:
    method, out = make_method("fast"), tmp_path / "fast.safetensors"
    assert len(list(train(list(gather(records[:2], method)), method, out, steps=2, batch=2))) == 2
    about = read_attack(out)[1]
    assert (about["channels"], about["factor"]) == (128, 16)
    assert about["row_key"] == method.key
    image = cv2.imread(str(records[0].path))[..., ::-1]
    again = load_attack(out)
    sent = again.encode(image)
    assert sent == method.encode(image) and again.decode(sent).shape == image.shape
