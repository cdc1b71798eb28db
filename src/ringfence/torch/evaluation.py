"""Measuring a model, with batch statistics of the region that it is measured in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ringfence.core.errors import ConfigError
from ringfence.torch.fitting import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many of `examples` were named right, in per cent."""

    percent: float
    examples: int


@torch.no_grad()
def measure_accuracy(module: nn.Module, loader: Iterable[Batch]) -> Score:
    """How often the largest output of `module` is the target, over every batch of `loader`.

    Raises: ConfigError when `loader` is empty.
    """
    torch.set_num_threads(1)
    module.eval()
    hits, examples = 0, 0
    for inputs, targets in loader:
        hits += int((module(inputs).argmax(dim=1) == targets).sum())
        examples += len(targets)
    if not examples:
        raise ConfigError("loader: expected examples to measure on, got none")
    return Score(percent=100 * hits / examples, examples=examples)


@torch.no_grad()
def reestimate_statistics(module: nn.Module, inputs: Iterable[torch.Tensor]) -> None:
    """Set the running statistics of batch normalisation to their mean over batches of `inputs`.

    Merged weights never saw the statistics that a site kept while it trained its own, and a new
    region has none; neither needs labels.  Each batch counts the same.  Other layers run as in
    evaluation.  A module without batch normalisation stays as it is.

    Source: Li et al. 2016, arXiv:1603.04779 (AdaBN).
    """
    torch.set_num_threads(1)
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a plain mean over all batches
        layer.train()
    for batch in inputs:
        module(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.eval()
