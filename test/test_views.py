"""Views of people that must not look alike: the loss, its views, and who learns from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from roi_anon_ros.train.losses import Regions
from roi_anon_ros.train.views import ViewBranch, choose_boxes, cut_views, nt_xent


def regions(boxes: list[tuple[int, list[int]]]) -> Regions:
    return Regions(torch.tensor([b for _, b in boxes]), torch.tensor([image for image, _ in boxes]))


#: Persons on two images of 48 x 64 pixels.
PERSONS = regions([(0, [0, 0, 20, 40]), (0, [20, 4, 60, 48]), (1, [8, 8, 40, 40])])


def drawn(seed: int) -> torch.Tensor:
    """Two images of soft spots, on which places look different."""
    torch.manual_seed(seed)
    return torch.nn.functional.interpolate(torch.rand(2, 3, 6, 8), size=(48, 64), mode="bilinear")


def test_nt_xent_is_its_equation() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 5, 3))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    places = [*one, *other]
    total = 0.0
    for i, place in enumerate(places):
        partner = places[(i + 5) % 10]
        rest = sum(math.exp(place @ k / 0.1) for n, k in enumerate(places) if n != i)
        total -= math.log(math.exp(place @ partner / 0.1) / rest)
    found = nt_xent(torch.from_numpy(one), torch.from_numpy(other))
    assert found.item() == pytest.approx(total / 10, rel=1e-9)
    same = torch.ones(5, 1)
    assert nt_xent(same, same).item() == pytest.approx(math.log(9))


def test_a_view_shows_a_part_of_its_box() -> None:
    """Of an image whose colours say the place: red the column, green the row, blue the image."""
    row, column = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    image = [torch.stack([column, row, torch.full_like(row, n)]) for n in (0.0, 1.0)]
    torch.manual_seed(3)
    for _ in range(5):
        views = cut_views(torch.stack(image), PERSONS)
        assert views.shape == (3, 3, 64, 32)
        for view, n, (x1, y1, x2, y2) in zip(
            views, PERSONS.image, PERSONS.boxes.tolist(), strict=True
        ):
            assert torch.allclose(view[2], n.float())
            for colour, low, high in ((view[0], x1, x2), (view[1], y1, y2)):
                assert low - 0.5 <= colour.min() and colour.max() <= high - 0.5
                assert 0.55 * (high - low) < colour.max() - colour.min() < high - low


def test_small_persons_have_no_views_and_an_image_without_any_has_its_own() -> None:
    images = torch.zeros(3, 3, 48, 64)
    persons = regions([(0, [0, 0, 15, 40]), (2, [0, 0, 16, 16]), (2, [0, 0, 40, 40])])
    chosen = choose_boxes(persons, images)
    assert chosen.image.tolist() == [2, 2, 0, 1]
    assert chosen.boxes[:2].tolist() == [[0, 0, 40, 40], [0, 0, 16, 16]]
    assert chosen.boxes[2:].tolist() == [[0, 0, 64, 48]] * 2
    many = regions([(n % 2, [0, 0, 16 + n % 30, 48]) for n in range(50)])
    chosen = choose_boxes(many, images)
    assert len(chosen.boxes) == 33 and chosen.boxes[:32, 2].min() > 24


def test_the_network_and_the_codec_learn_apart() -> None:
    x_hat = drawn(0).requires_grad_(True)
    branch = ViewBranch()
    learns, hides = branch(x_hat, PERSONS)
    weights = list(branch.parameters())
    assert hides.item() == pytest.approx(max(math.log(5) - learns.item(), 0), abs=1e-5)
    assert hides > 0
    (nothing,) = torch.autograd.grad(learns, x_hat, retain_graph=True, allow_unused=True)
    assert nothing is None
    taught = torch.autograd.grad(learns, weights, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in taught)
    untaught = torch.autograd.grad(hides, weights, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in untaught)
    (gradient,) = torch.autograd.grad(hides, x_hat)
    assert gradient.abs().sum() > 0


def test_the_codecs_gradient_is_that_of_finite_differences() -> None:
    x_hat = drawn(1).double().requires_grad_(True)
    branch = ViewBranch().double()

    def hides(image: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)  # the same views each time
        return branch(image, PERSONS)[1]

    (gradient,) = torch.autograd.grad(hides(x_hat), x_hat)
    for _ in range(3):
        way = torch.randn_like(x_hat)
        with torch.no_grad():
            # So small that no ReLU turns.
            slope = (hides(x_hat + 3e-8 * way) - hides(x_hat - 3e-8 * way)) / 6e-8
        assert slope.item() != 0
        assert (gradient * way).sum().item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)


def test_where_all_look_alike_nothing_pulls() -> None:
    x_hat = torch.full((2, 3, 48, 64), 0.5, requires_grad=True)
    learns, hides = ViewBranch()(x_hat, PERSONS)
    assert learns.item() == pytest.approx(math.log(5), abs=1e-4)
    assert hides.item() == pytest.approx(0, abs=1e-4)


def test_a_network_learns_to_tell_people_apart() -> None:
    images = drawn(4)
    branch = ViewBranch()
    optimizer = torch.optim.Adam(branch.parameters(), 3e-3)
    learnt = []
    for _ in range(40):
        learns, _ = branch(images, PERSONS)
        optimizer.zero_grad()
        learns.backward()
        optimizer.step()
        learnt.append(learns.item())
    assert np.mean(learnt[-10:]) < 0.5 * np.mean(learnt[:3])
