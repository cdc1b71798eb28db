"""Measures a region's models on its own test pictures, and nowhere else are those looked at.

ringfence train examples/signs/measure.py regional --model M --state S --out F --home regions/cn

before     without a state: the model with batch statistics of this region's unlabelled training
           pictures; with one: as `regional`
regional   model and regional state, after a few local steps: what this region would drive with
global     the bare model, with batch statistics of this region
local      no federation at all: the initial model after as many local steps on these pictures
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import batches
import model
import numpy as np
import recipe
import signs
from torch import nn

from ringfence.core.tensorfile import NUMPY_DTYPES, open_tensorfile
from ringfence.torch import Recipe, Trainer, fit, measure_accuracy, reestimate_statistics
from ringfence.torch.fitting import seed_everything


class Region:
    """One region's pictures, and a network to load models into."""

    def __init__(self, catalogue: Path, *, seed: int) -> None:
        self.training = signs.open_catalogue(catalogue, split="train")
        self.test = signs.open_catalogue(catalogue, split="test")
        self.seed = seed
        net = model.build(len(signs.label_space()), seed=seed)
        self._batches = batches.training_batches(self.training)
        self._trainer = Trainer(net, self._batches, nn.CrossEntropyLoss())

    def open(self, weights: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> nn.Module:
        return self._trainer.open(weights, state)

    def train(self, net: nn.Module, how: Recipe, *occasion: object) -> None:
        seed_everything(self.seed, *occasion)
        fit(net, self._batches, nn.CrossEntropyLoss(), recipe=replace(how, seed=self.seed))

    def fine_tuning(self) -> Recipe:
        """The recipe's steps, or as many as `MOST_PASSES` over this region's pictures are."""
        most = recipe.MOST_PASSES * len(self._batches)
        return replace(recipe.FINE_TUNING, steps=min(recipe.FINE_TUNING.steps, most))

    def accuracy(self, net: nn.Module) -> float:
        """Per cent of this region's test pictures that are named right."""
        return measure_accuracy(net, batches.plain_batches(self.test)).percent

    def adapt_statistics(self, net: nn.Module) -> None:
        reestimate_statistics(net, batches.unlabelled_batches(self.training))


def measure(
    region: Region, what: str, weights: Mapping[str, np.ndarray], state: Path | None
) -> float:
    """Accuracy of one of the models above, per cent."""
    net = region.open(weights, read_tensors(state) if state else {})
    if what == "local":
        for number in range(recipe.JOINT.rounds):
            region.train(net, recipe.JOINT.each, "local", number)
    if what in ("regional", "local") or (what == "before" and state):
        region.train(net, region.fine_tuning(), "fine-tuning")
    else:
        region.adapt_statistics(net)
    return region.accuracy(net)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file, by name."""
    tensors = {}
    with open_tensorfile(path) as file:
        for entry in file.entries:
            tensor = np.empty(entry.shape, NUMPY_DTYPES[entry.dtype])
            file.read_bytes_into(entry.first, memoryview(tensor.reshape(-1).view(np.uint8)))
            tensors[entry.name] = tensor
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a model on a region's test pictures.")
    parser.add_argument("what", choices=("before", "regional", "global", "local"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    region = Region(Path(os.environ["RINGFENCE_HOME"]) / "catalogue.json", seed=given.seed)
    found = measure(region, given.what, read_tensors(given.model), given.state)
    given.out.write_text(json.dumps(round(found, 2)))


if __name__ == "__main__":
    main()
