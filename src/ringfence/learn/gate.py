"""The release gate: a candidate that costs a region too much, or serves one too badly, is held."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ringfence.core.ids import RegionId
from ringfence.core.terms import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The candidate becomes a release; the region that it serves worst, for the record."""

    worst_region: RegionId
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The candidate does not become a release: a stable reason and a sentence for a person."""

    reason: Literal["evaluation-missing", "evaluation-invalid", "region-loses", "region-too-low"]
    region: RegionId
    detail: str


def judge(
    gate: Gate, *, before: Mapping[RegionId, float], after: Mapping[RegionId, float]
) -> Passed | Held:
    """Decide on a candidate by each region's metric before (base) and after (candidate).

    Unit: points of `gate.metric`, more is better.  The regions are those of the lineage: one that
    is missing on either side, or has no finite number, holds the candidate, and so does an empty
    evaluation.  Regions are looked at in order of id; the first that fails is named.
    """
    regions = sorted(before.keys() | after.keys())
    if not regions:
        return Held(
            reason="evaluation-missing",
            region=RegionId(""),
            detail="expected evaluations, got none; wait for the regions",
        )
    for region in regions:
        held = _judge_region(gate, region, before.get(region), after.get(region))
        if held:
            return held
    worst_region = min(regions, key=lambda region: (after[region], region))
    return Passed(worst_region=worst_region, worst=after[worst_region])


def _judge_region(
    gate: Gate, region: RegionId, before: float | None, after: float | None
) -> Held | None:
    """Why this region holds the candidate; `None` means that it does not."""
    if before is None or after is None:
        return Held(
            reason="evaluation-missing",
            region=region,
            detail=f"expected {gate.metric} of {region} before and after, got one; evaluate again",
        )
    if not (math.isfinite(before) and math.isfinite(after)):
        return Held(
            reason="evaluation-invalid",
            region=region,
            detail=f"expected finite {gate.metric} of {region}, got another; evaluate again",
        )
    if before - after > gate.most_loss:
        return Held(
            reason="region-loses",
            region=region,
            detail=f"{region} loses {before - after:.2f} points of {gate.metric}; "
            f"the agreement allows {gate.most_loss:g}",
        )
    if after < gate.worst_at_least:
        return Held(
            reason="region-too-low",
            region=region,
            detail=f"{region} has {after:.2f} points of {gate.metric}; "
            f"the agreement wants at least {gate.worst_at_least:g}",
        )
    return None
