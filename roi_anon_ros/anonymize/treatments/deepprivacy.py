"""DeepPrivacy2 (Hukkelås and Lindseth 2023), where the user has installed it.

It is not on PyPI: https://github.com/hukkelas/deep_privacy2, with weights under licences of their
own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from roi_anon_ros.anonymize.regions import Region
from roi_anon_ros.anonymize.treatments.base import Scene, Window
from roi_anon_ros.anonymize.treatments.flat import GREY


class DeepPrivacy2:
    """What DeepPrivacy2 makes of a region.

    It detects for itself and leaves what it does not find as it was: a pixel of a region that it
    left unchanged, or all but so, becomes grey.

    Args:
        anonymize: an image, uint8 ``[H, W, 3]`` RGB, to one treated by DeepPrivacy2; see
            :func:`load`.
    """

    def __init__(self, anonymize: Callable[[np.ndarray], np.ndarray]) -> None:
        self._anonymize = anonymize

    def __call__(self, scene: Scene, region: Region, window: Window) -> np.ndarray:
        """See :class:`~roi_anon_ros.anonymize.treatments.base.Treatment`."""
        wide = window.grown(int(region.side), scene.image)
        view = wide.of(scene.image)
        made = self._anonymize(view.copy())
        if made.shape != view.shape or made.dtype != np.uint8:
            raise ValueError(
                f"deepprivacy: got {made.dtype} {made.shape}, must be uint8 {view.shape}"
            )
        unchanged = (made == view).all(2, keepdims=True)
        safe = np.where(unchanged, np.uint8(GREY), made)
        top = window.rows.start - wide.rows.start
        left = window.columns.start - wide.columns.start
        height, width = window.size
        return safe[top : top + height, left : left + width]


def load(config: Path) -> Callable[[np.ndarray], np.ndarray]:
    """An installed DeepPrivacy2 by one of its configurations, such as
    ``configs/anonymizers/face.py``.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: DeepPrivacy2 is not installed.
    """
    if not config.is_file():
        raise FileNotFoundError(f"deepprivacy: there is no file {config}")
    try:
        from dp2 import utils
        from tops.config import instantiate
    except ImportError as error:
        raise ImportError(
            "deepprivacy needs DeepPrivacy2: https://github.com/hukkelas/deep_privacy2"
        ) from error
    network = instantiate(utils.load_config(str(config)).anonymizer, load_cache=False)

    def anonymize(image: np.ndarray) -> np.ndarray:
        tensor = utils.im2torch(image, to_float=False, normalize=False)[0]
        return utils.im2numpy(
            network(tensor, truncation_value=0, multi_modal_truncation=False, amp=True)
        )

    return anonymize
