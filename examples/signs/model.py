"""The recogniser: three double-convolution blocks and a linear head, for 32 × 32 RGB pictures.

    python examples/signs/model.py --seed 0 --out initial.safetensors

draws the initial model of a federation and prints what its agreement says of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import recipe
import signs
import torch
from torch import nn

from ringfence.cli.federation import write_model
from ringfence.core.tensors import Layout
from ringfence.torch import describe, take

CHANNELS = (24, 48, 96)
PLACEMENTS = {"body": "federated", "head": "federated", "norm": "regional"}
"""Modules of the agreement (`ringfence.torch.describe` names them) and where each may go."""


class SignNet(nn.Module):
    """Names a traffic sign.  Shape: N × 3 × 32 × 32 in [0, 1] to N × labels."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, CHANNELS[0]),
            _block(CHANNELS[0], CHANNELS[1]),
            _block(CHANNELS[1], CHANNELS[2]),
        )
        self.head = nn.Linear(CHANNELS[2], labels)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        # Cameras and light differ more between regions than signs do.
        mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
        spread = pictures.std(dim=(1, 2, 3), keepdim=True).clamp_min(0.02)
        features = self.body((pictures - mean) / spread)
        return self.head(features.mean(dim=(2, 3)))


def build(labels: int, *, seed: int = 0) -> SignNet:
    """A fresh model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    # The layout in memory that CPUs convolve fastest; names, shapes and values are the same.
    return SignNet(labels).to(memory_format=torch.channels_last)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the initial model of the sign federation.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    given = parser.parse_args()
    net = build(len(signs.label_space()), seed=given.seed)
    specs = describe(net).specs
    crossing = tuple(spec for spec in specs if PLACEMENTS[spec.module] == "federated")
    layout = Layout(specs=crossing)
    digest = write_model(given.out, layout, take(net, [spec.name for spec in crossing]))
    said = {
        "tensors": [asdict(spec) for spec in specs],
        "modules": PLACEMENTS,
        "model": digest,
        "pretraining_rounds": recipe.PRETRAINING.rounds,
        "pretraining_settings": recipe.PRETRAINING.each.to_settings(seed=given.seed),
        "joint_rounds": recipe.JOINT.rounds,
        "joint_settings": recipe.JOINT.each.to_settings(seed=given.seed),
        "market_rounds": recipe.MARKET_ROUNDS,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
