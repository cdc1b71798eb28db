"""One site's training: rounds in, updates and regional state out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from ringfence.site.session import Evaluation, Evaluator, Round
from ringfence.torch.evaluation import measure_accuracy, reestimate_statistics
from ringfence.torch.fitting import Batch, Loss, Recipe, fit, seed_everything
from ringfence.torch.tensors import load, take

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a round gave: the federated tensors, the regional ones, and what they are from.

    `tensors` go to `round.submit`; `state` stays in the region; `examples` are distinct.
    """

    tensors: dict[str, NDArray[Any]]
    state: dict[str, NDArray[Any]]
    examples: int
    loss: float


class Trainer:
    """Trains an ordinary module round after round, with its loader and loss.

    INVARIANT: every round and every evaluation starts from the tensors that came with it and, for
    regional tensors that did not, from those that the module had when the trainer was made.  What
    the module trained under one lineage therefore never shows in another.
    """

    def __init__(self, module: nn.Module, loader: Iterable[Batch], loss: Loss) -> None:
        self._module = module
        self._loader = loader
        self._loss = loss
        self._start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self._trainable = {name for name, p in module.named_parameters() if p.requires_grad}

    def train(self, round: Round, *, federated: Collection[str]) -> Trained:  # noqa: A002
        """Train `round` by the agreement's settings (`Recipe.from_settings`).

        `federated` names what travels (`session.federated`).  Other tensors of the model are
        frozen; what the module has beyond the model is regional.

        Raises: LayoutError when the module is not the one of the agreement.
        """
        recipe = Recipe.from_settings(round.settings)
        self.open(round.weights, round.state)
        for name, parameter in self._module.named_parameters():
            frozen = name in round.weights and name not in federated
            parameter.requires_grad_(name in self._trainable and not frozen)
        seed_everything(recipe.seed, round.lineage, round.number)
        seen = fit(self._module, self._loader, self._loss, recipe=recipe, anchored=federated)
        regional = [name for name in self._start if name not in round.weights]
        return Trained(
            tensors=take(self._module, federated),
            state=take(self._module, regional),
            examples=seen.examples,
            loss=seen.loss,
        )

    def evaluator(
        self, validation: Iterable[Batch], *, unlabelled: Iterable[torch.Tensor] = ()
    ) -> Evaluator:
        """The function that `ringfence.connect(evaluate=...)` wants; its metric is `accuracy`.

        Batch statistics are estimated anew on `unlabelled` inputs, if there are any.
        """

        def evaluate(weights: Arrays, state: Arrays) -> Evaluation:
            self.open(weights, state)
            if unlabelled:
                reestimate_statistics(self._module, unlabelled)
            score = measure_accuracy(self._module, validation)
            return Evaluation(metrics={"accuracy": score.percent}, examples=score.examples)

        return evaluate

    def open(self, weights: Arrays, state: Arrays) -> nn.Module:
        """The module with these tensors and, for the rest, those it was made with."""
        self._module.load_state_dict(self._start)
        load(self._module, weights)
        load(self._module, state)
        return self._module
