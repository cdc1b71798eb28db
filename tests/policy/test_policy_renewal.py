"""When a paper's end is near, how it drifts, and that fewer papers never permit more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.demo_world import (
    CHINA,
    EU,
    HUB,
    NOW,
    approval,
    demo_approvals,
    planned_crossings,
)

from ringfence.core.ids import Digest
from ringfence.policy.approvals import Approval, OperatorId
from ringfence.policy.coverage import covers, drift
from ringfence.policy.judge import Judge
from ringfence.policy.packs import SHIPPED_PACKS_DIR, load_packs
from ringfence.policy.renewal import recheck, warns_from
from ringfence.policy.words import ApprovalType, ItemKind, Purpose

DAY_S = 86_400.0
PLAN = dict(planned_crossings())
CN_UPDATE = PLAN["phase 2: world export update cn > hub"]
ASSESSMENT = approval(ApprovalType.CAC_ASSESSMENT, CHINA, EU, (HUB,), {ItemKind.UPDATE})
JUDGE = Judge(packs=load_packs(SHIPPED_PACKS_DIR))


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _ending(type_: ApprovalType, expires: float) -> Approval:
    papers = {paper.type: paper for paper in (ASSESSMENT, *demo_approvals())}
    paper = papers.get(type_, replace(ASSESSMENT, type=type_))
    return replace(paper, issued=expires - 200 * DAY_S, expires=expires)


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_an_extension_is_asked_for_sixty_working_days_ahead(day: date) -> None:
    # given an assessment that ends on any day
    end = datetime.fromisoformat(str(day)).replace(tzinfo=UTC)
    # when it warns
    warns = datetime.fromtimestamp(
        warns_from(_ending(ApprovalType.CAC_ASSESSMENT, end.timestamp())), UTC
    )
    # then sixty days from Monday to Friday lie between, by numpy's calendar
    assert np.busday_count(warns.date(), end.date()) == 60
    assert warns.weekday() < 5


@pytest.mark.parametrize(
    ("expires", "warns"),
    [
        ("2027-05-31T12:00:00", "2026-11-30T12:00:00"),
        ("2027-08-31T00:00:00", "2027-02-28T00:00:00"),
        ("2028-08-31T00:00:00", "2028-02-29T00:00:00"),
        ("2027-06-30T00:00:00", "2026-12-30T00:00:00"),
        ("2027-01-15T00:00:00", "2026-07-15T00:00:00"),
    ],
)
def test_a_certification_is_renewed_six_months_ahead(expires: str, warns: str) -> None:
    assert warns_from(_ending(ApprovalType.CAC_CERT, _at(expires))) == _at(warns)


@pytest.mark.parametrize(
    "type_",
    sorted(
        set(ApprovalType)
        - {ApprovalType.CAC_ASSESSMENT, ApprovalType.CAC_CERT, ApprovalType.PLAT_FLAG_REVIEW}
        - {ApprovalType.CN_DERIVED_DETERMINATION, ApprovalType.EDPB_ANONYMITY}
    ),
)
def test_every_other_paper_is_renewed_thirty_days_ahead(type_: ApprovalType) -> None:
    paper = _ending(type_, NOW)
    assert warns_from(paper) == NOW - 30 * DAY_S
    assert recheck(type_) == recheck(type_).strip()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"scope": Digest("sha256:" + "0" * 64)},
            f"expected scope {CN_UPDATE.scope}, this one names sha256:" + "0" * 64,
        ),
        (
            {"purpose": Purpose.MILITARY},
            "expected purpose civil_driving, this one names military",
        ),
        (
            {"counterparties": frozenset({OperatorId("another")})},
            "expected counterparties hub-operator, this one names another",
        ),
    ],
)
def test_a_paper_that_names_another_flow_says_how(change: dict[str, object], words: str) -> None:
    # given a paper for this flow, and the same with one thing changed
    assert drift(ASSESSMENT, CN_UPDATE) == ()
    drifted = replace(ASSESSMENT, **change)  # type: ignore[arg-type]
    # when it is asked for, then it covers nothing, and says what differs
    assert not covers(drifted, CN_UPDATE)
    assert drift(drifted, CN_UPDATE) == (words,)


@pytest.mark.parametrize(
    "change",
    [
        {"kinds": frozenset({ItemKind.RAW})},
        {"destination": CHINA.jurisdiction},
        {"holder": OperatorId("another")},
        {"issued": NOW + 1},
    ],
)
def test_a_paper_for_something_else_has_not_drifted(change: dict[str, object]) -> None:
    assert drift(replace(ASSESSMENT, **change), CN_UPDATE) == ()  # type: ignore[arg-type]


@given(
    st.sampled_from(sorted(PLAN)),
    st.sets(st.integers(0, 60), max_size=30),
    st.sets(st.integers(0, 60), min_size=1, max_size=8),
    st.sampled_from(["removed", "revoked", "expired", "drifted"]),
)
def test_fewer_approvals_never_permit_more(
    label: str, missing: set[int], gone: set[int], how: str
) -> None:
    # given a planned crossing with some of its papers
    question = PLAN[label]
    held = tuple(p for n, p in enumerate(question.approvals) if n not in missing)
    before = JUDGE.judge(replace(question, approvals=held))
    # when more of them go, one way or another
    lost = {p.id for n, p in enumerate(held) if n in gone}
    fewer = replace(question, approvals=held)
    if how == "removed":
        fewer = replace(question, approvals=tuple(p for p in held if p.id not in lost))
    elif how == "revoked":
        fewer = replace(fewer, revoked=question.revoked | lost)
    else:
        ended = {"expires": question.now} if how == "expired" else {"purpose": Purpose.MILITARY}
        fewer = replace(
            question,
            approvals=tuple(replace(p, **ended) if p.id in lost else p for p in held),
        )
    after = JUDGE.judge(fewer)
    # then no rule that refused is lifted, so that no refusal becomes a permit
    assert {note.id for note in before.rules} <= {note.id for note in after.rules}
    assert before.permitted or not after.permitted
