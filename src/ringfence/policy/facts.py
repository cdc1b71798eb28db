"""The typed facts of one question to the law: who wants to do what, with what, for whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NewType

from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, Jurisdiction, LineageId, RegionId
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.words import CROSSINGS, Action, Chip, DataClass, ItemKind, Purpose, Trait

Percent = NewType("Percent", int)

HOLDING = frozenset({Action.EXPORT, Action.DISCLOSE, Action.DEPLOY})
"""What a flag holds unless the agreement says otherwise (PLAT-FLAG)."""

_AMERICAN = frozenset({Jurisdiction("US")})
"""Its export controls follow chips and persons abroad: US-EAR-3A090, -HQ, -GP10, -TRAIN, -FDPR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """What a search of the lists found about one operator, and when (seconds since the epoch).

    Both shares are computed from the registered chain of owners (`policy.ownership`), in whole per
    cent: `listed_owners_percent` is what listed parties hold (US-EAR-50PCT),
    `adversary_owners_percent` what persons of China or Russia do, 100 where it sits there itself
    (US-ICTS-791.303).  `at` is the time of the oldest search in that chain.
    """

    at: float
    us_listed: bool
    cn_listed: bool
    listed_owners_percent: Percent
    adversary_owners_percent: Percent

    def __post_init__(self) -> None:
        for percent in (self.listed_owners_percent, self.adversary_owners_percent):
            _expect(0 <= percent <= 100, "owners' share from 0 to 100 per cent")
        _expect(math.isfinite(self.at), "a finite time of screening")


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One end of a crossing, or a contributor: a region and the company that operates it.

    `parent` is the seat of the operator's ultimate parent; `screening` None means never screened;
    `traits` are what the agreement says of the operator.
    """

    region: RegionId
    jurisdiction: Jurisdiction
    operator: OperatorId
    parent: Jurisdiction
    screening: Screening | None
    traits: frozenset[Trait] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Where releases of a lineage may be put on the road; no countries: nowhere.

    `sae_level` is the highest level of automation, `model_year` the latest model year.
    """

    countries: frozenset[Jurisdiction]
    sae_level: int
    model_year: int

    def __post_init__(self) -> None:
        _expect(0 <= self.sae_level <= 5, "an SAE level from 0 to 5")
        _expect(not self.countries or self.model_year >= 2000, "a model year for the market")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The hardware that made the item and the operations of its whole training so far."""

    chip: Chip
    training_ops: float

    def __post_init__(self) -> None:
        # Above 1e35 the schema's 64-bit count of 1e18 operations would overflow.
        _expect(0 <= self.training_ops <= 1e35, "training operations from 0 to 1e35")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Distinct subjects whose data this item was made of, with all exports counted before it.

    China: people since 1 January (Asia/Shanghai).  United States: people and devices over the last
    twelve months for this recipient (28 CFR 202.205); `us_line` is the lowest line among the
    categories of all that was added up.
    """

    cn_people: int
    cn_sensitive_people: int
    us_people: int
    us_devices: int
    us_line: int

    def __post_init__(self) -> None:
        counts = (
            self.cn_people,
            self.cn_sensitive_people,
            self.us_people,
            self.us_devices,
            self.us_line,
        )
        _expect(all(0 <= count < 1 << 53 for count in counts), "counts of at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The smallest cell of a table of metrics, and the least that the agreement allows."""

    smallest: int
    floor: int

    def __post_init__(self) -> None:
        _expect(0 <= self.smallest < 1 << 53, "a cell of at least 0")
        _expect(1 <= self.floor < 1 << 53, "a least cohort of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionTest:
    """Result of the test whether training data can be drawn out of the item (PLAT-EXTRACT).

    `evidence` is the digest of the signed record that says so.
    """

    passed: bool
    tested_at: float
    evidence: Digest

    def __post_init__(self) -> None:
        _expect(math.isfinite(self.tested_at), "a finite time of test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Every fact that the packs may look at; `None` says that a fact is not known.

    `contributors` are the regions whose data or state is in the item, through its whole ancestry;
    `content` is None while a crossing is only planned; `scope` is the digest of what counsel
    approved (layout, clip bound, codec: whatever the agreement fixes about the flow).  `sender` and
    `recipient` are the same party unless something crosses.  `holding` are the actions that a
    flag holds until a person has looked into it (PLAT-FLAG).
    """

    action: Action
    kind: ItemKind
    content: Digest | None
    lineage: LineageId
    contributors: frozenset[Party]
    sender: Party
    recipient: Party
    classes: frozenset[DataClass]
    carries_seed: bool
    purpose: Purpose
    scope: Digest
    market: Market | None
    compute: Compute | None
    counters: Counters | None
    cohort: Cohort | None
    extraction: ExtractionTest | None
    approvals: tuple[Approval, ...]
    revoked: frozenset[ApprovalId]
    now: float
    carries_crypto: bool = False
    holding: frozenset[Action] = HOLDING
    # Jurisdictions of the full lineage, the sender's included.
    origins: frozenset[Jurisdiction] = field(init=False, repr=False, compare=False)
    # Whether a paper that the item's ancestry relied on has been revoked since; asked to deploy.
    affected: bool | None = None

    def __post_init__(self) -> None:
        places = {self.sender.jurisdiction, *(party.jurisdiction for party in self.contributors)}
        object.__setattr__(self, "origins", frozenset(places))
        _expect(math.isfinite(self.now), "a finite time")
        _expect(
            self.action in CROSSINGS or self.sender == self.recipient,
            f"one party to {self.action}, not a sender and another recipient",
        )

    @property
    def jurisdictions(self) -> frozenset[Jurisdiction]:
        """Jurisdictions whose packs must judge: lineage, sender, recipient and target market.

        American law also follows what it controls, wherever that is (`_AMERICAN`).
        """
        markets = self.market.countries if self.market else frozenset()
        return self.origins | {self.recipient.jurisdiction} | markets | self._reached

    @property
    def _reached(self) -> frozenset[Jurisdiction]:
        """The United States where a controlled chip or a US person takes part."""
        chip = self.compute is not None and self.compute.chip is not Chip.UNCONTROLLED
        person = any(Trait.US_PERSON in party.traits for party in (self.sender, self.recipient))
        return _AMERICAN if chip or person else frozenset()


def _expect(holds: bool, expected: str) -> None:
    if not holds:
        raise FormatError(f"facts of a question: expected {expected}; correct the declaration")
