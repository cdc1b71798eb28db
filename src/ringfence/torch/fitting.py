"""The local loop: some steps of SGD from where a module stands, the same in every repetition."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import nn

from ringfence.core.errors import ConfigError, NotFiniteError

Batch = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: SGD with momentum for `steps` batches.

    `learning_rate` falls in a straight line to `final_share` of itself (1: it stays).  `proximal`
    is FedProx's μ, 0 for none.  `seed` fixes the order of pictures and every other draw.
    """

    steps: int
    learning_rate: float
    final_share: float = 1.0
    momentum: float = 0.9
    proximal: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0:
            raise ConfigError(
                f"recipe: expected at least 1 step and a learning rate above 0, "
                f"got {self.steps} and {self.learning_rate}"
            )
        if not (0 <= self.momentum < 1 and 0 <= self.final_share <= 1 and self.proximal >= 0):
            raise ConfigError(
                f"recipe: expected momentum in [0, 1), final_share in [0, 1] and proximal of at "
                f"least 0, got {self.momentum}, {self.final_share} and {self.proximal}"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, float | int | str]) -> Recipe:
        """The recipe in an agreement's training settings; other settings are the script's own.

        Raises: ConfigError when `steps` or `learning_rate` is missing or a value is a word.
        """
        given = {
            field.name: settings[field.name] for field in fields(cls) if field.name in settings
        }
        if not {"steps", "learning_rate"} <= given.keys():
            raise ConfigError(
                f"training settings: expected steps and learning_rate, got {sorted(settings)}; "
                "set them in [training.settings] of the agreement"
            )
        if words := sorted(name for name, value in given.items() if isinstance(value, str)):
            raise ConfigError(f"training settings: expected numbers for {words}, got words")
        return cls(**given)  # type: ignore[arg-type]  # __post_init__ checks the ranges

    def to_settings(self, *, seed: int) -> dict[str, float | int | str]:
        """The settings of an agreement under which every region trains by this recipe."""
        return asdict(replace(self, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a fit saw: distinct examples, and the mean loss of its steps."""

    examples: int
    loss: float


def fit(
    module: nn.Module,
    loader: Iterable[Batch],
    loss: Loss,
    *,
    recipe: Recipe,
    anchored: Collection[str] = (),
) -> Fit:
    """Train `module` in place on the batches of `loader`, which is begun anew when it ends.

    Parameters that need no gradient stay as they are.  With `recipe.proximal` the parameters named
    in `anchored` are drawn to where they stand now: their gradient grows by μ(y - x).  Runs on one
    thread, as several sites may share a machine.  The caller seeds (`seed_everything`).

    Raises: NotFiniteError when the loss is no longer finite; ConfigError when `loader` is empty.
    Source: Li et al. 2020, arXiv:1812.06127 (FedProx).
    """
    torch.set_num_threads(1)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    anchors = [
        (parameter, parameter.detach().clone())
        for name, parameter in trained.items()
        if recipe.proximal and name in anchored
    ]
    optimizer = torch.optim.SGD(trained.values(), lr=recipe.learning_rate, momentum=recipe.momentum)
    module.train()
    examples, total = 0, 0.0
    for step, (first_pass, (inputs, targets)) in enumerate(_cycle(loader, recipe.steps)):
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, step)
        value = loss(module(inputs), targets)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        for parameter, anchor in anchors:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=recipe.proximal)
        optimizer.step()
        total += float(value.detach())
        examples += len(targets) if first_pass else 0
    if not math.isfinite(total):
        raise NotFiniteError("loss: expected finite numbers, got another; lower the learning rate")
    return Fit(examples=examples, loss=total / recipe.steps)


def seed_everything(*names: object) -> None:
    """Seed torch's generator, which shuffles and drops, from `names`, such as lineage and round.

    A site that is killed and begins its round again thereby trains the same update again.
    """
    text = "/".join(map(str, names))
    torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


def _cycle(loader: Iterable[Batch], steps: int) -> Iterator[tuple[bool, Batch]]:
    """`steps` batches, each with whether it belongs to the first pass over `loader`."""
    taken, first_pass = 0, True
    while taken < steps:
        before = taken
        for batch in loader:
            if taken == steps:
                return
            yield first_pass, batch
            taken += 1
        if taken == before:
            raise ConfigError("loader: expected at least one batch, got none; use smaller batches")
        first_pass = False


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * (1 - (1 - recipe.final_share) * step / recipe.steps)
