"""Verdicts in a log, as they are written by somebody who asked no law, or asked it otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
from tests.places.founding import digest_of

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration, VerdictNote, statement_digest
from ringfence.core.clock import from_rfc3339
from ringfence.core.ids import Digest, RegionId, digest, jurisdiction, lineage_id
from ringfence.crossing.docket import said
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Known, put_question
from ringfence.crossing.papers import seal_approval
from ringfence.crossing.retrial import Recorded
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.facts import Question
from ringfence.policy.record import PaperName, Record
from ringfence.policy.words import Action, ApprovalType, ItemKind, Purpose
from ringfence.trust.keys import Signer

DAY_S = 86_400.0


def told_question(
    agreement: Agreement, declaration: Declaration, *, action: Action, region: str
) -> Question:
    """What follows from agreement and declaration, asked by a region that knows nothing else."""
    known = Known(
        now=from_rfc3339(declaration.issued),
        screenings=Recorded(found=frozenset()),
        operations=None,
        counters=None,
        extraction=None,
        approvals=(),
        revoked=frozenset(),
    )
    return put_question(agreement, declaration, known, action=action, region=RegionId(region))


def verdict_entry(
    question: Question, declaration: Declaration, note: VerdictNote, papers: Sequence[Entry] = ()
) -> Entry:
    """A verdict on `question` as if the packs had said what `note` says, on these paper entries."""
    record = Record(
        question=question,
        papers=tuple(
            PaperName(
                id=ApprovalId(paper.inputs[0]),
                holder=OperatorId(paper.inputs[1]),
                envelope=Digest(paper.subject),
            )
            for paper in papers
        ),
        salt="00" * 16,
    ).to_bytes()
    exported = question.action is Action.EXPORT
    return Entry(
        kind="verdict",
        at=declaration.issued,
        counterparty=declaration.recipient if exported else declaration.sender,
        lineage=declaration.lineage,
        round=declaration.round,
        subject=statement_digest(record),
        envelope=record.decode(),
        measurements=said(note),
    )


def rewritten(entry: Entry, change: Callable[[Question], Question]) -> Entry:
    """A verdict entry over another question, whose digest it is."""
    record = Record.from_bytes(entry.envelope.encode())
    data = replace(record, question=change(record.question)).to_bytes()
    return msgspec.structs.replace(entry, subject=statement_digest(data), envelope=data.decode())


def asked_anew(entry: Entry, agreement: Agreement, declaration: Declaration, owner: str) -> Entry:
    """The verdict entry in the log of `owner`, had the same been known of another declaration."""

    def change(before: Question) -> Question:
        parties = (before.sender, before.recipient, *before.contributors)
        known = Known(
            now=before.now,
            screenings=Recorded(
                found=frozenset((party.operator, party.screening) for party in parties)
            ),
            operations=None if before.compute is None else before.compute.training_ops,
            counters=before.counters,
            extraction=before.extraction,
            approvals=(),
            revoked=before.revoked,
        )
        action = Action.EXPORT if declaration.sender == owner else Action.IMPORT
        return put_question(agreement, declaration, known, action=action, region=RegionId(owner))

    return rewritten(entry, change)


@functools.lru_cache(maxsize=8192)
def paper_entry(
    id_: str, holder: str, origin: str, lineage: str, at: str, counsel: Signer
) -> Entry:
    """The entry of a paper that exists and says little, signed by counsel."""
    approval = Approval(
        id=ApprovalId(id_),
        type=ApprovalType.PLAT_DIRECTION,
        issuer="somebody",
        holder=OperatorId(holder),
        counterparties=frozenset({OperatorId("somebody")}),
        kinds=frozenset({ItemKind.UPDATE}),
        origin=jurisdiction(origin),
        destination=jurisdiction(origin),
        lineage=lineage_id(lineage),
        purpose=Purpose.CIVIL_DRIVING,
        scope=digest(digest_of("scope")),
        lowers=frozenset(),
        issued=from_rfc3339(at) - DAY_S,
        expires=from_rfc3339(at) + DAY_S,
        revocation_source="none",
        document=digest(digest_of("paper")),
    )
    envelope = seal_approval(approval, counsel)
    return Entry(
        kind="paper",
        at=at,
        counterparty="",
        subject=statement_digest(envelope),
        envelope=envelope.decode(),
        inputs=(id_, holder),
    )
