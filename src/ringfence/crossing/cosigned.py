"""What the other regions' signatures prove about the time (PLAT-CLOCK).

A signature that carries a time was made by its signer's clock, at a moment that we can often bound
by our own steady clock, which nobody sets:

    before   we heard of it                                      always
    after    something existed that it covers or answers         when that came about in this run

So if the signer's clock is right, the true time now lies between a *floor*, the time that it signed
and what has passed since we heard of it, and a *ceiling*, that time and what has passed since it
could first be signed.  Without the second moment there is no ceiling: the signature may be old.

    our clock is more than 5 minutes below the floor      proves that it is behind, old or not
    our clock is more than 5 minutes above the ceiling    proves that it is ahead
    anything else                                         proves nothing, and clears only between

One signer's clock may be wrong, or lie, so that signers are counted as everywhere a log is
cosigned: it takes more than half of the others, whether they were heard or not, to convict our
clock, and to overrule what this region remembers itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ringfence.ledger.checkpoints import majority

CLOCK_TOLERANCE_S = 300.0
"""PLAT-CLOCK: how far two clocks may differ, and how old an offer may be."""

Source = Literal["cosignature", "receipt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A time that `region` signed.

    `order` grows along one source of one region (tree size, log index); a lower one is old news.
    `time_s` is seconds since the epoch by the signer's clock; `heard_s` and `since_s` are readings
    of our steady clock: when it reached us, and when it could first be signed (None: unknown).
    """

    region: str
    source: Source
    order: int
    time_s: float
    heard_s: float
    since_s: float | None

    def floor_s(self, steady_s: float) -> float:
        """The least that the time can be now, by the signer's clock."""
        return self.time_s + steady_s - self.heard_s

    def ceiling_s(self, steady_s: float) -> float:
        """The most that it can be; infinite when the signature may be of any age."""
        return math.inf if self.since_s is None else self.time_s + steady_s - self.since_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """What more than half of the signers prove: at least `seconds` ahead (else behind)."""

    ahead: bool
    seconds: float
    regions: tuple[str, ...]


class CosignedTime:
    """The newest signed time of each other region; for one thread at a time.

    `others` is how many regions cosign; what half of them say, or fewer, decides nothing.
    """

    def __init__(self, *, others: int) -> None:
        self._others = others
        self._voices: dict[str, Signed] = {}
        self._newest: dict[tuple[str, Source], Signed] = {}

    def hear(self, signed: Signed) -> None:
        """Take a verified time; what was heard before, or is older than that, changes nothing."""
        key = (signed.region, signed.source)
        known = self._newest.get(key)
        if known is not None and (signed.order, signed.time_s) == (known.order, known.time_s):
            return  # shown again: when it was first heard says more
        if known is not None and signed.order < known.order:
            return
        self._newest[key] = signed
        self._voices[signed.region] = signed

    def convicts(self, time_s: float, steady_s: float) -> Deviation | None:
        """The error that more than half of the others prove of a clock that says `time_s` now.

        Of their proofs the median one counts, so that no single liar sets the number.
        """
        behind = {
            each.region: each.floor_s(steady_s) - time_s
            for each in self._voices.values()
            if each.floor_s(steady_s) - time_s > CLOCK_TOLERANCE_S
        }
        ahead = {
            each.region: time_s - each.ceiling_s(steady_s)
            for each in self._voices.values()
            if time_s - each.ceiling_s(steady_s) > CLOCK_TOLERANCE_S
        }
        for proofs, is_ahead in ((behind, False), (ahead, True)):
            if len(proofs) >= self._needed:
                by_size = sorted(proofs.values())
                return Deviation(
                    ahead=is_ahead,
                    seconds=by_size[(len(by_size) - 1) // 2],
                    regions=tuple(sorted(proofs)),
                )
        return None

    def clears(self, time_s: float, steady_s: float, *, of_being_ahead: bool) -> bool:
        """Whether more than half of the others show that `time_s` is not ahead (else: behind).

        What shows that a clock is not ahead is a floor near it; a ceiling, that it is not behind.
        """
        showing = sum(
            each.floor_s(steady_s) >= time_s - CLOCK_TOLERANCE_S
            if of_being_ahead
            else each.ceiling_s(steady_s) <= time_s + CLOCK_TOLERANCE_S
            for each in self._voices.values()
        )
        return showing >= self._needed

    @property
    def _needed(self) -> int:
        return majority(max(self._others, len(self._voices)))
