"""A smaller question that every pack answers alike: one party for all that only names tell apart.

Fifty regions of one jurisdiction differ in names, and names are in no rule.  What-if questions are
asked about one of them, with one paper for the papers of all, hundreds of times.
"""

from __future__ import annotations

from dataclasses import replace

from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.coverage import (
    NO_DOCUMENT,
    Granted,
    coverage,
    holders_of,
    papers_that_grant,
)
from ringfence.policy.facts import Party, Question
from ringfence.policy.judge import destinations
from ringfence.policy.request import cedar_request


def stand_in(question: Question) -> Question:
    """The question with as few contributors and papers as tell the packs the same.

    INVARIANT: what Cedar is asked is the same to the letter, or the question itself is returned.
    """
    parties: dict[tuple[object, ...], Party] = {}
    for party in sorted(question.contributors, key=lambda party: party.region):
        told = (party.jurisdiction, party.parent, party.traits, party.screening)
        parties.setdefault(told, party)
    fewer = replace(question, contributors=frozenset(parties.values()), approvals=())
    papers: dict[ApprovalId, Approval] = {}
    for asked, small in zip(destinations(question), destinations(fewer), strict=True):
        covered = coverage(asked)
        for granted in covered.granted:
            papers.update((paper.id, paper) for paper in _papers(granted, small))
        for held in covered.drifted:
            nothing = Granted(held=held, lowers=frozenset(), clears=frozenset())
            for paper in _papers(nothing, small):
                drifted = replace(paper, id=ApprovalId(f"drifted {paper.id}"), scope=NO_DOCUMENT)
                papers[drifted.id] = drifted
    fewer = replace(fewer, approvals=tuple(papers.values()))
    return fewer if _told(fewer) == _told(question) else question


def _papers(granted: Granted, question: Question) -> tuple[Approval, ...]:
    """What was granted, as one paper of each holder that is left."""
    return papers_that_grant(
        granted,
        question,
        holders=sorted(holders_of(granted.held, question)),
        document=question.content or NO_DOCUMENT,
    )


def _told(question: Question) -> list[object]:
    """What the packs are asked, and what a review clears."""
    told: list[object] = []
    for asked in destinations(question):
        covered = coverage(asked)
        told.append((cedar_request(asked, covered), covered.cleared))
    return told
