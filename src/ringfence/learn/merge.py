"""The weighted mean of the regions' updates, segment by segment, the same bytes every time.

FedAvg: Δ = Σ pₖ·Δₖ with pₖ = nₖ/n.  Each pₖ is computed in float64 and rounded once to float32;
the sum runs in order of region id, in float32.  Nothing depends on the order of arrival, on the
number of threads or on what the processor offers, so that a restart, and an auditor, repeat it.
Memory is one buffer, however many regions there are.
Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ringfence.core.ids import RegionId
from ringfence.core.tensors import Segment, Source, Vector

Adder = Callable[[Segment, np.float32, Vector], None]
"""Adds (second argument) times the values of a segment to the third; `codec.PayloadFile.add`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One region's verified update: how many examples it counts for, and its decoder."""

    region: RegionId
    examples: int
    add: Adder

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"region {self.region}: expected at least 1 example to merge")


def weights(contributions: Sequence[Contribution]) -> tuple[np.float32, ...]:
    """pₖ = nₖ/n for each contribution, in the order given."""
    total = sum(contribution.examples for contribution in contributions)
    return tuple(np.float32(contribution.examples / total) for contribution in contributions)


def weighted_mean(contributions: Sequence[Contribution]) -> Source:
    """The mean of the contributions' updates, computed when a segment is asked for.

    Threads may share it when the decoders allow it.  Raises `ValueError` when there is none, or
    two of one region.
    """
    ordered = sorted(contributions, key=lambda contribution: contribution.region)
    if not ordered or len({contribution.region for contribution in ordered}) != len(ordered):
        raise ValueError("expected one contribution a region, and at least one")
    weighted = tuple(zip(ordered, weights(ordered), strict=True))

    def fill(segment: Segment, mean_P: Vector) -> None:
        mean_P[:] = 0
        for contribution, weight in weighted:
            contribution.add(segment, weight, mean_P)

    return fill
