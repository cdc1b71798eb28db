"""The demo's planned crossings: all lawful with their papers, none without."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.demo_world import (
    AMERICA,
    CN,
    EU,
    EXPIRES,
    HUB,
    ISSUED,
    US_MARKET,
    demo_approvals,
    planned_crossings,
)

from ringfence.core.ids import Digest
from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import ApprovalType, ItemKind, Purpose

PLAN = planned_crossings()
HELD = demo_approvals()

NAMED_WITHOUT = {
    ApprovalType.CN_DERIVED_DETERMINATION: {
        "PLAT-DERIVED",
        "CN-PIPL-39",
        "CN-PIPL-55",
        "CN-MAP-2022",
        "CN-MAP-2024",
    },
    ApprovalType.CAC_ASSESSMENT: {
        "CN-DSL-31",
        "CN-FLOW-4",
        "CN-FLOW-7",
        "CN-AUTO-11",
        "CN-AUTO-2026",
    },
    ApprovalType.CN_TECH_EXPORT: {"CN-TECH-EXP"},
    ApprovalType.MNR_ENTRUSTMENT: {"CN-MAP-2022"},
    ApprovalType.CN_IMPORTANT_DUTIES: {"CN-NDSR-2025"},
    ApprovalType.CN_EXPORT_LOG: {"CN-AUTO-2026"},
    ApprovalType.PLAT_FLAG_REVIEW: {"CN-PIPL-3", "CN-AUTO-3", "CN-AUTO-13"},
    ApprovalType.BIS_CLASSIFICATION: {"US-EAR-4E001"},
    ApprovalType.DOJ_ONWARD_CLAUSE: {"US-DOJ-202.302"},
    ApprovalType.SCC_ID: {"EU-GDPR-44", "EU-GDPR-45", "EU-GDPR-46", "EU-EDPB-2024-28"},
    ApprovalType.TIA_ID: {"EU-GDPR-44", "EU-GDPR-45", "EU-GDPR-46", "EU-EDPB-2024-28"},
    ApprovalType.EU_DUAL_USE_CLASS: {"EU-DUAL"},
    ApprovalType.EDPB_ANONYMITY: {"EU-GDPR-44", "EU-GDPR-46", "EU-EDPB-2024-28"},
    ApprovalType.USER_CONTRACT_ID: {"EU-DATA-32"},
}

# Papers from a jurisdiction to itself are measures that training needs.
NAMED_WITHOUT_AT_HOME = {
    ApprovalType.CN_MLPS: {"CN-CSL"},
    ApprovalType.CN_IMPORTANT_DUTIES: {"CN-DSL-21"},
    ApprovalType.CN_LEGAL_BASIS: {"CN-PIPL-13"},
    ApprovalType.CN_ANONYMISER_REPORT: {"CN-AUTO-6", "CN-GBT-44464"},
    ApprovalType.MNR_ENTRUSTMENT: {"CN-MAP-2022", "CN-MAP-2024"},
    ApprovalType.US_STATE_NOTICE: {"US-STATE"},
    ApprovalType.LEGAL_BASIS_ID: {"EU-GDPR-6"},
    ApprovalType.DPIA_ID: {"EU-GDPR-4", "EU-GDPR-25"},
    ApprovalType.USER_CONTRACT_ID: {"EU-DATA-32"},
}


def refusing_rules(judge: Judge, plan: list[Question]) -> set[str]:
    return {note.id for question in plan for note in judge.judge(question).rules}


def with_approvals(approvals: tuple[Approval, ...]) -> list[Question]:
    return [replace(question, approvals=approvals) for _, question in PLAN]


@pytest.mark.parametrize(("label", "question"), PLAN, ids=[label for label, _ in PLAN])
def test_permits_a_planned_crossing_with_its_papers(
    judge: Judge, label: str, question: Question
) -> None:
    # when
    verdict = judge.judge(question)
    # then
    assert verdict.permitted, (label, verdict.rules)
    assert question.now < verdict.valid_until <= question.now + 3600


@pytest.mark.parametrize("missing", HELD, ids=[approval.id for approval in HELD])
def test_refuses_by_the_expected_rules_without_one_paper(judge: Judge, missing: Approval) -> None:
    # given
    rest = tuple(approval for approval in HELD if approval != missing)
    # when
    rules = refusing_rules(judge, with_approvals(rest))
    # then
    at_home = missing.origin == missing.destination
    named = NAMED_WITHOUT_AT_HOME if at_home else NAMED_WITHOUT
    assert rules == (missing.clears or named[missing.type])


def _spoiled() -> list[tuple[str, Approval, Approval]]:
    assessment = next(a for a in HELD if a.id == "cac.assessment/world/CN-EU")
    changes: dict[str, Approval] = {
        "expired": replace(assessment, issued=ISSUED - 1e6, expires=PLAN[0][1].now),
        "not yet valid": replace(assessment, issued=PLAN[0][1].now + 1),
        "for another lineage": replace(assessment, lineage=US_MARKET),
        "of another holder": replace(assessment, holder=HUB.operator),
        "for another recipient": replace(assessment, counterparties=frozenset({AMERICA.operator})),
        "for the way back": replace(assessment, origin=EU, destination=CN),
        "for another kind": replace(assessment, kinds=frozenset({ItemKind.METRICS})),
        "for another purpose": replace(assessment, purpose=Purpose.FOREIGN_AUTHORITY),
        "for another scope": replace(assessment, scope=Digest("sha256:" + "0" * 64)),
    }
    return [(how, assessment, spoiled) for how, spoiled in changes.items()]


@pytest.mark.parametrize(
    ("how", "good", "spoiled"), _spoiled(), ids=[how for how, _, _ in _spoiled()]
)
def test_an_approval_that_differs_in_one_scope_does_not_count(
    judge: Judge, how: str, good: Approval, spoiled: Approval
) -> None:
    # given
    approvals = tuple(spoiled if approval == good else approval for approval in HELD)
    # when
    rules = refusing_rules(judge, with_approvals(approvals))
    # then
    drifted = how in ("for another kind", "for another purpose", "for another scope")
    named = {"CN-EXP-2022"} if drifted else set[str]()
    assert rules == NAMED_WITHOUT[ApprovalType.CAC_ASSESSMENT] | named, how


def test_a_revoked_approval_does_not_count(judge: Judge) -> None:
    # given
    revoked = frozenset({approval.id for approval in HELD if approval.type == "cn.tech_export"})
    # when
    rules = refusing_rules(judge, [replace(question, revoked=revoked) for _, question in PLAN])
    # then
    assert rules == {"CN-TECH-EXP"}


@pytest.mark.parametrize(
    ("now", "permitted"), [(ISSUED - 1, False), (ISSUED, True), (EXPIRES, False)]
)
def test_validity_includes_the_first_instant_and_excludes_the_last(
    judge: Judge, now: float, permitted: bool
) -> None:
    # given an architecture's delivery, which needs one approval and no screening
    question = next(
        q for label, q in PLAN if label == "opening: world export architecture hub > cn"
    )
    # when
    verdict = judge.judge(replace(question, now=now))
    # then
    assert verdict.permitted is permitted


@settings(max_examples=60, deadline=None)
@given(
    crossing=st.sampled_from([question for _, question in PLAN]),
    kept=st.sets(st.sampled_from(range(len(HELD)))),
    dropped=st.sampled_from(range(len(HELD))),
)
def test_taking_an_approval_away_never_turns_a_refusal_into_a_permit(
    judge: Judge, crossing: Question, kept: set[int], dropped: int
) -> None:
    # given
    more = tuple(HELD[place] for place in sorted(kept | {dropped}))
    fewer = tuple(HELD[place] for place in sorted(kept - {dropped}))
    # when
    with_more = judge.judge(replace(crossing, approvals=more))
    with_fewer = judge.judge(replace(crossing, approvals=fewer))
    # then
    assert with_more.permitted or not with_fewer.permitted
