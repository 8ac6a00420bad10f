"""Trainings on clips: which, and what of them a step sees."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from roi_anon_ros.datasets import (
    Clip,
    read_clips,
    read_frames,
    split,
    spread,
    squash,
    without_overlap,
    write_split,
)
from roi_anon_ros.train.colours import expose, tint
from roi_anon_ros.train.crops import PreloadedCrops
from roi_anon_ros.train.runs import RunConfig, Training
from roi_anon_ros.train.sets import parse_sets

log = logging.getLogger(__name__)

#: What is kept of a clip is larger than a crop by this share, and has so many times its frames.
LARGER = 1.2
DENSER = 2
#: The split is the same for every training on a set: its networks are judged on one another's.
SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class ClipsConfig(RunConfig):
    """What a YAML file may set where something learns from clips.

    ``train`` and ``validation`` name folders of clips. ``validation_images`` are clips, ``crop`` is
    the side to which frames are squashed, whatever their shape.

    Attributes:
        frames: of a clip, at equal distances.
        held: share of the origins kept apart where ``validation`` is empty; which, follows from
            their names.
    """

    least: ClassVar[dict[str, float]] = RunConfig.least | {"frames": 2}

    frames: int = 8
    held: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.held, int | float) or not 0 < self.held < 1:
            raise ValueError(f"held: got {self.held!r}, must be above 0 and below 1")


@dataclass(frozen=True)
class TrainingClips:
    """The clips to train on."""

    clips: list[Clip]

    def count(self) -> dict[str, int]:
        """What a model tells of them."""
        return {"clips": len(self.clips), "origins": len({clip.source for clip in self.clips})}


def divide_clips(config: ClipsConfig) -> tuple[list[Clip], list[Clip]]:
    """The clips to train on and those kept apart; no origin is in both.

    Raises:
        ValueError: a folder is none of clips, there are none left on one side, or one side has
            other actions.
    """
    train = _read_all(config.train)
    if config.validation:
        held = _read_all(config.validation)
        train, _ = without_overlap(train, held)
    else:
        shares = {"train": 1 - config.held, "held": config.held}
        train, held = split(train, shares, SPLIT_SEED).values()
    learned = {clip.label for clip in train}
    asked = {clip.label for clip in held}
    if learned != asked:
        raise ValueError(
            f"train: got clips of {', '.join(sorted(learned)) or 'nothing'}, kept apart are those "
            f"of {', '.join(sorted(asked)) or 'nothing'}, must be the same actions"
        )
    return train, held


def list_labels(config: ClipsConfig) -> list[str]:
    """The actions that are trained on, in the order of their numbers; raises as
    :func:`divide_clips`.
    """
    train, _ = divide_clips(config)
    return sorted({clip.label for clip in train})


def _read_all(sets: list[dict[str, Any]]) -> list[Clip]:
    clips: list[Clip] = []
    for one in parse_sets("train", sets):
        clips += read_clips(Path(one.annotations))
    return clips


class ClipCrops(PreloadedCrops):
    """Clips at random moments, moved, mirrored and in other colours, all frames of one alike; item
    ``i``, for any ``i`` from 0, is the same in every run with the same seed.

    Args:
        clips: at least one.
        labels: the actions, in the order of their numbers.
        frames: of a crop.
        side: of a frame, pixels.
        seed: of everything random.
    """

    def __init__(
        self, clips: Sequence[Clip], labels: Sequence[str], frames: int, side: int, seed: int
    ) -> None:
        self._clips = clips
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._frames = frames
        self._side = side
        self._seed = seed
        self._kept: dict[int, np.ndarray] = {}

    def preload(self) -> None:
        """Read all of them into memory."""
        for index in range(len(self._clips)):
            self._read(index)

    def _read(self, index: int) -> np.ndarray:
        if index not in self._kept:
            frames = read_frames(self._clips[index], DENSER * self._frames)
            self._kept[index] = squash(frames, round(LARGER * self._side))
        return self._kept[index]

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        """Crop ``item``: uint8 ``[T, 3, side, side]``, and the number of its action."""
        rng = np.random.default_rng((self._seed, item))
        index = int(rng.integers(len(self._clips)))
        kept = self._read(index)[int(rng.integers(DENSER)) :: DENSER]
        top, left = rng.integers(kept.shape[1] - self._side + 1, size=2)
        shown = kept[:, top : top + self._side, left : left + self._side]
        if rng.random() < 0.5:
            shown = shown[:, :, ::-1]
        # As one high image: the colours of all frames change alike.
        high = np.ascontiguousarray(shown).reshape(-1, self._side, 3)
        colour = rng.random()
        if colour < 0.3:
            high = np.repeat(high.mean(2, keepdims=True).astype(np.uint8), 3, 2)
        elif colour < 0.6:
            high = tint(high, rng, 1.3, 0.2)
        if rng.random() < 0.5:
            high = expose(high, rng, 0.5, (0.8, 1.2))
        clip = high.reshape(self._frames, self._side, self._side, 3)
        number = self._numbers[self._clips[index].label]
        return to_tensor(clip), number


class WholeClips(Dataset):
    """Whole clips, as :class:`ClipCrops` gives crops.

    Args:
        clips: those that cannot be read are named in a warning, and left out.
        labels: see :class:`ClipCrops`, also for the others.

    Attributes:
        records: the clips.
    """

    #: Of a loader.
    collate = staticmethod(default_collate)

    def __init__(
        self, clips: Sequence[Clip], labels: Sequence[str], frames: int, side: int
    ) -> None:
        self._numbers = {label: number for number, label in enumerate(labels)}
        self.records: list[Clip] = []
        self._kept: list[Tensor] = []
        for clip in clips:
            try:
                seen = squash(read_frames(clip, frames), side)
            except (OSError, ValueError) as error:
                log.warning("left out: %s", error)
                continue
            self.records.append(clip)
            self._kept.append(to_tensor(seen))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        """Clip ``item``: uint8 ``[T, 3, side, side]``, and the number of its action."""
        return self._kept[item], self._numbers[self.records[item].label]


def to_tensor(frames: np.ndarray) -> Tensor:
    """Frames ``[T, H, W, 3]`` as ``[T, 3, H, W]``."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def to_frames(clips: Tensor) -> Tensor:
    """The frames of uint8 clips ``[B, T, 3, H, W]``, one after the other, in [0, 1]."""
    return clips.flatten(0, 1).float().div_(255).contiguous(memory_format=torch.channels_last)


class ClipTraining(Training):
    """A training on clips.

    Args:
        config: of the run.
        validation: the clips that it is validated on.
        out: folder for the sheets.
    """

    config: ClipsConfig

    @classmethod
    def read(cls, config: RunConfig, out: Path) -> tuple[TrainingClips, WholeClips]:
        """The clips to train on and to validate on; no origin is in both.

        Args:
            config: of the run.
            out: folder for ``split.json``.

        Raises:
            ValueError: see :func:`divide_clips`.
        """
        assert isinstance(config, ClipsConfig)
        train, held = divide_clips(config)
        write_split(out / "split.json", {"train": train, "validation": held})
        rank_zero_info(f"{len(train)} clips to train on, {len(held)} of other origins kept apart")
        labels = list_labels(config)
        seen = spread(held, config.validation_images)
        return TrainingClips(train), WholeClips(seen, labels, config.frames, config.crop)

    def make_crops(self, images: TrainingClips) -> ClipCrops:  # type: ignore[override]
        """Clips, moved and in other colours."""
        config = self.config
        return ClipCrops(images.clips, list_labels(config), config.frames, config.crop, config.seed)
