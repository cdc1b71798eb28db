"""What the agreement says of a region's chips, as the law reads it."""

from __future__ import annotations

import functools
from datetime import date

from ringfence.core import ids
from ringfence.core.terms import ChipLot, Party
from ringfence.policy.chips import Attestation, Finding, american_day, classify, explain
from ringfence.policy.words import Chip


def chip_class(party: Party, *, at: float) -> Chip:
    """Export-control class of the most restricted chip that trains in a region.

    It is the agreement's word, or follows from the chips that it lists, on the American day of the
    time `at` (seconds since the epoch).
    """
    if party.hardware != "attested":
        return Chip(party.hardware)
    return _classify(party.chips, american_day(at))


def chip_findings(party: Party, *, at: float) -> tuple[Finding, ...]:
    """What each entry of a region's chips amounts to and why; none where only a word is given."""
    return explain(map(_attestation, party.chips), at=american_day(at))


@functools.lru_cache(maxsize=1024)
def _classify(chips: tuple[ChipLot, ...], day: date) -> Chip:
    """Kept by day: every decision asks for every contributor."""
    return classify(map(_attestation, chips), at=day)


def _attestation(lot: ChipLot) -> Attestation:
    return Attestation(
        model=lot.model,
        count=lot.count,
        bought=date.fromisoformat(lot.bought) if lot.bought else None,
        licence=lot.licence,
        evidence=ids.digest(lot.evidence) if lot.evidence else None,
    )
