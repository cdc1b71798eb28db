"""Batch statistics and accuracy against a slow, obvious version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.training_world import net, pictures
from torch import nn

import ringfence.torch as rt
from ringfence.core.errors import ConfigError


def test_statistics_are_the_mean_over_the_batches() -> None:
    # given a layer with statistics of somewhere else, and two batches
    layer = nn.BatchNorm1d(2, momentum=0.1)
    layer(torch.full((4, 2), 100.0))
    draw = np.random.default_rng(0)
    batches = [draw.normal(size=(8, 2)).astype(np.float32) for _ in range(2)]
    # when they are estimated anew
    rt.reestimate_statistics(layer, [torch.from_numpy(batch) for batch in batches])
    # then nothing of the old ones is left
    mean = np.mean([batch.mean(axis=0) for batch in batches], axis=0)
    spread = np.mean([batch.var(axis=0, ddof=1) for batch in batches], axis=0)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, spread, rtol=1e-5)
    assert layer.momentum == 0.1
    assert not layer.training


def test_estimating_statistics_moves_no_weight_and_draws_nothing() -> None:
    # given a module with dropout before and behind its normalisation
    module = net()
    weights = {name: p.clone() for name, p in module.named_parameters()}
    # when its statistics are estimated twice
    images = [pictures().tensors[0]]
    rt.reestimate_statistics(module, images)
    first = module.body[1].running_mean.clone()
    rt.reestimate_statistics(module, images)
    # then both times give the same, and the parameters stand
    assert torch.equal(module.body[1].running_mean, first)
    assert all(torch.equal(weights[name], p) for name, p in module.named_parameters())


def test_accuracy_counts_over_batches_of_any_size() -> None:
    # given outputs that are right in three of four, in batches of three and one
    module = nn.Identity()
    outputs, targets = torch.eye(4), torch.tensor([0, 1, 2, 0])
    batches = [(outputs[:3], targets[:3]), (outputs[3:], targets[3:])]
    # when they are measured
    score = rt.measure_accuracy(module, batches)
    # then each picture counts once
    assert score == rt.Score(percent=75.0, examples=4)


def test_refuses_to_measure_on_nothing() -> None:
    with pytest.raises(ConfigError, match="expected examples"):
        rt.measure_accuracy(net(), [])
