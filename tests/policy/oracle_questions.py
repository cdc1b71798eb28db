"""Questions to the judge as the oracle describes them: every fact and paper that a cell names."""

from __future__ import annotations

from dataclasses import replace

from tests.policy.demo_world import DAY_S, EXPIRES, ISSUED, NOW
from tests.policy.oracle import Cell, Condition, Oracle, Route

from ringfence.core.ids import Digest, Jurisdiction, LineageId, RegionId
from ringfence.policy.approvals import MAY_LOWER, Approval, ApprovalId, OperatorId
from ringfence.policy.bulk import IDENTIFIERS_LINE
from ringfence.policy.coverage import RECEIVER_HELD
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Market,
    Party,
    Percent,
    Question,
    Screening,
)
from ringfence.policy.words import Action, ApprovalType, Chip, DataClass, ItemKind, Purpose, Trait

LINEAGE = LineageId("oracle")
SCOPE = Digest("sha256:" + "0c" * 32)
PAPER = Digest("sha256:" + "d0" * 32)
INHERITS = frozenset({"2", "5", "6", "7", "8", "14"})
NOBODY = Counters(
    cn_people=0, cn_sensitive_people=0, us_people=0, us_devices=0, us_line=IDENTIFIERS_LINE
)
MANY = replace(NOBODY, us_people=200_000)


def asked(
    oracle: Oracle,
    cell: Cell,
    route: Route,
    kind: str,
    *,
    without: Condition | None = None,
    action: Action = Action.EXPORT,
) -> Question:
    """The cell's crossing with everything of `route` in order but the condition `without`."""
    conditions = [c for c in route.conditions if c is not without]
    question = _bare(oracle, cell, kind, action)
    for name in sorted(route.unmet):
        question = _unmet(question, name, "")
    if without is not None and without.paper is None and not _lowered(without):
        question = _unmet(question, without.key, without.instead)
    lowered = {c.key.partition(":")[2] for c in conditions if _lowered(c)} | set(route.also_lowered)
    papers = [
        _paper(c, question, oracle, lowered=lowered) for c in conditions if c.paper is not None
    ]
    return replace(question, approvals=tuple(papers))


def refused_whatever_is_held(oracle: Oracle, cell: Cell, kind: str, *, bare: bool) -> Question:
    """A crossing marked X: with every paper there is, or with none and above the bulk line."""
    question = _bare(oracle, cell, kind, Action.EXPORT)
    if bare:
        return _unmet(question, "counters:us_below_bulk", "")
    papers = []
    for type_ in ApprovalType:
        seat, lowerable = MAY_LOWER.get(type_, (cell.source, frozenset()))
        if seat == cell.source and type_ is not ApprovalType.PLAT_FLAG_REVIEW:
            papers.append(_approval(type_, question, lowers=lowerable & question.classes))
    return replace(question, approvals=tuple(papers))


def _lowered(condition: Condition) -> bool:
    return condition.key.startswith("class_lowered:")


def _bare(oracle: Oracle, cell: Cell, kind: str, action: Action) -> Question:
    base = oracle.base
    sender = _party(base.us_person, cell.source, "sender")
    recipient = _party(base.us_person, cell.destination, "recipient")
    classes = frozenset(DataClass(name) for name in base.training_data[cell.source])
    if cell.row in ("1", "3", "4"):
        classes |= {DataClass.RAW if cell.row == "1" else DataClass.PER_SAMPLE}
    elif cell.row == "13 content":
        classes = frozenset(DataClass(name) for name in base.contents)
    elif cell.row not in INHERITS:
        classes = frozenset()
    return Question(
        action=action,
        kind=ItemKind(kind),
        content=None,
        lineage=LINEAGE,
        contributors=frozenset({sender}),
        sender=sender,
        recipient=recipient,
        classes=classes,
        carries_seed=False,
        purpose=Purpose(base.purpose),
        scope=SCOPE,
        market=Market(
            countries=frozenset({Jurisdiction(cell.destination)}),
            sae_level=base.market_sae_level,
            model_year=base.market_model_year,
        ),
        compute=Compute(chip=Chip.UNCONTROLLED, training_ops=1e24),
        counters=NOBODY,
        cohort=Cohort(smallest=20, floor=10),
        extraction=ExtractionTest(passed=True, tested_at=NOW - DAY_S, evidence=PAPER),
        approvals=(),
        revoked=frozenset(),
        now=NOW,
        holding=frozenset(),
    )


def _party(us_persons: tuple[str, ...], place: str, end: str) -> Party:
    return Party(
        region=RegionId(f"{place.lower()}-{end}"),
        jurisdiction=Jurisdiction(place),
        operator=OperatorId(f"{place} {end}"),
        parent=Jurisdiction(place),
        screening=Screening(
            at=NOW - 3600,
            us_listed=False,
            cn_listed=False,
            listed_owners_percent=Percent(0),
            adversary_owners_percent=Percent(0),
        ),
        traits=frozenset({Trait.US_PERSON} if place in us_persons else ()),
    )


def _unmet(question: Question, fact: str, instead: str) -> Question:
    """The question with one fact out of order, as the oracle's `[facts]` say."""
    match fact, instead:
        case "screening:recipient", _:
            return replace(question, recipient=_stale(question.recipient))
        case "screening:sender", _:
            stale = _stale(question.sender)
            return replace(question, sender=stale, contributors=frozenset({stale}))
        case "extraction:passed", _:
            test = ExtractionTest(passed=False, tested_at=NOW - DAY_S, evidence=PAPER)
            return replace(question, extraction=test)
        case "extraction:fresh", _:
            test = ExtractionTest(passed=True, tested_at=NOW - 31 * DAY_S, evidence=PAPER)
            return replace(question, extraction=test)
        case "counters:us_below_bulk", _:
            return replace(question, counters=MANY)
        case "ops:below_1e26", _:
            return replace(question, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=2e26))
        case "chip:attested_uncontrolled", chip:
            return replace(question, compute=Compute(chip=Chip(chip), training_ops=1e24))
        case "cohort:floor", _:
            return replace(question, cohort=Cohort(smallest=9, floor=10))
        case "seed:absent", _:
            return replace(question, carries_seed=True)
        case "purpose:civil", purpose:
            return replace(question, purpose=Purpose(purpose))
        case "market:not_us_l3_2027", _:
            countries = frozenset({Jurisdiction("US")})
            return replace(
                question, market=Market(countries=countries, sae_level=3, model_year=2027)
            )
    raise AssertionError(f"the oracle names a fact that no question has: {fact} {instead}")


def _stale(party: Party) -> Party:
    assert party.screening is not None
    return replace(party, screening=replace(party.screening, at=NOW - 2 * DAY_S))


def _paper(
    condition: Condition, question: Question, oracle: Oracle, *, lowered: set[str]
) -> Approval:
    type_ = ApprovalType(condition.paper or "")
    seat, lowerable = MAY_LOWER.get(type_, ("", frozenset()))
    ends = frozenset(c for c in lowerable if f"{c}@{seat}" in lowered)
    _, _, direction = condition.key.partition("@")
    return _approval(type_, question, direction=direction, lowers=ends)


def _approval(
    type_: ApprovalType,
    question: Question,
    *,
    direction: str = "",
    lowers: frozenset[DataClass],
) -> Approval:
    here, there = question.sender, question.recipient
    origin, _, destination = direction.partition(">")
    holder, partner = (there, here) if type_ in RECEIVER_HELD else (here, there)
    return Approval(
        id=ApprovalId(f"{type_}/{direction}"),
        type=type_,
        issuer="the oracle",
        holder=holder.operator,
        counterparties=frozenset({partner.operator}),
        kinds=frozenset({question.kind}),
        origin=Jurisdiction(origin or here.jurisdiction),
        destination=Jurisdiction(destination or there.jurisdiction),
        lineage=LINEAGE,
        purpose=question.purpose,
        scope=SCOPE,
        lowers=lowers,
        issued=ISSUED,
        expires=EXPIRES,
        revocation_source="a list",
        document=PAPER,
    )
