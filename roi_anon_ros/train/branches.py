"""Branches of a training: frozen networks to which decoded images must stay useful, and networks
that must not know people in them. After arXiv 2504.14301.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from roi_anon_ros.detect.budget import ActionGuide, load_guide
from roi_anon_ros.train.clips import ClipsConfig
from roi_anon_ros.train.losses import Regions
from roi_anon_ros.train.runs import RunConfig, Training
from roi_anon_ros.train.views import ViewBranch

#: What hides people, by the name of its network.
PRIVACY = {"views": ViewBranch}
#: A network that people are hidden from learns this much faster than the codec, as in the paper.
BRANCH_SPEED = 2.5


@dataclass(frozen=True)
class UtilityPlan:
    """An entry of ``utility``.

    Attributes:
        network: of persons' detection, or of actions over clips, see
            :func:`~roi_anon_ros.detect.budget.load_guide`.
        budget: B, 0 or more.
        weight: of the distance above the budget, above 0.
        layers: numbers of the layers whose maps count; none: the network's usual ones.
    """

    network: str
    budget: float
    weight: float
    layers: Sequence[int] = ()


@dataclass(frozen=True)
class PrivacyPlan:
    """An entry of ``privacy``.

    Attributes:
        network: of :data:`PRIVACY`.
        weight: above 0.
    """

    network: str
    weight: float

    def __post_init__(self) -> None:
        if self.network not in PRIVACY:
            raise ValueError(f"network: got {self.network!r}, must be one of {', '.join(PRIVACY)}")


Plan = TypeVar("Plan", UtilityPlan, PrivacyPlan)


def parse_plans(name: str, told: Any, kind: type[Plan]) -> list[Plan]:
    """The entries of a list in a configuration.

    Args:
        name: of the list.
        told: what the file says.
        kind: of the entries.

    Raises:
        ValueError: names the entry and the field.
    """
    if not isinstance(told, list):
        raise ValueError(f"{name}: got {type(told).__name__}, must be a list")
    known = [one.name for one in fields(kind)]
    needed = [one.name for one in fields(kind) if one.default is MISSING]
    plans = []
    for number, entry in enumerate(told):
        where = f"{name}[{number}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}: got {entry!r}, must have {', '.join(needed)}")
        strange = [str(key) for key in entry if key not in known]
        if strange:
            raise ValueError(f"{where}: got {strange[0]}, must be one of {', '.join(known)}")
        for key in needed:
            if key not in entry:
                raise ValueError(f"{where}: {key}: got none, must be there")
        try:
            check_numbers(entry)
            plans.append(kind(**entry))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return plans


def check_numbers(entry: Mapping[str, Any]) -> None:
    """Raise a ValueError where a budget is below 0, a weight not above it, or layers no list."""
    budget = entry.get("budget", 0)
    if not isinstance(budget, int | float) or not budget >= 0:
        raise ValueError(f"budget: got {budget!r}, must be a number of 0 or more")
    weight = entry["weight"]
    if not isinstance(weight, int | float) or not weight > 0:
        raise ValueError(f"weight: got {weight!r}, must be a number above 0")
    layers = entry.get("layers", [])
    if not isinstance(layers, list):
        raise ValueError(f"layers: got {layers!r}, must be a list of numbers")


@dataclass(frozen=True, kw_only=True)
class BranchedConfig(RunConfig):
    """What a YAML file may set where a codec learns with branches.

    Attributes:
        utility: networks that decoded images must stay alike to, in turns, one a step: each with
            the fields of :class:`UtilityPlan`.
        privacy: networks that must not know people in decoded images, all in every step: each with
            the fields of :class:`PrivacyPlan`.
    """

    utility: list[dict[str, Any]] = field(default_factory=list)
    privacy: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_plans("utility", self.utility, UtilityPlan)
        parse_plans("privacy", self.privacy, PrivacyPlan)


class BranchedTraining(Training):
    """A training with branches.

    Args:
        config: of the run.
        validation: the images that it is validated on.
        out: folder for the sheets.

    Raises:
        ImportError, WeightsError, ValueError: a network cannot be had, or not with these layers.
    """

    config: BranchedConfig

    def __init__(self, config: BranchedConfig, validation: list[Any], out: Path) -> None:
        super().__init__(config, validation, out)
        self._utility = parse_plans("utility", config.utility, UtilityPlan)
        # In a tuple, not as modules: checkpoints and averages leave them out.
        self._guides = tuple(load_guide(p.network, p.budget, p.layers) for p in self._utility)
        of_actions = any(isinstance(guide, ActionGuide) for guide in self._guides)
        if of_actions and not isinstance(config, ClipsConfig):
            raise ValueError("utility: got a network of actions, must be of images: no clips here")
        self._privacy = parse_plans("privacy", config.privacy, PrivacyPlan)
        self.privacy = nn.ModuleList([PRIVACY[plan.network]() for plan in self._privacy])

    def on_fit_start(self) -> None:
        """Take the frozen networks along to the device."""
        for guide in self._guides:
            guide.to(self.device)

    def add_branches(
        self,
        terms: dict[str, Tensor],
        x_hat: Tensor,
        x: Tensor,
        keep: Tensor,
        persons: Regions,
        frames: int = 1,
    ) -> None:
        """Add what the branches say to the loss of a step.

        Args:
            terms: gets ``utility``, the distance above the budget; ``privacy``, how far views of
                people are from looking alike by chance alone; ``views``, what the network that
                knows them learns from. Its ``loss`` gets the first two by their weights, and the
                last one.
            x_hat: decoded images, float32 ``[B, 3, H, W]`` around [0, 1].
            x: their originals.
            keep: ``[B, 1, H, W]``, 1 where they shall look alike, 0 where something is hidden.
            persons: on them.
            frames: of each clip, where the images are those of clips, one after the other.
        """
        loss = terms["loss"]
        if self._guides:
            turn = self.global_step % len(self._guides)
            terms["utility"] = self._guides[turn](x_hat, x, keep)
            loss = loss + self._utility[turn].weight * terms["utility"]
        for plan, branch in zip(self._privacy, self.privacy, strict=True):
            learns, hides = branch(x_hat, persons, frames)
            terms["views"] = terms.get("views", 0) + learns
            terms["privacy"] = terms.get("privacy", 0) + hides
            loss = loss + learns + plan.weight * hides
        terms["loss"] = loss

    def branch_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups for what learns in the branches."""
        learning = list(self.privacy.parameters())
        rate = BRANCH_SPEED * self.config.learning_rate
        return [{"params": learning, "lr": rate}] if learning else []
