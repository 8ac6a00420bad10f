"""Training of a learned reversible anonymizer (arXiv 2207.11677), and of one who breaks it.

A generator G makes a protected image P of a person from the original O, a recovery network R makes
O of P again for those who were given it, and an identity model C must tell people apart on both:

    L = A_P + A_R + 100 · |P − M| + 100 · |R(P) − O| + I(O) + I(P)

M is the target, a conventionally desensitised image (here blurred), A what a patch discriminator
says (least squares), I cross entropy and triplet loss of C. When P is near M, and C finds more
people on P than before, M becomes what G makes now, frozen, and must be met more closely: the
target is progressive.

R's weights are all the secret there is. So somebody else trains here as well: he can have images of
his own people protected, and learns to recover them. He sees neither R nor its people.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from roi_anon_ros.storage import write_bytes
from roi_anon_ros.train.numbers import check_positive, check_whole
from roi_anon_ros.train.reversible_networks import (
    Discriminator,
    Identities,
    Reversible,
    Translator,
    write_reversible,
)
from roi_anon_ros.train.reversible_people import People, read_people

#: What ``network`` says in the YAML file of such a training.
NAME = "reversible"
#: Standard deviation of the blur of the first target, pixels: the paper's 12 at half its size.
BLUR = 6.0
#: Weight of the two distances in the loss.
DISTANCE = 100.0
#: Margin of the triplet loss, between places on a sphere.
MARGIN = 0.3
#: By how much a new target is to be met more closely: dB, and structural similarity.
CLOSER = 1.0, 0.05
#: Largest structural similarity that is asked for.
CLOSEST = 0.95
#: Of the people to train on, one in so many is kept apart for checks.
HELD = 8


@dataclass(frozen=True)
class Config:
    """What a YAML file with ``network: reversible`` may set.

    Attributes:
        network: "reversible".
        train: folders of people, as ``read_bodies`` takes them, each as ``images``, perhaps with
            ``people``: the number of the first one by name, and of the first one no more.
        attacker: the same, of the people whom the attacker has; nobody is in both.
        steps: of the optimisers.
        attacker_steps: the attacker's.
        people: in a batch, 2 or more.
        images: of each of them.
        learning_rate: of Adam; it falls to 0 in a straight line.
        near_psnr: how near the first target must be met, dB.
        near_ssim: the same, structural similarity, 0 to 1.
        check: steps between two looks at the target, each with a checkpoint.
        seed: of everything random.
    """

    network: str
    train: list[dict[str, Any]]
    attacker: list[dict[str, Any]]
    steps: int = 1000
    attacker_steps: int = 1000
    people: int = 4
    images: int = 4
    learning_rate: float = 1e-3
    near_psnr: float = 24.0
    near_ssim: float = 0.7
    check: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network != NAME:
            raise ValueError(f"network: got {self.network!r}, must be {NAME}")
        least = {"steps": 1, "attacker_steps": 1, "people": 2, "images": 2, "check": 1}
        for name, bound in least.items():
            check_whole(name, getattr(self, name), bound)
        check_positive("learning_rate", self.learning_rate)
        for name in ("train", "attacker"):
            for one in getattr(self, name):
                if not isinstance(one, dict) or not {"images"} <= set(one) <= {"images", "people"}:
                    raise ValueError(f"{name}: got {one!r}, must be images, perhaps with people")


def blur(images: Tensor) -> Tensor:
    """The first target: images after a Gaussian blur; edges are mirrored."""
    radius = round(3 * BLUR)
    at = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (at / BLUR) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel, groups=3)
    return F.conv2d(across, kernel.transpose(2, 3), groups=3)


def send(protected: Tensor) -> Tensor:
    """What arrives of protected images, which have 8 bits: noise stands for the rounding."""
    noise = (torch.rand_like(protected) - 0.5) / 255
    return (protected + noise).clamp(0, 1)


def triplet(places: Tensor, person: Tensor) -> Tensor:
    """Triplet loss with the hardest partners of the batch.

    Args:
        places: ``[B, d]`` of length 1.
        person: int ``[B]``.
    """
    distance = (2 - 2 * places @ places.T).clamp(min=1e-6).sqrt()
    same = person[:, None] == person
    farthest = distance.masked_fill(~same, 0).amax(1)
    nearest = distance.masked_fill(same, 9).amin(1)
    return (farthest - nearest + MARGIN).relu().mean()


def identity_loss(model: nn.Module, images: Tensor, person: Tensor) -> Tensor:
    """Cross entropy and triplet loss of who is on the images."""
    places, logits = model(images)
    return F.cross_entropy(logits, person) + triplet(places, person)


def measure_psnr(one: Tensor, other: Tensor) -> float:
    """PSNR of images in [0, 1], dB: the mean over the images."""
    squared = (one.clamp(0, 1) - other).square().mean((1, 2, 3)).clamp(min=1e-10)
    return float(-10 * squared.log10().mean())


def rank_one(places: Tensor, people: People) -> float:
    """Share of the images whose nearest one, of those that another camera took, shows the person.

    Args:
        places: ``[n, d]`` of length 1.
        people: on the images.
    """
    likeness = places @ places.T
    likeness[torch.from_numpy(people.camera[:, None] == people.camera)] = -2
    nearest = likeness.argmax(1).numpy()
    elsewhere = likeness.amax(1).numpy() > -2
    return float((people.person[nearest] == people.person)[elsewhere].mean())


class Training:
    """The four networks, their optimisers, and the target.

    Args:
        config: of the training.
        people: to train on.
        held: kept apart, for checks.

    Attributes:
        step: steps that were made.
        figures: of the last check.
    """

    def __init__(self, config: Config, people: People, held: People) -> None:
        self.config = config
        self.people = people
        self.held = held
        self.step = 0
        self.figures: dict[str, float] = {}
        torch.manual_seed(config.seed)
        self.networks = nn.ModuleDict(
            {
                "generator": Translator(),
                "recovery": Translator(),
                "identities": Identities(people.count),
                "judge_protected": Discriminator(),
                "judge_recovered": Discriminator(),
                "target": Translator(),
            }
        ).to(memory_format=torch.channels_last)
        self.networks["target"].requires_grad_(False)
        makers = ("generator", "recovery", "identities")
        judges = ("judge_protected", "judge_recovered")
        self.optimizers = [self._optimizer(names) for names in (makers, judges)]
        #: Targets so far, what the present one asks for, and the rank 1 that is to be beaten.
        self.stage = {
            "targets": 0,
            "psnr": config.near_psnr,
            "ssim": config.near_ssim,
            "rank1": 0.0,
        }

    def _optimizer(self, names: tuple[str, ...]) -> torch.optim.Optimizer:
        weights = [weight for name in names for weight in self.networks[name].parameters()]
        return torch.optim.Adam(weights, self.config.learning_rate, betas=(0.5, 0.999))

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """What the generator is to make of originals at present."""
        return self.networks["target"](images) if self.stage["targets"] else blur(images)

    def learn(self) -> dict[str, float]:
        """Make a step, and return its terms."""
        config = self.config
        torch.manual_seed(config.seed * 100_003 + self.step)
        images, person = self.people.draw((config.seed, self.step), config.people, config.images)
        wanted = self.target(images)
        net = self.networks
        protected = send(net["generator"](images))
        recovered = net["recovery"](protected)
        pairs = (
            (net["judge_protected"], protected, wanted),
            (net["judge_recovered"], recovered, images),
        )
        terms = {
            "protected": (protected - wanted).abs().mean(),
            "recovered": (recovered - images).abs().mean(),
            "adversarial": sum((judge(made) - 1).square().mean() for judge, made, _ in pairs),
            "identity": identity_loss(net["identities"], images, person)
            + identity_loss(net["identities"], protected, person),
        }
        distances = terms["protected"] + terms["recovered"]
        loss = DISTANCE * distances + terms["adversarial"] + terms["identity"]
        if not torch.isfinite(loss):
            raise RuntimeError(f"loss: not finite at step {self.step}; lower learning_rate")
        self._descend(self.optimizers[0], loss)
        judged = sum(
            judge(made.detach()).square().mean() + (judge(true) - 1).square().mean()
            for judge, made, true in pairs
        )
        self._descend(self.optimizers[1], judged)
        self.step += 1
        return {name: float(term.detach()) for name, term in terms.items()}

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        left = 1 - self.step / self.config.steps
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * left
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def check(self) -> None:
        """Measure on the people kept apart, and go on to the next target where it is time."""
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        images = self.held.images
        protected = self.networks["generator"](images).clamp(0, 1).mul(255).round() / 255
        recovered = self.networks["recovery"](protected)
        wanted = self.target(images).clamp(0, 1)
        found = self.networks["identities"](protected)[0]
        similar = ssim(protected, wanted, data_range=1.0)
        assert isinstance(similar, Tensor)
        self.figures = {
            "target_psnr": measure_psnr(protected, wanted),
            "target_ssim": float(similar),
            "rank1": rank_one(found, self.held),
            "protected_psnr": measure_psnr(protected, images),
            "recovered_psnr": measure_psnr(recovered, images),
        }
        near = self.figures["target_psnr"] >= self.stage["psnr"]
        alike = self.figures["target_ssim"] >= self.stage["ssim"]
        if near and alike and self.figures["rank1"] > self.stage["rank1"]:
            state = copy.deepcopy(self.networks["generator"].state_dict())
            self.networks["target"].load_state_dict(state)
            self.stage["targets"] += 1
            self.stage["psnr"] += CLOSER[0]
            self.stage["ssim"] = min(self.stage["ssim"] + CLOSER[1], CLOSEST)
            self.stage["rank1"] = self.figures["rank1"]
        self.figures["targets"] = self.stage["targets"]

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "stage": self.stage,
            "step": self.step,
            "figures": self.figures,
            "config": asdict(self.config),
        }

    def load(self, path: Path) -> None:
        """Go on where a checkpoint ends.

        Raises:
            ValueError: it is of another configuration.
        """
        state = torch.load(path, weights_only=True)
        if state["config"] != asdict(self.config):
            raise ValueError(f"{path}: of another configuration; remove it, or name another --out")
        self.networks.load_state_dict(state["networks"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.stage = state["stage"]
        self.step = state["step"]
        self.figures = state["figures"]


def attack(generator: Translator, people: People, config: Config) -> Iterator[Translator]:
    """Learn to undo a generator, from nothing but what it makes of one's own people.

    Yields:
        The network after each step, always the same one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        network = Translator().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    for step in range(config.attacker_steps):
        images, _ = people.draw((config.seed, step), config.people, config.images)
        with torch.no_grad():
            protected = generator(images).clamp(0, 1).mul(255).round() / 255
        loss = (network(protected) - images).abs().mean()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.attacker_steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield network


def train(config_file: Path, out: Path) -> Path:
    """Train, or continue, the run in the folder ``out``.

    Args:
        config_file: YAML, see `Config`; paths in it are relative to where the command runs.
        out: folder for the checkpoint and the networks; a ``last.ckpt`` in it is continued.

    Returns:
        ``<out>/<name of the config file>.safetensors``, for ``read_reversible``.

    Raises:
        ValueError: the configuration or a set cannot be used, or the checkpoint is of another
            configuration.
        RuntimeError: a loss is not finite.
    """
    config = Config(**yaml.safe_load(config_file.read_text()))
    everybody, names = read_people(config.train)
    others, other_names = read_people(config.attacker)
    if names & other_names:
        raise ValueError(f"attacker: {min(names & other_names)} is in train as well")
    apart = everybody.person % HELD == 0
    if everybody.count < HELD + 2:
        raise ValueError(f"train: got {everybody.count} people, must be {HELD + 2} or more")
    training = Training(config, everybody.take(~apart), everybody.take(apart))
    last = out / "last.ckpt"
    if last.is_file():
        training.load(last)
    while training.step < config.steps:
        training.learn()
        if training.step % config.check == 0 or training.step == config.steps:
            training.check()
            stream = io.BytesIO()
            torch.save(training.state(), stream)
            write_bytes(last, stream.getvalue())
            said = ", ".join(f"{name} {value:.3f}" for name, value in training.figures.items())
            rank_zero_info(f"step {training.step}/{config.steps}: {said}")
    generator = training.networks["generator"]
    recovery = training.networks["recovery"]
    assert isinstance(generator, Translator) and isinstance(recovery, Translator)
    for network in attack(generator, others, config):
        attacker = network
    about = {
        "config": asdict(config),
        "people": training.people.count,
        "attacker_people": others.count,
        "figures": training.figures,
    }
    result = out / f"{config_file.stem}.safetensors"
    write_reversible(result, Reversible(generator, recovery, attacker, about))
    return result
