"""Which held approvals cover a question: every scope exact, nothing implied by a gap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ringfence.core.ids import Digest, Jurisdiction, LineageId
from ringfence.policy.approvals import MAY_LOWER, Approval, ApprovalId, OperatorId
from ringfence.policy.facts import Party, Question
from ringfence.policy.words import FOR_THE_MARKET, ApprovalType, DataClass

W = TypeVar("W", bound=str)

# Given to whoever brings the item in or puts it on the road; every other type is the exporter's.
RECEIVER_HELD = frozenset(
    {
        ApprovalType.BIS_ICTS_AUTH,
        ApprovalType.BIS_LEGACY,
        ApprovalType.CN_OTA_FILING,
        ApprovalType.DPF_CERT,
        ApprovalType.TYPE_APPROVAL_ID,
    }
)

# Given for what was declared, and to be declared again when the flow drifts from it.
_DECLARED = frozenset({ApprovalType.CAC_ASSESSMENT})

_NOBODY: frozenset[OperatorId] = frozenset()
_DAY_S = 86_400.0

NO_DOCUMENT = Digest("sha256:" + "0" * 64)
"""What a paper that is not there yet is the digest of."""

# A dated hash: `document` is the digest of the item itself, so that no altered item is covered, and
# nothing that is only planned (US-ICTS-LEGACY).
_OF_THESE_BYTES = frozenset({ApprovalType.BIS_LEGACY})


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Held:
    """Every holder whom the law asks has an approval of `type` for `origin` to `destination`."""

    type: ApprovalType
    origin: Jurisdiction
    destination: Jurisdiction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """The operators at both ends, by place.

    They are the sender where it stands, else every contributor there (an onward path), and the
    recipient where it stands, else every contributor there (a market).
    """

    exporters: Mapping[Jurisdiction, frozenset[OperatorId]]
    importers: Mapping[Jurisdiction, frozenset[OperatorId]]

    def holders(self, paper: Held | Approval) -> frozenset[OperatorId]:
        if paper.type in RECEIVER_HELD:
            return self.importers.get(paper.destination, _NOBODY)
        return self.exporters.get(paper.origin, _NOBODY)

    def partners(self, paper: Held | Approval) -> frozenset[OperatorId]:
        if paper.type in RECEIVER_HELD:
            return self.exporters.get(paper.origin, _NOBODY)
        return self.importers.get(paper.destination, _NOBODY)


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Lowered:
    """A class that covering records end for the data of `origin`."""

    data_class: DataClass
    origin: Jurisdiction


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """A rule whose flag counsel has looked into, for `origin` to `destination`."""

    rule: str
    origin: Jurisdiction
    destination: Jurisdiction


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What the papers of one direction say together: what every holder's end, and clear."""

    held: Held
    lowers: frozenset[DataClass]
    clears: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the approvals of a question amount to; `approvals` are all that cover it.

    `granted` says it by direction, the sets beside it over all of them.  `drifted` are declarations
    in force for this lineage and these parties, but for another kind, purpose or scope, where
    nothing that covers the question takes their place (CN-EXP-2022).
    """

    granted: tuple[Granted, ...]
    held: frozenset[Held]
    drifted: frozenset[Held]
    lowered: frozenset[Lowered]
    cleared: frozenset[Cleared]
    approvals: tuple[Approval, ...]

    def clears(self, rule: str, place: Jurisdiction | None) -> bool:
        """Whether the flag of `rule` is cleared by a review from or to the pack's `place`."""
        return any(
            cleared.rule == rule and place in (None, cleared.origin, cleared.destination)
            for cleared in self.cleared
        )


def covers(approval: Approval, question: Question) -> bool:
    """Whether `approval` is in force and names exactly this flow.

    Kind, lineage, purpose and scope are equal; origin is in the lineage; destination is the
    recipient's jurisdiction (for `bis.icts_auth` and `bis.legacy` the market's); holder and
    counterparties are the operators at the two ends; `bis.legacy` names the item's own bytes.
    Validity includes the first instant and excludes the last.
    """
    return _is_for(approval, question) and _in_force(approval, question, _ends(question))


def mattering(question: Question) -> tuple[Approval, ...]:
    """Approvals on which the answer can depend: they cover the question, or it drifted from them.

    With all others left out, the packs answer the same.
    """
    ends = _ends(question)
    return tuple(
        approval
        for approval in papers_of_lineage(question)
        if (approval.type in _DECLARED or _is_for(approval, question))
        and _in_force(approval, question, ends)
    )


def _is_for(approval: Approval, question: Question) -> bool:
    return (
        question.kind in approval.kinds
        and approval.purpose == question.purpose
        and approval.scope == question.scope
    )


def _in_force(approval: Approval, question: Question, ends: _Ends) -> bool:
    """In force for this lineage, these parties and this direction."""
    return (
        approval.lineage == question.lineage
        and approval.issued <= question.now < approval.expires
        and approval.id not in question.revoked
        and _destined(approval, question)
        and approval.origin in question.origins
        and approval.holder in ends.holders(approval)
        and ends.partners(approval) <= approval.counterparties
        and (approval.type not in _OF_THESE_BYTES or approval.document == question.content)
    )


def drift(approval: Approval, question: Question) -> tuple[str, ...]:
    """How the flow that `approval` names differs from the one asked about, in words.

    Empty when it covers the question, and when it is of another place, kind, lineage or time: then
    it was never meant for it.
    """
    meant = (
        question.kind in approval.kinds
        and approval.lineage == question.lineage
        and approval.origin in question.origins
        and _destined(approval, question)
        and approval.issued <= question.now < approval.expires
        and approval.id not in question.revoked
    )
    held = Held(type=approval.type, origin=approval.origin, destination=approval.destination)
    if not meant or approval.holder not in holders_of(held, question):
        return ()
    partners = partners_of(held, question)
    return tuple(
        f"expected {what} {expected}, this one names {named}"
        for what, expected, named, holds in (
            ("scope", question.scope, approval.scope, approval.scope == question.scope),
            ("purpose", question.purpose, approval.purpose, approval.purpose == question.purpose),
            (
                "counterparties",
                ", ".join(sorted(partners)),
                ", ".join(sorted(approval.counterparties)),
                partners <= approval.counterparties,
            ),
        )
        if not holds
    )


def coverage(question: Question) -> Coverage:
    """Sum up the covering approvals by type and direction.

    An approval counts as held only when every operator who must hold it does: two exporters in one
    jurisdiction need one each.
    """
    papers = papers_of_lineage(question)
    ends = _ends(question)
    covering = tuple(
        approval
        for approval in papers
        if _is_for(approval, question) and _in_force(approval, question, ends)
    )
    directions: dict[tuple[ApprovalType, Jurisdiction, Jurisdiction], list[Approval]] = {}
    for approval in covering:
        key = approval.type, approval.origin, approval.destination
        directions.setdefault(key, []).append(approval)
    by_direction = {
        Held(type=type_, origin=origin, destination=destination): approvals
        for (type_, origin, destination), approvals in directions.items()
    }
    granted = tuple(
        Granted(
            held=key,
            lowers=_by_all(approvals, lambda approval: approval.lowers)
            if key.type in MAY_LOWER
            else frozenset(),
            clears=_by_all(approvals, lambda approval: approval.clears)
            if key.type is ApprovalType.PLAT_FLAG_REVIEW
            else frozenset(),
        )
        for key, approvals in by_direction.items()
        if ends.holders(key) <= {approval.holder for approval in approvals}
    )
    held = frozenset(each.held for each in granted)
    lowered = {
        Lowered(data_class=data_class, origin=each.held.origin)
        for each in granted
        for data_class in each.lowers
    }
    cleared = {
        Cleared(rule=rule, origin=each.held.origin, destination=each.held.destination)
        for each in granted
        for rule in each.clears
    }
    drifted = {
        Held(type=approval.type, origin=approval.origin, destination=approval.destination)
        for approval in papers
        if approval.type in _DECLARED
        and not _is_for(approval, question)
        and _in_force(approval, question, ends)
    }
    return Coverage(
        granted=granted,
        held=held,
        drifted=frozenset(drifted - held),
        lowered=frozenset(lowered),
        cleared=frozenset(cleared),
        approvals=covering,
    )


def papers_that_grant(
    granted: Granted,
    question: Question,
    *,
    holders: Iterable[OperatorId],
    document: Digest = NO_DOCUMENT,
) -> tuple[Approval, ...]:
    """Papers that nobody has, one of each holder, which would cover `question` for a day."""
    held = granted.held
    return tuple(
        Approval(
            id=ApprovalId(f"{held.type}/{held.origin}-{held.destination}/{holder}"),
            type=held.type,
            issuer="to be obtained",
            holder=holder,
            counterparties=partners_of(held, question),
            kinds=frozenset({question.kind}),
            origin=held.origin,
            destination=held.destination,
            lineage=question.lineage,
            purpose=question.purpose,
            scope=question.scope,
            lowers=granted.lowers,
            clears=granted.clears,
            issued=question.now,
            expires=question.now + _DAY_S,
            revocation_source="none yet",
            document=document,
        )
        for holder in holders
    )


def papers_of_lineage(question: Question) -> tuple[Approval, ...]:
    """The approvals of the question that can cover it, or drift from it, at all."""
    return _by_lineage(_Same(question.approvals)).get(question.lineage, ())


class _Same:
    """Approvals known by identity: comparing them would take as long as looking them through.

    A region may hold thousands, and asks with the same tuple until one of them changes.
    """

    def __init__(self, approvals: tuple[Approval, ...]) -> None:
        self.approvals = approvals

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.approvals is other.approvals

    def __hash__(self) -> int:
        return id(self.approvals)


@functools.lru_cache(maxsize=8)
def _by_lineage(same: _Same) -> Mapping[LineageId, tuple[Approval, ...]]:
    found: dict[LineageId, list[Approval]] = {}
    for approval in same.approvals:
        found.setdefault(approval.lineage, []).append(approval)
    return {lineage: tuple(approvals) for lineage, approvals in found.items()}


def _destined(approval: Approval, question: Question) -> bool:
    if approval.type in FOR_THE_MARKET:
        return question.market is not None and approval.destination in question.market.countries
    return approval.destination == question.recipient.jurisdiction


def holders_of(held: Held, question: Question) -> frozenset[OperatorId]:
    """The operators who must each have a paper of this type and direction."""
    return _ends(question).holders(held)


def partners_of(held: Held, question: Question) -> frozenset[OperatorId]:
    """The operators at the other end, whom each such paper must name."""
    return _ends(question).partners(held)


def _ends(question: Question) -> _Ends:
    there = _operators(question.contributors)
    sender, recipient = question.sender, question.recipient
    return _Ends(
        exporters={**there, sender.jurisdiction: frozenset({sender.operator})},
        importers={**there, recipient.jurisdiction: frozenset({recipient.operator})},
    )


@functools.lru_cache(maxsize=256)
def _operators(parties: frozenset[Party]) -> Mapping[Jurisdiction, frozenset[OperatorId]]:
    places: dict[Jurisdiction, set[OperatorId]] = {}
    for party in parties:
        places.setdefault(party.jurisdiction, set()).add(party.operator)
    return {place: frozenset(operators) for place, operators in places.items()}


def _by_all(
    approvals: Iterable[Approval], named: Callable[[Approval], frozenset[W]]
) -> frozenset[W]:
    """What the approvals of every holder name."""
    by_holder: dict[OperatorId, frozenset[W]] = {}
    for approval in approvals:
        by_holder[approval.holder] = by_holder.get(approval.holder, frozenset()) | named(approval)
    return frozenset.intersection(*by_holder.values())
