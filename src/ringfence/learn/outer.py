"""The outer optimiser: turns the regions' mean update into the step that a release takes.

    sgd                  step = lr·m           m = μ·m_old + Δ        (FedAvg for lr 1 and μ 0)
    nesterov             step = lr·(Δ + μ·m)   m = μ·m_old + Δ        (DiLoCo's outer step)

Δ = mean of (y − x) points downhill, so the step is added to the model.  Every product and sum is
rounded once to float32.
Source: Hsu et al. 2019, arXiv:1909.06335 (FedAvgM); Douillard et al. 2023, arXiv:2311.08105.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from ringfence.core.tensorfile import TensorFile, header_bytes, layout_entries, write_all
from ringfence.core.tensors import Layout, Segment, Source, Vector
from ringfence.core.terms import Outer


@dataclass(frozen=True, slots=True, kw_only=True)
class Momentum:
    """The momentum m of the former release, none at first, and the file that takes the new one.

    The files hold the update's layout.  The new one is whole once every segment of the step was
    asked for; the caller keeps the old one until the release that used it is safe.
    """

    old: TensorFile | None
    new_fd: int


def keeps_momentum(outer: Outer) -> bool:
    """Whether `outer_step` needs a `Momentum`."""
    return outer.momentum > 0


def outer_step(mean: Source, layout: Layout, outer: Outer, *, momentum: Momentum | None) -> Source:
    """The step of `outer` on `mean`, computed (and its momentum written) segment by segment.

    Raises: LayoutError when the old momentum is not of `layout`; `ValueError` when `momentum` is
    missing, or given though `outer` keeps none.
    """
    if keeps_momentum(outer) != (momentum is not None):
        raise ValueError("expected momentum files exactly when the outer optimiser keeps momentum")
    lr = np.float32(outer.lr)
    apply_momentum = _momentum_part(layout, outer, momentum) if momentum else None

    def fill(segment: Segment, step_P: Vector) -> None:
        mean(segment, step_P)
        # What overflows becomes infinite, and whoever encodes the step reports it by name.
        with np.errstate(over="ignore", invalid="ignore"):
            if apply_momentum:
                apply_momentum(segment, step_P)
            if lr != 1:
                np.multiply(step_P, lr, out=step_P)

    return fill


def _momentum_part(layout: Layout, outer: Outer, momentum: Momentum) -> Source:
    """Replaces Δ by m (sgd) or Δ + μ·m (nesterov), and writes m."""
    if momentum.old:
        momentum.old.check_layout(layout)
    header = header_bytes(layout_entries(layout))
    os.ftruncate(momentum.new_fd, len(header) + layout.size_bytes)
    write_all(momentum.new_fd, 0, memoryview(header))
    mu = np.float32(outer.momentum)
    nesterov = outer.optimizer == "nesterov"

    def apply(segment: Segment, delta_P: Vector) -> None:
        momentum_P = np.zeros(segment.elements, np.float32)
        if momentum.old:
            momentum.old.read_segment(segment, momentum_P)
            np.multiply(momentum_P, mu, out=momentum_P)
        np.add(momentum_P, delta_P, out=momentum_P)
        write_all(momentum.new_fd, len(header) + segment.first * 4, momentum_P.view(np.uint8).data)
        if nesterov:
            np.multiply(momentum_P, mu, out=momentum_P)
            np.add(delta_P, momentum_P, out=delta_P)
        else:
            delta_P[:] = momentum_P

    return apply
