"""From the head map's answer to regions, with answers made by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from roi_anon_ros.codec import networks
from roi_anon_ros.codec.headmap import (
    BELONGS,
    CLOSE,
    GROWN,
    LEAST_COARSE,
    LEAST_LOOK,
    LEAST_LOOK_LARGE,
    LEAST_SIDE,
    MAX_HEADS,
    RunMap,
    drop_repeats,
    find_heads,
    merge_heads,
)
from roi_anon_ros.codec.headmap import SURE as SURE_PROBABILITY
from roi_anon_ros.codec.regions import CELL
from roi_anon_ros.codec.second_look import (
    CLOSER,
    FARTHEST,
    HEAD,
    HELMET,
    MOVE,
    PREFIX,
    REACHES,
    SIDE,
    TURNS,
    WORTH_A_CLOSER_LOOK,
    SecondLook,
    crop_heads,
    look_closer,
    look_upright,
    move_heads,
    tell_turns,
)

IMAGE = np.zeros((640, 896, 3), np.uint8)
SURE = 9.0


def make_map(level_width: int, side: float) -> RunMap:
    """A map that sees one head of this side, pixels of the level, in cell (4, 6) of one level."""

    def run(level: np.ndarray) -> np.ndarray:
        rows = -(-level.shape[0] // CELL)
        columns = -(-level.shape[1] // CELL)
        answer = np.zeros((4, rows, columns), np.float32)
        answer[0] = -SURE
        if level.shape[1] == level_width:
            answer[0, 4, 6] = SURE
            answer[3, 4, 6] = np.log2(side / CELL)
        return answer

    return run


def test_the_finest_level_sees_heads_of_any_size() -> None:
    for side in (LEAST_SIDE, 16, LEAST_COARSE, 64):
        regions, confidence = find_heads(make_map(896, side), IMAGE)
        assert regions.cells[4, 6] and len(regions.heads) == 1
        assert confidence == pytest.approx(1 / (1 + np.exp(-SURE)))
        assert regions.heads[0, 2] == side
    tiny, _ = find_heads(make_map(896, LEAST_SIDE - 0.5), IMAGE)
    assert not tiny.cells.any() and not len(tiny.heads)


def test_half_the_size_sees_them_too() -> None:
    regions, _ = find_heads(make_map(448, 8), IMAGE)
    assert regions.cells[8:10, 12:14].all(), "the cell, twice as large"
    assert regions.heads[0].tolist() == [104, 72, 16]


def test_a_coarse_level_sees_the_large_ones() -> None:
    """What is small in it belongs to the finer levels."""
    small, confidence = find_heads(make_map(224, LEAST_COARSE * 0.99), IMAGE)
    assert not small.cells.any() and not len(small.heads)
    assert confidence > 0.9, "the confidence is the map's own"
    large, _ = find_heads(make_map(224, LEAST_COARSE * 1.01), IMAGE)
    assert large.cells[16:20, 24:28].all(), "the cell, four times as large"
    assert large.heads[0].tolist() == [208, 144, 97]


def say(
    value: float, helmet: float = -5.0, move: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> SecondLook:
    """A second look that says the same of every place: of its head, of a helmet, and where the
    head is.
    """
    network = networks.SecondLook()
    with torch.no_grad():
        network.last.bias[HEAD] = value
        network.last.bias[HELMET] = helmet
        network.last.bias[MOVE] = torch.tensor(move)
    return as_numbers(network)


def as_numbers(network: networks.SecondLook) -> SecondLook:
    """A network as a model file holds it."""
    state = network.state_dict()
    return SecondLook({PREFIX + name: value.numpy() for name, value in state.items()})


def make_unsure_map(probability: float, width: int = 896, side: float = 32) -> RunMap:
    """A map that sees one head of this side at this probability, in one cell of one level."""
    sure = make_map(width, side)

    def run(level: np.ndarray) -> np.ndarray:
        answer = sure(level)
        answer[0, answer[0] > 0] = np.log(probability / (1 - probability))
        return answer

    return run


@pytest.mark.parametrize("share", [BELONGS - 0.05, BELONGS + 0.05])
def test_cells_that_are_much_less_probable_are_not_painted_with_a_head(share: float) -> None:
    """A head of 32 pixels, and a cell 6 cells to the right that places it there too."""
    probability = 0.9
    sure = make_unsure_map(probability)
    other = share * probability

    def run(level: np.ndarray) -> np.ndarray:
        answer = sure(level)
        if answer[0].max() > 0:
            answer[0, 4, 12] = np.log(other / (1 - other))
            answer[1, 4, 12] = -1.5
            answer[3, 4, 12] = 2
        return answer

    regions, _ = find_heads(run, IMAGE)
    assert regions.cells[4, 6] and len(regions.heads) == 1
    assert regions.cells[4, 12] == (share > BELONGS)


def test_the_second_look_says_no_to_what_is_unsure() -> None:
    run = make_unsure_map(SURE_PROBABILITY - 0.1)
    kept, _ = find_heads(run, IMAGE, look=say(LEAST_LOOK + 0.1))
    without, _ = find_heads(run, IMAGE)
    assert kept.cells.any() and (kept.cells == without.cells).all()
    refused, confidence = find_heads(run, IMAGE, look=say(LEAST_LOOK - 0.1))
    assert not refused.cells.any() and not len(refused.heads)
    assert confidence == pytest.approx(SURE_PROBABILITY - 0.1)


@pytest.mark.parametrize(
    ("width", "least"), [(896, LEAST_LOOK), (448, LEAST_LOOK_LARGE)], ids=["small", "large"]
)
def test_large_heads_must_be_surer(width: int, least: float) -> None:
    """A head of 32 pixels, and the same answer on a level of half the size: one of 64."""
    for answer in (least - 0.1, least + 0.1):
        regions, _ = find_heads(make_unsure_map(0.5, width), IMAGE, look=say(answer))
        assert regions.cells.any() == (answer > least)


@pytest.mark.parametrize("probability", [0.5, SURE_PROBABILITY + 0.01])
def test_a_head_is_painted_where_the_second_look_sees_it(probability: float) -> None:
    """Sure or not, a head of 32 pixels is 24 pixels further right, 16 higher, and smaller. From
    there it looks the same once more, and half of that way is taken.
    """
    look = say(5.0, move=(0.75, -0.5, -0.5))
    regions, _ = find_heads(make_unsure_map(probability), IMAGE, look=look)
    side = 32 * 2**-0.5
    x = 52 + 24 + CLOSER * 0.75 * side
    y = 36 - 16 - CLOSER * 0.5 * side
    expected = [x, y, side * 2 ** (-0.5 * CLOSER) * GROWN]
    assert regions.heads.tolist() == [np.rint(expected).tolist()]
    assert regions.cells[round(y) // CELL, round(x) // CELL] and not regions.cells[4, 5]


def test_what_is_hardly_a_head_is_not_looked_at_again() -> None:
    heads = np.array([[52.0, 36.0, 32.0, 0.5, 0.0]])
    for answer in (WORTH_A_CLOSER_LOOK - 0.1, WORTH_A_CLOSER_LOOK + 0.1):
        (moved,), (said,) = look_closer(say(answer, move=(0.5, 0.0, 0.0)), IMAGE, heads)
        again = answer > WORTH_A_CLOSER_LOOK
        assert moved[0] == pytest.approx(52 + 16 + again * CLOSER * 16)
        assert said[HEAD] == pytest.approx(answer)


def test_a_head_is_not_moved_far() -> None:
    heads = np.array([[100.0, 50.0, 20.0, 0.5, 0.0]])
    answers = np.zeros((1, 9), np.float32)
    answers[0, MOVE] = [9.0, -9.0, 9.0]
    (moved,) = move_heads(heads, answers)
    step = 20 * FARTHEST
    np.testing.assert_allclose(moved, [100 + step, 50 - step, 20 * 2**FARTHEST, 0.5, 0])
    assert heads[0, 0] == 100


def test_who_fills_the_image_needs_no_second_look() -> None:
    for share in (CLOSE - 0.05, CLOSE + 0.05):
        side = share * min(IMAGE.shape[:2])
        regions, _ = find_heads(make_unsure_map(0.5, side=side), IMAGE, look=say(-9.0))
        assert regions.cells.any() == (share > CLOSE)


def test_what_the_map_is_sure_of_needs_no_second_look() -> None:
    run = make_unsure_map(SURE_PROBABILITY + 0.01)
    regions, _ = find_heads(run, IMAGE, look=say(LEAST_LOOK - 9))
    assert regions.cells.any() and len(regions.heads) == 1


@pytest.mark.parametrize("probability", [SURE_PROBABILITY - 0.1, SURE_PROBABILITY + 0.02])
def test_helmets_are_told_of_sure_and_unsure_heads(probability: float) -> None:
    run = make_unsure_map(probability)
    for helmet in (-1.0, 1.0):
        regions, _ = find_heads(run, IMAGE, look=say(LEAST_LOOK + 0.1, helmet), helmets=True)
        assert regions.with_helmet.tolist() == [helmet > 0]
    unasked, _ = find_heads(run, IMAGE, look=say(LEAST_LOOK + 0.1, 1.0))
    assert unasked.with_helmet.tolist() == [False]
    assert (unasked.cells == regions.cells).all(), "helmets change nothing of what is hidden"


def test_numpy_looks_as_torch_does() -> None:
    torch.manual_seed(0)
    network = networks.SecondLook()
    network.last.reset_parameters()
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (7, 2, SIDE, SIDE, 3), np.uint8)
    evidence = rng.normal(size=(7, 3)).astype(np.float32)
    with torch.no_grad():
        images = torch.from_numpy(crops).permute(0, 1, 4, 2, 3).float() / 255
        expected = network(images, torch.from_numpy(evidence)).numpy()
    np.testing.assert_allclose(as_numbers(network)(crops, evidence), expected, atol=1e-5)
    assert as_numbers(network)(crops[:0], evidence[:0]).shape == (0, 9)


def test_a_head_that_is_named_twice_is_there_once() -> None:
    heads = np.array(
        [
            [100.0, 100.0, 40.0],
            [103, 102, 36],  # nearly all of it is in the first, and less sure
            [100, 100, 90],  # around it, but much larger
            [110, 100, 40],  # a neighbour in a crowd
            [102, 100, 40],  # the first, and as sure
            [300, 300, 40],  # far away, and none
        ]
    )
    logits = np.array([3.0, 2.5, 0.5, 0.5, 3.0, -3.0])
    stays = np.array([True, True, True, True, True, False])
    kept = drop_repeats(heads, logits, stays)
    assert kept.tolist() == [True, False, True, True, True, False]
    # What is no head hides no other one; what needs no second look is never one too many.
    assert drop_repeats(heads[:2], logits[:2], np.array([False, True])).tolist() == [False, True]
    sure = np.array([np.inf, np.inf])
    assert drop_repeats(heads[:2], sure, np.ones(2, bool)).all()


class KnowsUpright:
    """Says of a place that it is a head where its upper half is white, as of all people it has
    seen, and which way its white half lies.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, crops: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        self.asked += 1
        answers = np.zeros((len(crops), 9), np.float32)
        half = SIDE // 2
        near = crops[:, 0].mean(axis=-1)
        # Turned counterclockwise by so many quarters, which half comes to lie above.
        sides = near[:, :half], near[:, :, half:], near[:, half:], near[:, :, :half]
        for turns, side in enumerate(sides):
            white = side.mean(axis=(1, 2)) > 200
            answers[white, TURNS.start + turns] = 4
        answers[:, 0] = np.where(answers[:, TURNS.start] > 0, 3.0, -3.0)
        answers[:, MOVE] = find_white(crops)
        return answers


def find_white(crops: np.ndarray) -> np.ndarray:
    """How far right and below of the middle of each crop its white part is, in crops."""
    moves = np.zeros((len(crops), 3), np.float32)
    for move, crop in zip(moves, crops[:, 0, :, :, 0], strict=True):
        rows, columns = np.nonzero(crop > 200)
        if len(rows):
            move[:2] = [columns.mean() / (SIDE - 1) - 0.5, rows.mean() / (SIDE - 1) - 0.5]
    return moves


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_camera_on_its_side_is_noticed(turns: int) -> None:
    """Four heads and a place that shows nothing."""
    crops = np.zeros((5, 2, SIDE, SIDE, 3), np.uint8)
    crops[:4, :, : SIDE // 2] = 255
    # The camera turned them clockwise.
    turned = np.ascontiguousarray(np.rot90(crops, -turns, (2, 3)))
    evidence = np.zeros((5, 3), np.float32)
    knows = KnowsUpright()
    assert tell_turns(knows(turned, evidence)) == turns
    assert (knows(turned, evidence)[:, 0] > 0).any() == (turns == 0)
    knows.asked = 0
    answers = look_upright(knows, turned, evidence)  # type: ignore[arg-type]
    assert (answers[:, 0] > 0).tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(answers[:, MOVE], find_white(turned), atol=1e-6)
    assert knows.asked == (2 if turns else 1)


def test_who_lies_where_others_stand_is_looked_at_lying() -> None:
    crops = np.zeros((4, 2, SIDE, SIDE, 3), np.uint8)
    crops[:3, :, : SIDE // 2] = 255
    crops[3, :, :, : SIDE // 2] = 255
    knows = KnowsUpright()
    answers = look_upright(knows, crops, np.zeros((4, 3), np.float32))  # type: ignore[arg-type]
    assert (answers[:, 0] > 0).all() and knows.asked == 2
    np.testing.assert_allclose(answers[:, MOVE], find_white(crops), atol=1e-6)


def test_one_place_turns_no_image_against_many() -> None:
    """Somebody lies on the floor where others stand; and where nothing is known, nothing turns."""
    answers = np.zeros((4, 9), np.float32)
    answers[:, 0] = 3
    assert tell_turns(answers[:0]) == 0
    assert tell_turns(answers) == 0
    answers[:3, TURNS.start] = 2
    answers[3, TURNS.start + 1] = 2
    assert tell_turns(answers) == 0
    answers[:, TURNS] = 0
    answers[3, TURNS.start + 1] = 0.5
    assert tell_turns(answers) == 0, "half a word from one"


def test_what_is_no_head_has_little_say() -> None:
    answers = np.zeros((30, 9), np.float32)
    answers[:, 0] = -5
    answers[:, TURNS.start] = 1
    answers[:3, 0] = 3
    answers[:3, TURNS] = [-4, 4, -4, -4]
    assert tell_turns(answers) == 1


def test_a_crop_shows_its_head_in_the_middle() -> None:
    """A bright disc of any size fills one part in the reach of its crops, wherever it is."""
    for side in (10, 40, 200):
        image = np.zeros((400, 500, 3), np.uint8)
        cv2.circle(image, (260, 170), side // 2, (255, 255, 255), -1)
        (crops,) = crop_heads(image, np.array([[260.0, 170.0, side]]))
        for crop, reach in zip(crops, REACHES, strict=True):
            rows, columns = np.nonzero(crop[..., 0] > 127)
            assert rows.mean() == pytest.approx((SIDE - 1) / 2, abs=0.6)
            assert columns.mean() == pytest.approx((SIDE - 1) / 2, abs=0.6)
            assert np.ptp(rows) + 1 == pytest.approx(SIDE / reach, abs=1.7)


def test_votes_for_one_head_become_their_mean() -> None:
    votes = np.array(
        [
            # x, y, side, probability, scale, row, column
            [100, 100, 40, 0.9, 1, 12, 12],
            [104, 100, 40, 0.6, 2, 6, 6],
            [102, 100, 160, 0.5, 1, 12, 13],
            [300, 100, 40, 0.4, 1, 12, 37],
        ]
    )
    heads, owners = merge_heads(votes)
    assert owners.tolist() == [0, 0, 0, 1]
    assert heads[0] == pytest.approx([101.6, 100, 40, 0.9, 0.6]), "the third has another size"
    assert heads[1] == pytest.approx([300, 100, 40, 0.4, 0])


def test_heads_beyond_the_most_are_painted_too() -> None:
    def run(level: np.ndarray) -> np.ndarray:
        rows, columns = (-(-side // CELL) for side in level.shape[:2])
        answer = np.zeros((4, rows, columns), np.float32)
        answer[0] = SURE if level.shape[1] == IMAGE.shape[1] else -SURE
        answer[3] = np.log2(LEAST_SIDE / CELL)
        return answer

    regions, _ = find_heads(run, IMAGE)
    assert len(regions.heads) == MAX_HEADS and regions.cells.all()
