"""A request for an approval: what it would permit, exactly, and how it differs from the last one.

request = prepare(law, papers.all(), approval)   # asks the packs with the paper and without it
request.to_bytes()                               # what counsel is shown, and what is signed for
confirm(law, papers.all(), data)                 # the same, or Refused: something has changed
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from ringfence.core import canonical
from ringfence.core.errors import Refused
from ringfence.crossing.law import Law
from ringfence.crossing.papers import Paper
from ringfence.crossing.planning import Planned, plan, planned_questions
from ringfence.policy.approvals import Approval, approval_from_bytes
from ringfence.policy.facts import Question

REQUEST_LIMIT_BYTES = 4 * 1024 * 1024
"""Longest request; the changes of a plan of fifty regions fit."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One planned step whose answer an approval changes: the rules that refuse without and with it.

    `judged_by` is the region that will ask; `after` is empty where the step becomes permitted.
    """

    lineage: str
    action: str
    kind: str
    sender: str
    recipient: str
    judged_by: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        step = (
            f"{self.lineage}: {self.action} {self.kind} {self.sender} > {self.recipient} "
            f"(asked by {self.judged_by})"
        )
        return f"{step}: {_answer(self.before)} > {_answer(self.after)}"


class Difference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field in which an approval differs from the one before it."""

    field: str
    before: Any
    now: Any


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An unsigned approval with everything that its signer is shown.

    `approval` is the approval's JSON, `changes` what it does to the plan under `agreement` and
    `packs`, `former` the id of the newest one before it, and `shown` the digest of all of that.
    """

    agreement: str
    packs: tuple[str, ...]
    approval: dict[str, Any]
    changes: tuple[Change, ...]
    former: str
    differences: tuple[Difference, ...]
    shown: str = ""

    def to_bytes(self) -> bytes:
        return canonical.to_bytes(self)

    @staticmethod
    def from_bytes(data: bytes) -> Request:
        """Raises `FormatError` when `data` is not one request."""
        return canonical.from_bytes(data, Request, what="request", limit_bytes=REQUEST_LIMIT_BYTES)

    def opened(self) -> Approval:
        """The approval that is asked for; raises `FormatError` when it is none."""
        return approval_from_bytes(canonical.to_bytes(self.approval))


def prepare(law: Law, papers: Iterable[Paper], approval: Approval) -> Request:
    """What a signer of `approval` has to see; `papers` are all that lie in the region."""
    former = _former(papers, approval)
    request = Request(
        agreement=law.agreement.digest,
        packs=tuple(f"{pack.name}@{pack.digest}" for pack in law.judge.packs),
        approval=_fields(approval),
        changes=effect(law, added=approval, without=_alike(law, approval)),
        former="" if former is None else former.id,
        differences=() if former is None else tuple(_differences(former, approval)),
    )
    shown = "sha256:" + hashlib.sha256(request.to_bytes()).hexdigest()
    return msgspec.structs.replace(request, shown=shown)


def confirm(law: Law, papers: Iterable[Paper], data: bytes) -> Request:
    """The request in `data`, if it still says what a signer would be shown now.

    INVARIANT: what is signed is what was shown: another agreement, plan, pack, paper or letter in
    the request, and nothing is signed.  Raises: FormatError; Refused, naming what has changed.
    """
    request = Request.from_bytes(data)
    now = prepare(law, papers, request.opened())
    if now.to_bytes() == data:
        return now
    changed = [
        name
        for name in ("agreement", "packs", "changes", "former", "differences", "shown")
        if getattr(now, name) != getattr(request, name)
    ]
    raise Refused(
        stage="approval",
        reason="request-changed",
        detail=f"the request for {request.approval.get('id')!s:.80} was shown with other "
        f"{', '.join(changed) or 'bytes'}; request it again and read what it would permit now",
    )


def effect(
    law: Law, *, added: Approval | None = None, without: Iterable[Approval] = ()
) -> tuple[Change, ...]:
    """The planned steps whose answer changes.

    Before: the papers held but `without`.  After: these and `added`; where nothing is added, the
    papers held come first and what is left without them after.
    """
    gone = {(each.id, each.holder) for each in without}
    changes = []
    at = law.clock() if added is None else max(law.clock(), added.issued)
    for step, question in questions(replace(law, clock=lambda: at)):
        left = tuple(p for p in question.approvals if (p.id, p.holder) not in gone)
        less = replace(question, approvals=left)
        more = question if added is None else replace(question, approvals=(*left, added))
        if less.approvals == more.approvals:
            continue
        pair = [_rules(law, asked) for asked in (less, more)]
        before, after = pair if added is not None else reversed(pair)
        if before != after:
            changes.append(_change(step, before, after))
    return tuple(changes)


def questions(law: Law) -> Iterator[tuple[Planned, Question]]:
    """Every planned step with what is asked about it, as of the last whole second.

    What is refused before any pack is asked (`unasked`) is left out: no paper changes it.
    """
    for step, asked in _asked(law):
        if isinstance(asked, Question):
            yield step, asked


def unasked(law: Law) -> Iterator[tuple[Planned, Refused]]:
    """The planned steps about which nothing can be asked, because the facts refuse them."""
    for step, asked in _asked(law):
        if isinstance(asked, Refused):
            yield step, asked


def _asked(law: Law) -> Iterator[tuple[Planned, Question | Refused]]:
    at = float(int(law.clock()))
    return planned_questions(replace(law, clock=lambda: at), plan(law.agreement))


def joined(known: Approval, paper: Approval) -> Approval:
    """One paper for all kinds and counterparties of a holder's direction."""
    return replace(
        known,
        kinds=known.kinds | paper.kinds,
        counterparties=known.counterparties | paper.counterparties,
        lowers=known.lowers | paper.lowers,
        clears=known.clears | paper.clears,
    )


def _alike(law: Law, approval: Approval) -> list[Approval]:
    """What is held already of this type, direction, holder and lineage.

    It is left out of both answers, so that a renewal shows everything that will rest on it.
    """
    names = ("type", "origin", "destination", "holder", "lineage")
    return [
        each
        for each in law.approvals()
        if all(getattr(each, name) == getattr(approval, name) for name in names)
    ]


def _former(papers: Iterable[Paper], approval: Approval) -> Approval | None:
    """The newest of the same type and direction that was ever signed by all who must."""
    signed = [
        paper.approval
        for paper in papers
        if not paper.missing
        and paper.approval.id != approval.id
        and all(
            getattr(paper.approval, name) == getattr(approval, name)
            for name in ("type", "origin", "destination", "holder")
        )
    ]
    of_lineage = [each for each in signed if each.lineage == approval.lineage]
    return max(of_lineage or signed, key=lambda each: (each.issued, each.id), default=None)


def _differences(former: Approval, approval: Approval) -> Iterator[Difference]:
    before, now = _fields(former), _fields(approval)
    for field in sorted(now):
        if before[field] != now[field]:
            yield Difference(field=field, before=before[field], now=now[field])


def _fields(approval: Approval) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(approval.to_bytes())
    return fields


def _rules(law: Law, question: Question) -> tuple[str, ...]:
    verdict = law.judge.judge(question)
    return tuple(dict.fromkeys(note.id for note in verdict.rules))


def _answer(rules: tuple[str, ...]) -> str:
    return f"refused ({', '.join(rules)})" if rules else "permitted"


def _change(step: Planned, before: tuple[str, ...], after: tuple[str, ...]) -> Change:
    return Change(
        lineage=step.draft.lineage,
        action=step.action,
        kind=step.draft.kind,
        sender=step.sender,
        recipient=step.recipient,
        judged_by=step.judged_by,
        before=before,
        after=after,
    )
