"""How the papers of a region stand: which count, which end soon, which name another flow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ringfence.core.agreement import Agreement
from ringfence.core.clock import to_rfc3339
from ringfence.crossing.papers import Paper
from ringfence.policy.approvals import Approval
from ringfence.policy.coverage import covers, drift
from ringfence.policy.facts import Question
from ringfence.policy.renewal import recheck, warns_from

DAY_S = 86_400.0

State = Literal["valid", "not yet valid", "expired", "revoked", "unsigned", "drifted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One paper as it stands now.

    `detail` says why it does not count, `days_left` are whole days until its end (0 when it is
    over), `warning` says that the end is near and nothing follows, `recheck` what else ends it.
    """

    approval: Approval
    state: State
    detail: str
    days_left: int
    warning: str
    recheck: str


def standings(
    agreement: Agreement,
    papers: Iterable[Paper],
    *,
    revoked: Collection[str],
    questions: Sequence[Question],
    now_s: float,
) -> tuple[Standing, ...]:
    """Every paper with its state.

    `revoked` are the ids in the region's own list; `questions` those of the plan, which say who the
    counterparties of each flow are.
    """
    papers = tuple(papers)
    counting = [p.approval for p in papers if p.counts and p.approval.id not in revoked]
    near = {id(each) for each in ending(agreement, counting, now_s=now_s)}
    found = []
    for paper in papers:
        approval = paper.approval
        state, detail = _state(agreement, paper, revoked, questions, now_s)
        warns = state == "valid" and id(approval) in near
        found.append(
            Standing(
                approval=approval,
                state=state,
                detail=detail,
                days_left=max(0, int((approval.expires - now_s) // DAY_S)),
                warning=warning(approval, now_s=now_s) if warns else "",
                recheck=recheck(approval.type),
            )
        )
    return tuple(found)


def ending(
    agreement: Agreement, approvals: Iterable[Approval], *, now_s: float
) -> tuple[Approval, ...]:
    """Approvals in force that end within their warning time, and that no other follows.

    Only those of the agreed flow; another follows if it permits as much, later and without a gap.
    """
    agreed = [each for each in approvals if each.scope == agreement.scope]
    lasting = [each for each in agreed if warns_from(each) > now_s]
    return tuple(
        each
        for each in agreed
        if each.issued <= now_s < each.expires
        and warns_from(each) <= now_s
        and not any(_follows(other, each) for other in lasting)
    )


def warning(approval: Approval, *, now_s: float) -> str:
    """One sentence for a person about a paper that `ending` named."""
    days = int((approval.expires - now_s) // DAY_S)
    return (
        f"{approval.id} ends {to_rfc3339(approval.expires)}, in {days} days, and nothing follows "
        f"it; renewal was due from {to_rfc3339(warns_from(approval))}"
    )


def _follows(other: Approval, approval: Approval) -> bool:
    """Whether `other` permits all that `approval` does, until later and without a gap."""

    def flow(each: Approval) -> tuple[object, ...]:
        return (
            each.type,
            each.holder,
            each.origin,
            each.destination,
            each.lineage,
            each.purpose,
        )

    return (
        flow(other) == flow(approval)
        and other.issued <= approval.expires < other.expires
        and approval.kinds <= other.kinds
        and approval.counterparties <= other.counterparties
        and approval.lowers <= other.lowers
        and approval.clears <= other.clears
    )


def _state(
    agreement: Agreement,
    paper: Paper,
    revoked: Collection[str],
    questions: Sequence[Question],
    now_s: float,
) -> tuple[State, str]:
    approval = paper.approval
    if paper.revoked:
        return "revoked", paper.revoked
    if approval.id in revoked:
        return "revoked", "in facts.toml"
    if paper.missing:
        return "unsigned", f"by {' and '.join(paper.missing)} of {approval.holder}"
    if now_s >= approval.expires:
        return "expired", f"on {to_rfc3339(approval.expires)}"
    if drifted := _drifted(agreement, approval, questions):
        return "drifted", "; ".join(drifted)
    if now_s < approval.issued:
        return "not yet valid", f"before {to_rfc3339(approval.issued)}"
    return "valid", ""


def _drifted(
    agreement: Agreement, approval: Approval, questions: Sequence[Question]
) -> tuple[str, ...]:
    lineages = [line.id for line in agreement.terms.lineages]
    purpose = agreement.terms.training.purpose
    plain = [
        f"expected {what} {expected}, this one names {named}"
        for what, expected, named, holds in (
            ("lineage", " or ".join(lineages), approval.lineage, approval.lineage in lineages),
            ("scope", agreement.scope, approval.scope, approval.scope == agreement.scope),
            ("purpose", purpose, approval.purpose, approval.purpose == purpose),
        )
        if not holds
    ]
    # What covers one planned step is not drifted because another step has more ends.
    serves = any(covers(approval, question) for question in questions)
    of_plan = () if serves else (drift(approval, question) for question in questions)
    return tuple(dict.fromkeys((*plain, *(words for each in of_plan for words in each))))
