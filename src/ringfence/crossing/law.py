"""A region's law, and the facts that it is asked about: from the agreement and the registry."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from ringfence.core import ids
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.clock import Clock
from ringfence.core.errors import StateError
from ringfence.core.ids import Jurisdiction, RegionId
from ringfence.core.terms import Lineage
from ringfence.core.terms import Party as AgreedParty
from ringfence.crossing.counters import CounterLedger, Counts
from ringfence.crossing.exports import Catalogued, Export, export_of
from ringfence.crossing.hardware import chip_class
from ringfence.crossing.ownership import require_parent
from ringfence.crossing.registry import Registry
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.chips import most_restricted
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Market,
    Party,
    Question,
    Screening,
)
from ringfence.policy.judge import Judge, Verdict, enforce
from ringfence.policy.words import CROSSINGS, Action, Chip, DataClass, ItemKind, Purpose, Trait


def _no_guard() -> None:
    raise StateError(
        "this law can say what it would decide, but lets nothing cross: nobody guards its clock; "
        "open the region with its log"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What one region decides by; needs no key and no log, so that a plan can be checked with it.

    `approvals` and `registry` are asked anew for every decision, so that a revocation or an expiry
    stops the next crossing even in the middle of a run.  `require_time` raises `Refused` while the
    clock is wrong (`Timekeeper.require`); a law without one decides nothing.  `ledger` counts whose
    data were exported, and `catalogue` is that of the region's own data; without a ledger nobody
    counts, and what needs a number is refused.
    """

    region: RegionId
    agreement: Agreement
    judge: Judge
    approvals: Callable[[], tuple[Approval, ...]]
    registry: Callable[[], Registry]
    clock: Clock
    require_time: Callable[[], None] = _no_guard
    ledger: CounterLedger | None = None
    catalogue: Catalogued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A permit, and the question that it answers, to be recorded with what it permits."""

    question: Question
    verdict: Verdict


class Screenings(Protocol):
    """Screenings as they stand at one time, hashable: equal ones say the same of every party."""

    def of(self, party: AgreedParty) -> Screening | None:
        """The screening of the party's operator; None when nobody has searched for it.

        Raises: Refused where what is known of the party contradicts what was agreed of it.
        """
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a region knows at one moment beside the agreement and the declaration.

    `operations` are those that the region has registered, spent before, and the most that the plan
    can add to them (EU-AIA-53, US-EAR-4E091).
    """

    now: float
    screenings: Screenings
    operations: float | None
    counters: Counters | None
    extraction: ExtractionTest | None
    approvals: tuple[Approval, ...]
    revoked: frozenset[ApprovalId]


def judge(law: Law, declaration: Declaration, *, action: Action) -> Ruling:
    """Ask the region's own packs; raises `Refused` at stage `law` unless all of them permit.

    The clock is looked at first (PLAT-CLOCK): every expiry and every age is reckoned from it.
    """
    law.require_time()
    asked = question(law, declaration, action=action)
    verdict = law.judge.judge(asked)
    enforce(verdict, stage="law")
    return Ruling(question=asked, verdict=verdict)


def question(
    law: Law, declaration: Declaration, *, action: Action, counts: Counts | None = None
) -> Question:
    """The facts of one artifact for one action, from where the region itself knows them.

    What a counterparty declares about itself is not taken: operators, seats, data classes and chips
    come from the agreement, screenings and tests from the region's own registry, counters from its
    ledger, or from `counts` where a plan is asked about.

    Raises: Refused at stage `law` where agreement and registry contradict one another.
    """
    registry = law.registry()
    now_s = law.clock()
    before = registry.training_ops
    known = Known(
        now=now_s,
        # A party is the same at every time after the last search, and so is kept.
        screenings=_Registered(registry=registry, at_s=min(now_s, registry.last_search_s)),
        operations=None if before is None else _sum_up(before, law.agreement.planned_operations),
        counters=_counters(law, registry, declaration, counts or law.ledger),
        extraction=registry.extraction(declaration.lineage),
        approvals=law.approvals(),
        revoked=frozenset(ApprovalId(name) for name in registry.revoked),
    )
    return put_question(law.agreement, declaration, known, action=action, region=law.region)


def put_question(
    agreement: Agreement,
    declaration: Declaration,
    known: Known,
    *,
    action: Action,
    region: RegionId,
) -> Question:
    """The question that `region` asks: what was agreed and declared, and what it knows besides.

    An auditor puts it once more, with what a log says was known (`retrial`).
    """
    lineage = agreement.lineage(declaration.lineage)
    screenings = known.screenings
    here = _party(agreement, screenings, region)
    crosses = action in CROSSINGS
    return Question(
        action=action,
        kind=ItemKind(declaration.kind),
        content=None if declaration.payload is None else ids.digest(declaration.payload.digest),
        lineage=ids.lineage_id(lineage.id),
        contributors=_contributing(agreement, screenings, declaration.jurisdictions),
        sender=_party(agreement, screenings, declaration.sender) if crosses else here,
        recipient=_party(agreement, screenings, declaration.recipient) if crosses else here,
        classes=frozenset(
            DataClass(name) for name in data_classes(agreement, declaration.jurisdictions)
        ),
        carries_seed=False,  # no payload format has a place for one
        purpose=Purpose(agreement.terms.training.purpose),
        scope=agreement.scope,
        market=_market(lineage),
        compute=_compute(agreement, known, declaration.jurisdictions, action=action, region=region),
        counters=known.counters,
        cohort=_cohort(agreement, declaration),
        extraction=known.extraction,
        approvals=known.approvals,
        revoked=known.revoked,
        now=known.now,
        carries_crypto=False,  # nor for code
        holding=frozenset(Action(name) for name in agreement.terms.flags.hold),
    )


def export(law: Law, declaration: Declaration) -> Export:
    """What this crossing would add to the counters, as this region knows it."""
    return _export(law, law.registry(), declaration)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    """What the region's own registry says; one object for as long as its file is the same."""

    registry: Registry
    at_s: float

    def of(self, party: AgreedParty) -> Screening | None:
        require_parent(party, self.registry)
        return self.registry.screening(party.operator, now_s=self.at_s)


# Kept by agreement and screenings, which are immutable: a decision asks for every contributor.


@functools.lru_cache(maxsize=256)
def contributors(agreement: Agreement, jurisdictions: tuple[str, ...]) -> tuple[str, ...]:
    """Regions whose data may be in an item with these tags: all that train under one of them."""
    training = {name for line in agreement.terms.lineages for name in line.contributors}
    return tuple(
        party.id
        for party in agreement.terms.regions
        if party.id in training and party.jurisdiction in jurisdictions
    )


@functools.lru_cache(maxsize=256)
def data_classes(agreement: Agreement, jurisdictions: tuple[str, ...]) -> tuple[str, ...]:
    """Classes are inherited from the training data of the whole lineage (PLAT-DERIVED)."""
    names = contributors(agreement, jurisdictions)
    return tuple(sorted({item for name in names for item in agreement.region(name).data_classes}))


def _export(law: Law, registry: Registry, declaration: Declaration) -> Export:
    names = contributors(law.agreement, declaration.jurisdictions)
    return export_of(law.agreement, registry, law.catalogue, declaration, names)


def _counters(
    law: Law, registry: Registry, declaration: Declaration, counts: Counts | None
) -> Counters | None:
    """What was exported before this program counted, with all that the ledger counts.

    None, which every pack refuses, when nobody counts or a contributor's subjects are unknown.
    """
    now_s = law.clock()
    opening = registry.opening(now_s)
    asked = _export(law, registry, declaration)
    if opening is None or counts is None or asked.uncounted:
        return None
    found = counts.figures(asked, overlaps=registry.overlaps, now_s=now_s)
    return Counters(
        cn_people=opening.cn_people + found.cn.people,
        cn_sensitive_people=opening.cn_sensitive_people + found.cn.sensitive_people,
        us_people=opening.us_people + found.us.people,
        us_devices=opening.us_devices + found.us.devices,
        us_line=min(opening.us_line, found.us_line),
    )


def _sum_up(before: float, planned: float) -> float:
    """The sum, rounded up where a float cannot hold it: a line that is passed is passed."""
    total = before + planned
    if math.isinf(total) or total >= Fraction(before) + Fraction(planned):
        return total
    return math.nextafter(total, math.inf)


@functools.lru_cache(maxsize=256)
def _contributing(
    agreement: Agreement, screenings: Screenings, jurisdictions: tuple[str, ...]
) -> frozenset[Party]:
    names = contributors(agreement, jurisdictions)
    return frozenset(_party(agreement, screenings, name) for name in names)


@functools.lru_cache(maxsize=1024)
def _party(agreement: Agreement, screenings: Screenings, name: str) -> Party:
    terms = agreement.region(name)
    return Party(
        region=ids.region_id(name),
        jurisdiction=ids.jurisdiction(terms.jurisdiction),
        operator=OperatorId(terms.operator),
        parent=ids.jurisdiction(terms.parent),
        screening=screenings.of(terms),
        traits=frozenset(Trait(name) for name in terms.traits),
    )


def _market(lineage: Lineage) -> Market:
    target = lineage.target
    if target is None:
        return Market(countries=frozenset(), sae_level=0, model_year=0)
    return Market(
        countries=frozenset(Jurisdiction(code) for code in target.countries),
        sae_level=target.sae_level,
        model_year=target.model_year,
    )


def _compute(
    agreement: Agreement,
    known: Known,
    jurisdictions: tuple[str, ...],
    *,
    action: Action,
    region: RegionId,
) -> Compute | None:
    """The most restricted chip that took part, by the agreement, and all operations.

    Leave to train is about the chips of this place, wherever else the lineage trains; what denies
    the outputs (US-EAR-GP10) follows the lineage there as well.
    """
    if known.operations is None:
        return None
    names = contributors(agreement, jurisdictions)
    chips = [chip_class(agreement.region(name), at=known.now) for name in names]
    if action is Action.TRAIN:
        inherited = [chip for chip in chips if chip is Chip.PRC_3A090]
        chips = [chip_class(agreement.region(region), at=known.now), *inherited]
    worst = most_restricted(chips, otherwise=Chip.UNCONTROLLED)
    return Compute(chip=worst, training_ops=known.operations)


def _cohort(agreement: Agreement, declaration: Declaration) -> Cohort | None:
    """Over how many examples the numbers were taken, or the update was trained (section 7, row 5).

    An update answers to the highest floor that was agreed for any number.
    """
    floors = [agreement.metric(name).least_cohort for name in declaration.metrics]
    if declaration.kind == "update":
        floors = [metric.least_cohort for metric in agreement.terms.metrics]
    if not floors:
        return None
    floor = max(floors)
    # By how much it is above the floor, no pack asks, and equal questions are judged once.
    return Cohort(smallest=min(declaration.examples, floor), floor=floor)
